"""The index: which record is a key's, now and then."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.mvcc.index import Index
from twistedetcd.mvcc.revision import main_of, record_key
from twistedetcd.wire import varint


def put(index: Index, key: bytes, main: int, sub: int = 0) -> tuple[bytes, int]:
    return index.put(key, record_key(main, sub), varint(main))


def compact(index: Index, main: int, batch: int = 100) -> list[bytes]:
    """What a compaction removes."""
    return [key for slice_ in index.compact(main, batch) for key in slice_]


class PresentTests(SynchronousTestCase):
    """Reading what is there now."""

    def setUp(self) -> None:
        self.index = Index()
        for main, key in enumerate((b"c", b"a", b"\xff\xff", b"b", b"ba"), 2):
            put(self.index, key, main)

    def test_put(self) -> None:
        """A put gives the create revision and the version: from one, and anew after a delete."""
        index = Index()
        self.assertEqual((varint(2), 1), put(index, b"k", 2))
        self.assertEqual((varint(2), 2), put(index, b"k", 3))
        self.assertTrue(index.delete(b"k", record_key(4, 0)))
        self.assertEqual((varint(300), 1), put(index, b"k", 300))
        self.assertEqual((varint(300), 2), put(index, b"k", 300, 1))

    def test_delete(self) -> None:
        """A key that is not there cannot be deleted, nor a second time."""
        self.assertTrue(self.index.delete(b"a", record_key(9, 0)))
        self.assertFalse(self.index.delete(b"a", record_key(10, 0)))
        self.assertFalse(self.index.delete(b"nothing", record_key(10, 0)))
        self.assertIsNone(self.index.get(b"a"))

    def test_ranges(self) -> None:
        """Both bounds, no end, the last key, a limit; keys, records and count agree."""
        names = [b"a", b"b", b"ba", b"c", b"\xff\xff"]
        bounds = [b"\0", b"a", b"b", b"b\0", b"ba", b"c", b"d", b"\xff", b"\xff\xff", b"\xff\xff\0"]
        for start in bounds:
            for end in [b"", *bounds]:
                expected = [name for name in names if start <= name and (not end or name < end)]
                self.assertEqual(expected, self.index.keys(start, end, 9), (start, end))
                self.assertEqual(expected[:2], self.index.keys(start, end, 2))
                self.assertEqual(expected[:2], self.index.names(start, end, 2))
                self.assertEqual(len(expected), self.index.count(start, end))
                records = [self.index.get(name) for name in expected]
                self.assertEqual(records, self.index.range(start, end))
                self.assertEqual(records[:2], self.index.range(start, end, 2))
                self.assertEqual((expected[:2], records[:2]), self.index.items(start, end, 2))
                self.assertEqual((records[:2], len(records)), self.index.range_at(start, end, 6, 2))

    def test_names(self) -> None:
        """What exists and what once did, side by side, each once."""
        index = Index()
        for main, name in enumerate((b"a", b"b", b"c", b"d"), 2):
            put(index, name, main)
        put(index, b"c", 6)
        index.delete(b"a", record_key(7, 0))
        index.delete(b"d", record_key(8, 0))
        self.assertEqual([b"a", b"b", b"c", b"d"], index.names(b"", b"", 9))
        self.assertEqual([b"b", b"c"], index.names(b"a\0", b"", 2))


class PastTests(SynchronousTestCase):
    """One key: put 1, put 2, delete 3, put 4, delete 5 (the reference's example)."""

    def setUp(self) -> None:
        self.index = Index()
        put(self.index, b"k", 1)
        put(self.index, b"k", 2)
        self.index.delete(b"k", record_key(3, 0))
        put(self.index, b"k", 4)
        self.index.delete(b"k", record_key(5, 0))
        self.all = [record_key(1, 0), record_key(2, 0), record_key(3, 0) + b"t"]
        self.all += [record_key(4, 0), record_key(5, 0) + b"t"]

    def seen(self) -> list[int]:
        """The main revision read at each of 0 to 6; 0 where there was no key."""
        found = [self.index.get_at(b"k", main) for main in range(7)]
        return [main_of(each) if each else 0 for each in found]

    def test_at_every_revision(self) -> None:
        """A read at a revision finds the newest up to it, and nothing from a tombstone to the next put."""
        self.assertEqual([0, 1, 2, 0, 4, 0, 0], self.seen())
        self.assertEqual(([], 0), self.index.range_at(b"k", b"", 5))
        self.assertEqual(([record_key(2, 0)], 1), self.index.range_at(b"a", b"z", 2))

    def check(self, main: int, kept: int) -> None:
        self.assertEqual(self.all[: len(self.all) - kept], compact(self.index, main))
        before = [0, 1, 2, 0, 4, 0, 0]
        self.assertEqual(before[main:], self.seen()[main:])
        self.assertEqual([], compact(self.index, main))

    def test_compact_at_2(self) -> None:
        """{4,5t}{2,3t}."""
        self.check(2, kept=4)

    def test_compact_at_3(self) -> None:
        """A tombstone at exactly the revision stays: {4,5t}{3t}."""
        self.check(3, kept=3)

    def test_compact_at_4(self) -> None:
        """{4,5t}."""
        self.check(4, kept=2)

    def test_compact_at_5(self) -> None:
        """{5t}."""
        self.check(5, kept=1)

    def test_compact_at_6(self) -> None:
        """The key is gone."""
        self.check(6, kept=0)

    def test_slices(self) -> None:
        """At most so many at a time, oldest first, however they fall."""
        for batch in (1, 2, 3, 7):
            self.setUp()
            put(self.index, b"a", 6)
            put(self.index, b"a", 7)
            slices = list(self.index.compact(7, batch))
            self.assertTrue(all(len(slice_) <= batch for slice_ in slices))
            self.assertEqual([record_key(6, 0), *self.all], [key for slice_ in slices for key in slice_])

    def test_written_between_slices(self) -> None:
        """What happens to a key between two slices neither hides nor frees anything above the revision."""
        put(self.index, b"k", 6)
        work = self.index.compact(6, 2)
        dropped = next(work)
        put(self.index, b"k", 7)
        self.index.delete(b"k", record_key(8, 0))
        dropped += [key for slice_ in work for key in slice_]
        self.assertEqual(self.all, dropped)
        self.assertEqual(record_key(6, 0), self.index.get_at(b"k", 6))
        self.assertEqual(record_key(7, 0), self.index.get_at(b"k", 7))
        self.assertIsNone(self.index.get_at(b"k", 8))

    def test_many_keys_with_nothing_to_forget(self) -> None:
        """A slice ends also when many keys were looked at and none had anything to give."""
        index = Index()
        for main in range(2):
            for number in range(12_000):
                put(index, b"%d" % number, 2 + main * 12_000 + number)
        slices = list(index.compact(2, 1000))
        self.assertGreater(len(slices), 2)
        self.assertEqual([], [key for slice_ in slices for key in slice_])

    def test_delete_and_put_in_one_transaction(self) -> None:
        """The put is the key's value, before and after a compaction there, early or late."""
        for later in (False, True):
            index = Index()
            put(index, b"k", 2)
            index.delete(b"k", record_key(3, 0))
            put(index, b"k", 3, 1)
            if later:
                put(index, b"k", 4)
            self.assertEqual([record_key(2, 0)], compact(index, 3))
            self.assertEqual(record_key(3, 1), index.get_at(b"k", 3))
            self.assertEqual([record_key(3, 0) + b"t"], compact(index, 4)[:1])

    def test_restore(self) -> None:
        """Given the records in order, the index is as it was."""
        index = Index()
        for main, key in enumerate(self.all[2:], 3):
            index.restore(b"k", key, varint(4), 1)
            self.assertEqual(main == 4, index.get(b"k") is not None)
        index.restore(b"j", record_key(6, 0), varint(2), 7)
        self.assertEqual((varint(2), 8), put(index, b"j", 7))
        self.index = index
        self.assertEqual([0, 0, 0, 0, 4, 0, 0], self.seen())
        self.assertEqual([*self.all[2:], record_key(6, 0)], sorted(compact(index, 7)))


class CostTests(SynchronousTestCase):
    """One key written very often: the cost of a write does not grow."""

    WRITES = 200_000

    def calls_of_a_put(self, index: Index, main: int) -> int:
        """How many functions a put calls, C ones included."""
        calls = 0

        def count(frame: FrameType, event: str, arg: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            put(index, b"k", main)
        finally:
            sys.setprofile(None)
        return calls

    def test_flat(self) -> None:
        """The last of many puts does what the third did, and what is copied to grow stays in proportion."""
        index = Index()
        put(index, b"k", 1)
        put(index, b"k", 2)
        early = self.calls_of_a_put(index, 3)
        slots = index._past[b"k"]
        room, copied = slots.__alloc__(), 0
        for main in range(4, self.WRITES):
            index.put(b"k", record_key(main, 0), b"\x01")
            if slots.__alloc__() != room:
                room = slots.__alloc__()
                copied += len(slots)
        self.assertIs(slots, index._past[b"k"])
        self.assertEqual(early, self.calls_of_a_put(index, self.WRITES))
        self.assertLess(copied, 20 * len(slots))
        self.assertEqual(record_key(77_777, 0), index.get_at(b"k", 77_777))
