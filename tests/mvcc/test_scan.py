"""Ranges in slices: whatever happens between two of them, they are of one revision."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.mvcc.stores import Stack, run
from twistedetcd.errors import CompactedError, FutureRevisionError
from twistedetcd.mvcc import scan as scanning
from twistedetcd.mvcc.work import SLICE_KEYS, Pace, begin, finish

KEYS = [b"%02d" % number for number in range(12)]
SEEDS = 150


def collect(parts: Iterator[tuple[list[bytes], int, int]]) -> tuple[list[bytes], int]:
    """All records, and the count."""
    records, count = [], 0
    for part, keys, _ in parts:
        records += part
        count += keys
    return records, count


class Disturbance:
    """Everything that may happen to a store between two slices."""

    def __init__(self, stack: Stack, random: Random) -> None:
        self.stack, self.random = stack, random
        self.transaction: Any = None
        self.compaction: Any = None

    def happen(self) -> None:
        """One thing."""
        store, choice = self.stack.store, self.random.randrange(5)
        if self.transaction is not None:
            if choice:
                self.change(self.transaction)
            else:
                self.transaction.end()
                self.transaction = None
        elif choice == 0:
            self.transaction = store.write()
        elif choice == 1 and self.compaction is None and store.compact_revision < store.revision:
            self.compaction = store.compact(self.random.randint(store.compact_revision + 1, store.revision))
        elif choice == 2 and self.compaction is not None:
            if next(self.compaction, self) is self:
                self.compaction = None
        elif choice == 3:
            self.stack.flush()
        else:
            transaction = store.write()
            self.change(transaction)
            transaction.end()

    def change(self, transaction: Any) -> None:
        key = self.random.choice(KEYS)
        if self.random.randrange(3):
            transaction.put(key, b"%d" % self.random.randrange(100), 0)
        else:
            transaction.delete(key)


class ScanTests(SynchronousTestCase):
    """A view shows one revision for as long as it lasts."""

    def setUp(self) -> None:
        self.patch(scanning, "SLICE_KEYS", 2)

    def test_disturbed(self) -> None:
        """Puts, transactions half done, compactions and commits between the slices change nothing."""
        slices = 0
        for seed in range(SEEDS):
            random = Random(seed)
            stack = Stack(compaction_batch=2)
            disturbance = Disturbance(stack, random)
            for _ in range(40 + random.randrange(60)):
                disturbance.happen()
            store = stack.store
            key, end = random.choice(KEYS[:4]), random.choice([b"", b"", *KEYS[4:]])
            limit = random.choice([None, None, 0, 2, 5])
            revision = random.choice([0, random.randint(max(store.compact_revision, 1), store.revision)])
            records, count = store.range(key, end, revision)
            view = store.read()
            found: list[bytes] = []
            keys = 0
            for part, counted, _ in view.scan(key, end, revision, limit):
                found += part
                keys += counted
                slices += 1
                for _ in range(random.randrange(8)):
                    disturbance.happen()
            self.assertEqual((records[:limit], count), (found, keys), f"seed {seed}")
            view.end()
            if disturbance.transaction is not None:
                disturbance.transaction.end()
            if disturbance.compaction is not None:
                run(disturbance.compaction)
        self.assertLess(2 * SEEDS, slices)

    def test_own_changes(self) -> None:
        """A write transaction sees its own changes; all others the state before it, until it ends."""
        stack = Stack()
        for key in KEYS:
            stack.store.put(key, b"1")
        transaction = stack.store.write()
        before, _ = stack.store.range(b"", b"")
        for key in KEYS[:5]:
            transaction.delete(key)
        transaction.put(KEYS[6], b"2", 0)
        own, count = collect(transaction.scan(b"", b""))
        self.assertEqual((transaction.range(b"", b""), 7), ((own, count), count))
        self.assertEqual((before, 12), collect(transaction.scan(b"", b"", transaction.begin)))
        for view in (stack.store, stack.store.read()):
            self.assertEqual((before, 12), view.range(b"", b""))
            self.assertEqual(12, view.count(b"", b""))
            self.assertEqual((1, 1), (view.count(KEYS[0], None), view.range(KEYS[0], None)[1]))
        self.assertEqual((before, 12), collect(stack.store.read().scan(b"", b"")))
        transaction.end()
        self.assertEqual((own, 7), stack.store.range(b"", b""))

    def test_refused(self) -> None:
        """A revision that cannot be read is refused at once, before the first slice."""
        stack = Stack()
        for key in KEYS:
            stack.store.put(key, b"1")
        run(stack.store.compact(5))
        for view in (stack.store.read(), stack.store.write()):
            for end in (None, b""):
                self.assertRaises(CompactedError, view.scan, b"a", end, 4)
                self.assertRaises(FutureRevisionError, view.scan, b"a", end, 14)

    def test_compaction_waits(self) -> None:
        """What was readable when the view began stays so until it ends; later views hold up nothing."""
        stack = Stack()
        for _ in range(3):
            for key in KEYS:
                stack.store.put(key, b"1")
        view = stack.store.read()
        work = stack.store.compact(stack.store.revision)
        later = stack.store.read()
        for _ in range(5):
            next(work)
        self.assertRaises(CompactedError, stack.store.range, b"", b"", 14)
        self.assertRaises(CompactedError, later.scan, b"", b"", 14)
        self.assertEqual(12, collect(view.scan(b"", b"", 14))[1])
        self.assertEqual(12, view.range(b"", b"", 14)[1])
        view.end()
        run(work)
        self.assertEqual(12, len(stack.stored()))

    def test_half_a_transaction_is_not_sealed(self) -> None:
        """A batch holds all of a write transaction or nothing."""
        stack = Stack()
        transaction = stack.store.write()
        transaction.put(b"a", b"1", 0)
        self.assertFalse(stack.pending.whole)
        self.assertRaises(AssertionError, stack.pending.seal)
        transaction.end()
        self.assertTrue(stack.pending.whole)


class WorkTests(SynchronousTestCase):
    """Slices and their size."""

    def work(self, costs: list[int]) -> Any:
        """Parts of such sizes, at one pace."""
        pace = Pace()
        for cost in costs:
            if pace.tired():
                yield
            pace.spend(cost)
        return "done"

    def test_pace(self) -> None:
        """A slice ends once it had its keys, however many parts it is made of, and never after the last."""
        for slices, costs in (
            (1, []),
            (1, [SLICE_KEYS]),
            (2, [SLICE_KEYS, 1]),
            (1, [1] * SLICE_KEYS),
            (2, [1] * (SLICE_KEYS + 1)),
            (3, [SLICE_KEYS + 1] * 3),
        ):
            self.assertEqual(slices - 1, sum(1 for _ in self.work(costs)), costs)
            self.assertEqual("done", finish(self.work(costs)))
            first = begin(self.work(costs))
            self.assertEqual(slices == 1, first == "done")
