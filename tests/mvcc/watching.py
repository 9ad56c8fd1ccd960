"""A store that is watched, and somebody who watches it and notes what he is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from tests.mvcc.stores import SLICES_MAX, Stack
from twistedetcd.interfaces import IWatchReceiver
from twistedetcd.mvcc.events import Batch
from twistedetcd.mvcc.interest import Watch
from twistedetcd.mvcc.watch import Watches
from twistedetcd.pb.kv_pb2 import Event


def parsed(batch: Batch) -> list[Event]:
    """The events of a batch."""
    return [Event.FromString(event) for event in batch.events]


def short(event: Event) -> tuple[str, bytes, int]:
    """What an event says, in brief."""
    return Event.EventType.Name(event.type), event.kv.key, event.kv.mod_revision


@implementer(IWatchReceiver)
class Receiver:
    """
    Notes what it is told.

    Attributes:
        batches: What it was told, by watch; a watch that was compacted away ends with that revision.
        room: How many more batches it takes; ``None`` for any number.
    """

    def __init__(self, room: int | None = None) -> None:
        self.batches: dict[Any, list[Batch | int]] = {}
        self.room = room

    @property
    def ready(self) -> bool:
        return self.room is None or self.room > 0

    def changed(self, watches: Sequence[Watch], batch: Batch) -> Sequence[Watch]:
        for taken, watch in enumerate(watches):
            if not self.ready:
                return watches[taken:]
            if self.room is not None:
                self.room -= 1
            self.batches.setdefault(watch, []).append(batch)
        return ()

    def compacted(self, watch: Watch, compact_revision: int) -> None:
        self.batches.setdefault(watch, []).append(compact_revision)

    def told(self, watch: Watch) -> list[Any]:
        """What a watch was told, in brief: events, batch by batch."""
        return [
            batch if isinstance(batch, int) else [short(event) for event in parsed(batch)]
            for batch in self.batches.get(watch, [])
        ]

    def events(self, watch: Watch) -> list[Any]:
        """The same, without saying which came together."""
        return [event for batch in self.told(watch) for event in batch]


class WatchedStack(Stack):
    """A store with those who watch it; they are told when a test says that a turn ends."""

    def start(self) -> None:
        super().start()
        self.watches = Watches(self.store)
        self.woken = False
        self.watches.wake = self.wake

    def wake(self) -> None:
        self.woken = True

    def settle(self) -> int:
        """End the turn, and go on as long as there is work; returns how many slices it took."""
        self.watches.publish()
        slices = 0
        while self.woken:
            self.woken = False
            for _ in self.watches.work():
                slices += 1
                assert slices < SLICES_MAX, "the work does not end"
        return slices

    def put(self, *keys: bytes) -> int:
        """One revision that puts some keys."""
        transaction = self.store.write()
        for key in keys:
            transaction.put(key, b"value of " + key, 0)
        return transaction.end()
