"""
Watches: what is committed goes to all who wait for it, and who lags behind catches up from the history.

A watch is in one of four places.  *Synced*: it had everything, and is told what a turn committed once the
turn's entries are applied.  *Future*: it wants nothing before a revision that is yet to come.  *Behind*: it
needs changes that are history already.  *Slow*: so it does, but its receiver has no room.  Nothing is kept
for a watch but the revision that it needs next, so one that nobody reads costs the same however much passes
it by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

from BTrees.OOBTree import OOBTree
from zope.interface import implementer

from twistedetcd.interfaces import IWatchable, IWatchReceiver, Work
from twistedetcd.mvcc.catchup import REVISIONS_MAX, read_history
from twistedetcd.mvcc.events import Batch, Change, Options
from twistedetcd.mvcc.interest import Group, Interests, Watch
from twistedetcd.mvcc.store import Changes, Store
from twistedetcd.mvcc.work import SLICE_KEYS

SLICE_DELIVERIES: Final = 20_000
"""How often somebody is told something in one slice: some milliseconds."""
SLICE_BYTES: Final = 4 * 1024 * 1024
"""And how many bytes of events."""
UNPUBLISHED_MAX: Final = 10_000
"""Revisions that wait to be told to synced watches; above it, these catch up from the history instead."""
COHORT_MAX: Final = 128
"""Watches that catch up together."""
CANDIDATES_MAX: Final = 512
"""Watches that are looked at to choose a cohort."""

_EVERYTHING = Options()
_DONE: Final = object()


@implementer(IWatchable)
class Watches:
    """
    All watches of one store.

    Args:
        store: Whose changes are watched.
        failed: Called in the ``except`` clause when a receiver raised; the watches that it was told of are
            over.  Without it, what was raised leaves `publish` or `work`.

    Attributes:
        count: Watches that are not over.
        delivered: Events told so far, each counted for every watch.
        wake: Called when there is `work` to do; to be set by who drives it.
    """

    def __init__(self, store: Store, failed: Callable[[], None] | None = None) -> None:
        self._store = store
        self._failed = failed
        self._synced = Interests()
        self._future: OOBTree[tuple[int, int], Watch] = OOBTree()  # by next, and when it came
        self._behind: dict[Watch, None] = {}  # whoever has waited longest is first
        self._slow: dict[Any, dict[Watch, None]] = {}  # by receiver
        self._arrivals = 0
        self._departures = 0
        self._unpublished: deque[tuple[int, Changes]] = deque()
        self.count = 0
        self.delivered = 0
        self.revision: int = store.revision
        self.wake: Callable[[], None] = _nothing

    # Who watches.

    def watch(
        self,
        key: bytes,
        end: bytes | None,
        receiver: Any,
        start: int = 0,
        name: Any = None,
        options: Options | None = None,
    ) -> Watch:
        store = self._store
        if store.changes is None:  # nobody watched until now
            store.changes = []
            self.revision = store.revision
        watch = Watch(
            key, end, IWatchReceiver(receiver), start or store.revision + 1, name, options or _EVERYTHING
        )
        self.count += 1
        self._put(watch)
        return watch

    def _put(self, watch: Watch) -> None:
        """Put a watch where it belongs for what it needs next."""
        if watch.next == self.revision + 1:
            self._synced.add(watch)
        elif watch.next > self.revision:
            self._arrivals += 1
            watch.place = due = (watch.next, self._arrivals)
            self._future[due] = watch
        else:
            watch.place = self._behind
            self._behind[watch] = None
            self.wake()

    def cancel(self, watch: Watch) -> None:
        if watch.place is None:
            return
        self._take(watch)
        self.count -= 1
        if not self.count:
            self._store.changes = None
            self._unpublished.clear()

    def _take(self, watch: Watch) -> None:
        """Take a watch from where it is."""
        place: Any = watch.place
        self._departures += 1
        if type(place) is Group:
            self._synced.remove(watch)
            return
        watch.place = None
        if type(place) is tuple:
            del self._future[place]
            return
        del place[watch]
        if not place and place is not self._behind:
            del self._slow[watch.receiver]

    def _wait_for_room(self, watch: Watch) -> None:
        self._take(watch)
        watch.place = slow = self._slow.setdefault(watch.receiver, {})
        slow[watch] = None

    def resume(self, receiver: Any) -> None:
        watches = self._slow.pop(receiver, None)
        if watches is not None:
            for watch in watches:
                watch.place = self._behind
            self._behind.update(watches)
            self.wake()

    @property
    def lagging(self) -> int:
        """How many watches need changes that are history already."""
        return len(self._behind) + sum(map(len, self._slow.values()))

    # What was committed.

    def publish(self) -> None:
        changes = self._store.changes
        if not changes:
            return
        self._store.changes = []
        self._unpublished += [(main, list(made)) for main, made in groupby(changes, itemgetter(0))]
        self._publish()
        if self._unpublished:
            self.wake()

    def _publish(self) -> None:
        """Tell synced watches of the next revisions: a slice of it."""
        unpublished = self._unpublished
        if len(unpublished) > UNPUBLISHED_MAX:
            self._fall_behind(unpublished[-1][0])
            unpublished.clear()
        told = size = 0
        while unpublished and told < SLICE_DELIVERIES and size < SLICE_BYTES:
            main, made = unpublished.popleft()
            if not made[0][1]:  # too many to be told within a turn
                self._fall_behind(main)
                continue
            self.revision = main
            concerned = self._concerned(main, made)
            self._begin(main + 1)
            departures = self._departures
            for group, receiver, watches, batch in concerned:
                if self._departures != departures:
                    # Somebody who was told before them may have cancelled some.
                    watches = [watch for watch in watches if watch.place is group]
                for watch in self._tell(receiver, watches, batch):
                    watch.next = main
                    self._wait_for_room(watch)
                told += len(watches)
                size += batch.bytes * len(watches)

    def _begin(self, revision: int) -> None:
        """It is the first that some watches want."""
        if self._future:
            for watch in list(self._future.values((revision, 0), (revision + 1, 0))):
                self._take(watch)
                self._synced.add(watch)

    def _concerned(self, main: int, made: Changes) -> list[tuple[Group, Any, Sequence[Watch], Batch]]:
        """Whom a revision's changes concern, as of now."""
        changes = [Change(*change) for change in made]
        told: list[tuple[Group, Any, Sequence[Watch], Batch]] = []
        for group, wanted in self._synced.concerned(changes).items():
            batch = group.batch(main, wanted, self._store.record_before)
            told += [
                (group, receiver, tuple(watches), batch) for receiver, watches in group.receivers.items()
            ]
        return told

    def begin_anew(self) -> None:
        """The store has become another, newer one: all watches get what they do not have from its history."""
        if self._store.changes is not None:
            self._store.changes = []
            self._unpublished.clear()
            self._fall_behind(self._store.revision)

    def _fall_behind(self, revision: int) -> None:
        """Let the history tell of what was not published yet, up to ``revision``."""
        watches = list(self._synced)
        for watch in watches:
            watch.next = self.revision + 1
        watches += self._future.values((0, 0), (revision + 2, 0))
        self.revision = revision
        for watch in watches:
            self._take(watch)
            self._put(watch)

    def _tell(self, receiver: Any, watches: Sequence[Watch], batch: Batch) -> list[Watch]:
        """Tell somebody of changes; returns those watches that still need them."""
        if not watches:
            return []
        try:
            refused = receiver.changed(watches, batch)
        except Exception:
            self._receiver_failed(watches)
            return []
        self.delivered += len(batch.events) * (len(watches) - len(refused))
        return [watch for watch in refused if watch.place is not None] if refused else []

    def _receiver_failed(self, watches: Sequence[Watch]) -> None:
        """A receiver's own bug ends the watches that it is about; called in the ``except`` clause."""
        for watch in watches:
            self.cancel(watch)
        if self._failed is None:
            raise
        self._failed()

    # The history.

    def work(self) -> Work[None]:
        catching_up: Work[None] | None = None
        while self._unpublished or self._behind:
            self._publish()
            if catching_up is None and (cohort := self._cohort()):
                catching_up = self._catch_up(cohort)
            if catching_up is not None and next(catching_up, _DONE) is _DONE:
                catching_up = None
            yield

    def _cohort(self) -> list[Watch]:
        """Some that are behind and need about the same revisions; the one that has waited longest leads."""
        cohort: list[Watch] = []
        for watch in list(islice(self._behind, CANDIDATES_MAX)):
            if watch.next < self._store.compact_revision:
                self._compacted(watch)
            elif not watch.receiver.ready:
                self._wait_for_room(watch)
            elif not cohort or 0 <= watch.next - cohort[0].next < REVISIONS_MAX:
                cohort.append(watch)
                if len(cohort) == COHORT_MAX:
                    break
        return [watch for watch in cohort if watch.place is self._behind]

    def _compacted(self, watch: Watch) -> None:
        self.cancel(watch)
        try:
            watch.receiver.compacted(watch, self._store.compact_revision)
        except Exception:
            self._receiver_failed([watch])

    def _catch_up(self, cohort: list[Watch]) -> Work[None]:
        first = cohort[0].next
        last = min(self.revision, first + REVISIONS_MAX - 1)
        changes, reached = yield from read_history(self._store, first, last)
        interests = Interests(cohort)
        found: dict[Group, list[Change]] = {}
        for at in range(0, len(changes), SLICE_KEYS):
            if at:
                yield
            for group, wanted in interests.concerned(changes[at : at + SLICE_KEYS]).items():
                found.setdefault(group, []).extend(wanted)
        size = 0
        for group in interests.groups():
            for receiver, watches in group.receivers.items():
                size += self._tell_history(receiver, list(watches), group, found.get(group, []), reached)
                if size >= SLICE_BYTES:
                    size = 0
                    yield

    def _tell_history(
        self, receiver: Any, watches: list[Watch], group: Group, changes: list[Change], reached: int
    ) -> int:
        """Tell a receiver's watches of a group what they need up to a revision; returns how many bytes."""
        size = 0
        for next in sorted({watch.next for watch in watches}):
            if next < self._store.compact_revision:
                continue  # what was read may have gaps by now
            mine = [watch for watch in watches if watch.next == next and watch.place is self._behind]
            wanted = [change for change in changes if change.main >= next]
            if wanted and mine:
                batch = group.batch(self.revision, wanted, self._store.record_before)
                size += batch.bytes * len(mine)
                for watch in self._tell(receiver, mine, batch):
                    self._wait_for_room(watch)
            for watch in mine:
                if watch.place is self._behind and watch.next <= reached:
                    self._take(watch)
                    watch.next = reached + 1
                    self._put(watch)
        return size


def _nothing() -> None:
    """What wakes nobody."""
