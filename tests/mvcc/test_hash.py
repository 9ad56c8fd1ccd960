"""The hash by which members compare their stores (reference, storage section 8)."""

from __future__ import annotations

from google_crc32c import value as crc32c
from twisted.trial.unittest import SynchronousTestCase

from tests.mvcc.stores import Stack, run
from twistedetcd.errors import CompactedError, FutureRevisionError
from twistedetcd.mvcc import hash as hashing_module
from twistedetcd.mvcc.hash import KeyValueHash
from twistedetcd.mvcc.work import finish

# What upstream finds, hashing at the current revision and then compacting at it.
AT_CURRENT = """
    1913897190 224860069 1565167519 1566261620 2037173024 691659396 2713730748 3919322507 769967540
    2909194793 1576921157 4067701532 2226384237 2923408134 2680329256 1546717673 2713657846 1046575299
    2017735779
"""
# The same, half-way through what was written last.
AT_HALF = """
    4082599214 2279933401 3284231217 126286495 900108730 2475485232 1226296507 2503661030 4155130747
    106915399 406914006 1882211381 806177088 664311366 1496914449 2434525091 3988652253 1122462288
    724436716
"""
ROUNDS = [(start, start + 71) for start in range(0, 1210, 71)] + [(1278, 1278 + 1210)]
NAMES = [b"alice", b"bob", b"celine", b"dominik", b"eve", b"frederica", b"gorge"]


def pick(number: int) -> bytes:
    """The key that upstream's test writes as its so-manieth."""
    if number % 142 == 30:
        return b"zenek"
    return b"xavery" if number % 71 == 30 else NAMES[number % 7]


class GoldenTests(SynchronousTestCase):
    """Upstream's own values, over a thousand revisions and nineteen compactions."""

    def check(self, golden: str, half: bool) -> None:
        stack = Stack()
        found = []
        for first, last in ROUNDS:
            for number in range(first, last + 1):
                stack.store.put(pick(number), str(number).encode())
            revision = first + (last - first) // 2 if half else stack.store.revision
            found.append(stack.hash(revision).hash)
            stack.compact(revision)
            stack.flush()
            self.assertEqual(revision, stack.hash(revision).compact_revision)
        self.assertEqual([int(word) for word in golden.split()], found)

    def test_at_the_current_revision(self) -> None:
        """Hashing at the revision that is then compacted, the current one."""
        self.check(AT_CURRENT, half=False)

    def test_at_an_earlier_revision(self) -> None:
        """Hashing at the revision that is then compacted, with newer ones above it."""
        self.check(AT_HALF, half=True)


class HashTests(SynchronousTestCase):
    """What a hash is of, and what does not change it."""

    def setUp(self) -> None:
        self.stack = Stack(compaction_batch=2)

    def fill(self) -> None:
        """Revisions 2 to 13: four keys, three times; then 14 to 15: two of them deleted."""
        for value in (b"1", b"2", b"3"):
            for key in (b"a", b"b", b"c", b"d"):
                self.stack.store.put(key, value)
        self.stack.delete(b"a")
        self.stack.delete(b"b")

    def test_empty(self) -> None:
        """The hash of an empty store is that of the bucket's name."""
        self.assertEqual(KeyValueHash(crc32c(b"key"), -1, 1), self.stack.hash())

    def test_one_record(self) -> None:
        """Keys and values follow each other without separators, the tombstone's mark included."""
        self.stack.store.put(b"k", b"v")
        self.stack.delete(b"k")
        put = bytes(7) + b"\x02_" + bytes(8) + b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v"
        delete = bytes(7) + b"\x03_" + bytes(8) + b"t" + b"\x0a\x01k"
        self.assertEqual(KeyValueHash(crc32c(b"key" + put), -1, 2), self.stack.hash(2))
        self.assertEqual(KeyValueHash(crc32c(b"key" + put + delete), -1, 3), self.stack.hash())

    def test_revisions(self) -> None:
        """Zero and below mean the current one; compacted and future revisions are refused."""
        self.fill()
        self.assertEqual(self.stack.hash(15), self.stack.hash(0))
        self.assertEqual(self.stack.hash(15), self.stack.hash(-3))
        self.assertRaises(FutureRevisionError, self.stack.store.hash, 16)
        self.stack.compact(9)
        self.assertRaises(CompactedError, self.stack.store.hash, 8)
        self.assertEqual((9, 9), self.stack.hash(9)[1:])

    def test_the_same_wherever_the_records_are(self) -> None:
        """Open, sealed, committed, restarted: the hash is the same."""
        self.fill()
        expected = self.stack.hash()
        self.stack.seal()
        self.assertEqual(expected, self.stack.hash())
        self.stack.commit()
        self.assertEqual(expected, self.stack.hash())
        self.stack.restart()
        self.assertEqual(expected, self.stack.hash())

    def check_compaction(self, revision: int) -> None:
        """The hashes at all revisions from a compaction on stay the same while it works and after it."""
        work = self.stack.store.compact(revision)
        revisions = range(revision, self.stack.store.revision + 1)
        expected = [self.stack.hash(at) for at in revisions]
        next(work)
        self.assertEqual(expected, [self.stack.hash(at) for at in revisions])
        next(work)
        self.stack.restart()
        self.assertEqual(expected, [self.stack.hash(at) for at in revisions])
        for _ in self.stack.store.resume_compaction(revision):
            self.assertEqual(expected, [self.stack.hash(at) for at in revisions])
        self.assertEqual(expected, [self.stack.hash(at) for at in revisions])

    def test_while_a_compaction_works(self) -> None:
        """Members that have come differently far with a compaction have the same hash."""
        self.fill()
        self.check_compaction(11)

    def test_while_everything_goes(self) -> None:
        """That holds as well when no key is left at the revision hashed."""
        self.fill()
        self.stack.delete(b"c")
        self.stack.delete(b"d")
        self.check_compaction(17)

    def test_nothing_alive_above_the_compaction(self) -> None:
        """Where no key is alive, upstream counts what the compaction kept; so do we (its empty keep set)."""
        self.stack.store.put(b"k", b"v")
        self.stack.compact(2)
        put = self.stack.stored()
        self.stack.delete(b"k")
        expected = b"key" + b"".join(key + value for key, value in self.stack.stored().items())
        self.assertEqual(2, len(self.stack.stored()))
        self.assertEqual(1, len(put))
        self.assertEqual(crc32c(expected), self.stack.hash().hash)

    def test_taken_when_asked_for(self) -> None:
        """Revision, compact revision and records are those of the call, whatever happens before it ends."""
        self.fill()
        expected = self.stack.hash()
        hashing = self.stack.store.hash(0)
        self.stack.store.put(b"e", b"new")
        self.stack.delete(b"d")
        work = self.stack.store.compact(17)
        self.stack.flush()
        for _ in range(5):
            next(work)
        self.assertEqual(expected, finish(hashing))
        stored = len(self.stack.stored())
        run(work)
        self.assertLess(len(self.stack.stored()), stored)

    def test_compaction_waits_for_hashes(self) -> None:
        """Nothing is removed while a hash runs, or waits to run; it goes on when the last one ended."""
        self.fill()
        first, second = self.stack.store.hash(0), self.stack.store.hash(5)
        work = self.stack.store.compact(15)
        stored = self.stack.stored()
        for hashing in (first, second):
            for _ in range(3):
                next(work)
            self.assertEqual(stored, self.stack.stored())
            finish(hashing)
        next(work)
        self.assertLess(len(self.stack.stored()), len(stored))

    def test_later_hashes_hold_up_nothing(self) -> None:
        """A compaction ends though one hash begins before another ends; they have the hash of after it."""
        self.fill()
        work = self.stack.store.compact(15)
        hashing = [self.stack.store.hash(0)]
        for _ in range(50):
            hashing.append(self.stack.store.hash(0))
            if next(work, self) is self:
                break
        else:
            self.fail("the compaction never ends")
        after = self.stack.hash()
        self.assertEqual({after}, {finish(each) for each in hashing})
        self.assertEqual({b"c", b"d"}, set(self.stack.values()))

    def test_two_compactions(self) -> None:
        """A hash between two of them holds up the second alone."""
        self.fill()
        first = self.stack.store.compact(9)
        expected = self.stack.hash()
        hashing = self.stack.store.hash(0)
        second = self.stack.store.compact(15)
        run(first)
        for _ in range(5):
            next(second)
        self.assertEqual(expected, finish(hashing))
        run(second)
        self.assertIsNone(self.stack.store.unfinished_compaction)

    def test_given_up(self) -> None:
        """A hash that was forgotten holds up nothing, even one that never made a step."""
        self.fill()
        self.patch(hashing_module, "SLICE_KEYS", 5)
        never_begun, begun = self.stack.store.hash(0), self.stack.store.hash(0)
        next(begun)
        self.assertEqual(3, len(self.stack.backend.views))
        del never_begun, begun
        self.assertEqual(1, len(self.stack.backend.views))
        self.stack.compact(15)
        self.assertEqual({b"c", b"d"}, set(self.stack.values()))
