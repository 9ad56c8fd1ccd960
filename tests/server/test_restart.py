"""What was acknowledged is there after a restart, once, wherever the last life was cut."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import HeldWAL, RecordingBackend, Running
from twistedetcd.apply import request as kinds
from twistedetcd.errors import Code, EtcdError, MemberError, StoppedError
from twistedetcd.interfaces import Batch
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.rpc_pb2 import (
    AlarmRequest,
    CompactionRequest,
    Compare,
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RequestOp,
    TxnRequest,
)
from twistedetcd.raft.types import Entry
from twistedetcd.server.bootstrap import AppliedMark, check_identity, check_log_covers
from twistedetcd.server.slices import CompactionQueue, Slices


def failing_txn() -> TxnRequest:
    """It puts a key, and then one with a lease that nobody has."""
    return TxnRequest(
        compare=[Compare(key=b"none", target=Compare.VERSION, result=Compare.EQUAL, version=0)],
        success=[
            RequestOp(request_put=PutRequest(key=b"x", value=b"1")),
            RequestOp(request_put=PutRequest(key=b"y", lease=99)),
        ],
    )


def leases(running: Running) -> list[int]:
    """All that are there."""
    return sorted(finish(running.lessor.by_expiry()))


CHANGES_NOTHING = {
    "failed txn": (kinds.TXN, failing_txn()),
    "refused compaction": (kinds.COMPACTION, CompactionRequest(revision=1000)),
    "alarm list": (kinds.ALARM, AlarmRequest()),
    "missing lease": (kinds.PUT, PutRequest(key=b"k", lease=5)),
    "revoke of a missing lease": (kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=5)),
    "checkpoint of a missing lease": (
        kinds.LEASE_CHECKPOINT,
        LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=5, remaining_TTL=9)]),
    ),
}


class CrashTests(SynchronousTestCase):
    """The engine has some of the batches, the log has all: replayed, each entry counts once."""

    def life(self) -> Running:
        """A life with all kinds of entries, and batches of a few of them."""
        running = Running(limit=3).start()
        for number in range(12):
            running.put(b"k%d" % (number % 4), b"v%d" % number)
            running.put(b"same")
            kind, request = list(CHANGES_NOTHING.values())[number % len(CHANGES_NOTHING)]
            running.propose(kind, request)
            running.propose(kinds.LEASE_GRANT, LeaseGrantRequest(ID=100 + number, TTL=60))
            for lease_id in (100 + number, 99 + number):  # from the second time on, one that has a key
                running.propose(kinds.PUT, PutRequest(key=b"leased%d" % (lease_id % 5), lease=lease_id))
            if number % 3 == 2:
                running.propose(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=99 + number))
            if number % 5 == 4:
                running.propose(kinds.COMPACTION, CompactionRequest(revision=running.store.revision - 3))
            running.end_turn()
            running.pump(0.03)
        return running

    def test_every_boundary(self) -> None:
        """At whichever batch the engine stopped, revision and hash are those of the life before."""
        before = self.life()
        before.pump(0.5)
        batches: list[Batch] = before.backend.batches
        self.assertGreater(len(batches), 8)
        for count in range(len(batches) + 1):
            after = Running(HeldWAL.of(before.wal), RecordingBackend(batches[:count])).start()
            after.pump(0.5)
            self.assertEqual(before.store.revision, after.store.revision, f"batches: {count}")
            self.assertEqual(before.hash(), after.hash(), f"batches: {count}")
            self.assertEqual(dict(before.lessor.lease_of), dict(after.lessor.lease_of), f"batches: {count}")
            self.assertEqual(leases(before), leases(after), f"batches: {count}")
            self.assertEqual(before.member.cluster.members, after.member.cluster.members)
            self.successResultOf(after.ready)
            self.successResultOf(after.member.stop())

    def test_replayed_on_an_older_commit(self) -> None:
        """The same when the commit index on the disk is older than the engine."""
        before = self.life()
        before.pump(0.5)
        wal = HeldWAL.of(before.wal)
        wal.hard_state = wal.hard_state._replace(commit=1)
        after = Running(wal, RecordingBackend(before.backend.batches)).start()
        after.pump(0.5)
        self.assertEqual(before.hash(), after.hash())

    def test_many_lives(self) -> None:
        """Life after life on the same log and engine, stopped in order: nothing is added by restarting."""
        running = self.life()
        expected = running.store.revision
        for _ in range(3):
            self.successResultOf(running.member.stop())
            running = Running(HeldWAL.of(running.wal), RecordingBackend(running.backend.batches)).start()
            self.assertEqual(expected, running.store.revision)
            self.successResultOf(running.ready)
        self.assertEqual(4, running.raft.term - 1, "a term for each life")

    def test_entries_that_change_nothing(self) -> None:
        """An entry without effect moves the applied index like any other, and replays the same (KF-21)."""
        for name, (kind, request) in CHANGES_NOTHING.items():
            before = Running().start()
            before.pump(0.2)
            index = before.member.applied_index
            clients = [before.propose(kind, request) for _ in range(6)]
            before.end_turn()
            self.assertEqual({True}, set(before.done(*clients)), name)
            self.assertEqual(index + 6, before.member.applied_index, name)
            self.assertEqual(1, before.store.revision, name)
            before.put(b"k")
            before.end_turn()
            self.successResultOf(before.member.stop())
            self.assertEqual(before.member.applied_index, AppliedMark(before.pending).index, name)
            after = Running(HeldWAL.of(before.wal), RecordingBackend(before.backend.batches)).start()
            self.assertEqual(before.hash(), after.hash(), name)

    def test_unknown_entry(self) -> None:
        """An entry that this version cannot read stops the member rather than being passed over."""
        before = Running().start()
        wal = HeldWAL.of(before.wal)
        last = wal.entries[-1]
        wal.entries.append(Entry(last.term, last.index + 1, b"\xff\xff"))
        wal.hard_state = wal.hard_state._replace(commit=last.index + 1)
        after = Running(wal).start()
        failure = self.failureResultOf(after.ready, ValueError)
        self.assertEqual(
            f"log entry {last.index + 1} holds no request that this version knows", failure.getErrorMessage()
        )
        self.assertEqual([], after.clock.getDelayedCalls())


class BelongingTests(SynchronousTestCase):
    """Log and backend must be of one member."""

    def test_log(self) -> None:
        """The log must reach to what the backend has applied, and begin at or before the entry after it."""
        running = Running().start()
        self.successResultOf(running.member.stop())
        mark = AppliedMark(running.pending)
        self.assertGreater(mark.index, 2)
        check_log_covers(mark, 0, running.wal.entries)
        check_log_covers(mark, mark.index, [Entry(1, mark.index + 1)])
        check_log_covers(mark, mark.index, [])
        with self.assertRaisesRegex(MemberError, f"applied entry {mark.index}, but the log ends at 2"):
            check_log_covers(mark, 0, running.wal.entries[:2])
        with self.assertRaisesRegex(MemberError, "the log ends at 0"):
            check_log_covers(mark, 0, [])
        with self.assertRaisesRegex(MemberError, f"begins after the snapshot at {mark.index + 1}, but"):
            check_log_covers(mark, mark.index + 1, [])

    def test_member(self) -> None:
        """The log's member must be one of the backend's, unless that is empty."""
        running = Running()
        check_identity(running.member.cluster, 9)
        running.start()
        check_identity(running.member.cluster, 7)
        with self.assertRaisesRegex(MemberError, "the log is that of member 9, which"):
            check_identity(running.member.cluster, 9)


class StopTests(SynchronousTestCase):
    """Stopping in order loses nothing and leaves nothing behind."""

    def test_everything_is_in_the_engine(self) -> None:
        """Afterwards the engine has all that was answered, and nothing runs any more."""
        running = Running().start()
        running.put(b"k")
        running.propose(kinds.COMPACTION, CompactionRequest(revision=2))
        running.end_turn()
        running.writer.holding = True
        running.clock.advance(0.1)
        running.put(b"late")
        running.end_turn()
        waiting, reading = running.put(b"never"), running.get(b"k")
        hashing = running.member.hash(0)
        stopped = running.member.stop()
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), waiting.outcome)
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), reading.outcome)
        while running.writer.held:
            self.assertNoResult(stopped)
            running.writer.release()
        self.successResultOf(stopped)
        self.failureResultOf(hashing, StoppedError)
        running.clock.advance(0)  # the turn that was begun
        self.assertEqual([], running.clock.getDelayedCalls())
        self.assertEqual(0, running.pending.operations)
        again = Running(HeldWAL.of(running.wal), RecordingBackend(running.backend.batches))
        self.assertEqual(1, again.store.range(b"late", None)[1])
        self.assertEqual(0, again.store.range(b"never", None)[1])

    def test_engine_refuses_the_last_batch(self) -> None:
        """Stopping fails then, rather than never ending."""
        running = Running().start()
        running.backend.error = OSError(28, "No space left on device")
        self.failureResultOf(running.member.stop(), OSError)
        self.assertEqual([], running.failures, "whoever stops it hears it from there")


class CompactionTests(SynchronousTestCase):
    """Compactions go on in the background, in order, and survive a stop."""

    def test_resumed(self) -> None:
        """One that a stop interrupted goes on after the restart, to the same end."""
        before = Running().start()
        for number in range(20):
            before.put(b"k", b"%d" % number)
        before.end_turn()
        before.propose(kinds.COMPACTION, CompactionRequest(revision=15))
        before.end_turn()
        before.pump(0.02)
        self.successResultOf(before.member.stop())
        self.assertEqual(15, before.store.unfinished_compaction)
        after = Running(HeldWAL.of(before.wal), RecordingBackend(before.backend.batches)).start()
        self.assertEqual(15, after.store.compact_revision)
        after.pump(0.5)
        self.assertIsNone(after.store.unfinished_compaction)
        self.assertEqual(21 - 15 + 1, len(list(after.pending.range(b"key", b"", None))))

    def test_refused(self) -> None:
        """What was compacted, and what is yet to come, is refused by the entry itself."""
        running = Running().start()
        running.put(b"k")
        good = running.propose(kinds.COMPACTION, CompactionRequest(revision=2))
        again = running.propose(kinds.COMPACTION, CompactionRequest(revision=2))
        future = running.propose(kinds.COMPACTION, CompactionRequest(revision=9))
        running.end_turn()
        self.assertIsInstance(good.outcome, bytes)
        self.assertEqual(Code.OUT_OF_RANGE, again.outcome[0])
        self.assertEqual(
            (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"), future.outcome
        )


class SlicesTests(SynchronousTestCase):
    """Slow work takes turns, pauses, and can be given up."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log: list[Any] = []

    def work(self, name: str, slices: int, error: Exception | None = None) -> Any:
        """Work of so many slices, whose result is its name."""
        for number in range(slices):
            self.log.append((name, number))
            yield
        if error is not None:
            raise error
        return name

    def test_turns(self) -> None:
        """Nothing runs in the caller's turn; then one slice a time, the works alternating."""
        slices = Slices(self.clock, 1.0)
        first, second = slices.run(self.work("a", 2)), slices.run(self.work("b", 1))
        self.assertEqual([], self.log)
        self.clock.pump([1.0] * 5)
        self.assertEqual([("a", 0), ("b", 0), ("a", 1)], self.log)
        self.assertEqual("a", self.successResultOf(first))
        self.assertEqual("b", self.successResultOf(second))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_raises(self) -> None:
        """What the work raises is told; other work goes on."""
        slices = Slices(self.clock)
        bad, good = slices.run(self.work("a", 1, EtcdError("x"))), slices.run(self.work("b", 3))
        self.clock.pump([0] * 9)
        self.failureResultOf(bad, EtcdError)
        self.assertEqual("b", self.successResultOf(good))

    def test_running(self) -> None:
        """Only so many take turns; the others wait, in the order they came, for one to end."""
        slices = Slices(self.clock, running_max=2)
        works = [slices.run(self.work(name, 2)) for name in "abcd"]
        self.clock.pump([0] * 12)
        self.assertEqual(["a", "b", "c", "d"], [self.successResultOf(work) for work in works])
        order = "".join(name for name, _ in self.log)
        self.assertEqual("ababcdcd", order)

    def test_stop(self) -> None:
        """All works end there and then, and new ones are refused."""
        slices = Slices(self.clock, 1.0)
        works = [slices.run(self.work(name, 3)) for name in "abc"]
        self.clock.pump([1.0] * 2)
        slices.stop()
        for work in [*works, slices.run(self.work("d", 1))]:
            self.failureResultOf(work, StoppedError)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([("a", 0), ("b", 0)], self.log)


class CompactionQueueTests(SynchronousTestCase):
    """One compaction after the other; who waits hears when all of them are done."""

    def setUp(self) -> None:
        self.clock, self.log = Clock(), []
        self.failures: list[Failure] = []
        self.slices = Slices(self.clock, 1.0)
        self.queue = CompactionQueue(self.slices, self.failures.append)

    def work(self, name: str, error: Exception | None = None) -> Any:
        """Two slices."""
        for number in range(2):
            self.log.append((name, number))
            yield
        if error is not None:
            raise error

    def test_order(self) -> None:
        """The next begins when the one before it has ended."""
        self.successResultOf(self.queue.idle())
        for name in "ab":
            self.queue.add(self.work(name))
        idle = self.queue.idle()
        self.clock.pump([1.0] * 5)
        self.assertNoResult(idle)
        self.clock.pump([1.0])
        self.successResultOf(idle)
        self.assertEqual([("a", 0), ("a", 1), ("b", 0), ("b", 1)], self.log)
        self.queue.add(self.work("c"))
        self.assertNoResult(self.queue.idle())

    def test_stop(self) -> None:
        """Those who wait for the end are told that it will not come, and so are later ones."""
        self.queue.add(self.work("a"))
        idle = self.queue.idle()
        self.slices.stop()
        self.failureResultOf(idle, StoppedError)
        self.failureResultOf(self.queue.idle(), StoppedError)
        self.assertEqual([], self.failures)

    def test_raises(self) -> None:
        """One that cannot be carried out stops the member."""
        self.queue.add(self.work("a", KeyError("record")))
        idle = self.queue.idle()
        self.clock.pump([1.0] * 3)
        self.failureResultOf(idle, StoppedError)
        [failure] = self.failures
        failure.trap(KeyError)
