"""SegmentedWAL: what was acknowledged is read again, whatever happened in between."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.errors import WALClosedError, WALCorruptError, WALError, WALSnapshotError
from twistedetcd.files.local import LocalFiles
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.interfaces import RunInThread
from twistedetcd.patience import TIMES
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.testing.wal import entry
from twistedetcd.wal.log import BUSY_SECONDS, BUSY_SYNC_SECONDS, SegmentedWAL
from twistedetcd.wal.opening import LogOptions, exists
from twistedetcd.wal.reading import Reading, Recovered, verify
from twistedetcd.wal.record import ENTRY, STATE
from twistedetcd.wire import encode_entry, encode_hard_state

METADATA = b"\x08\x01\x10\x02"
OPTIONS = LogOptions(run_in_worker=execute, segment_bytes=4096)
FIRST = "wal/0000000000000000-0000000000000000.wal"
VOTERS = ConfState(voters=(1,))


class LogCase(SynchronousTestCase):
    """
    A log on a disk in memory.

    Attributes:
        steps: What was changed on it: a word and a path each.
    """

    def setUp(self) -> None:
        self.use(SimulatedFiles(Random(1)))

    def use(self, disk: SimulatedFiles) -> None:
        """Another disk, empty or what is left of one."""
        self.disk, self.steps = disk, []

        def note(what: str, path: str) -> None:
            if what not in ("read", "open"):
                self.steps.append((what, path))

        disk.before.append(note)

    def crash(self, chance: float = 0.0) -> None:
        """Lose what was not synced."""
        self.use(self.disk.crashed(chance))

    def data(self, path: str) -> bytes:
        """All that a file holds."""
        file = self.disk.open(path)
        return file.read(0, file.size())

    def put(self, path: str, data: bytes) -> None:
        """Replace what a file holds."""
        file = self.disk.open(path)
        file.truncate(0)
        file.write(0, data)

    def flip(self, path: str, at: int, bits: int) -> None:
        """Turn some bits of one byte the other way round."""
        self.disk.open(path).write(at, bytes((self.data(path)[at] ^ bits,)))

    def locked(self, path: str) -> bool:
        """Whether somebody has the file locked."""
        file = self.disk.open(path)
        try:
            file.lock()
        except BlockingIOError:
            return True
        finally:
            file.close()
        return False

    def create(self, options: LogOptions = OPTIONS) -> SegmentedWAL:
        return SegmentedWAL.create(self.disk, "wal", METADATA, options=options)

    def reopen(self, index: int = 0, term: int = 0) -> tuple[SegmentedWAL, Recovered]:
        wal = SegmentedWAL.open(self.disk, "wal", index, term, options=OPTIONS)
        return wal, wal.read_all()

    def read(self) -> Recovered:
        wal, recovered = self.reopen()
        wal.close()
        return recovered

    def save(self, wal: SegmentedWAL, *entries: Entry, state: HardState | None = None) -> None:
        self.assertIsNone(self.successResultOf(wal.save(state, entries)))

    def filled(self, count: int = 90) -> list[Entry]:
        """A closed log of several segments."""
        wal = self.create()
        entries = [entry(index) for index in range(1, count + 1)]
        for one in entries:
            self.save(wal, one, state=HardState(1, 1, one.index - 1))
        wal.close()
        return entries

    def segments(self) -> list[str]:
        return [f"wal/{name}" for name in self.disk.list("wal") if name.endswith(".wal")]


class SaveTests(LogCase):
    """Saving and reading again."""

    def test_one_write_one_sync(self) -> None:
        """However much a save holds, it is one write and one sync."""
        wal = self.create()
        self.save(wal, entry(1))
        del self.steps[:]
        self.save(wal, entry(2), entry(3), state=HardState(2, 1, 1))
        self.assertEqual(["write", "sync"], [what for what, _ in self.steps])

    def test_commit_alone_waits(self) -> None:
        """A hard state that only moved its commit index costs no write, until a term or vote is written."""
        wal = self.create()
        self.save(wal, entry(1), state=HardState(1, 1, 0))
        del self.steps[:]
        self.save(wal, state=HardState(1, 1, 1))
        self.save(wal)
        self.assertEqual([], self.steps)
        self.save(wal, entry(2), state=HardState(1, 1, 2))
        self.save(wal, entry(3), state=HardState(2, 1, 2))
        self.crash()
        self.assertEqual(HardState(2, 1, 2), self.read().hard_state)

    def test_commit_alone_is_written_at_close(self) -> None:
        """Closing writes the hard state that still waits, without a sync."""
        wal = self.create()
        self.save(wal, entry(1), state=HardState(1, 1, 0))
        self.save(wal, state=HardState(1, 1, 1))
        del self.steps[:]
        wal.close()
        self.assertEqual(["write"], [what for what, path in self.steps if path == FIRST or "tmp" in path])
        self.assertEqual(HardState(1, 1, 1), self.read().hard_state)

    def test_vote_is_synced(self) -> None:
        """A changed vote is durable before the save is done, without any entry."""
        wal = self.create()
        self.save(wal, state=HardState(1, 3, 0))
        self.crash()
        self.assertEqual(HardState(1, 3, 0), self.read().hard_state)

    def test_a_gap_is_refused(self) -> None:
        """An entry beyond the next index means that something was lost."""
        wal = self.create()
        self.save(wal, entry(1), entry(3))
        wal.close()
        with self.assertRaisesRegex(WALCorruptError, r"offset \d+: slice out of range"):
            self.read()

    def test_never_synced_when_told_so(self) -> None:
        """``unsafe_no_sync`` writes every save, and syncs nothing, at no cut either."""
        wal = self.create(LogOptions(run_in_worker=execute, segment_bytes=4096, unsafe_no_sync=True))
        for index in range(1, 50):
            self.save(wal, entry(index))
        wal.close()
        self.assertEqual([], [step for step in self.steps if step[0].startswith("sync")])
        self.assertEqual(49, len(self.read().entries))

    def test_goes_on_after_reading(self) -> None:
        """A log that was opened again is written on, with its checksums running on."""
        for index in range(1, 90):
            wal = self.create() if index == 1 else self.reopen()[0]
            self.save(wal, entry(index))
            wal.close()
        self.assertEqual([entry(index) for index in range(1, 90)], self.read().entries)
        self.assertGreater(len(self.segments()), 2)


class CutTests(LogCase):
    """A full segment is followed by one that a worker prepared."""

    def test_across_segments(self) -> None:
        """All entries come back from several segments, each cut where it was full."""
        entries = self.filled()
        recovered = self.read()
        self.assertEqual((entries, HardState(1, 1, 89)), (recovered.entries, recovered.hard_state))
        names = self.segments()
        self.assertGreater(len(names), 2)
        for path in names[:-1]:
            self.assertGreaterEqual(len(self.data(path)), 4096)
            self.assertTrue(any(self.data(path)[-8:]))
        self.assertEqual(4096, len(self.data(names[-1])))

    def test_waits_for_the_worker(self) -> None:
        """The save that fills the segment is done once the prepared one is in place; nothing is lost."""
        jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def run_later(job: Callable[[], Any]) -> Deferred[Any]:
            jobs.append((job, Deferred()))
            return jobs[-1][1]

        wal = self.create(LogOptions(run_in_worker=run_later, segment_bytes=4096))
        saved = wal.save(None, [entry(1, size=5000)])
        self.assertNoResult(saved)
        [(job, done)] = jobs
        done.callback(job())
        self.successResultOf(saved)
        self.save(wal, entry(2))
        self.assertEqual(2, len(jobs))
        wal.close()
        # The worker comes back to a closed log, and lets go of its file.
        jobs[1][1].callback(jobs[1][0]())
        self.assertFalse(self.locked("wal/1.tmp"))
        self.assertEqual([1, 2], [one.index for one in self.read().entries])

    def test_closed_while_it_waits(self) -> None:
        """Closing ends a save that waits for the worker; its entries are there."""
        wal = self.create(LogOptions(run_in_worker=lambda job: Deferred(), segment_bytes=4096))
        saved = wal.save(None, [entry(1, size=5000)])
        wal.close()
        self.failureResultOf(saved, WALClosedError)
        self.assertEqual([entry(1, size=5000)], self.read().entries)

    def test_sync_elsewhere(self) -> None:
        """With writes in a thread, closing waits for the one under way."""
        jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def run_later(job: Callable[[], Any]) -> Deferred[Any]:
            jobs.append((job, Deferred()))
            return jobs[-1][1]

        wal = self.create(LogOptions(run_in_worker=execute, run_sync=run_later, segment_bytes=4096))
        saved = wal.save(None, [entry(1, size=5000)])
        for _ in range(2):
            self.assertNoResult(saved)
            job, done = jobs.pop()
            done.callback(job())
        self.successResultOf(saved)
        saved = wal.save(None, [entry(2)])
        wal.close()
        self.assertTrue(self.locked(self.segments()[-1]))
        job, done = jobs.pop()
        done.callback(job())
        self.successResultOf(saved)
        self.assertFalse(self.locked(self.segments()[-1]))
        self.assertEqual([1, 2], [one.index for one in self.read().entries])

    def test_only_while_busy(self) -> None:
        """Where a save is synced is decided for each: elsewhere only while the disk is busy."""
        jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        busy: list[bool] = []

        def run_later(job: Callable[[], Any]) -> Deferred[Any]:
            jobs.append((job, Deferred()))
            return jobs[-1][1]

        options = LogOptions(
            run_in_worker=execute, run_sync=run_later, disk_busy=busy.pop, segment_bytes=4096
        )
        wal = self.create(options)
        for index, slow in enumerate((False, True, False), 1):
            busy.append(slow)
            saved = wal.save(None, [entry(index)])
            if slow:
                self.assertNoResult(saved)
                job, done = jobs.pop()
                done.callback(job())
            self.successResultOf(saved)
        wal.close()
        self.assertEqual([1, 2, 3], [one.index for one in self.read().entries])

    def test_slow_here(self) -> None:
        """Where syncs take long, others use the disk: for a while none is waited for here."""
        jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        now = [100.0]
        index = count(1)

        def run_later(job: Callable[[], Any]) -> Deferred[Any]:
            jobs.append((job, Deferred()))
            return jobs[-1][1]

        def syncs_take(seconds: float) -> None:
            self.disk.before[:] = [lambda what, path: now.__setitem__(0, now[0] + seconds * (what == "sync"))]

        wal = self.create(
            LogOptions(
                run_in_worker=execute, run_sync=run_later, disk_busy=lambda: False, seconds=lambda: now[0]
            )
        )

        def saved_here(times: float) -> None:
            syncs_take(BUSY_SYNC_SECONDS * times)
            self.successResultOf(wal.save(None, [entry(next(index))]))

        def saved_elsewhere(times: float) -> None:
            syncs_take(BUSY_SYNC_SECONDS * times)
            saved = wal.save(None, [entry(next(index))])
            self.assertNoResult(saved)
            job, done = jobs.pop()
            done.callback(job())

        for times in (0, TIMES - 1, 0, 0):  # one that is not quick, among others that are
            saved_here(times)
        saved_here(TIMES + 1)  # one that stalls
        for _ in range(TIMES):
            saved_elsewhere(0)
        now[0] += BUSY_SECONDS
        for _ in range(6):  # many that are slow
            saved_here(2)
        saved_elsewhere(2)
        now[0] += BUSY_SECONDS
        saved_here(0)
        wal.close()

    def test_size(self) -> None:
        """The size is that of the files, the prepared one included, after a restart too."""
        wal = self.create()
        for index in range(1, 60):
            self.save(wal, entry(index))
            on_disk = sum(len(self.data(f"wal/{name}")) for name in self.disk.list("wal"))
            self.assertEqual(on_disk, wal.size_bytes)
        self.save(wal, state=HardState(1, 1, 50))
        self.successResultOf(wal.save_snapshot(50, 1, VOTERS))
        wal.close()
        wal, _ = self.reopen(50, 1)
        on_disk = sum(len(self.data(f"wal/{name}")) for name in self.disk.list("wal"))
        self.assertEqual(on_disk, wal.size_bytes)


class SnapshotTests(LogCase):
    """Where reading starts, and which snapshot files count."""

    def test_start_at_a_snapshot(self) -> None:
        """Only what comes after the snapshot is read; older segments are not even opened."""
        entries = self.filled()
        wal, _ = self.reopen()
        self.successResultOf(wal.save_snapshot(50, 1, VOTERS))
        wal.close()
        self.disk.remove(FIRST)
        _, recovered = self.reopen(50, 1)
        self.assertEqual(entries[50:], recovered.entries)
        self.assertEqual([(50, 1, VOTERS)], recovered.snapshots)

    def test_snapshot_from_the_leader(self) -> None:
        """After a snapshot far ahead, the next segment is named for the entry behind it."""
        wal = self.create()
        self.save(wal, entry(1))
        self.successResultOf(wal.save_snapshot(500, 2, VOTERS))
        self.save(wal, entry(501, size=5000), state=HardState(2, 0, 501))
        wal.close()
        self.assertTrue(self.segments()[1].endswith("01f6.wal"), self.segments())

    def test_sentences(self) -> None:
        """Why the log does not vouch for a snapshot is said in one sentence."""
        wal = self.create()
        self.save(wal, *[entry(index) for index in range(1, 6)], state=HardState(1, 1, 3))
        self.successResultOf(wal.save_snapshot(4, 1, VOTERS))
        wal.close()
        with self.assertRaisesRegex(WALSnapshotError, "no record of the snapshot at index 3 of term 1"):
            self.reopen(3, 1)
        with self.assertRaisesRegex(
            WALSnapshotError, "committed to index 3, not to that of the snapshot at 4"
        ):
            self.reopen(4, 1)
        self.filled_from_50()
        with self.assertRaisesRegex(WALSnapshotError, "The log in wal begins at index 33, after index 0"):
            self.reopen()

    def filled_from_50(self) -> None:
        """Several segments, and the first one is gone."""
        self.use(SimulatedFiles(Random(1)))
        self.filled()
        self.disk.remove(FIRST)

    def test_snapshot_record_is_synced(self) -> None:
        """The record is on the disk, and so is the hard state that makes it count (KF-13)."""
        wal = self.create()
        self.save(wal, entry(1), entry(2), state=HardState(1, 1, 0))
        self.save(wal, state=HardState(1, 1, 2))
        self.successResultOf(wal.save_snapshot(2, 1, VOTERS))
        self.crash()
        self.assertEqual([], self.reopen(2, 1)[1].entries)

    def test_release(self) -> None:
        """Segments before the one that holds the index are unlocked; it and all later ones stay locked."""
        self.filled()
        wal, _ = self.reopen()
        wal.release_to(50)
        firsts = [int(path[-20:-4], 16) for path in self.segments()]
        held = max(first for first in firsts if first <= 50)
        for first, path in zip(firsts, self.segments(), strict=True):
            self.assertEqual(first >= held, self.locked(path), path)

    def test_purge(self) -> None:
        """The oldest released segments go, up to one that another process has locked."""
        self.filled(150)
        wal, _ = self.reopen()
        names = self.segments()
        self.assertGreater(len(names), 4)
        wal.release_to(150)
        other = self.disk.open(names[1])
        other.lock()
        self.assertEqual(0, self.successResultOf(wal.purge(len(names))))
        self.assertEqual(1, self.successResultOf(wal.purge(2)))
        self.assertEqual(names[1:], self.segments())
        other.close()
        self.assertEqual(len(names) - 3, self.successResultOf(wal.purge(2)))
        self.assertEqual(names[-2:], self.segments())
        self.assertEqual(0, self.successResultOf(wal.purge(2)))

    def test_purge_after_a_restart(self) -> None:
        """What an earlier life has released goes, too; the size is that of the files that are left."""
        self.filled(150)
        wal, _ = self.reopen()
        self.save(wal, state=HardState(1, 1, 149))
        self.successResultOf(wal.save_snapshot(149, 1, VOTERS))
        wal.close()
        names = self.segments()
        wal, _ = self.reopen(149, 1)
        self.assertEqual(len(names) - 1, self.successResultOf(wal.purge(1)))
        self.assertEqual(names[-1:], self.segments())
        self.assertEqual(4096, wal.size_bytes)

    def test_kf_18_purge_and_close(self) -> None:
        """A purge on its way when the log is closed removes nothing but what was released before."""
        jobs: list[Callable[[], Any]] = []

        def run_later(job: Callable[[], Any]) -> Deferred[Any]:
            jobs.append(job)
            return Deferred()

        entries = self.filled(150)
        wal = SegmentedWAL.open(
            self.disk, "wal", options=LogOptions(run_in_worker=run_later, segment_bytes=4096)
        )
        wal.read_all()
        self.successResultOf(wal.save_snapshot(60, 1, VOTERS))
        wal.release_to(60)
        before = len(self.segments())
        wal.purge(1)
        wal.close()  # every lock is gone now
        jobs[-1]()
        self.assertLess(len(self.segments()), before)
        self.assertEqual(entries[60:], self.reopen(60, 1)[1].entries)


class RefusalTests(LogCase):
    """What goes wrong is said in one sentence, and never made worse."""

    def test_locked(self) -> None:
        """A log that another process uses is refused, by name."""
        directory = f"{self.mktemp()}.d"
        wal = SegmentedWAL.create(LocalFiles(), directory, METADATA, options=OPTIONS)
        with self.assertRaisesRegex(WALError, r"0\.wal is in use by another process"):
            SegmentedWAL.open(LocalFiles(), directory, options=OPTIONS)
        self.save(wal, entry(1))
        wal.close()
        again = SegmentedWAL.open(LocalFiles(), directory, options=OPTIONS)
        self.addCleanup(again.close)
        self.assertEqual([entry(1)], again.read_all().entries)

    def test_existing(self) -> None:
        """A log is not made over another, nor over somebody's files."""
        self.create().close()
        with self.assertRaisesRegex(WALError, "already"):
            self.create()
        self.disk.make_directory("other")
        self.disk.open("other/precious", create=True)
        with self.assertRaisesRegex(WALError, "precious"):
            SegmentedWAL.create(self.disk, "other", METADATA, options=OPTIONS)
        with self.assertRaisesRegex(WALError, "There is no log in nothing"):
            SegmentedWAL.open(self.disk, "nothing", options=OPTIONS)

    def test_full_disk(self) -> None:
        """A refused write fails its save and closes the log; what was acknowledged before is there."""
        wal = self.create()
        self.save(wal, entry(1), state=HardState(1, 1, 0))

        def full(what: str, path: str) -> None:
            if what == "write":
                raise OSError(errno.ENOSPC, "No space left on device")

        self.disk.before.append(full)
        failure = self.failureResultOf(wal.save(HardState(1, 1, 1), [entry(2)]), OSError)
        self.assertEqual(errno.ENOSPC, failure.value.errno)
        self.disk.before.remove(full)
        self.failureResultOf(wal.save(None, [entry(2)]), WALClosedError)
        self.failureResultOf(wal.save_snapshot(1, 1, VOTERS), WALClosedError)
        with self.assertRaises(WALClosedError):
            wal.release_to(1)
        wal.close()
        self.assertEqual([entry(1)], self.read().entries)

    def test_failed_sync_is_not_retried(self) -> None:
        """After a failed sync nothing is written any more: a second sync that succeeds proves nothing."""
        wal = self.create()
        self.save(wal, entry(1))
        self.disk.refuse_after(1)
        self.failureResultOf(wal.save(None, [entry(2)]), OSError)
        steps = len(self.steps)
        wal.close()
        self.assertEqual(steps, len(self.steps))

    def test_no_space_for_the_next_segment(self) -> None:
        """The log works until it needs the segment that could not be made, and loses nothing."""
        wal = self.create(
            LogOptions(run_in_worker=lambda job: execute(self._refuse), segment_bytes=4096),
        )
        self.save(wal, entry(1))
        self.failureResultOf(wal.save(None, [entry(2, size=5000)]), OSError)
        self.failureResultOf(wal.save(None, [entry(3)]), WALClosedError)
        self.assertEqual([1, 2], [one.index for one in self.read().entries])

    def test_half_a_segment_is_removed(self) -> None:
        """A disk that fills up while the next segment is made gets its space back."""
        wal = self.create()

        def full(what: str, path: str) -> None:
            if path.endswith(".tmp") and what == "write":
                raise OSError(errno.ENOSPC, "No space left on device")

        self.disk.before.append(full)
        self.save(wal, entry(1))
        self.assertFalse(self.disk.exists("wal/0.tmp"))
        self.failureResultOf(wal.save(None, [entry(2, size=5000)]), OSError)

    def _refuse(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def test_not_before_reading(self) -> None:
        """Saving before reading would write over the log."""
        self.create().close()
        wal = SegmentedWAL.open(self.disk, "wal", options=OPTIONS)
        with self.assertRaises(AssertionError):
            wal.save(None, [entry(1)])

    def test_verify_changes_nothing(self) -> None:
        """Verification reads what a start would, locked or not."""
        wal = self.create()
        self.save(wal, entry(1))
        del self.steps[:]
        self.assertEqual([entry(1)], verify(self.disk, "wal").entries)
        self.assertEqual([], self.steps)
        self.assertTrue(exists(self.disk, "wal"))


class SlowDiskTests(LogCase):
    """A disk that takes its time is told to the operator, in etcd's words."""

    def warnings(self, seconds: float, run_sync: RunInThread | None = None) -> list[tuple[str, str, str]]:
        """What is said of three saves whose syncs take so long; the last one cuts a segment."""
        options = LogOptions(
            run_in_worker=execute,
            run_sync=run_sync,
            segment_bytes=4096,
            seconds=lambda: self.disk.busy_seconds,
        )
        wal = self.create(options)
        self.disk.seconds = lambda what, path: seconds if what == "sync" else 0.25
        with capturedLogs() as events:
            self.save(wal, entry(1))
            self.save(wal, state=HardState(3, 1, 0))
            self.save(wal, entry(2, size=5000))
        wal.close()
        return [
            (event["log_level"].name, event["log_format"], event["took"] + "/" + event["expected-duration"])
            for event in events
            if "took" in event
        ]

    def test_slow(self) -> None:
        """More than a second is too long, for each save and for the head of a new segment."""
        self.assertEqual([("warn", "slow fdatasync", "1.5s/1s")] * 4, self.warnings(1.5))

    def test_slow_in_a_thread(self) -> None:
        """The same when a thread waits for the disk."""
        self.assertEqual([("warn", "slow fdatasync", "1.5s/1s")] * 4, self.warnings(1.5, execute))

    def test_fast(self) -> None:
        """A second, and the time that writing takes, is not."""
        self.assertEqual([], self.warnings(1.0))


class DisguisedTests(LogCase):
    """The checksum does not cover a record's type: what another type makes of a record must be told apart."""

    def refused(self, why: str, *records: tuple[int, bytes]) -> None:
        """The last of these records is refused, and that is why."""
        reading = Reading(0, 0)
        for kind, data in records[:-1]:
            reading._take(kind, data)
        with self.assertRaises(ValueError) as raised:
            reading._take(*records[-1])
        self.assertIn(why, str(raised.exception))

    def test_state_as_an_entry(self) -> None:
        """It has its term as type, its vote as term, its commit index as index, and no data."""
        log = [(ENTRY, encode_entry(Entry(1, index, b"x"))) for index in (1, 2, 3)]
        data = encode_hard_state(HardState(1, 7, 2))
        self.refused("changes the membership, but not how", *log, (ENTRY, data))
        member = 0x8E9E05C52164694D
        disguised = (ENTRY, encode_hard_state(HardState(2, member, 2)))
        self.refused(f"has the term {member}, far above", *log, (STATE, data), disguised)
        self.refused("unknown type 3", *log, (ENTRY, encode_hard_state(HardState(3, 7, 2))))
        again = (ENTRY, encode_entry(Entry(1, 2, b"y")))
        self.refused("another than before, of the same term 1", *log, again)

    def test_entry_as_a_state(self) -> None:
        """It has more than a state has."""
        self.refused("not a hard state", (STATE, encode_entry(Entry(1, 1, b"x"))))
