"""Leases on a whole member, its time and its log in the hands of the tests."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import (
    ELECTION_SECONDS,
    TIMEOUT_SECONDS,
    TTL_MIN_SECONDS,
    Client,
    HeldWAL,
    RecordingBackend,
    Running,
)
from twistedetcd.apply import request as kinds
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import Code, EtcdError, LeaderChangedError, NoLeaderError
from twistedetcd.lease.lessor import Lessor
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.store import Store
from twistedetcd.mvcc.work import SLICE_KEYS, finish
from twistedetcd.pb.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RequestOp,
    TxnRequest,
)
from twistedetcd.server import leases as leases_module
from twistedetcd.server.leases import DUE_MAX, LOOK_SECONDS, REVOKES_MAX

LATE = LOOK_SECONDS + 0.02  # how long after its end a lease may still be there: a look, and a turn or two
NOT_PRIMARY = (Code.UNKNOWN, "not a primary lessor")
STOPPED = (Code.UNAVAILABLE, "etcdserver: server stopped")
APPLIED_TOO_SLOWLY = (
    Code.UNAVAILABLE,
    "etcdserver: request timed out, waiting for the applied index took too long",
)


class Owner:
    """One who keeps a lease alive; ``outcome`` is the TTL, or code and message."""

    def __init__(self) -> None:
        self.outcome: int | tuple[Code, str] | None = None

    def renewed(self, ttl_seconds: int) -> None:
        """See `twistedetcd.server.leases.Renewal`."""
        assert self.outcome is None, "told twice"
        self.outcome = ttl_seconds

    def fail(self, code: Code, message: str) -> None:
        """See `twistedetcd.server.leases.Renewal`."""
        assert self.outcome is None, "told twice"
        self.outcome = (code, message)


class LeaseCase(SynchronousTestCase):
    """A member that leads."""

    checkpoint_seconds: float | None = None

    def setUp(self) -> None:
        self.start(Running(checkpoint_seconds=self.checkpoint_seconds))

    def start(self, running: Running) -> None:
        self.running = running.start()
        self.successResultOf(running.ready)
        self.leases = running.member.leases
        self.lessor = running.lessor

    def restart(self, down_seconds: float = 0.0) -> None:
        """Killed, and started again with its log and its engine as they are; its clock goes on."""
        old = self.running
        again = Running(
            wal=HeldWAL.of(old.wal), backend=old.backend, checkpoint_seconds=self.checkpoint_seconds
        )
        again.clock.rightNow = old.clock.rightNow + down_seconds
        self.start(again)

    def propose(self, kind: str, request: Any) -> Client:
        client = self.running.propose(kind, request)
        self.running.end_turn()
        return client

    def grant(self, lease_id: int, ttl: int) -> None:
        client = self.propose(kinds.LEASE_GRANT, LeaseGrantRequest(ID=lease_id, TTL=ttl))
        self.assertIsInstance(client.outcome, bytes)

    def put(self, key: bytes, lease_id: int) -> None:
        client = self.propose(kinds.PUT, PutRequest(key=key, lease=lease_id))
        self.assertIsInstance(client.outcome, bytes)

    def renew(self, lease_id: int) -> Owner:
        owner = Owner()
        self.leases.renew(lease_id, owner)
        return owner

    def there(self) -> list[int]:
        """Leases that are not revoked."""
        return sorted(finish(self.lessor.by_expiry()))

    def has(self, key: bytes) -> bool:
        return self.running.store.count(key, None) == 1

    def revokes(self) -> int:
        """Revokes on their way."""
        return sum(
            request.kind == kinds.LEASE_REVOKE
            for _, request, _, _ in self.running.member._pending_requests.values()
        )


class ExpiryTests(LeaseCase):
    """A lease that is not renewed ends."""

    def test_ends(self) -> None:
        """Not before its TTL, soon after it, and its keys with it."""
        self.grant(1, 5)
        self.put(b"k", 1)
        self.running.pump(4.99)
        self.assertTrue(self.has(b"k"))
        self.running.pump(LATE)
        self.assertEqual((False, []), (self.has(b"k"), self.there()))

    def test_renewed(self) -> None:
        """Renewed, it lasts for its TTL from then on."""
        self.grant(1, 5)
        for _ in range(4):
            self.running.pump(4.0)
            self.assertEqual(5, self.renew(1).outcome)
        self.running.pump(4.99)
        self.assertEqual([1], self.there())
        self.running.pump(LATE)
        self.assertEqual(([], 0), (self.there(), self.renew(1).outcome))

    def test_ended_and_not_revoked(self) -> None:
        """Who renews a lease that has ended hears so when its keys are gone, not before."""
        self.grant(1, 5)
        self.put(b"k", 1)
        self.running.pump(4.99)
        self.running.wal.holding = True
        self.running.pump(0.5)
        owner = self.renew(1)
        self.running.pump(0.5)
        self.assertEqual((None, True), (owner.outcome, self.has(b"k")))
        self.running.wal.holding = False
        self.running.wal.release_all()
        self.assertEqual((0, False), (owner.outcome, self.has(b"k")))

    def test_rate(self) -> None:
        """Many leases that end at once go so many in a look, and few at a time through the log (KF-42)."""
        for lease_id in range(1, 3 * DUE_MAX + 1):
            self.running.propose(kinds.LEASE_GRANT, LeaseGrantRequest(ID=lease_id, TTL=5))
        self.running.pump(4.99)
        left = [len(self.there())]
        for _ in range(4):
            self.running.pump(LOOK_SECONDS)
            left.append(len(self.there()))
            self.assertLessEqual(self.revokes(), REVOKES_MAX)
        self.assertEqual([3 * DUE_MAX, 2 * DUE_MAX, DUE_MAX, 0, 0], left)

    def test_few_at_a_time(self) -> None:
        """While the log is slow no more than a few revokes wait for it, and the others for them."""
        for lease_id in range(1, 101):
            self.running.propose(kinds.LEASE_GRANT, LeaseGrantRequest(ID=lease_id, TTL=5))
        self.running.pump(4.99)
        self.running.wal.holding = True
        self.running.pump(2.0)
        self.assertEqual(REVOKES_MAX, self.revokes())
        self.running.wal.holding = False
        self.running.wal.release_all()
        self.running.pump(LOOK_SECONDS)
        self.assertEqual([], self.there())

    def test_kf_42_lost_revoke(self) -> None:
        """A revoke that got lost is made again, within the time that a request may take."""
        lost: list[str] = []
        propose = self.running.member.propose_as_leader

        def losing(kind: str, raw: bytes, message: Any, waiter: Any) -> None:
            if kind == kinds.LEASE_REVOKE and len(lost) < 3:
                lost.append(kind)
                waiter.fail(Code.UNAVAILABLE, "lost")
            else:
                propose(kind, raw, message, waiter)

        self.patch(self.running.member, "propose_as_leader", losing)
        for lease_id in (1, 2, 3):
            self.grant(lease_id, 5)
        self.running.pump(5.0 + LATE)
        self.assertEqual([1, 2, 3], self.there())
        self.running.pump(TIMEOUT_SECONDS + LATE)
        self.assertEqual(([], 3), (self.there(), len(lost)))

    def test_refused_revoke(self) -> None:
        """One that is not even taken, for there are too many requests, is made at the next look."""
        self.grant(1, 5)
        self.running.pump(4.9)
        self.patch(type(self.running.pending), "full", True)
        self.running.pump(1.0)
        self.assertEqual([1], self.there())
        self.patch(type(self.running.pending), "full", False)
        self.running.pump(LATE)
        self.assertEqual([], self.there())

    def test_revoked_by_its_owner(self) -> None:
        """A lease that its owner revokes while it ends, and grants anew, is another one."""
        self.grant(1, 5)
        self.grant(2, 5)
        self.patch(leases_module, "REVOKES_MAX", 0)  # all stay where they wait
        self.running.pump(5.0 + LATE)
        self.propose(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=1))
        self.grant(1, 5)
        self.patch(leases_module, "REVOKES_MAX", 16)
        self.running.pump(LATE)
        self.assertEqual([1], self.there())

    def test_demoted(self) -> None:
        """A member that does not lead ends nothing, refuses to renew, and tells those who wait."""
        self.grant(1, 5)
        self.patch(leases_module, "REVOKES_MAX", 0)  # it stays where it waits
        self.running.pump(5.0 + LATE)
        waiting = self.renew(1)
        self.leases.follow()
        self.patch(leases_module, "REVOKES_MAX", 16)
        self.assertEqual(NOT_PRIMARY, waiting.outcome)
        self.assertRaises(NoLeaderError, self.renew, 1)
        self.running.pump(60.0)
        self.assertEqual([1], self.there())
        self.leases.lead()
        self.running.pump(5.0 + ELECTION_SECONDS + LATE)
        self.assertEqual([], self.there())

    def test_stopped(self) -> None:
        """A member that stops tells those who wait, and leaves no timer."""
        self.grant(1, 5)
        self.running.pump(4.99)
        self.running.wal.holding = True
        self.running.pump(0.1)
        owner = self.renew(1)
        self.running.member.stop()
        self.assertEqual(STOPPED, owner.outcome)
        self.running.wal.release()
        self.assertEqual([], self.running.clock.getDelayedCalls())

    def test_kf_40_demoted_before_the_answer(self) -> None:
        """A leader that was demoted says so when it is asked what remains, and never what it cannot know."""
        self.grant(1, 5)
        self.assertEqual((5, 5), self.leases.time_to_live(1))
        self.leases.follow()
        self.assertRaises(LeaderChangedError, self.leases.time_to_live, 1)
        self.leases.lead()
        self.assertEqual((6, 5), self.leases.time_to_live(1))


class SlowTests(LeaseCase):
    """Renewals beside an entry that takes many turns."""

    def setUp(self) -> None:
        super().setUp()
        self.grant(1, 60)
        self.grant(2, 60)
        keys = 4 * SLICE_KEYS
        for start in range(0, keys, 100):
            puts = [PutRequest(key=b"k%05d" % number, lease=1) for number in range(start, start + 100)]
            self.running.propose(kinds.TXN, TxnRequest(success=[RequestOp(request_put=put) for put in puts]))
        self.running.end_turn()

    def revoke(self) -> Client:
        """A revoke of the large one, which is somewhere in the middle."""
        client = self.running.propose(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=1))
        self.running.one_turn()
        self.running.one_turn()
        self.assertTrue(self.running.member.behind)
        return client

    def test_kf_39_renewed_while_it_is_revoked(self) -> None:
        """Who renews a lease while its keys are being deleted hears that it is gone."""
        self.revoke()
        owner, other = self.renew(1), self.renew(2)
        self.assertEqual((None, None), (owner.outcome, other.outcome))
        self.running.pump(0.1)
        self.assertEqual((0, 60), (owner.outcome, other.outcome))
        self.assertFalse(self.has(b"k00000"))

    def test_too_slow(self) -> None:
        """A question that waits for longer than a second is refused with the reason."""
        self.revoke()
        self.running.member.applying._slices._pause_seconds = 60.0
        self.running.one_turn()
        owner = self.renew(1)
        refused: list[EtcdError] = []
        self.leases.when_applied(self.fail, refused.append)
        self.running.pump(0.95)
        self.assertIsNone(owner.outcome)
        self.running.pump(0.2)
        self.assertEqual(APPLIED_TOO_SLOWLY, owner.outcome)
        self.assertEqual([APPLIED_TOO_SLOWLY], [(error.code, error.message) for error in refused])

    def test_stopped(self) -> None:
        """A member that stops in the middle tells those who wait; after a restart the lease is gone."""
        self.revoke()
        owner = self.renew(1)
        self.running.member.stop()
        self.assertEqual(STOPPED, owner.outcome)
        self.restart()
        self.running.pump(0.2)
        self.assertEqual(([2], False), (self.there(), self.has(b"k00000")))

    def test_kf_24_lease_and_keys_go_together(self) -> None:
        """Wherever the disk is cut off, there is a lease with all its keys, or neither."""
        self.running.pump(0.2)
        backend = self.running.backend
        assert isinstance(backend, RecordingBackend)
        before = len(backend.batches)
        self.revoke()
        self.running.pump(0.5)
        outcomes = set()
        for count in range(before, len(backend.batches) + 1):
            pending = Pending(RecordingBackend(backend.batches[:count]))
            store, lessor = Store(pending), Lessor(pending, TTL_MIN_SECONDS)
            lessor.restore()
            lease_of = finish(store.restore())
            outcomes.add((1 in lessor, len(lease_of), store.count(b"k", b"l")))
        self.assertEqual({(True, 4 * SLICE_KEYS, 4 * SLICE_KEYS), (False, 0, 0)}, outcomes)


class CheckpointTests(LeaseCase):
    """What remains of long leases, over a restart."""

    checkpoint_seconds = 10.0

    def test_remains(self) -> None:
        """After a restart a lease ends after what remained of it, not after all of its TTL."""
        self.grant(1, 60)
        self.running.pump(45.0)
        self.restart()
        led = self.running.clock.seconds()
        self.running.pump(20.0 + ELECTION_SECONDS + LATE)
        self.assertEqual([], self.there())
        self.assertGreater(60.0 - 45.0 + 20.0, self.running.clock.seconds() - led)

    def test_renewal_forgets(self) -> None:
        """A renewal is answered once the checkpoint is forgotten, so it holds over a restart."""
        self.grant(1, 60)
        self.running.pump(45.0)
        owner = self.renew(1)
        self.assertIsNone(owner.outcome)
        self.running.end_turn()
        self.assertEqual(60, owner.outcome)
        self.restart()
        self.running.pump(60.9)
        self.assertEqual([1], self.there())

    def test_kf_39_revoked_before_it_is_forgotten(self) -> None:
        """A lease revoked while its renewal waits for that is gone, and the renewal says so."""
        self.grant(1, 60)
        self.running.pump(45.0)
        revoking = self.running.propose(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=1))
        owner = self.renew(1)
        self.assertIsNone(owner.outcome)
        self.running.end_turn()
        self.assertIsInstance(revoking.outcome, bytes)
        self.assertEqual(0, owner.outcome)

    def test_checkpoint_fails(self) -> None:
        """A renewal whose checkpoint cannot be made is refused."""
        self.grant(1, 60)
        self.running.pump(45.0)
        self.patch(type(self.running.pending), "full", True)
        owner = self.renew(1)
        self.assertEqual((Code.UNKNOWN, "etcdserver: too many requests"), owner.outcome)

    def test_no_room(self) -> None:
        """A checkpoint that is not taken is made another time."""
        self.grant(1, 60)
        self.running.pump(9.9)
        self.patch(type(self.running.pending), "full", True)
        self.running.pump(1.0)
        self.patch(type(self.running.pending), "full", False)
        self.running.pump(12.0)
        self.restart()
        left, _ = self.lessor.time_to_live(1, self.running.clock.seconds())
        self.assertLess(left, 60.0 - 20.0 + 1 + ELECTION_SECONDS)

    def test_replayed(self) -> None:
        """A checkpoint in the log counts as one on the disk."""
        self.grant(1, 60)
        forget = LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=1, remaining_TTL=30)])
        self.propose(kinds.LEASE_CHECKPOINT, forget)
        self.running.backend = MemoryBackend()  # the log has it all
        self.restart()
        self.running.pump(30.0 + ELECTION_SECONDS + LATE)
        self.assertEqual([], self.there())


class KilledTests(LeaseCase):
    """Whatever happens to the member, its leases keep what their owners were told."""

    SEEDS = 25
    LEASES = 6

    def test_killed_under_load(self) -> None:
        """
        No lease ends before its last acknowledged renewal and its TTL, however often the member is killed.

        After a restart each ends at most its TTL, an election timeout and 1.5 s after the member leads; no
        key of an ended lease remains.
        """
        for seed in range(self.SEEDS):
            self.live(Random(seed), f"seed {seed}")

    def live(self, random: Random, where: str) -> None:
        self.start(Running(checkpoint_seconds=self.checkpoint_seconds))
        self.told: dict[int, float] = {}  # until when each lease must be there, as its owner was told
        self.ttls: dict[int, int] = {}
        self.keys: dict[bytes, int] = {}
        self.led = 0.0
        for _ in range(60):
            self.act(random)
            self.check(where)
            if random.random() < 0.1:
                self.running.pump(0.01)  # or else the last acknowledged may not be on the disk of the engine
                self.restart(random.choice([0.0, 1.0, 20.0]))
                self.led = self.running.clock.seconds()
                self.check(where)
        self.running.pump(max(self.ttls.values()) + ELECTION_SECONDS + 1.5)
        self.assertEqual([], self.there(), where)
        self.assertEqual([], [key for key in self.keys if self.has(key)], where)

    def act(self, random: Random) -> None:
        """One thing that an owner does, or time."""
        now = self.running.clock.seconds()
        lease_id = random.randrange(1, self.LEASES + 1)
        match random.randrange(5):
            case 0 if lease_id not in self.lessor:
                self.ttls[lease_id] = random.choice([2, 3, 5, 9])
                self.grant(lease_id, self.ttls[lease_id])
                self.told[lease_id] = now + self.ttls[lease_id]
            case 1 if lease_id in self.lessor:
                key = b"%d-%d" % (lease_id, random.randrange(3))
                self.put(key, lease_id)
                self.keys[key] = lease_id
            case 2:
                owner = self.renew(lease_id)
                self.running.end_turn()
                if isinstance(owner.outcome, int) and owner.outcome:
                    self.told[lease_id] = now + owner.outcome
            case 3 if random.random() < 0.2 and lease_id in self.lessor:
                self.propose(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=lease_id))
                self.told.pop(lease_id, None)
            case _:
                self.running.pump(random.choice([0.1, 0.5, 2.0]))

    def check(self, where: str) -> None:
        now = self.running.clock.seconds()
        there = self.there()
        for lease_id, until in self.told.items():
            if now < until:
                self.assertIn(lease_id, there, f"{where}: ended before {until}, at {now}")
            latest = max(until, self.led + self.ttls[lease_id] + ELECTION_SECONDS) + 1.5
            if now > latest:
                self.assertNotIn(lease_id, there, f"{where}: there after {latest}, at {now}")
        for key, lease_id in self.keys.items():
            if lease_id not in there:
                self.assertFalse(self.has(key), f"{where}: {key!r} outlived lease {lease_id}")


class KilledWithCheckpointsTests(KilledTests):
    """The same while what remains of leases is noted all the time."""

    checkpoint_seconds = 1.0
