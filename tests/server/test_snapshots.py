"""Snapshots: when they are taken, in which order, and what goes away for them."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import HeldWAL, RecordingBackend, Running
from tests.server.test_restart import CHANGES_NOTHING
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfState, Entry
from twistedetcd.schema import CONF_STATE, CONSISTENT_INDEX, META
from twistedetcd.server.bootstrap import AppliedMark
from twistedetcd.server.memorylog import COMPACT_EVERY, MemoryLog
from twistedetcd.server.snapshots import PURGE_SECONDS

EVERY = 5


class SnapshotCase(SynchronousTestCase):
    """A member that takes a snapshot every few entries."""

    def setUp(self) -> None:
        self.running = Running(snapshot_count=EVERY).start()
        self.successResultOf(self.running.ready)
        self.wal, self.snapshotter = self.running.wal, self.running.snapshotter

    def put(self, count: int = 1) -> None:
        """Put so many keys, a turn each."""
        for _ in range(count):
            self.running.put(b"k")
            self.running.end_turn()

    def recorded(self) -> list[int]:
        """The indices of the snapshots that the log vouches for."""
        return [snapshot.index for snapshot in self.wal.snapshots]


class TakingTests(SnapshotCase):
    """Every so many entries, and by a fixed order."""

    def test_every(self) -> None:
        """When more than so many entries were applied since the last one; the log before is released."""
        self.put(20)
        self.assertEqual([6, 12, 18, 24], self.recorded())
        self.assertEqual([(24, 2), (18, 2), (12, 2), (6, 2)], self.snapshotter.list())
        self.assertEqual(24, self.wal.released_to)
        self.assertEqual((6, 2, ConfState((7,))), self.wal.snapshots[0])

    def test_order(self) -> None:
        """Backend, snapshot, the log's record, release: each once the one before is durable."""
        running = self.running
        running.writer.holding = running.worker.holding = True
        self.put(5)
        self.assertEqual([], running.worker.held, "the backend does not have it yet")
        running.writer.release()
        self.assertEqual(([], 1), (self.snapshotter.list(), len(running.worker.held)))
        self.wal.holding = True
        self.put(1)  # a save is under way
        running.worker.release()
        self.assertEqual(([(6, 2)], []), (self.snapshotter.list(), self.recorded()))
        self.assertEqual(0, self.wal.released_to)
        self.wal.release()
        self.assertEqual(([6], 6), (self.recorded(), self.wal.released_to))

    def test_one_at_a_time(self) -> None:
        """While one is under way no other begins; the next is due once so many more entries were applied."""
        self.running.worker.holding = True
        self.put(30)
        self.assertEqual(1, len(self.running.worker.held))
        while self.running.worker.held:
            self.running.worker.release()
        self.assertEqual([6], self.recorded())
        self.put(1)
        self.assertEqual(1, len(self.running.worker.held))
        self.running.worker.release()
        indices = [index for index, _ in self.snapshotter.list()]
        self.assertEqual(sorted(indices, reverse=True), indices)
        self.assertEqual(indices[::-1], self.recorded())

    def test_off(self) -> None:
        """A member whose backend forgets takes none: it needs the whole log at the next start."""
        running = Running().start()
        for _ in range(100):
            running.put(b"k")
            running.end_turn()
        self.assertEqual(([], []), (running.wal.snapshots, running.snapshotter.list()))

    def test_kf_21_entries_that_change_nothing(self) -> None:
        """The backend's index is never behind a snapshot, whatever the entries before it were."""
        for name, (kind, request) in CHANGES_NOTHING.items():
            running = Running(snapshot_count=EVERY).start()
            for _ in range(6):
                running.propose(kind, request)
                running.end_turn()
            index = max(snapshot.index for snapshot in running.wal.snapshots)
            crashed = RecordingBackend(running.backend.batches)
            mark = int.from_bytes(crashed.read().get(META, CONSISTENT_INDEX) or b"", "big")
            self.assertGreaterEqual(mark, index, name)

    def test_replay(self) -> None:
        """While the log is replayed no snapshot is above what raft knows to be committed (KF-13)."""
        self.put(4)
        self.running.pump(0.2)
        wal = HeldWAL()
        wal.entries = list(self.wal.entries)
        wal.hard_state = self.wal.hard_state._replace(commit=1)
        wal.holding = True
        again = Running(wal, RecordingBackend(self.running.backend.batches), snapshot_count=1).start()
        again.pump(0.2)
        self.assertGreater(again.mark.index, 5)
        self.assertEqual([], [one for one in wal.snapshots if one.index > 1])
        conf_state = again.pending.get(META, CONF_STATE)
        self.assertEqual(b'{"voters":[7]}', conf_state)
        wal.holding = False
        wal.release_all()
        self.successResultOf(again.ready)
        self.assertTrue(all(one.index <= wal.hard_state.commit for one in wal.snapshots))


class FailureTests(SnapshotCase):
    """What keeps a snapshot from being taken stops the member; what was acknowledged stays."""

    def assert_stopped(self, error: type[Exception], code: int | None = None) -> None:
        """It said why, once."""
        [failure] = self.running.failures
        failure.trap(error)
        if code is not None:
            self.assertEqual(code, failure.value.errno)
        self.successResultOf(self.running.member.stop())
        self.assertEqual([], self.running.clock.getDelayedCalls())

    def test_full_disk(self) -> None:
        """A snapshot that does not fit on the disk: nothing is recorded, nothing released."""

        def full(snapshot: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "snap.tmp")

        self.snapshotter.save = full  # type: ignore[method-assign]
        self.put(2)
        self.assert_stopped(OSError, errno.ENOSPC)
        self.assertEqual(([], 0), (self.recorded(), self.wal.released_to))

    def test_log_refuses_the_record(self) -> None:
        """At once, or after a while: nothing is released, and the reason is the disk's."""
        for later in (False, True):
            self.setUp()
            error = OSError(errno.EIO, "Input/output error")
            saved: Deferred[None] = Deferred()
            if not later:
                saved.errback(error)
            self.wal.save_snapshot = lambda *_, saved=saved: saved  # type: ignore[method-assign]
            self.put(2)
            if later:
                self.assertEqual([], self.running.failures)
                saved.errback(error)
            self.assert_stopped(OSError, errno.EIO)
            self.assertEqual(0, self.wal.released_to)

    def test_backend_refuses(self) -> None:
        """A batch that the backend refuses is told once, though the snapshot waited for it."""
        self.running.writer.holding = True
        self.put(2)
        self.running.backend.error = OSError(errno.EIO, "Input/output error")
        self.running.writer.release()
        self.assert_stopped(OSError, errno.EIO)
        self.assertEqual([], self.snapshotter.list())

    def test_stopped_meanwhile(self) -> None:
        """Stopping waits for the file that is being written, and begins nothing after it."""
        self.running.worker.holding = True
        self.put(5)
        stopped = self.running.member.stop()
        self.assertNoResult(stopped)
        self.running.worker.release()
        self.successResultOf(stopped)
        self.assertEqual(([(6, 2)], []), (self.snapshotter.list(), self.recorded()))
        self.assertEqual([], self.running.failures)

    def test_stopped_before_its_record(self) -> None:
        """A record that waits for a save when the member stops is never written."""
        self.running.worker.holding = True
        self.put(5)
        self.wal.holding = True
        self.put(1)
        self.running.worker.release()
        stopped = self.running.member.stop()
        self.wal.release()
        self.successResultOf(stopped)
        self.assertEqual([], self.recorded())
        self.assertEqual([], self.running.failures)

    def test_slow_record(self) -> None:
        """While the record is on its way nothing else is saved; what came meanwhile follows."""
        saved: Deferred[None] = Deferred()
        self.wal.save_snapshot = lambda *_: saved  # type: ignore[method-assign]
        self.put(5)
        saves = len(self.wal.saves)
        put = self.running.put(b"meanwhile")
        self.running.end_turn()
        self.assertEqual(([False], saves), (self.running.done(put), len(self.wal.saves)))
        saved.callback(None)
        self.assertEqual([True], self.running.done(put))
        self.assertEqual(6, self.wal.released_to)


class PurgeTests(SnapshotCase):
    """What is too much goes away, at the start and then every 30 s."""

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[int] = []
        self.wal.purge = self._purge  # type: ignore[method-assign]

    def _purge(self, keep: int) -> Deferred[int]:
        self.asked.append(keep)
        done: Deferred[int] = Deferred()
        done.callback(0)
        return done

    def test_interval(self) -> None:
        """Snapshots beyond the newest five go; the log is asked to do the same."""
        self.put(60)
        self.assertEqual(10, len(self.snapshotter.list()))
        self.running.clock.advance(PURGE_SECONDS)
        self.assertEqual(([5], 5), (self.asked, len(self.snapshotter.list())))
        self.assertEqual(60, self.snapshotter.list()[0][0])
        self.running.clock.advance(PURGE_SECONDS)
        self.assertEqual([5, 5], self.asked)

    def test_what_the_log_does_not_know(self) -> None:
        """A snapshot that has no record yet keeps none of the others from staying."""
        self.put(60)
        recorded = self.running.snapshots.recorded
        for index in range(recorded + 1, recorded + 20):
            self.snapshotter.save(self.running._state()._replace(index=index))
        self.running.clock.advance(PURGE_SECONDS)
        known = [index for index, _ in self.snapshotter.list() if index <= recorded]
        self.assertEqual([60, 54, 48, 42, 36], known)

    def test_refused(self) -> None:
        """What cannot be removed is said, and tried again."""

        def refuse(keep: int) -> Deferred[int]:
            raise OSError(errno.EIO, "Input/output error", "0.wal")

        self.wal.purge = refuse  # type: ignore[method-assign]
        with capturedLogs() as events:
            self.running.clock.advance(PURGE_SECONDS)
        [event] = [event for event in events if "error" in event]
        self.assertEqual("Could not purge: {error}", event["log_format"])
        self.assertEqual([], self.running.failures)
        self.wal.purge = self._purge  # type: ignore[method-assign]
        self.running.clock.advance(PURGE_SECONDS)
        self.assertEqual([5], self.asked)

    def test_kf_18_stop(self) -> None:
        """No purge begins once the member stops, and one under way is waited for."""
        waiting: Deferred[int] = Deferred()
        self.wal.purge = lambda keep: waiting  # type: ignore[method-assign]
        self.running.clock.advance(PURGE_SECONDS)
        stopped = self.running.member.stop()
        self.assertNoResult(stopped)
        waiting.callback(0)
        self.successResultOf(stopped)
        self.assertEqual([], self.running.clock.getDelayedCalls())


class MemoryLogTests(SynchronousTestCase):
    """Applied entries stay in memory for those who may ask for them, within limits."""

    ALONE, TWO = ConfState((1,)), ConfState((1, 2))

    def setUp(self) -> None:
        self.storage = MemoryStorage()

    def applied(self, log: MemoryLog, first: int, last: int, members: ConfState, size: int = 10) -> None:
        """Append entries, and have them applied."""
        self.storage.append([Entry(1, index, bytes(size)) for index in range(first, last + 1)])
        log.compact(last, members)

    def test_alone(self) -> None:
        """A member without others keeps none; what is not applied stays."""
        log = MemoryLog(self.storage, 1000)
        self.storage.append([Entry(1, index) for index in range(1, 31)])
        log.compact(20, self.ALONE)
        self.assertEqual((21, 30), (self.storage.first_index(), self.storage.last_index()))
        log.compact(20, self.ALONE)

    def test_count(self) -> None:
        """With others, at least so many stay, and hardly more."""
        log = MemoryLog(self.storage, 250)
        for first in range(1, 2000, COMPACT_EVERY):
            last = first + COMPACT_EVERY - 1
            self.applied(log, first, last, self.TWO)
            kept = last + 1 - self.storage.first_index()
            self.assertGreaterEqual(kept, min(last, 250))
            self.assertLessEqual(kept, 250 + COMPACT_EVERY)

    def test_awaited(self) -> None:
        """While a snapshot is on its way what comes after it stays, as far as the bytes allow."""
        log = MemoryLog(self.storage, 100, bytes_max=20_000)
        for first in range(1, 1000, 100):
            self.storage.append([Entry(1, index, bytes(10)) for index in range(first, first + 100)])
            log.compact(first + 99, self.TWO, awaited=True)
        self.assertEqual(1, self.storage.first_index())
        for first in range(1001, 4000, 100):
            self.storage.append([Entry(1, index, bytes(10)) for index in range(first, first + 100)])
            log.compact(first + 99, self.TWO, awaited=True)
        self.assertEqual(2001, self.storage.first_index())
        self.storage.append([Entry(1, 4001, b"")])
        log.compact(4001, self.TWO)
        self.assertEqual(3901, self.storage.first_index())

    def test_bytes(self) -> None:
        """And never more than so many bytes, however few entries these are."""
        log = MemoryLog(self.storage, 5000, bytes_max=10_000)
        for first in range(1, 500, 10):
            self.applied(log, first, first + 9, self.TWO, size=300)
            kept = first + 10 - self.storage.first_index()
            self.assertEqual(min(first + 9, 30), kept)
        self.applied(log, 501, 510, self.TWO, size=5000)
        self.assertEqual(511, self.storage.first_index())

    def test_snapshot(self) -> None:
        """Raft always has a snapshot that stands in for what was forgotten."""
        log = MemoryLog(self.storage, 10)
        self.applied(log, 1, 100, self.TWO)
        self.assertEqual((100, 1, self.TWO), self.storage.snapshot()[:3])

    def test_others_come_later(self) -> None:
        """Once a member is no longer alone, what is there then counts."""
        log = MemoryLog(self.storage, 50)
        self.applied(log, 1, 100, self.ALONE)
        self.applied(log, 101, 140, self.TWO)
        self.assertEqual(101, self.storage.first_index())
        self.applied(log, 141, 200, self.TWO)
        self.assertEqual(141, self.storage.first_index())


class MarkTests(SynchronousTestCase):
    """How far the backend is moves with the entries only."""

    def test_unmoved(self) -> None:
        """A mark that has not moved is not written: while the log is replayed, the configuration is older."""
        running = Running().start()
        running.pump(0.2)
        mark = AppliedMark(running.pending)
        self.assertGreater(mark.index, 0)
        mark.write(mark.index, 9, ConfState((1, 2, 3)))
        self.assertEqual(0, running.pending.operations)
        mark.write(mark.index + 1, 9, ConfState((1, 2, 3)))
        self.assertEqual(b'{"voters":[1,2,3]}', running.pending.get(META, CONF_STATE))
