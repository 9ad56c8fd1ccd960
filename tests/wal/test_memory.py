"""MemoryWAL: the log that other rooms are tested with."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.errors import WALClosedError
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.wal.memory import MemoryWAL
from twistedetcd.wire import SnapshotRecord


class MemoryWALTests(SynchronousTestCase):
    """It keeps what it is given, by the rules of the log on disk."""

    def test_replaces_by_index(self) -> None:
        """An entry replaces the one of its index and all after it; every save is remembered as it came."""
        wal = MemoryWAL()
        first = [Entry(1, index, b"x") for index in (1, 2, 3)]
        self.successResultOf(wal.save(HardState(1, 1, 0), first))
        self.successResultOf(wal.save(None, [Entry(2, 2)]))
        self.assertEqual([first[0], Entry(2, 2)], wal.entries)
        self.assertEqual(HardState(1, 1, 0), wal.hard_state)
        self.assertEqual([(HardState(1, 1, 0), tuple(first)), (None, (Entry(2, 2),))], wal.saves)
        self.assertEqual(3 * 9 + 6, wal.size_bytes)

    def test_snapshots(self) -> None:
        """Snapshot records and releases are remembered."""
        wal = MemoryWAL()
        self.successResultOf(wal.save_snapshot(5, 1, ConfState((1,))))
        wal.release_to(5)
        self.assertEqual([SnapshotRecord(5, 1, ConfState((1,)))], wal.snapshots)
        self.assertEqual(5, wal.released_to)

    def test_closed(self) -> None:
        """After closing, everything is refused."""
        wal = MemoryWAL()
        wal.close()
        self.failureResultOf(wal.save(None, []), WALClosedError)
        self.failureResultOf(wal.save_snapshot(5, 1, ConfState()), WALClosedError)
        with self.assertRaises(WALClosedError):
            wal.release_to(5)
