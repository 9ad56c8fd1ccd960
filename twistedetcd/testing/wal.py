"""
The conformance kit of `IWAL`: a log that passes it can be a member's memory.

Mix it into a trial test case, and say how to make a log and how to open it again::

    from twisted.trial.unittest import SynchronousTestCase
    from twistedetcd.testing.wal import WALKit

    class MyLogTests(WALKit, SynchronousTestCase):
        def make(self):
            return MyLog.create(self.mktemp())

        def open_again(self, wal, index, term):
            return MyLog.open(wal.directory, index, term)

A log whose calls take their time overrides `WALKit.wait_for`, which the kit gives every Deferred to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface.verify import verifyObject

from twistedetcd.errors import WALClosedError, WALSnapshotError
from twistedetcd.interfaces import IWAL
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.wal.reading import Recovered

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.trial.unittest import SynchronousTestCase as _Case
else:
    _Case = object  # so that trial does not take the kit itself for a test case

VOTERS = ConfState(voters=(1, 2, 3), learners=(4,))


def entry(index: int, size: int = 100, term: int = 1) -> Entry:
    """An entry that can be told from others."""
    return Entry(term, index, bytes([index % 255 + 1]) * size)


class WALKit(_Case):
    """
    Tests of a log; see the module's text.

    Attributes:
        wal: The log under test, new and empty for each test.
    """

    wal: IWAL

    def setUp(self) -> None:
        self.wal = self.make()

    def tearDown(self) -> None:
        self.wal.close()

    def make(self) -> IWAL:
        """A new log."""
        raise NotImplementedError

    def open_again(self, wal: IWAL, index: int, term: int) -> IWAL:
        """The same log, which was closed, to be read from a snapshot on; nothing is read yet."""
        raise NotImplementedError

    def wait_for(self, done: Deferred[Any]) -> Any:
        """The result of a call."""
        return self.successResultOf(done)

    def save(self, *entries: Entry, state: HardState | None = None) -> None:
        """Save, and wait for it."""
        self.assertIsNone(self.wait_for(self.wal.save(state, entries)))

    def save_snapshot(self, index: int, term: int = 1) -> None:
        """Save a snapshot's record, and wait for it."""
        self.assertIsNone(self.wait_for(self.wal.save_snapshot(index, term, VOTERS)))

    def read_again(self, index: int = 0, term: int = 1) -> Recovered:
        """Close the log, open it again, and read it."""
        self.wal.close()
        self.wal = self.open_again(self.wal, index, term if index else 0)
        return self.wal.read_all()

    def refused(self, index: int, term: int = 1) -> None:
        """The log does not vouch for that snapshot, and is as it was."""
        with self.assertRaises(WALSnapshotError):
            self.read_again(index, term)

    def test_contract(self) -> None:
        """It provides the interface."""
        verifyObject(IWAL, self.wal)

    def test_empty(self) -> None:
        """A new log holds nothing, and saving nothing is allowed."""
        self.save()
        recovered = self.read_again()
        self.assertEqual((HardState(), []), (recovered.hard_state, recovered.entries))

    def test_read_again(self) -> None:
        """The last hard state and all entries come back, as they were, of whatever type and size."""
        entries = [entry(1), entry(2, size=0), Entry(1, 3, b"x", 1), Entry(2, 4, bytes(70_000), 2)]
        self.save(*entries[:2], state=HardState(1, 1, 0))
        self.save(*entries[2:], state=HardState(2, 0, 2))
        recovered = self.read_again()
        self.assertEqual((HardState(2, 0, 2), entries), (recovered.hard_state, recovered.entries))

    def test_goes_on(self) -> None:
        """Life after life, each begins with all that the lives before have saved."""
        entries = [entry(index) for index in range(1, 40)]
        for one in entries:
            self.save(one, state=HardState(1, 1, one.index - 1))
            recovered = self.read_again()
            self.assertEqual(entries[: one.index], recovered.entries)
            self.assertEqual(HardState(1, 1, one.index - 1), recovered.hard_state)

    def test_commit_alone(self) -> None:
        """A hard state that moved only its commit index is there at the latest after a close."""
        self.save(entry(1), state=HardState(1, 1, 0))
        self.save(state=HardState(1, 1, 1))
        self.assertEqual(HardState(1, 1, 1), self.read_again().hard_state)

    def test_lower_index_replaces(self) -> None:
        """An entry replaces the one of its index and all after it."""
        self.save(*[entry(index) for index in range(1, 6)])
        self.save(entry(3, term=2))
        self.assertEqual([entry(1), entry(2), entry(3, term=2)], self.read_again().entries)

    def test_start_at_a_snapshot(self) -> None:
        """After a snapshot only later entries are read, and its record gives the configuration."""
        entries = [entry(index) for index in range(1, 10)]
        self.save(*entries[:6], state=HardState(1, 1, 5))
        self.save_snapshot(5)
        self.save(*entries[6:])
        recovered = self.read_again(5)
        self.assertEqual(entries[5:], recovered.entries)
        self.assertIn((5, 1, VOTERS), recovered.snapshots)
        self.assertEqual(entries, self.read_again().entries)

    def test_unknown_snapshot(self) -> None:
        """A snapshot without a record, or of another term, is not vouched for; others still are."""
        self.save(*[entry(index) for index in range(1, 6)], state=HardState(1, 1, 5))
        self.save_snapshot(3)
        self.refused(4)
        self.refused(3, term=2)
        self.assertEqual([entry(4), entry(5)], self.read_again(3).entries)

    def test_snapshot_above_the_commit(self) -> None:
        """Nor is one above the commit index, until that has moved on."""
        self.save(*[entry(index) for index in range(1, 6)], state=HardState(1, 1, 0))
        self.save(state=HardState(1, 1, 2))
        self.save_snapshot(2)
        self.save_snapshot(4)
        self.refused(4)
        self.assertEqual([entry(3), entry(4), entry(5)], self.read_again(2).entries)
        self.save(state=HardState(2, 0, 4))
        self.assertEqual([entry(5)], self.read_again(4).entries)

    def test_snapshot_from_a_leader(self) -> None:
        """After a snapshot far ahead, entries go on behind it."""
        self.save(entry(1))
        self.save_snapshot(500, 2)
        self.save(entry(501, term=2), state=HardState(2, 0, 501))
        self.assertEqual([entry(501, term=2)], self.read_again(500, 2).entries)

    def test_cut(self) -> None:
        """A cut loses nothing, wherever it comes, and however often."""
        entries = [entry(index) for index in range(1, 10)]
        self.wait_for(self.wal.cut())
        for one in entries:
            self.save(one, state=HardState(1, 1, one.index - 1))
            if one.index % 3 == 0:
                self.wait_for(self.wal.cut())
        self.wait_for(self.wal.cut())
        recovered = self.read_again()
        self.assertEqual((HardState(1, 1, 8), entries), (recovered.hard_state, recovered.entries))

    def test_release_and_purge(self) -> None:
        """Whatever was released and purged, a start at that snapshot has all it needs; the size falls."""
        entries = [entry(index) for index in range(1, 31)]
        for one in entries:
            self.save(one, state=HardState(1, 1, one.index - 1))
            if one.index % 10 == 5:
                self.save_snapshot(one.index - 1)
                self.wal.release_to(one.index - 1)
            if one.index % 4 == 0:
                self.wait_for(self.wal.cut())
        before = self.wal.size_bytes
        self.assertEqual(0, self.wait_for(self.wal.purge(0)))
        gone = self.wait_for(self.wal.purge(1))
        self.assertEqual(bool(gone), self.wal.size_bytes < before)
        self.assertEqual(0, self.wait_for(self.wal.purge(1)))
        self.assertEqual(entries[24:], self.read_again(24).entries)
        self.save(entry(31))
        self.assertEqual([*entries[24:], entry(31)], self.read_again(24).entries)

    def test_purge_keeps_what_was_not_released(self) -> None:
        """What a start may need stays, however little is to be kept."""
        entries = [entry(index) for index in range(1, 10)]
        for one in entries:
            self.save(one)
            self.wait_for(self.wal.cut())
        self.assertEqual(0, self.wait_for(self.wal.purge(1)))
        self.assertEqual(entries, self.read_again().entries)

    def test_closed(self) -> None:
        """After closing, everything is refused; closing again is allowed."""
        self.wal.close()
        self.wal.close()
        for refused in (
            self.wal.save(HardState(1, 1, 0), [entry(1)]),
            self.wal.save_snapshot(1, 1, VOTERS),
            self.wal.cut(),
        ):
            self.failureResultOf(refused, WALClosedError)
        with self.assertRaises(WALClosedError):
            self.wal.release_to(1)
