"""
The six guarantees of a watch, whatever happens: ordered, unique, reliable, atomic, resumable, bookmarkable.

Seeded: writers, watches that join anywhere, are cancelled, come again and are slow, compactions, and batches
on their way to the engine, in random order.  What each watch was told is compared with the whole history.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from twisted.trial.unittest import FailTest, SynchronousTestCase

from tests.mvcc.model import Model, Record, inside
from tests.mvcc.watching import Receiver, WatchedStack, parsed
from twistedetcd.mvcc import catchup, txn, watch
from twistedetcd.mvcc.events import Batch, Options
from twistedetcd.mvcc.interest import Watch
from twistedetcd.mvcc.watch import Watches
from twistedetcd.pb.kv_pb2 import Event

# Any others may be tried with WATCH_SEEDS=5,6,7.
SEEDS = [int(seed) for seed in os.environ.get("WATCH_SEEDS", "1,2,3,4,5,6,7,8").split(",")]
STEPS = 1000
KEYS = [b"a", b"ab", b"b", b"c", b"d"]
ENDS = [None, None, b"", b"b", b"c", b"d"]


class Wanted(NamedTuple):
    """An event that a watch must be told of."""

    main: int
    key: bytes
    version: int  # of the record; none for a delete
    superseded: bool  # by a later change of its own revision: gone when that revision is compacted


class Client:
    """
    Somebody who watches a range, perhaps with several watches one after the other.

    Attributes:
        watch: The one that he has now; ``None`` when it was compacted away.
        start: The first revision that it was to tell of.
        bookmarks: Revisions of progress, each with how many batches came before it.
    """

    def __init__(self, key: bytes, end: bytes | None, options: Options, receiver: Receiver) -> None:
        self.key, self.end, self.options, self.receiver = key, end, options, receiver
        self.watch: Watch | None = None
        self.start = 0
        self.bookmarks: list[tuple[int, int]] = []

    def batches(self) -> list[Any]:
        return self.receiver.batches.get(self.watch, [])


class World:
    """A store, its model, and clients."""

    def __init__(self, seed: int, watches: Callable[..., Watches] = Watches) -> None:
        self.random = Random(seed)
        self.model = Model()
        self.stack = WatchedStack(compaction_batch=3)
        self.store = self.stack.store
        self.watches = self.stack.watches = watches(self.store)
        self.watches.wake = self.stack.wake
        self.work: Iterator[None] | None = None
        self.compactions: list[Iterator[None]] = []
        self.receivers = [Receiver() for _ in range(4)]
        self.clients: list[Client] = []
        self.checked = 0

    def run(self, steps: int) -> None:
        """Do something, again and again, then let everybody catch up."""
        doing = [self.write] * 12 + [self.end_turn] * 12 + [self.slice] * 20
        doing += [self.join] * 3 + [self.leave] + [self.reconnect] * 3 + [self.stall] + [self.recover] * 4
        doing += [self.compact, self.go_on_compacting, self.bookmark, self.bookmark, self.commit]
        for _ in range(steps):
            self.random.choice(doing)()
        for receiver in self.receivers:
            receiver.room = None
            self.watches.resume(receiver)
        self.work = None
        self.stack.woken = True
        self.stack.settle()
        for client in list(self.clients):
            self.check(client, finished=True)

    # What may happen.

    def write(self) -> None:
        """A transaction, or a put, which takes a shorter way."""
        random = self.random
        changes: list[Record] = []
        if random.random() < 0.3:
            key, value = random.choice(KEYS), b"%d" % random.randrange(10)
            self.model.put(changes, key, value, 0)
            self.store.put(key, value)
        else:
            transaction = self.store.write()
            for _ in range(random.choice((1, 1, 2, 3, 9))):
                key = random.choice(KEYS)
                if random.random() < 0.3:
                    self.model.delete(changes, key)
                    transaction.delete(key)
                else:
                    value = b"%d" % random.randrange(10)
                    self.model.put(changes, key, value, 0)
                    transaction.put(key, value, 0)
                if random.random() < 0.05:  # it lasts over turns
                    self.end_turn()
                    self.join()
                    self.slice()
            transaction.end()
        self.model.end(changes)

    def join(self) -> None:
        if len(self.clients) > 12:
            return
        random = self.random
        key, end = random.choice(KEYS), random.choice(ENDS)
        options = Options(random.random() < 0.9, random.random() < 0.9, random.random() < 0.5)
        client = Client(key, end, options, random.choice(self.receivers))
        self.clients.append(client)
        back = random.choice((None, 0, 3, 30, 300, -1, -3))
        self.begin(client, 0 if back is None else max(self.store.revision - back, 1))

    def begin(self, client: Client, start: int) -> None:
        client.start = start or self.store.revision + 1
        client.bookmarks = []
        client.watch = self.watches.watch(
            client.key, client.end, client.receiver, start, options=client.options
        )

    def leave(self) -> None:
        if self.clients:
            client = self.clients.pop(self.random.randrange(len(self.clients)))
            self.check(client)
            self.end(client)

    def end(self, client: Client) -> None:
        """Its watch ends, and nothing may come any more."""
        watch, client.watch = client.watch, None
        if watch is not None:
            self.watches.cancel(watch)
            client.receiver.batches.pop(watch, None)
            assert not watch.synced and watch.place is None

    def reconnect(self) -> None:
        """A client goes on behind the last revision it knows of."""
        if not self.clients:
            return
        client = self.random.choice(self.clients)
        self.check(client)
        batches = client.batches()
        if batches and isinstance(batches[-1], int):
            following = batches[-1]
        elif batches:
            following = parsed(batches[-1])[-1].kv.mod_revision + 1
            if client.bookmarks and client.bookmarks[-1][0] >= following:
                following = client.bookmarks[-1][0] + 1
        else:
            following = max([client.start, *(revision + 1 for revision, _ in client.bookmarks)])
        self.end(client)
        self.begin(client, following)

    def stall(self) -> None:
        self.random.choice(self.receivers).room = self.random.randrange(4)

    def recover(self) -> None:
        receiver = self.random.choice(self.receivers)
        receiver.room = self.random.choice((None, None, 1, 5))
        if receiver.ready:
            self.watches.resume(receiver)

    def end_turn(self) -> None:
        self.watches.publish()

    def slice(self) -> None:
        if self.work is None:
            if not self.stack.woken:
                return
            self.stack.woken = False
            self.work = self.watches.work()
        if next(self.work, self) is self:
            self.work = None

    def compact(self) -> None:
        revision = self.store.revision - self.random.choice((0, 5, 30, 60, 60))
        if revision > self.store.compact_revision and revision > 0 and self.random.random() < 0.3:
            self.compactions.append(self.store.compact(revision))
            self.model.compact_revision = revision

    def go_on_compacting(self) -> None:
        if self.compactions and next(self.compactions[0], self) is self:
            self.compactions.pop(0)

    def commit(self) -> None:
        self.random.choice((self.stack.seal, self.stack.commit, self.stack.flush))()

    def bookmark(self) -> None:
        for client in self.clients:
            if client.watch is not None and client.watch.synced:
                client.bookmarks.append((self.watches.revision, len(client.batches())))

    # What must hold.

    def wanted(self, client: Client) -> list[Wanted]:
        """All that a client must be told of, as of now."""
        records = [
            record
            for record in self.model.records
            if record.main >= client.start
            and inside(record.item.key, client.key, client.end)
            and (client.options.deletes if record.tombstone else client.options.puts)
        ]
        last = {(record.main, record.item.key): record.sub for record in self.model.records}
        return [
            Wanted(
                record.main,
                record.item.key,
                record.item.version,
                record.sub != last[record.main, record.item.key],
            )
            for record in records
        ]

    def check(self, client: Client, finished: bool = False) -> None:
        """Compare what a watch was told with the history; ``finished``: it must have been told all."""
        batches = client.batches()
        wanted = self.wanted(client)
        compacted = self.model.compact_revision
        at = 0
        reached = [0]  # how much of it was told, after each batch
        before = 0
        for number, batch in enumerate(batches):
            if isinstance(batch, int):
                expect(number == len(batches) - 1, "told of something after it was compacted away")
                expect(batch <= compacted, "compacted away at a revision that was not")
                expect(
                    at == len(wanted) or wanted[at].main < batch or client.start < batch,
                    "compacted away, although what it needed was there",
                )
                return
            events = parsed(batch)
            expect(bool(events), "told of nothing")
            expect(events[0].kv.mod_revision > before, "a revision came twice, in two parts, or too late")
            for event in events:
                main = event.kv.mod_revision
                expect(main >= before, "revisions go back")
                before = main
                while at < len(wanted) and wanted[at].superseded and wanted[at].main <= compacted:
                    if wanted[at][:3] == (main, event.kv.key, event.kv.version):
                        break
                    at += 1
                expect(at < len(wanted), "told of what did not happen")
                expect(
                    wanted[at][:3] == (main, event.kv.key, event.kv.version),
                    f"told of {main} {event.kv.key!r} instead of {wanted[at]}",
                )
                self.check_records(client, event)
                at += 1
            expect(batch.revision >= before, "a batch is older than its events")
            reached.append(at)
        for revision, count in client.bookmarks:
            told = reached[min(count, len(reached) - 1)]
            missing = [each for each in wanted[told:] if each.main <= revision and each.main > compacted]
            expect(not missing, f"progress to {revision} was reported before {missing[:1]}")
        self.checked += at
        if finished:
            rest = [each for each in wanted[at:] if not (each.superseded and each.main <= compacted)]
            expect(client.watch is not None and client.watch.place is not None, "it ended by itself")
            expect(not rest, f"never told of {rest[:1]}")

    def check_records(self, client: Client, event: Event) -> None:
        """The record, and the one before it."""
        main, key = event.kv.mod_revision, event.kv.key
        if event.type == Event.PUT:
            same = [record for record in self.model.records if record.main == main and record.item.key == key]
            expect(event.kv in [record.item for record in same], "the record is another one")
        before = self.model.live(main - 1).get(key)
        if event.HasField("prev_kv"):
            expect(client.options.previous, "a previous record that nobody asked for")
            expect(before is not None and event.prev_kv == before.item, "the previous record is another one")
        elif client.options.previous:
            expect(before is None or main - 1 < self.model.compact_revision, "no previous record")


def expect(holds: bool, problem: str) -> None:
    if not holds:
        raise FailTest(problem)


class GuaranteesCase(SynchronousTestCase):
    """Everything is small, so that every limit is met."""

    def setUp(self) -> None:
        self.patch(watch, "SLICE_DELIVERIES", 6)
        self.patch(watch, "UNPUBLISHED_MAX", 5)
        self.patch(watch, "COHORT_MAX", 4)
        self.patch(watch, "CANDIDATES_MAX", 6)
        self.patch(watch, "REVISIONS_MAX", 20)
        self.patch(watch, "SLICE_KEYS", 4)
        self.patch(catchup, "SLICE_KEYS", 4)
        self.patch(txn, "SLICE_KEYS", 5)


class GuaranteesTests(GuaranteesCase):
    """They hold."""

    def test_kf_34_whatever_happens(self) -> None:
        """Every watch is told of exactly what happened."""
        checked = 0
        for seed in SEEDS:
            world = World(seed)
            try:
                world.run(STEPS)
            except FailTest as problem:
                self.fail(f"seed {seed}: {problem}")
            checked += world.checked
        self.assertGreater(checked, 100 * len(SEEDS))


class Faulty(Watches):
    """Does something wrong, sometimes."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.count = 0
        self.told = 0
        self.over: list[Watch] = []

    def due(self) -> bool:
        self.told += 1
        return self.told % 20 == 0


class Dropping(Faulty):
    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        return [] if self.due() else super()._tell(receiver, watches, batch)


class DroppingOne(Faulty):
    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        if len(batch.events) > 1 and self.due():
            batch = Batch(batch.revision, batch.events[:-1])
        return super()._tell(receiver, watches, batch)


class Duplicating(Faulty):
    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        if self.due():
            super()._tell(receiver, watches, batch)
        return super()._tell(receiver, watches, batch)


class Reordering(Faulty):
    held: tuple[Any, Sequence[Watch], Batch] | None = None

    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        if self.held is None and self.due():
            self.held = receiver, watches, batch
            return []
        refused = super()._tell(receiver, watches, batch)
        if self.held is not None and self.held[0] is receiver:
            held, self.held = self.held, None
            super()._tell(*held)
        return refused


class Shuffling(Faulty):
    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        if len(batch.events) > 1 and self.due():
            batch = Batch(batch.revision, batch.events[::-1])
        return super()._tell(receiver, watches, batch)


class Splitting(Faulty):
    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        for event in batch.events[:-1]:
            super()._tell(receiver, watches, Batch(batch.revision, [event]))
        return super()._tell(receiver, watches, Batch(batch.revision, batch.events[-1:]))


class Talking(Faulty):
    """Goes on after it said that a watch is over."""

    def _compacted(self, watch: Watch) -> None:
        super()._compacted(watch)
        self.over.append(watch)

    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        for over in self.over:
            over.receiver.changed([over], batch)
        self.over.clear()
        return super()._tell(receiver, watches, batch)


class Forgetful(Faulty):
    """Takes a watch that has no room for one that was told."""

    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        super()._tell(receiver, watches, batch)
        return []


class Boasting(Faulty):
    """Says of watches that lag behind that they had everything."""

    def _put(self, watch: Watch) -> None:
        super()._put(watch)
        if watch.place is self._behind and self.due():
            self._take(watch)
            self._synced.add(watch)


class MutationTests(GuaranteesCase):
    """A watch that does something wrong is found out."""

    def found(self, faulty: Callable[..., Watches]) -> set[str]:
        """What was found, over some seeds."""
        problems = set()
        for seed in range(1, 6):
            try:
                World(seed, faulty).run(STEPS)
            except FailTest as problem:
                problems.add(str(problem))
        return problems

    def test_each_fault(self) -> None:
        """Whatever is dropped, told twice, out of order, in parts or too late, is missed or seen."""
        for faulty in (
            Dropping,
            DroppingOne,
            Duplicating,
            Reordering,
            Shuffling,
            Splitting,
            Talking,
            Forgetful,
            Boasting,
        ):
            self.assertTrue(self.found(faulty), faulty.__name__)

    def test_what_is_said(self) -> None:
        """The finding names the guarantee that is broken."""
        self.assertIn("told of something after it was compacted away", self.found(Talking))
        self.assertEqual({"a revision came twice, in two parts, or too late"}, self.found(Splitting))
