"""
Changes, and the events that tell of them.

An event is an encoded ``mvccpb.Event``, made once for all who watch: a put's record goes into it as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twistedetcd.wire import varint

_DELETE = b"\x08\x01"  # Event 1, the type; a put's is zero, and not written
_KV = b"\x12"  # Event 2
_PREV_KV = b"\x1a"  # Event 3
_KEY = b"\x0a"  # KeyValue 1
_MOD_REVISION = b"\x18"  # KeyValue 3
_LENGTHS = tuple(varint(length) for length in range(1 << 12))

RecordBefore = Callable[[bytes, int], "bytes | None"]
"""The record that a key had before a revision, if it had one and it can still be read."""


class Options(NamedTuple):
    """
    Which changes a watch wants, and how.

    Attributes:
        puts: Whether it wants to know of puts.
        deletes: Whether it wants to know of deletes.
        previous: Whether events shall carry the record that the key had before the revision.
    """

    puts: bool = True
    deletes: bool = True
    previous: bool = False


class Batch:
    """
    What a watch is told at once: the events of one revision or, from the history, of several.

    Attributes:
        revision: That of the store when this was put together; no event is above it.
        events: Encoded ``mvccpb.Event`` messages by revision, and in the order of the changes within one.
        bytes: Their size.
    """

    __slots__ = ("bytes", "events", "revision")

    def __init__(self, revision: int, events: list[bytes]) -> None:
        self.revision = revision
        self.events = events
        self.bytes = sum(map(len, events))


class Change:
    """
    One change of one key.

    Attributes:
        main: The revision.
        key: The key.
        record: What was put, as a record; ``None`` for a delete.
    """

    __slots__ = ("_event", "_event_with_previous", "key", "main", "record")

    def __init__(self, main: int, key: bytes, record: bytes | None) -> None:
        self.main = main
        self.key = key
        self.record = record
        self._event: bytes | None = None
        self._event_with_previous: bytes | None = None

    def event(self) -> bytes:
        """The event."""
        event = self._event
        if event is None:
            record = self.record
            if record is None:
                named = _field(_KEY, self.key) + _MOD_REVISION + varint(self.main)
                event = _DELETE + _field(_KV, named)
            else:
                event = _field(_KV, record)
            self._event = event
        return event

    def event_with_previous(self, record_before: RecordBefore) -> bytes:
        """The event, with the record before it."""
        event = self._event_with_previous
        if event is None:
            before = record_before(self.key, self.main)
            event = self.event() if before is None else self.event() + _field(_PREV_KV, before)
            self._event_with_previous = event
        return event


def _field(tag: bytes, payload: bytes) -> bytes:
    length = len(payload)
    return b"%b%b%b" % (tag, _LENGTHS[length] if length < 4096 else varint(length), payload)
