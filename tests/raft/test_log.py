"""The log: its unsaved tail, and the rules of committing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.errors import InvariantError, LogCompactedError, LogUnavailableError
from twistedetcd.raft.log import RaftLog
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import Entry, Snapshot
from twistedetcd.raft.unstable import Unstable


def entries(first: int, *terms: int) -> list[Entry]:
    """Entries from ``first`` on, one for each term."""
    return [Entry(term, index) for index, term in enumerate(terms, first)]


def unstable(first: int, *terms: int) -> Unstable:
    """A tail that holds these."""
    tail = Unstable(first)
    tail.append(entries(first, *terms))
    return tail


class UnstableTests(SynchronousTestCase):
    """Entries stay until their save is acknowledged (raft.md 5)."""

    def test_extend(self) -> None:
        """Entries right after the last one are added; what is in progress stays so."""
        tail = unstable(5, 1)
        tail.accept_in_progress()
        tail.append(entries(6, 1))
        self.assertEqual(entries(5, 1, 1), tail.entries)
        self.assertEqual(entries(6, 1), tail.next_entries())

    def test_replace(self) -> None:
        """Entries at or below the offset replace all, and have to be saved again."""
        tail = unstable(5, 1, 1)
        tail.accept_in_progress()
        tail.append(entries(4, 2, 2))
        self.assertEqual((4, 4), (tail.offset, tail.offset_in_progress))
        self.assertEqual(entries(4, 2, 2), tail.next_entries())

    def test_truncate(self) -> None:
        """Entries in between cut off what follows; only what was cut has to be saved again."""
        tail = unstable(5, 1, 1, 1)
        tail.accept_in_progress()
        tail.append(entries(6, 2))
        self.assertEqual(entries(5, 1) + entries(6, 2), tail.entries)
        self.assertEqual((5, 6), (tail.offset, tail.offset_in_progress))

    def test_handed_out_entries_do_not_change(self) -> None:
        """A Ready's entries are the driver's: what happens to the log later does not reach them."""
        tail = unstable(5, 1, 1)
        handed_out = tail.next_entries()
        tail.append(entries(7, 1))
        tail.append(entries(6, 2))
        tail.stable_to(1, 5)
        self.assertEqual(entries(5, 1, 1), handed_out)

    def test_acknowledged(self) -> None:
        """A save drops the entries up to its last one."""
        tail = unstable(5, 1, 1, 2)
        tail.accept_in_progress()
        tail.stable_to(1, 6)
        self.assertEqual((7, entries(7, 2)), (tail.offset, tail.entries))
        self.assertEqual([], tail.next_entries())

    def test_late_acknowledgement(self) -> None:
        """The save of an entry that was replaced since proves nothing about the new one (raft.md 4)."""
        tail = unstable(5, 1, 1)
        tail.accept_in_progress()
        tail.append(entries(5, 2, 2))
        for index in (4, 5, 6, 7):
            tail.stable_to(1, index)
        self.assertEqual((5, entries(5, 2, 2)), (tail.offset, tail.entries))

    def test_snapshot(self) -> None:
        """A snapshot replaces everything, and its last term is known."""
        tail = unstable(5, 1)
        snapshot = Snapshot(9, 3)
        tail.restore(snapshot)
        self.assertEqual((10, 3, None), (tail.offset, tail.term(9), tail.term(8)))
        self.assertIs(snapshot, tail.next_snapshot())
        tail.accept_in_progress()
        self.assertIsNone(tail.next_snapshot())
        tail.stable_snapshot_to(8)
        self.assertIs(snapshot, tail.snapshot)
        tail.stable_snapshot_to(9)
        self.assertIsNone(tail.snapshot)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_saved_log_is_the_log(self, data: st.DataObject) -> None:
        """However appends, saves and acknowledgements interleave, storage and tail together are the log."""
        storage, model, term = MemoryStorage(), list[Entry](), 0
        log = RaftLog(storage)
        writing: list[list[Entry]] = []
        acknowledging: list[tuple[int, int]] = []
        for _ in range(data.draw(st.integers(1, 20))):
            action = data.draw(st.sampled_from(["append", "ready", "saved"]))
            if action == "append":
                first = data.draw(st.integers(1, len(model) + 1))
                # Only a later term may replace entries.
                term += first <= len(model) or not term
                new = entries(first, *[term] * data.draw(st.integers(1, 3)))
                model[first - 1 :] = new
                log.append(new)
            elif action == "ready" and log.unstable.next_entries():
                writing.append(log.unstable.next_entries())
                acknowledging.append((log.last_term(), log.last_index()))
                log.unstable.accept_in_progress()
            elif action == "saved" and writing:
                storage.append(writing.pop(0))
                of_term, index = acknowledging.pop(0)
                if of_term == term:
                    log.unstable.stable_to(of_term, index)
            self.assertEqual(model, list(log.slice(1, len(model) + 1)))

    def test_snapshot_ends_the_log(self) -> None:
        """After a leader's snapshot the log ends where that does, whatever the storage still holds."""
        storage = MemoryStorage()
        storage.append(entries(1, *[1] * 12))
        log = RaftLog(storage)
        log.restore(Snapshot(9, 3))
        self.assertEqual((10, 9, 3), (log.first_index(), log.last_index(), log.term(9)))
        self.assertRaises(LogCompactedError, log.term, 8)
        self.assertRaises(LogUnavailableError, log.term, 10)


class CommitTests(SynchronousTestCase):
    """The commit index only rises, and what is committed stays (raft paper, 5.3 and 5.4)."""

    def log(self, *terms: int) -> RaftLog:
        log = RaftLog(MemoryStorage())
        log.append(entries(1, *terms))
        return log

    def test_never_decreases(self) -> None:
        """An older commit index is no news."""
        log = self.log(1, 1, 1)
        log.commit_to(3)
        log.commit_to(1)
        self.assertEqual(3, log.committed)

    def test_never_past_the_end(self) -> None:
        """A commit index past the log means that entries were lost."""
        self.assertRaises(InvariantError, self.log(1).commit_to, 2)

    def test_committed_entries_are_not_replaced(self) -> None:
        """An append at or below the commit index breaks the rules (raft.md 17, invariant 8)."""
        log = self.log(1, 1)
        log.commit_to(1)
        self.assertRaises(InvariantError, log.append, entries(1, 2))

    def test_only_own_term_by_counting(self) -> None:
        """An entry of an earlier term is committed only by one of the current term (raft paper, 5.4.2)."""
        log = self.log(1, 2)
        self.assertFalse(log.maybe_commit(1, 2))
        self.assertTrue(log.maybe_commit(2, 2))
        self.assertEqual(2, log.committed)

    def test_up_to_date(self) -> None:
        """The later last term wins, then the longer log (raft paper, 5.4.1)."""
        log = self.log(1, 2)
        verdicts = [log.is_up_to_date(*end) for end in ((3, 1), (2, 2), (2, 1), (1, 9))]
        self.assertEqual([True, True, False, False], verdicts)

    def test_old_append_cuts_nothing(self) -> None:
        """A delayed append whose entries are there already leaves the newer ones alone (raft paper, 5.3)."""
        log = self.log(1, 1, 1)
        self.assertEqual(2, log.maybe_append(0, 0, 3, entries(1, 1, 1)))
        self.assertEqual((3, 2), (log.last_index(), log.committed))

    def test_conflict(self) -> None:
        """A conflicting entry and all after it are replaced (raft paper, 5.3)."""
        log = self.log(1, 1, 1)
        self.assertEqual(3, log.maybe_append(1, 1, 0, entries(2, 1, 2)))
        self.assertEqual(entries(1, 1, 1, 2), list(log.slice(1, 4)))
        self.assertIsNone(log.maybe_append(3, 1, 0, ()))

    def test_hint(self) -> None:
        """The search for a common place skips whole terms (raft paper, end of 5.3)."""
        log = self.log(1, 1, 4, 4, 6)
        self.assertEqual((2, 1), log.find_conflict_by_term(5, 3))
        self.assertEqual((4, 4), log.find_conflict_by_term(5, 5))
        self.assertEqual((0, 0), log.find_conflict_by_term(2, 0))

    def test_compacted(self) -> None:
        """Below the first index nothing can be read."""
        storage = MemoryStorage()
        storage.append(entries(1, 1, 1, 1))
        storage.compact(2)
        log = RaftLog(storage)
        self.assertRaises(LogCompactedError, log.slice, 2, 3)
        self.assertEqual((1, 0), (log.term(2), log.term_or_zero(1)))
