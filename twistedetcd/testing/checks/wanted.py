"""What watches are to be told."""

from __future__ import annotations

from typing import NamedTuple

from twistedetcd.pb.kv_pb2 import Event, KeyValue
from twistedetcd.pb.rpc_pb2 import WatchCreateRequest
from twistedetcd.testing.checks.history import Witness
from twistedetcd.testing.checks.ranges import inside


class Wanted(NamedTuple):
    """
    An event to be told.

    Attributes:
        event: It, without the record before.
        previous: The record before its revision, if there was one, and the event is not of a creation.
        superseded: Whether its revision changes the key again: a compaction to there removes such a record.
    """

    event: Event
    previous: KeyValue | None
    superseded: bool

    @property
    def revision(self) -> int:
        return self.event.kv.mod_revision


def wanted_events(witness: Witness) -> list[Wanted]:
    """All that happened, as watches are told of it."""
    live = {item.key: item for item in witness.base}
    result = []
    for change in witness.changes:
        last = {event.kv.key: place for place, event in enumerate(change.events)}
        for place, event in enumerate(change.events):
            created = event.kv.create_revision == event.kv.mod_revision
            previous = None if created else live.get(event.kv.key)
            result.append(Wanted(event, previous, last[event.kv.key] != place))
        for event in change.events:
            if event.type == Event.DELETE:
                live.pop(event.kv.key, None)
            else:
                live[event.kv.key] = event.kv
    return result


class Everything:
    """All that happened, and what of it a watch wants; many want the same."""

    def __init__(self, witness: Witness | None) -> None:
        self._witness = witness
        self._events: list[Wanted] | None = None
        self._selected: dict[tuple[bytes, bytes, frozenset[int]], list[Wanted]] = {}

    def of(self, request: WatchCreateRequest) -> list[Wanted]:
        """All that a watch wants, from the first revision on."""
        key, range_end, filters = request.key or b"\0", request.range_end, frozenset(request.filters)
        selected = self._selected.get((key, range_end, filters))
        if selected is None:
            if self._events is None:
                self._events = wanted_events(self._witness) if self._witness is not None else []
            # By the number of the event's type.
            unwanted = [each in filters for each in (WatchCreateRequest.NOPUT, WatchCreateRequest.NODELETE)]
            selected = self._selected[key, range_end, filters] = [
                wanted
                for wanted in self._events
                if inside(wanted.event.kv.key, key, range_end) and not unwanted[wanted.event.type]
            ]
        return selected
