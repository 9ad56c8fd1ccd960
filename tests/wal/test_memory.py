"""MemoryWAL: the log that other rooms are tested with."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.testing.wal import WALKit
from twistedetcd.wal.memory import MemoryWAL
from twistedetcd.wire import SnapshotRecord


class MemoryConformanceTests(WALKit, SynchronousTestCase):
    """The contract."""

    def make(self) -> MemoryWAL:
        return MemoryWAL()

    def open_again(self, wal: MemoryWAL, index: int, term: int) -> MemoryWAL:  # type: ignore[override]
        return wal.reopened(index, term)


class MemoryWALTests(SynchronousTestCase):
    """It shows what was asked of it."""

    def test_saves(self) -> None:
        """Every save is remembered as it came, and counts with its bytes."""
        wal = MemoryWAL()
        first = [Entry(1, index, b"x") for index in (1, 2, 3)]
        self.successResultOf(wal.save(HardState(1, 1, 0), first))
        self.successResultOf(wal.save(None, [Entry(2, 2)]))
        self.assertEqual([(HardState(1, 1, 0), tuple(first)), (None, (Entry(2, 2),))], wal.saves)
        self.assertEqual(3 * 9 + 6, wal.size_bytes)

    def test_snapshots(self) -> None:
        """Snapshot records, releases and cuts are remembered."""
        wal = MemoryWAL()
        self.successResultOf(wal.save_snapshot(5, 1, ConfState((1,))))
        wal.release_to(5)
        self.successResultOf(wal.cut())
        self.assertEqual([SnapshotRecord(5, 1, ConfState((1,)))], wal.snapshots)
        self.assertEqual((5, 1), (wal.released_to, wal.cuts))
