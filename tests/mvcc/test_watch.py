"""Who watches is told of everything, in order, once; whoever lags behind catches up from the history."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.mvcc.watching import Receiver, WatchedStack, parsed
from twistedetcd.interfaces import IWatch, IWatchable, IWatchReceiver
from twistedetcd.mvcc import watch as module
from twistedetcd.mvcc.events import Batch, Options
from twistedetcd.mvcc.interest import Watch
from twistedetcd.mvcc.work import SLICE_KEYS


class WatchCase(SynchronousTestCase):
    """A store, and somebody who watches."""

    def setUp(self) -> None:
        self.stack = WatchedStack()
        self.store = self.stack.store
        self.watches = self.stack.watches
        self.receiver = Receiver()

    def watch(
        self, key: bytes = b"\0", end: bytes | None = b"", start: int = 0, options: Options | None = None
    ) -> Watch:
        return self.watches.watch(key, end, self.receiver, start, options=options)

    def told(self, watch: Watch) -> list[object]:
        self.stack.settle()
        return self.receiver.told(watch)

    def revisions(self, watch: Watch) -> list[int]:
        self.stack.settle()
        return [revision for _, _, revision in self.receiver.events(watch)]


class SyncedTests(WatchCase):
    """A watch from now on."""

    def test_contracts(self) -> None:
        """They are what the rooms above are given."""
        verifyObject(IWatchable, self.watches)
        verifyObject(IWatchReceiver, self.receiver)
        verifyObject(IWatch, self.watch())

    def test_one_revision_is_one_batch(self) -> None:
        """All changes of a transaction come together, in their order, under its revision."""
        watch = self.watch()
        self.stack.put(b"b", b"a", b"b")
        self.stack.delete(b"a")
        self.assertEqual(
            [[("PUT", b"b", 2), ("PUT", b"a", 2), ("PUT", b"b", 2)], [("DELETE", b"a", 3)]], self.told(watch)
        )
        self.assertEqual([2, 3], [batch.revision for batch in self.receiver.batches[watch]])

    def test_what_was_before_is_not_told(self) -> None:
        """A watch without a start begins after the current revision."""
        self.store.put(b"a", b"")
        watch = self.watch(b"a", None)
        self.store.put(b"a", b"")
        self.assertEqual([[("PUT", b"a", 3)]], self.told(watch))

    def test_only_the_range(self) -> None:
        """Keys outside of the range are somebody else's business."""
        one, some, rest = self.watch(b"b", None), self.watch(b"b", b"d"), self.watch(b"c", b"")
        self.stack.put(b"a", b"b", b"c", b"d")
        self.stack.settle()
        self.assertEqual(
            [[b"b"], [b"b", b"c"], [b"c", b"d"]],
            [[key for _, key, _ in self.receiver.events(watch)] for watch in (one, some, rest)],
        )

    def test_filters(self) -> None:
        """A watch may want only puts, only deletes, or, strangely, neither."""
        puts = self.watch(options=Options(deletes=False))
        deletes = self.watch(options=Options(puts=False))
        neither = self.watch(options=Options(puts=False, deletes=False))
        self.store.put(b"a", b"")
        self.stack.delete(b"a")
        self.assertEqual([[("PUT", b"a", 2)]], self.told(puts))
        self.assertEqual([[("DELETE", b"a", 3)]], self.told(deletes))
        self.assertEqual([], self.told(neither))

    def test_previous_records(self) -> None:
        """Asked for, an event brings what the key was before the revision, if it was there."""
        watch = self.watch(options=Options(previous=True))
        self.store.put(b"a", b"1")
        self.store.put(b"a", b"2")
        self.stack.delete(b"a")
        self.stack.settle()
        events = [event for batch in self.receiver.batches[watch] for event in parsed(batch)]
        self.assertEqual([b"", b"1", b"2"], [event.prev_kv.value for event in events])
        self.assertEqual([False, True, True], [event.HasField("prev_kv") for event in events])

    def test_events_are_made_once(self) -> None:
        """All watches of a range are given the very same bytes."""
        first, second = self.watch(b"a", None), self.watch(b"a", None)
        other = self.watch(b"a", b"b")
        self.store.put(b"a", b"")
        self.stack.settle()
        [one], [two], [three] = (self.receiver.batches[watch] for watch in (first, second, other))
        self.assertIs(one, two)
        self.assertIs(one.events[0], three.events[0])

    def test_nothing_is_noted_for_nobody(self) -> None:
        """While nobody watches, the store keeps nothing for them."""
        watch = self.watch()
        self.assertEqual([], self.store.changes)
        self.watches.cancel(watch)
        self.assertIsNone(self.store.changes)
        self.assertEqual(0, self.watches.count)

    def test_cancelled(self) -> None:
        """After a cancel nothing comes, also of what was committed before; a second cancel does nothing."""
        watch, other = self.watch(), self.watch()
        self.store.put(b"a", b"")
        self.watches.cancel(watch)
        self.watches.cancel(watch)
        self.assertEqual([], self.told(watch))
        self.assertEqual([[("PUT", b"a", 2)]], self.told(other))

    def test_committed_in_this_turn(self) -> None:
        """A watch that comes before the turn's end is not told of what was committed before it."""
        early = self.watch()
        self.store.put(b"a", b"")
        late = self.watch()
        resumed = self.watch(start=2)
        self.assertFalse(late.synced)
        self.assertEqual([[("PUT", b"a", 2)]], self.told(early))
        self.assertEqual([], self.told(late))
        self.assertTrue(late.synced)
        self.assertEqual([[("PUT", b"a", 2)]], self.told(resumed))

    def test_in_the_middle_of_a_transaction(self) -> None:
        """A watch that comes while a transaction lasts is told of all of it, and when it ends."""
        transaction = self.store.write()
        transaction.put(b"a", b"", 0)
        watch = self.watch()
        transaction.put(b"b", b"", 0)
        self.assertEqual([], self.told(watch))
        transaction.end()
        self.assertEqual([[("PUT", b"a", 2), ("PUT", b"b", 2)]], self.told(watch))


class HistoryTests(WatchCase):
    """A watch from another revision."""

    def test_from_the_past(self) -> None:
        """It is told of everything from its start on, and then of what comes."""
        for _ in range(3):
            self.store.put(b"a", b"")
        watch = self.watch(start=3)
        self.assertFalse(watch.synced)
        self.assertEqual([[("PUT", b"a", 3), ("PUT", b"a", 4)]], self.told(watch))
        self.assertTrue(watch.synced)
        self.store.put(b"a", b"")
        self.assertEqual([("PUT", b"a", 5)], self.told(watch)[-1])

    def test_from_the_future(self) -> None:
        """Nothing below its start is told."""
        watch = self.watch(start=4)
        self.stack.put(b"a")
        self.stack.put(b"a")
        self.assertEqual([], self.told(watch))
        self.stack.put(b"a")
        self.assertEqual([[("PUT", b"a", 4)]], self.told(watch))

    def test_a_future_that_is_cancelled(self) -> None:
        """It leaves nothing behind."""
        self.watches.cancel(self.watch(start=1 << 60))
        self.assertEqual(0, len(self.watches._future))

    def test_batches_of_a_thousand_revisions(self) -> None:
        """No more than upstream's number of revisions come at once."""
        for _ in range(1500):
            self.store.put(b"a", b"")
        watch = self.watch(start=1)
        self.assertEqual([1000 - 1, 501], [len(batch) for batch in self.told(watch)])  # none at revision 1

    def test_large_history(self) -> None:
        """No more than some bytes come at once, but a revision is never cut."""
        for _ in range(4):
            self.stack.put(b"a", b"b")
            self.store.put(b"c", bytes(200_000))
        watch = self.watch(start=1)
        batches = self.told(watch)
        self.assertGreater(len(batches), 2)
        revisions = [{revision for _, _, revision in batch} for batch in batches]
        self.assertEqual(8, sum(map(len, revisions)))

    def test_a_huge_revision(self) -> None:
        """More changes than fit a slice are read from the history, and come together."""
        keys = [b"%d" % number for number in range(2 * SLICE_KEYS + 1)]
        watch, one = self.watch(), self.watch(keys[-1], None)
        self.stack.put(*keys)
        self.store.put(b"a", b"")
        self.assertGreater(self.stack.settle(), 3)
        revisions = [[revision for _, _, revision in batch] for batch in self.receiver.told(watch)]
        self.assertEqual([[2] * len(keys) + [3]], revisions)
        self.assertEqual([[("PUT", keys[-1], 2)]], self.receiver.told(one))

    def test_from_every_layer(self) -> None:
        """Revisions that the engine has, that are on their way there, and that are not."""
        self.stack.put(b"a")
        self.stack.flush()
        self.stack.put(b"b")
        self.stack.seal()
        self.stack.put(b"c")
        watch = self.watch(start=1)
        self.assertEqual([b"a", b"b", b"c"], [key for _, key, _ in self.told(watch)[0]])

    def test_previous_records_of_the_history(self) -> None:
        """They come as well, unless they were compacted."""
        for value in (b"1", b"2", b"3"):
            self.store.put(b"a", value)
        self.stack.compact(3)
        watch = self.watch(start=3, options=Options(previous=True))
        self.stack.settle()
        [batch] = self.receiver.batches[watch]
        self.assertEqual([b"", b"2"], [event.prev_kv.value for event in parsed(batch)])

    def test_compacted_before(self) -> None:
        """A start below the compact revision is told of, once; the compact revision itself can be read."""
        for _ in range(3):
            self.store.put(b"a", b"")
        self.stack.compact(3)
        below, at = self.watch(start=2), self.watch(start=3)
        self.assertEqual([3], self.told(below))
        self.assertEqual([[("PUT", b"a", 3), ("PUT", b"a", 4)]], self.told(at))
        self.store.put(b"a", b"")
        self.assertEqual([3], self.told(below))

    def test_compacted_while_it_is_read(self) -> None:
        """What was read of a huge revision may be incomplete by then: nobody is given it."""
        self.stack.put(*[b"%d" % number for number in range(3 * SLICE_KEYS)])
        self.stack.put(b"a")
        watch = self.watch(start=2)
        work = self.watches.work()
        next(work)
        self.stack.compact(3)
        for _ in work:
            pass
        self.assertEqual([3], self.receiver.told(watch))


class SlowTests(WatchCase):
    """A receiver without room."""

    def test_it_catches_up(self) -> None:
        """What there was no room for is told from the history, without a gap, once there is."""
        self.receiver.room = 1
        watch = self.watch()
        for _ in range(4):
            self.store.put(b"a", b"")
            self.stack.settle()
        self.assertEqual([[("PUT", b"a", 2)]], self.told(watch))
        self.assertEqual(1, self.watches.lagging)
        self.receiver.room = None
        self.watches.resume(self.receiver)
        self.assertEqual([2, 3, 4, 5], self.revisions(watch))
        self.assertEqual(0, self.watches.lagging)

    def test_it_holds_back_nobody(self) -> None:
        """Others are told at once, and nothing is kept for it."""
        self.receiver.room = 0
        self.watch()
        quick = Receiver()
        other = self.watches.watch(b"a", None, quick)
        for count in range(1, 100):
            self.store.put(b"a", b"")
            self.watches.publish()
            self.assertEqual(count, len(quick.batches[other]))
        self.assertEqual(0, self.stack.settle())

    def test_some_of_its_watches(self) -> None:
        """Room for some watches is used; the others catch up."""
        self.receiver.room = 2
        watches = [self.watch() for _ in range(4)]
        self.store.put(b"a", b"")
        self.stack.settle()
        self.receiver.room = None
        self.watches.resume(self.receiver)
        self.assertEqual([[[("PUT", b"a", 2)]]] * 4, [self.told(watch) for watch in watches])

    def test_compacted_meanwhile(self) -> None:
        """If what it needs is compacted meanwhile, it is told that, once, and nothing else (KF-32)."""
        self.receiver.room = 0
        watch = self.watch()
        for _ in range(4):
            self.store.put(b"a", b"")
        self.stack.settle()
        self.stack.compact(4)
        self.receiver.room = None
        self.watches.resume(self.receiver)
        self.assertEqual([4], self.told(watch))
        self.assertEqual(0, self.watches.count)

    def test_cancelled_while_slow(self) -> None:
        """It is forgotten, and so is its receiver."""
        self.receiver.room = 0
        watch = self.watch()
        self.store.put(b"a", b"")
        self.stack.settle()
        self.watches.cancel(watch)
        self.assertEqual({}, self.watches._slow)

    def test_too_much_for_a_turn(self) -> None:
        """What cannot be told within a slice waits for the next one, in order."""
        self.patch(module, "SLICE_DELIVERIES", 2)
        watches = [self.watch() for _ in range(3)]
        for _ in range(3):
            self.store.put(b"a", b"")
        self.watches.publish()
        self.assertEqual(3, self.watches.delivered)
        self.assertTrue(self.stack.woken)
        self.assertEqual([2, 3, 4], self.revisions(watches[0]))

    def test_far_too_much(self) -> None:
        """What cannot be told for long is read from the history: no more than so many revisions wait."""
        self.patch(module, "SLICE_DELIVERIES", 1)
        self.patch(module, "UNPUBLISHED_MAX", 3)
        watch, future = self.watch(), self.watch(start=6)
        for _ in range(8):
            self.store.put(b"a", b"")
        self.assertEqual([[("PUT", b"a", revision) for revision in range(2, 10)]], self.told(watch))
        self.assertEqual([[("PUT", b"a", revision) for revision in range(6, 10)]], self.told(future))


class Interfering(Receiver):
    """Does something when it is told something, once."""

    def __init__(self, todo: object) -> None:
        super().__init__()
        self.todo = todo

    def changed(self, watches: Sequence[Watch], batch: Batch) -> Sequence[Watch]:
        todo, self.todo = self.todo, None
        if callable(todo):
            todo()
        return super().changed(watches, batch)


class CallbackTests(WatchCase):
    """A receiver may do what it likes while it is told."""

    def test_it_cancels_another(self) -> None:
        """The other one is told nothing any more."""
        first = Interfering(lambda: self.watches.cancel(watch))
        self.watches.watch(b"a", None, first)
        watch = self.watch(b"a", None)
        self.store.put(b"a", b"")
        self.assertEqual([], self.told(watch))

    def test_it_watches(self) -> None:
        """What is being told is history for a new watch from there, and nothing for one from now on."""
        made: list[Watch] = []

        def watch() -> None:
            made.extend((self.watch(b"a", None, start=2), self.watch(b"a", None)))

        self.watches.watch(b"a", None, Interfering(watch))
        self.store.put(b"a", b"")
        self.store.put(b"a", b"")
        self.stack.settle()
        again, later = made
        self.assertEqual([("PUT", b"a", 2), ("PUT", b"a", 3)], self.receiver.events(again))
        self.assertEqual([], self.receiver.events(later))
        self.store.put(b"a", b"")
        self.stack.settle()
        self.assertEqual([("PUT", b"a", 4)], self.receiver.events(later))

    def test_the_last_one_leaves_and_comes_again(self) -> None:
        """What was about to be told is not told to it."""

        def leave() -> None:
            self.watches.cancel(watch)
            made.append(self.watch())

        made: list[Watch] = []
        watch = self.watches.watch(b"a", None, Interfering(leave))
        self.store.put(b"a", b"")
        self.store.put(b"a", b"")
        self.stack.settle()
        self.assertEqual([], self.receiver.events(made[0]))
        self.store.put(b"a", b"")
        self.stack.settle()
        self.assertEqual([("PUT", b"a", 4)], self.receiver.events(made[0]))

    def test_it_fails(self) -> None:
        """A bug of its own ends its watch, and nobody else's."""
        failures: list[None] = []
        self.watches._failed = lambda: failures.append(None)
        bad = self.watches.watch(b"a", None, Interfering(lambda: 1 // 0))
        watch = self.watch(b"a", None)
        self.store.put(b"a", b"")
        self.assertEqual([[("PUT", b"a", 2)]], self.told(watch))
        self.assertEqual(([None], None), (failures, bad.place))
