"""Who watches what: watches, found by a key that changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from zope.interface import implementer

from twistedetcd.interfaces import IWatch
from twistedetcd.mvcc.events import Batch, Change, Options, RecordBefore
from twistedetcd.mvcc.intervals import IntervalTree


@implementer(IWatch)
class Watch:
    """See the contract; ``place`` is what holds it now, ``None`` when it is over."""

    __slots__ = ("end", "key", "name", "next", "options", "place", "receiver")

    def __init__(
        self, key: bytes, end: bytes | None, receiver: Any, next: int, name: Any, options: Options
    ) -> None:
        self.key = key
        self.end = end
        self.receiver = receiver
        self.next = next
        self.name = name
        self.options = options
        self.place: object | None = None

    @property
    def synced(self) -> bool:
        """Whether it is told at once what changes."""
        return type(self.place) is Group


class Group:
    """
    Watches with the same range and the same options, so that they are told the same.

    Attributes:
        options: Theirs.
        receivers: Who watches, and with which watches.
    """

    __slots__ = ("options", "receivers")

    def __init__(self, options: Options) -> None:
        self.options = options
        self.receivers: dict[Any, dict[Watch, None]] = {}

    def batch(self, revision: int, changes: Iterable[Change], record_before: RecordBefore) -> Batch:
        """Changes as these watches want to hear of them."""
        if self.options.previous:
            return Batch(revision, [change.event_with_previous(record_before) for change in changes])
        return Batch(revision, [change.event() for change in changes])


class _Table:
    """The groups of some options: those of single keys, and those of ranges."""

    __slots__ = ("keys", "ranges")

    def __init__(self) -> None:
        self.keys: dict[bytes, Group] = {}
        self.ranges: IntervalTree[Group] = IntervalTree()


class Interests:
    """
    Watches, by what they watch.

    Args:
        watches: To be found here, whatever their place is.
    """

    def __init__(self, watches: Iterable[Watch] = ()) -> None:
        self._tables: dict[Options, _Table] = {}
        for watch in watches:
            self._enter(watch)

    def add(self, watch: Watch) -> None:
        """Take a watch in: this is its place from now on."""
        watch.place = self._enter(watch)

    def _enter(self, watch: Watch) -> Group:
        group = self._group(watch)
        group.receivers.setdefault(watch.receiver, {})[watch] = None
        return group

    def _group(self, watch: Watch) -> Group:
        """The group that a watch belongs to, made if need be."""
        table = self._tables.get(watch.options)
        if table is None:
            table = self._tables[watch.options] = _Table()
        key, end = watch.key, watch.end
        group = table.keys.get(key) if end is None else table.ranges.get((key, end))
        if group is None:
            group = Group(watch.options)
            if end is None:
                table.keys[key] = group
            else:
                table.ranges.add((key, end), group)
        return group

    def remove(self, watch: Watch) -> None:
        """Take out a watch that is here."""
        group = watch.place
        assert type(group) is Group, "the watch is not here"
        watch.place = None
        watches = group.receivers[watch.receiver]
        del watches[watch]
        if watches:
            return
        del group.receivers[watch.receiver]
        if group.receivers:
            return
        table = self._tables[watch.options]
        if watch.end is None:
            del table.keys[watch.key]
        else:
            table.ranges.remove((watch.key, watch.end))
        if not table.keys and not table.ranges:
            del self._tables[watch.options]

    def groups(self) -> Iterator[Group]:
        """All groups."""
        for table in self._tables.values():
            yield from table.keys.values()
            yield from table.ranges

    def __iter__(self) -> Iterator[Watch]:
        for group in self.groups():
            for watches in group.receivers.values():
                yield from watches

    def concerned(self, changes: Iterable[Change]) -> dict[Group, list[Change]]:
        """The groups that changes matter to, each with those that it wants."""
        found: dict[Group, list[Change]] = {}
        for options, table in self._tables.items():
            for change in changes:
                if not (options.deletes if change.record is None else options.puts):
                    continue
                group = table.keys.get(change.key)
                if group is not None:
                    found.setdefault(group, []).append(change)
                if table.ranges:
                    for group in table.ranges.holding(change.key):
                        found.setdefault(group, []).append(change)
        return found
