"""SegmentedWAL: what was acknowledged is read again, whatever happened in between."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.wal.disk import Disk
from twistedetcd.errors import WALClosedError, WALCorruptError, WALError
from twistedetcd.files.local import LocalFiles
from twistedetcd.interfaces import IWAL
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.memory import MemoryWAL
from twistedetcd.wal.opening import LogOptions, exists
from twistedetcd.wal.reading import Recovered, valid_snapshots, verify

METADATA = b"\x08\x01\x10\x02"
OPTIONS = LogOptions(run_in_worker=execute, segment_bytes=4096)
FIRST = "wal/0000000000000000-0000000000000000.wal"
VOTERS = ConfState(voters=(1,))


def entry(index: int, size: int = 100, term: int = 1) -> Entry:
    return Entry(term, index, bytes([index % 255 + 1]) * size)


class LogCase(SynchronousTestCase):
    """A log on a disk in memory."""

    def setUp(self) -> None:
        self.disk = Disk()

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

    def test_contract(self) -> None:
        """Both logs provide IWAL."""
        verifyObject(IWAL, self.create())
        verifyObject(IWAL, MemoryWAL())

    def test_read_again(self) -> None:
        """Metadata, the last hard state and all entries come back."""
        wal = self.create()
        self.save(wal, entry(1), entry(2, size=0), state=HardState(1, 1, 0))
        self.save(wal, entry(3), state=HardState(2, 0, 2))
        wal.close()
        recovered = self.read()
        self.assertEqual((METADATA, HardState(2, 0, 2)), (recovered.metadata, recovered.hard_state))
        self.assertEqual([entry(1), entry(2, size=0), entry(3)], recovered.entries)

    def test_one_write_one_sync(self) -> None:
        """However much a save holds, it is one write and one sync."""
        wal = self.create()
        self.save(wal, entry(1))
        del self.disk.steps[:]
        self.save(wal, entry(2), entry(3), state=HardState(2, 1, 1))
        self.assertEqual(["write", "sync"], [what for what, _ in self.disk.steps])

    def test_commit_alone_waits(self) -> None:
        """A hard state that only moved its commit index costs no write, until a term or vote is written."""
        wal = self.create()
        self.save(wal, entry(1), state=HardState(1, 1, 0))
        del self.disk.steps[:]
        self.save(wal, state=HardState(1, 1, 1))
        self.save(wal)
        self.assertEqual([], self.disk.steps)
        self.save(wal, entry(2), state=HardState(1, 1, 2))
        self.save(wal, entry(3), state=HardState(2, 1, 2))
        self.disk.crash()
        self.assertEqual(HardState(2, 1, 2), self.read().hard_state)

    def test_commit_alone_is_written_at_close(self) -> None:
        """Closing writes the hard state that still waits, without a sync."""
        wal = self.create()
        self.save(wal, entry(1), state=HardState(1, 1, 0))
        self.save(wal, state=HardState(1, 1, 1))
        del self.disk.steps[:]
        wal.close()
        self.assertEqual(
            ["write"], [what for what, path in self.disk.steps if path == FIRST or "tmp" in path]
        )
        self.assertEqual(HardState(1, 1, 1), self.read().hard_state)

    def test_vote_is_synced(self) -> None:
        """A changed vote is durable before the save is done, without any entry."""
        wal = self.create()
        self.save(wal, state=HardState(1, 3, 0))
        self.disk.crash()
        self.assertEqual(HardState(1, 3, 0), self.read().hard_state)

    def test_lower_index_replaces(self) -> None:
        """Entries of a new leader replace those from their index on."""
        wal = self.create()
        self.save(wal, *[entry(index) for index in range(1, 6)])
        self.save(wal, entry(3, term=2))
        wal.close()
        self.assertEqual([entry(1), entry(2), entry(3, term=2)], self.read().entries)

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
        self.assertEqual([], [step for step in self.disk.steps if step[0].startswith("sync")])
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
            self.assertGreaterEqual(len(self.disk.node(path).data), 4096)
            self.assertTrue(any(self.disk.node(path).data[-8:]))
        self.assertEqual(4096, len(self.disk.node(names[-1]).data))

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
        self.assertIsNone(self.disk.node("wal/1.tmp").owner)
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
        self.assertIsNotNone(self.disk.node(self.segments()[-1]).owner)
        job, done = jobs.pop()
        done.callback(job())
        self.successResultOf(saved)
        self.assertIsNone(self.disk.node(self.segments()[-1]).owner)
        self.assertEqual([1, 2], [one.index for one in self.read().entries])

    def test_size(self) -> None:
        """The size is that of the files, the prepared one included, after a restart too."""
        wal = self.create()
        for index in range(1, 60):
            self.save(wal, entry(index))
            on_disk = sum(len(self.disk.node(f"wal/{name}").data) for name in self.disk.list("wal"))
            self.assertEqual(on_disk, wal.size_bytes)
        self.save(wal)
        self.successResultOf(wal.save_snapshot(50, 1, VOTERS))
        wal.close()
        wal, _ = self.reopen(50, 1)
        on_disk = sum(len(self.disk.node(f"wal/{name}").data) for name in self.disk.list("wal"))
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

    def test_unknown_snapshot(self) -> None:
        """A snapshot without its record, or of another term, is refused."""
        wal = self.create()
        self.save(wal, *[entry(index) for index in range(1, 6)])
        self.successResultOf(wal.save_snapshot(3, 1, VOTERS))
        wal.close()
        with self.assertRaisesRegex(WALError, "no record of the snapshot at index 4"):
            self.reopen(4, 1)
        with self.assertRaisesRegex(WALCorruptError, "snapshot 3 has term 1, expected 2"):
            self.reopen(3, 2)
        self.assertEqual([entry(4), entry(5)], self.reopen(3, 1)[1].entries)

    def test_snapshot_from_the_leader(self) -> None:
        """After a snapshot far ahead, entries go on behind it."""
        wal = self.create()
        self.save(wal, entry(1))
        self.successResultOf(wal.save_snapshot(500, 2, VOTERS))
        self.save(wal, entry(501, size=5000), state=HardState(2, 0, 501))
        wal.close()
        self.assertTrue(self.segments()[1].endswith("01f6.wal"), self.segments())
        self.assertEqual([entry(501, size=5000)], self.reopen(500, 2)[1].entries)

    def test_valid_snapshots(self) -> None:
        """A record above the last commit index does not count (KF-13)."""
        wal = self.create()
        self.save(wal, *[entry(index) for index in range(1, 21)], state=HardState(1, 1, 0))
        self.save(wal, state=HardState(1, 1, 10))
        self.successResultOf(wal.save_snapshot(10, 1, VOTERS))
        self.successResultOf(wal.save_snapshot(20, 1, VOTERS))
        self.assertEqual([0, 10], [snapshot.index for snapshot in valid_snapshots(self.disk, "wal")])

    def test_release(self) -> None:
        """Segments before the one that holds the index are unlocked; it and all later ones stay locked."""
        self.filled()
        wal, _ = self.reopen()
        wal.release_to(50)
        firsts = [int(path[-20:-4], 16) for path in self.segments()]
        held = max(first for first in firsts if first <= 50)
        for first, path in zip(firsts, self.segments(), strict=True):
            self.assertEqual(first >= held, self.disk.node(path).owner is not None, path)


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
        with self.assertRaisesRegex(WALError, "no segment"):
            SegmentedWAL.open(self.disk, "nothing", options=OPTIONS)

    def test_full_disk(self) -> None:
        """A refused write fails its save and closes the log; what was acknowledged before is there."""
        wal = self.create()
        self.save(wal, entry(1), state=HardState(1, 1, 0))

        def full(what: str, path: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.disk.failing = full
        failure = self.failureResultOf(wal.save(HardState(1, 1, 1), [entry(2)]), OSError)
        self.assertEqual(errno.ENOSPC, failure.value.errno)
        self.disk.failing = lambda what, path: None
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
        self.disk.fail_after(1)
        self.failureResultOf(wal.save(None, [entry(2)]), OSError)
        steps = len(self.disk.steps)
        wal.close()
        self.assertEqual(steps, len(self.disk.steps))

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

        self.disk.failing = full
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
        del self.disk.steps[:]
        self.assertEqual([entry(1)], verify(self.disk, "wal").entries)
        self.assertEqual([], self.disk.steps)
        self.assertTrue(exists(self.disk, "wal"))
