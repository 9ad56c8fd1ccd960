"""Forgetting: what goes, what stays, and that a start in the middle goes on with it."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from tests.mvcc.stores import Stack, run
from twistedetcd.errors import BackendError, CompactedError, FutureRevisionError
from twistedetcd.mvcc.revision import parse
from twistedetcd.schema import FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT


class CompactionCase(SynchronousTestCase):
    """A store with a log of revisions."""

    def setUp(self) -> None:
        self.stack = Stack(compaction_batch=3)

    def revisions(self) -> list[tuple[int, int, bool]]:
        """Main, sub, tombstone of the records that are there."""
        return [parse(key) for key in self.stack.stored()]

    def fill(self, rounds: int = 3) -> None:
        """Keys a to e, put ``rounds`` times."""
        for number in range(rounds):
            for key in (b"a", b"b", b"c", b"d", b"e"):
                self.stack.store.put(key, b"%d" % number)


class AcceptingTests(CompactionCase):
    """Which compactions are accepted, and what they mean at once."""

    def test_reads_below_fail_at_once(self) -> None:
        """From the call on, before any record went; the revision itself and those above stay readable."""
        self.fill()
        before = self.stack.values(8)
        self.stack.store.compact(8)
        self.assertEqual(8, self.stack.store.compact_revision)
        for revision in (1, 7):
            self.assertRaises(CompactedError, self.stack.store.range, b"a", None, revision)
            self.assertRaises(CompactedError, self.stack.store.count, b"a", b"", revision)
        self.assertEqual(before, self.stack.values(8))
        self.assertEqual(16, self.stack.store.revision)

    def test_refused(self) -> None:
        """At or below the compact revision it is compacted already; above the current one is the future."""
        self.fill()
        self.assertRaises(FutureRevisionError, self.stack.store.compact, 17)
        self.stack.compact(9)
        for revision in (9, 8, 0, -1):
            self.assertRaises(CompactedError, self.stack.store.compact, revision)
        self.stack.compact(16)
        self.assertRaises(FutureRevisionError, self.stack.store.compact, 17)
        self.assertEqual(16, self.stack.store.compact_revision)

    def test_fresh_store(self) -> None:
        """A fresh store takes revision 0 once, and never a negative one."""
        self.assertRaises(CompactedError, self.stack.store.compact, -1)
        self.stack.compact(0)
        self.assertRaises(CompactedError, self.stack.store.compact, 0)
        self.stack.restart()
        self.assertEqual((1, 0), (self.stack.store.revision, self.stack.store.compact_revision))
        self.stack.compact(1)
        self.assertRaises(FutureRevisionError, self.stack.store.compact, 2)

    def test_refused_leaves_no_mark(self) -> None:
        """What was refused is not taken up at the next start."""
        self.fill()
        self.assertRaises(FutureRevisionError, self.stack.store.compact, 99)
        self.stack.restart()
        self.assertIsNone(self.stack.store.unfinished_compaction)
        self.assertEqual(-1, self.stack.store.compact_revision)


class KeepingTests(CompactionCase):
    """What is kept, and that every revision still readable reads as before."""

    def test_newest_up_to_it(self) -> None:
        """Each key keeps its newest revision up to the compact one, and all above."""
        self.fill()
        expected = [self.stack.items(revision=revision) for revision in range(9, 17)]
        self.stack.compact(9)
        self.assertEqual([(main, 0, False) for main in (5, 6, *range(7, 17))], self.revisions())
        self.assertEqual(expected, [self.stack.items(revision=revision) for revision in range(9, 17)])

    def test_tombstone_at_the_revision(self) -> None:
        """A tombstone of the compact revision itself stays; an older one goes."""
        self.stack.store.put(b"k", b"")
        self.stack.delete(b"k")
        self.stack.store.put(b"other", b"")
        self.stack.compact(3)
        self.assertEqual([(3, 0, True), (4, 0, False)], self.revisions())
        self.stack.compact(4)
        self.assertEqual([(4, 0, False)], self.revisions())

    def test_delete_and_put_in_one_transaction(self) -> None:
        """A transaction that deletes a key and puts it again: compacted there, the value is not lost."""
        self.stack.store.put(b"k", b"old")
        transaction = self.stack.store.write()
        transaction.delete(b"k")
        transaction.put(b"k", b"new", 0)
        transaction.end()
        self.stack.compact(3)
        for _ in range(2):
            [item] = self.stack.items()
            self.assertEqual((b"new", 3, 1), (item.value, item.create_revision, item.version))
            self.assertEqual([item], self.stack.items(revision=3))
            self.stack.restart()
        self.stack.store.put(b"k", b"newer")
        self.stack.compact(4)
        self.assertEqual([(4, 0, False)], self.revisions())

    def test_put_and_delete_in_one_transaction(self) -> None:
        """A key that lived within one transaction leaves its tombstone there, and nothing later."""
        transaction = self.stack.store.write()
        transaction.put(b"k", b"", 0)
        transaction.delete(b"k")
        transaction.end()
        self.stack.store.put(b"other", b"")
        self.stack.compact(2)
        self.assertEqual([(2, 1, True), (3, 0, False)], self.revisions())
        self.stack.compact(3)
        self.assertEqual([(3, 0, False)], self.revisions())

    def test_create_revision_and_version_survive(self) -> None:
        """They are of the key's life, not of what is still stored of it."""
        self.fill()
        self.stack.compact(16)
        self.stack.restart()
        self.stack.store.put(b"a", b"")
        item = self.stack.items()[0]
        self.assertEqual((2, 17, 4), (item.create_revision, item.mod_revision, item.version))


class SliceTests(CompactionCase):
    """The work, a slice at a time."""

    def test_slices(self) -> None:
        """Each slice removes at most a batch; the marks say when it was accepted and when it was done."""
        self.fill()
        work = self.stack.store.compact(16)
        self.assertEqual(16, self.stack.store.unfinished_compaction)
        sizes = [len(self.revisions())]
        for _ in work:
            self.assertIsNone(self.stack.pending.get(META, FINISHED_COMPACT))
            sizes.append(len(self.revisions()))
        self.assertTrue(all(0 <= before - after <= 3 for before, after in itertools.pairwise(sizes)))
        self.assertEqual(5, sizes[-1])
        self.assertIsNone(self.stack.store.unfinished_compaction)
        self.assertEqual(
            self.stack.pending.get(META, SCHEDULED_COMPACT), self.stack.pending.get(META, FINISHED_COMPACT)
        )

    def test_two_queued(self) -> None:
        """A compaction accepted while another works: done in order, both are done."""
        self.fill()
        first = self.stack.store.compact(7)
        next(first)
        second = self.stack.store.compact(16)
        run(first)
        self.assertEqual(16, self.stack.store.unfinished_compaction)
        run(second)
        self.assertEqual(5, len(self.revisions()))
        self.assertIsNone(self.stack.store.unfinished_compaction)

    def test_resumed(self) -> None:
        """Stopped after any number of slices, the next start takes it up and ends with the same records."""
        self.fill()
        self.stack.compact(16)
        expected = self.stack.stored()
        for slices in range(6):
            self.setUp()
            self.fill()
            work = self.stack.store.compact(16)
            for _ in range(slices):
                next(work, None)
            self.stack.restart()
            values = self.stack.values()
            unfinished = self.stack.store.unfinished_compaction
            if unfinished is not None:
                self.assertEqual(16, unfinished)
                run(self.stack.store.resume_compaction(unfinished))
            self.assertEqual(expected, self.stack.stored())
            self.assertEqual(values, self.stack.values())
            self.assertEqual((16, 16), (self.stack.store.revision, self.stack.store.compact_revision))

    def test_lost_with_its_batch(self) -> None:
        """A compaction that never reached the engine has not happened: the log brings it again."""
        self.fill()
        self.stack.flush()
        self.stack.compact(16)
        self.stack.crash()
        self.assertEqual(-1, self.stack.store.compact_revision)
        self.assertEqual(15, len(self.revisions()))


class RestartTests(CompactionCase):
    """The revision never goes back (KF-25)."""

    def test_the_tail_compacted_away(self) -> None:
        """Puts 2 to 4, deletes 5 to 7, compact 7, restart: still 7, and the next put is 8."""
        for key in (b"a", b"b", b"c"):
            self.stack.store.put(key, b"")
        for key in (b"a", b"b", b"c"):
            self.stack.delete(key)
        self.stack.compact(7)
        self.stack.restart()
        self.assertEqual((7, 7), (self.stack.store.revision, self.stack.store.compact_revision))
        self.assertEqual([], self.stack.items(revision=7))
        self.assertRaises(CompactedError, self.stack.store.range, b"a", None, 6)
        self.assertEqual(8, self.stack.store.put(b"a", b""))

    def test_cut_short_of_its_mark(self) -> None:
        """Records above the compact revision's own are gone, its finish is not noted: still no way back."""
        self.stack.store.put(b"a", b"")
        self.stack.delete(b"a")
        self.stack.store.compact(3)
        for key in self.stack.stored():
            self.stack.pending.remove_record(key)
        self.stack.restart()
        self.assertEqual((3, 3), (self.stack.store.revision, self.stack.store.compact_revision))
        self.assertEqual(3, self.stack.store.unfinished_compaction)

    def test_damaged(self) -> None:
        """A record that does not read back keeps the store from starting, with one sentence."""
        good = bytes(7) + b"\x02_" + bytes(8)
        for key, record in ((b"short", b""), (good + b"x", b"\x0a\x01k"), (good, b"\xff\xff")):
            stack = Stack()
            stack.backend.write({KEY: {key: record}})
            error = self.assertRaises(BackendError, stack.crash)
            self.assertIn("the store is damaged at record", str(error))
            self.assertNotIn("\n", str(error))
