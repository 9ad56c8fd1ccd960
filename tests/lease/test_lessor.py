"""Leases, on a clock that the tests turn."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import BackendError, LeaseExistError, LeaseNotFoundError, LeaseTTLTooLargeError
from twistedetcd.interfaces import ILessor
from twistedetcd.lease import lessor as lessor_module
from twistedetcd.lease.deadlines import Deadlines
from twistedetcd.lease.lessor import ENDING_PER_SECOND_MAX, SPREAD_FROM, TTL_MAX_SECONDS, Lessor
from twistedetcd.lease.ordering import RUN, in_order
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.lease_pb2 import Lease
from twistedetcd.schema import LEASE

TTL_MIN = 2
EXTEND = 1.0
AGAIN = 7.0
IDS = (-(2**63), -1, 1, 7, 2**63 - 1)


class LessorCase(SynchronousTestCase):
    """A lessor over an overlay."""

    checkpoint_seconds: float | None = None

    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.start()

    def start(self) -> None:
        self.pending = Pending(self.backend)
        self.lessor = ILessor(Lessor(self.pending, TTL_MIN, self.checkpoint_seconds))
        self.lessor.restore()

    def restart(self) -> None:
        """Another one that finds what this one has written."""
        batch = self.pending.seal()
        if batch is not None:
            self.backend.write(batch)
        self.pending.close()
        self.start()

    def lead(self, now: float) -> None:
        """Become primary, and count all leases."""
        finish(self.lessor.promote(now, EXTEND))

    def grant(self, lease_id: int, ttl: int, now: float = 0.0) -> None:
        self.lessor.grant(lease_id, ttl)
        self.lessor.count_granted(now)

    def due(self, now: float, limit: int = 500) -> list[int]:
        ended, complete = self.lessor.due(now, limit, AGAIN)
        self.assertTrue(complete)
        return ended

    def left(self, lease_id: int, now: float) -> float:
        left, _ = self.lessor.time_to_live(lease_id, now)
        return left


class ReplicatedTests(LessorCase):
    """What every member has alike."""

    def test_ttl(self) -> None:
        """A TTL below the shortest is raised to it, be it negative; one above the longest is refused."""
        for number, (asked, granted) in enumerate([(60, 60), (2, 2), (1, 2), (0, 2), (-5, 2)], 1):
            self.assertEqual(granted, self.lessor.grant(number, asked))
        self.assertEqual(TTL_MAX_SECONDS, self.lessor.grant(9, TTL_MAX_SECONDS))
        self.assertRaises(LeaseTTLTooLargeError, self.lessor.grant, 10, TTL_MAX_SECONDS + 1)
        self.assertNotIn(10, self.lessor)

    def test_ids(self) -> None:
        """An id is taken once; 0 is none; what was revoked may come again."""
        self.lessor.grant(5, 60)
        self.assertRaises(LeaseExistError, self.lessor.grant, 5, 60)
        self.assertRaises(LeaseNotFoundError, self.lessor.grant, 0, 60)
        self.assertRaises(LeaseNotFoundError, self.lessor.revoke, 6)
        self.lessor.revoke(5)
        self.assertRaises(LeaseNotFoundError, self.lessor.revoke, 5)
        self.lessor.grant(5, 60)
        self.assertEqual(1, len(self.lessor))

    def test_kf_44_negative_and_special_ids(self) -> None:
        """Every id but 0 is kept as it was given, also over a restart."""
        for lease_id in IDS:
            self.lessor.grant(lease_id, 60)
        self.restart()
        self.assertEqual(set(IDS), set(finish(self.lessor.by_expiry())))
        for lease_id in IDS:
            self.lessor.revoke(lease_id)
        self.restart()
        self.assertEqual(0, len(self.lessor))
        self.assertEqual([], list(self.pending.range(LEASE, b"", None)))

    def test_record(self) -> None:
        """A record is etcd's: eight bytes of id, then id, TTL and what remained at the last checkpoint."""
        self.lessor.grant(-2, 60)
        self.lessor.checkpoint(-2, 41)
        self.lessor.checkpoint(3, 1)  # of nobody
        [(key, value)] = self.pending.range(LEASE, b"", None)
        self.assertEqual(b"\xff" * 7 + b"\xfe", key)
        self.assertEqual(Lease(ID=-2, TTL=60, RemainingTTL=41), Lease.FromString(value))

    def test_restart(self) -> None:
        """After a restart the leases are there; a TTL below what is the shortest now is raised."""
        self.lessor.grant(1, 60)
        self.pending.put(LEASE, bytes(7) + b"\x02", Lease(ID=2, TTL=1).SerializeToString())
        self.restart()
        self.lead(0.0)
        self.assertEqual((61.0, 60), self.lessor.time_to_live(1, 0.0))
        self.assertEqual((3.0, 2), self.lessor.time_to_live(2, 0.0))

    def test_damaged(self) -> None:
        """A record that is none, or of another lease than its key says, is not guessed at."""
        for value in (b"\xff", Lease(ID=3, TTL=5).SerializeToString()):
            self.pending.put(LEASE, bytes(7) + b"\x02", value)
            self.assertRaises(BackendError, self.restart)
            self.pending.close()


class KeysTests(LessorCase):
    """Which keys a lease has."""

    def setUp(self) -> None:
        super().setUp()
        self.lessor.grant(1, 60)
        self.lessor.grant(2, 60)

    def keys(self, lease_id: int) -> list[bytes]:
        return self.lessor.keys(lease_id, 100)

    def test_order(self) -> None:
        """Keys come in byte order, as many as asked for."""
        for key in (b"b", b"a", b"\xff", b"ab"):
            self.assertTrue(self.lessor.attach(key, 1))
        self.assertEqual([b"a", b"ab", b"b", b"\xff"], self.keys(1))
        self.assertEqual([b"a", b"ab"], self.lessor.keys(1, 2))
        self.assertEqual([], self.keys(2))
        self.assertRaises(LeaseNotFoundError, self.keys, 3)

    def test_moves(self) -> None:
        """A key has one lease: the last that it was put with, or none."""
        self.lessor.attach(b"k", 1)
        self.lessor.attach(b"k", 1)
        self.assertEqual(([b"k"], []), (self.keys(1), self.keys(2)))
        self.lessor.attach(b"k", 2)
        self.assertEqual(([], [b"k"]), (self.keys(1), self.keys(2)))
        self.assertEqual({b"k": 2}, self.lessor.lease_of)
        self.assertTrue(self.lessor.attach(b"k", 0))
        self.assertEqual(([], []), (self.keys(1), self.keys(2)))
        self.assertEqual({}, self.lessor.lease_of)

    def test_detach(self) -> None:
        """A deleted key leaves its lease; a key without one is no matter."""
        self.lessor.attach(b"k", 1)
        self.lessor.detach(b"k")
        self.lessor.detach(b"k")
        self.lessor.detach(b"other")
        self.assertEqual([], self.keys(1))

    def test_missing_lease(self) -> None:
        """A key cannot be attached to a lease that does not exist, and has none then."""
        self.lessor.attach(b"k", 1)
        self.assertFalse(self.lessor.attach(b"k", 9))
        self.assertEqual({}, self.lessor.lease_of)

    def test_nothing_left(self) -> None:
        """A revoked lease leaves nothing behind: granted again, it has no keys."""
        self.lessor.attach(b"k", 1)
        self.lessor.detach(b"k")
        self.lessor.revoke(1)
        self.lessor.grant(1, 60)
        self.assertEqual([], self.keys(1))


class PrimaryTests(LessorCase):
    """When leases end."""

    def test_not_primary(self) -> None:
        """A lessor that is not primary ends nothing, however late it is."""
        self.grant(1, 2)
        self.assertEqual([], self.due(1e9))
        self.lead(0.0)
        self.lessor.demote()
        self.assertEqual([], self.due(1e9))

    def test_granted(self) -> None:
        """A lease lasts for its TTL from when it was applied: not a moment less."""
        self.lead(0.0)
        self.lessor.grant(1, 10)
        self.assertEqual((10.0, 10), self.lessor.time_to_live(1, 5.0))
        self.assertEqual([1], self.lessor.granted)
        self.lessor.count_granted(5.0)
        self.assertEqual([], self.lessor.granted)
        self.assertEqual(9.0, self.left(1, 6.0))
        self.assertEqual([], self.due(14.999))
        self.assertFalse(self.lessor.ended(1, 14.999))
        self.assertTrue(self.lessor.ended(1, 15.0))
        self.assertEqual([1], self.due(15.0))
        self.assertEqual(-1.5, self.left(1, 16.5))

    def test_renewed(self) -> None:
        """A renewal counts from its own time; a lease that is not there has 0."""
        self.lead(0.0)
        self.grant(1, 10)
        self.assertEqual(10, self.lessor.renew(1, 9.5))
        self.assertEqual(0, self.lessor.renew(2, 9.5))
        self.assertEqual([], self.due(19.4))
        self.assertEqual([1], self.due(19.5))

    def test_renewed_before_it_is_counted(self) -> None:
        """One that renews a lease at once gets no less than from the grant."""
        self.lead(0.0)
        self.lessor.grant(1, 10)
        self.assertEqual(10, self.lessor.renew(1, 3.0))
        self.lessor.count_granted(1.0)
        self.assertEqual(10.0, self.left(1, 3.0))
        self.assertEqual([1], self.due(13.0))

    def test_ended_is_not_renewed(self) -> None:
        """What has ended cannot be renewed, revoked or not: that is said when it is known."""
        self.lead(0.0)
        self.grant(1, 10)
        self.assertIsNone(self.lessor.renew(1, 10.0))
        self.due(10.0)
        self.assertIsNone(self.lessor.renew(1, 10.5))
        self.lessor.revoke(1)
        self.assertEqual(0, self.lessor.renew(1, 10.5))
        self.assertTrue(self.lessor.ended(1, 10.5))

    def test_told_again(self) -> None:
        """A lease that was due and not revoked is due again after a while, not before (KF-42)."""
        self.lead(0.0)
        self.grant(1, 10)
        self.assertEqual([1], self.due(10.2))
        self.assertEqual([], self.due(17.1))
        self.assertEqual([1], self.due(17.2))

    def test_in_order_and_not_too_many(self) -> None:
        """Those that ended first come first, as many as may."""
        self.lead(0.0)
        for lease_id, ttl in ((1, 30), (2, 10), (3, 20), (4, 40)):
            self.grant(lease_id, ttl)
        self.assertEqual([2, 3], self.due(35.0, 2))
        self.assertEqual([1], self.due(35.0, 2))
        self.assertEqual([4], self.due(40.0, 2))

    def test_bounded_look(self) -> None:
        """A look past many renewed leases goes on another time, and then finds what ended."""
        self.patch(lessor_module, "LOOKED_AT_MAX", 10)
        self.lead(0.0)
        for lease_id in range(1, 26):
            self.grant(lease_id, 10)
        for lease_id in range(1, 25):
            self.lessor.renew(lease_id, 5.0)
        looks = [self.lessor.due(10.0, 500, AGAIN) for _ in range(3)]
        self.assertEqual([([], False), ([], False), ([25], True)], looks)

    def test_promoted(self) -> None:
        """A new leader gives each lease its TTL and an election timeout (raft had nobody to renew it)."""
        self.lessor.grant(1, 10)
        self.lessor.grant(2, 20)
        self.lead(100.0)
        self.assertEqual(11.0, self.left(1, 100.0))
        self.assertEqual([], self.due(110.9))
        self.assertEqual([1], self.due(111.0))
        self.assertEqual([], self.due(117.9))
        self.lessor.revoke(1)
        self.assertEqual([2], self.due(121.0))

    def test_promoted_again(self) -> None:
        """Nothing of an earlier office counts."""
        self.lead(0.0)
        self.grant(1, 10)
        self.due(10.0)
        self.lessor.grant(2, 10)
        self.lessor.demote()
        self.lead(50.0)
        self.assertEqual([], self.lessor.granted)
        self.assertEqual([], self.due(60.9))
        self.assertEqual([1, 2], sorted(self.due(61.0)))

    def test_promotion_in_slices(self) -> None:
        """While many leases are being counted each can be asked for, renewed and revoked."""
        count = 2 * RUN + 10
        for lease_id in range(1, count + 1):
            self.lessor.grant(lease_id, 10)
        work = self.lessor.promote(0.0, EXTEND)
        next(work)
        self.assertEqual(11.0, self.left(count, 0.0))
        self.assertEqual(10, self.lessor.renew(count, 5.0))
        self.lessor.revoke(count - 1)
        self.lessor.grant(count + 1, 30)
        self.assertGreater(sum(1 for _ in work), 10)
        self.lessor.count_granted(6.0)
        self.assertEqual(10.0, self.left(count, 5.0))
        self.assertEqual(30.0, self.left(count + 1, 6.0))
        for now in range(60):
            for lease_id in self.due(float(now), 10**6):
                self.lessor.revoke(lease_id)
        self.assertEqual(0, len(self.lessor))

    def test_promotion_given_up(self) -> None:
        """A leader that was demoted while it counted counts nothing more."""
        for lease_id in range(1, RUN + 2):
            self.lessor.grant(lease_id, 10)
        work = self.lessor.promote(0.0, EXTEND)
        next(work)
        self.lessor.demote()
        finish(work)
        self.assertEqual([], self.due(1e9))

    def test_spread(self) -> None:
        """Of many leases that a new leader found, no second sees more end than it can have revoked."""
        for lease_id in range(1, 3 * SPREAD_FROM + 1):
            self.lessor.grant(lease_id, 10)
        self.lead(0.0)
        self.assertEqual([], self.due(10.9))
        for second in range(11, 14):
            self.assertEqual(ENDING_PER_SECOND_MAX, len(self.due(float(second), 10**6)), second)

    def test_few_are_not_spread(self) -> None:
        """Fewer than a thousand end when they should."""
        for lease_id in range(1, SPREAD_FROM):
            self.lessor.grant(lease_id, 10)
        self.lead(0.0)
        self.assertEqual(SPREAD_FROM - 1, len(self.due(11.0, 10**6)))

    def test_listing(self) -> None:
        """A primary lists leases by when they end."""
        self.lead(0.0)
        for lease_id, ttl in ((1, 30), (2, 10), (3, 20)):
            self.grant(lease_id, ttl)
        self.assertEqual([2, 3, 1], finish(self.lessor.by_expiry()))
        self.lessor.renew(2, 5.0)
        self.lessor.renew(3, 15.0)
        self.assertEqual([2, 1, 3], finish(self.lessor.by_expiry()))


class CheckpointTests(LessorCase):
    """What remains of long leases is noted, if that is wanted."""

    checkpoint_seconds = 10.0

    def checkpoints(self, now: float) -> dict[int, int]:
        """Note what there is to note, as the log would."""
        found = self.lessor.checkpoints(now, 1000)
        for lease_id, remaining in found:
            self.lessor.checkpoint(lease_id, remaining)
        return dict(found)

    def test_off(self) -> None:
        """Without checkpoints there are none."""
        lessor = Lessor(self.pending, TTL_MIN)
        finish(lessor.promote(0.0, EXTEND))
        lessor.grant(1, 1000)
        lessor.count_granted(0.0)
        self.assertEqual([], lessor.checkpoints(500.0, 1000))

    def test_interval(self) -> None:
        """A lease is noted once an interval, in whole seconds, while more than that is left."""
        self.lead(0.0)
        self.grant(1, 35)
        self.grant(2, 10)
        noted = {now: found for now in range(60) if (found := self.checkpoints(now + 0.25))}
        self.assertEqual({10: {1: 25}, 20: {1: 15}, 30: {1: 5}}, noted)

    def test_renewed(self) -> None:
        """A renewed lease needs none before an interval has passed; one that has one, forgets it first."""
        self.lead(0.0)
        self.grant(1, 35)
        self.lessor.renew(1, 5.0)
        self.assertEqual({}, self.checkpoints(10.0))
        self.assertEqual({1: 25}, self.checkpoints(15.0))
        self.assertIsNone(self.lessor.renew(1, 16.0))
        self.assertFalse(self.lessor.ended(1, 16.0))
        self.lessor.checkpoint(1, 0)
        self.assertEqual(35, self.lessor.renew(1, 16.0))
        self.assertEqual({}, self.checkpoints(25.0))
        self.assertEqual({1: 25}, self.checkpoints(26.0))

    def test_renewed_meanwhile(self) -> None:
        """
        A renewal while a checkpoint is on its way waits for it, too, and none is made until it is forgotten.

        Else the next leader would end the lease before what its owner was told.
        """
        self.lead(0.0)
        self.grant(1, 100)
        [(_, remaining)] = self.lessor.checkpoints(10.0, 10)
        self.assertIsNone(self.lessor.renew(1, 11.0))
        self.assertEqual({}, self.checkpoints(20.9))
        self.lessor.checkpoint(1, remaining)
        self.assertIsNone(self.lessor.renew(1, 20.9))
        self.lessor.checkpoint(1, 0)
        self.assertEqual(100, self.lessor.renew(1, 20.9))

    def test_kf_41_checkpoints_count(self) -> None:
        """Through other leaders and a restart a lease has what was left; renewed, it has all of it again."""
        self.lead(0.0)
        self.grant(1, 60)
        now = 0.0
        for _ in range(3):
            for _ in range(11):
                now += 1.0
                self.checkpoints(now)
            left = self.left(1, now)
            self.lessor.demote()
            self.assertEqual([], self.lessor.checkpoints(1e9, 1000))
            self.lead(now)
            self.assertLessEqual(self.left(1, now), left + 1 + EXTEND + 1)
        self.restart()
        self.lead(now)
        left = self.left(1, now)
        self.assertLess(left, 35.0)
        self.lessor.checkpoint(1, 0)
        self.assertEqual(60, self.lessor.renew(1, now))
        self.restart()
        self.lead(now)
        self.assertEqual(61.0, self.left(1, now))

    def test_limit(self) -> None:
        """No more at once than asked for; the others come next."""
        self.lead(0.0)
        for lease_id in range(1, 8):
            self.grant(lease_id, 100)
        found = [len(self.lessor.checkpoints(10.0, 3)) for _ in range(4)]
        self.assertEqual([3, 3, 1, 0], found)

    def test_ended_and_revoked(self) -> None:
        """A lease that ended, or was revoked, is noted no more."""
        self.lead(0.0)
        self.grant(1, 12)
        self.grant(2, 60)
        self.lessor.revoke(2)
        self.assertEqual({}, self.checkpoints(13.0))


class DeadlinesTests(SynchronousTestCase):
    """The order of what is due."""

    def test_order(self) -> None:
        """By time; of one time all are due, whatever their ids."""
        deadlines = Deadlines()
        for at, lease_id in ((1.5, 3), (1.25, -1), (1.25, 2**63 - 1), (1.25, -(2**63)), (1e12, 1), (0.0, 5)):
            deadlines.add(at, lease_id)
        self.assertEqual([(0.0, 5)], deadlines.due(1.0, 10))
        self.assertEqual({5, -1, 2**63 - 1, -(2**63)}, {lease_id for _, lease_id in deadlines.due(1.25, 10)})
        self.assertEqual(2, len(deadlines.due(2.0, 2)))
        deadlines.remove(0.0, 5)
        self.assertEqual(4, len(deadlines.due(2.0, 10)))
        self.assertEqual(5, len(deadlines))

    def test_in_order(self) -> None:
        """Sorting in slices sorts."""
        items = [(float(number * 7919 % 12_007), number) for number in range(3 * RUN)]
        work = in_order(items)
        self.assertIsNone(next(work))
        self.assertEqual(sorted(items), list(finish(work)))
