"""MemoryStorage: the log beside the write-ahead log."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.errors import (
    InvariantError,
    LogCompactedError,
    LogUnavailableError,
    SnapshotOutOfDateError,
)
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import NO_LIMIT, ConfState, Entry, HardState, Snapshot


class MemoryStorageTests(SynchronousTestCase):
    """What `Storage` says (raft.md 5)."""

    def setUp(self) -> None:
        self.storage = MemoryStorage()
        self.entries = [Entry(1 + index // 3, index, b"%d" % index) for index in range(1, 7)]
        self.storage.append(self.entries)

    def all(self) -> list[Entry]:
        first, last = self.storage.first_index(), self.storage.last_index()
        return list(self.storage.entries(first, last + 1, NO_LIMIT))

    def test_new(self) -> None:
        """A new log begins at index 1, after index 0 of term 0."""
        storage = MemoryStorage()
        self.assertEqual((HardState(), ConfState()), storage.initial_state())
        self.assertEqual((1, 0, 0), (storage.first_index(), storage.last_index(), storage.term(0)))
        self.assertRaises(LogUnavailableError, storage.entries, 1, 2, NO_LIMIT)

    def test_same_objects(self) -> None:
        """Entries come back as they were given."""
        self.assertTrue(all(a is b for a, b in zip(self.entries, self.all(), strict=True)))

    def test_append_replaces(self) -> None:
        """An entry replaces the one at its index and all after it."""
        self.storage.append([Entry(9, 4)])
        self.assertEqual([*self.entries[:3], Entry(9, 4)], self.all())

    def test_append_leaves_no_gap(self) -> None:
        """Entries that do not join the log are a bug of the driver."""
        self.assertRaises(InvariantError, self.storage.append, [Entry(9, 8)])

    def test_compact(self) -> None:
        """The entries up to the index go, the last one's term stays known."""
        self.storage.compact(4)
        self.assertEqual((5, 6), (self.storage.first_index(), self.storage.last_index()))
        self.assertEqual(self.entries[4:], self.all())
        self.assertEqual(2, self.storage.term(4))
        self.assertRaises(LogCompactedError, self.storage.term, 3)
        self.assertRaises(LogCompactedError, self.storage.entries, 4, 6, NO_LIMIT)
        self.assertRaises(LogCompactedError, self.storage.compact, 4)
        self.assertRaises(InvariantError, self.storage.compact, 7)

    def test_compact_all(self) -> None:
        """An empty log goes on where it ended."""
        self.storage.compact(6)
        self.assertEqual((7, 6), (self.storage.first_index(), self.storage.last_index()))
        self.storage.append([Entry(3, 6), Entry(3, 7)])
        self.assertEqual([Entry(3, 7)], self.all())

    def test_append_of_what_is_compacted(self) -> None:
        """Entries at or below the compacted index are skipped."""
        self.storage.compact(4)
        self.storage.append(self.entries[:2])
        self.storage.append(self.entries)
        self.assertEqual(self.entries[4:], self.all())

    def test_size_limit(self) -> None:
        """At least one entry, and as many as fit (raft.md 1)."""
        for bytes_max, count in ((0, 1), (12, 1), (23, 2), (24, 2), (NO_LIMIT, 6)):
            self.assertEqual(self.entries[:count], list(self.storage.entries(1, 7, bytes_max)))

    def test_received_snapshot(self) -> None:
        """A newer snapshot drops the log; an older one is refused."""
        self.storage.apply_snapshot(Snapshot(9, 4, ConfState((1,))))
        self.assertEqual(
            (10, 9, 4), (self.storage.first_index(), self.storage.last_index(), self.storage.term(9))
        )
        self.assertEqual(ConfState((1,)), self.storage.initial_state()[1])
        self.assertRaises(SnapshotOutOfDateError, self.storage.apply_snapshot, Snapshot(9, 4))

    def test_own_snapshot(self) -> None:
        """A snapshot of the applied state keeps the log until it is compacted."""
        self.assertEqual(
            Snapshot(4, 2, ConfState((1,)), b"x"), self.storage.create_snapshot(4, ConfState((1,)), b"x")
        )
        self.assertEqual(self.entries, self.all())
        self.assertRaises(SnapshotOutOfDateError, self.storage.create_snapshot, 4, ConfState((1,)))
