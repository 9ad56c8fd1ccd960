"""
Watch responses, put together from events that are encoded already.

Many watches are told the same: then only the id is a watch's own.  Field numbers: etcdserverpb's rpc.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from twistedetcd.mvcc.events import Batch
from twistedetcd.protocols.calls import message_prefix
from twistedetcd.wire import varint

_ID = b"\x10"  # WatchResponse 2
_COMPACT_REVISION = b"\x28"  # 5
_REASON = b"\x32"  # 6
_EVENTS = b"\x5a"  # 11
CREATED = b"\x18\x01"  # 3
CANCELED = b"\x20\x01"  # 4
_FRAGMENT = b"\x38\x01"  # 7
_ID_BYTES_MAX = 11
_UINT64 = 2**64 - 1
_TABULATED = 1 << 12
_STARTS = tuple(_EVENTS + varint(length) for length in range(_TABULATED))


def id_field(watch_id: int) -> bytes:
    """A watch's id as a field; zero is not written."""
    return _ID + varint(watch_id & _UINT64) if watch_id else b""


def refused(header: bytes, reason: str) -> bytes:
    """A watch was not created."""
    text = reason.encode()
    return header + id_field(-1) + CREATED + CANCELED + _REASON + varint(len(text)) + text


def compacted(header: bytes, id: bytes, compact_revision: int) -> bytes:
    """A watch is over: what it needs next is gone."""
    return header + id + CANCELED + _COMPACT_REVISION + varint(compact_revision)


def events_field(events: Sequence[bytes]) -> bytes:
    """Events as fields of a response."""
    if len(events) > 1 and max(map(len, events)) < _TABULATED:
        starts = map(_STARTS.__getitem__, map(len, events))
        return b"".join(chain.from_iterable(zip(starts, events, strict=True)))  # in C from end to end
    return b"".join([_event_field(event) for event in events])


def _event_field(event: bytes) -> bytes:
    length = len(event)
    return (_STARTS[length] if length < _TABULATED else _EVENTS + varint(length)) + event


class Told:
    """
    What one batch says to any number of watches.

    Args:
        header: Of the responses.
        batch: The events.

    Attributes:
        batch: The same.
        events: Its events as fields.
    """

    __slots__ = ("_header", "_starts", "batch", "events")

    def __init__(self, header: bytes, batch: Batch) -> None:
        self.batch = batch
        self.events = events_field(batch.events)
        self._header = header
        length = len(header) + len(self.events)
        # What stands before an id of so many bytes.
        self._starts = [message_prefix(length + more) + header for more in range(_ID_BYTES_MAX + 1)]

    def messages(self, ids: Sequence[bytes]) -> bytes:
        """A response for each of the ids, with their prefixes."""
        starts, events = self._starts, self.events
        if len(ids) == 1:
            [id] = ids
            return b"%b%b%b" % (starts[len(id)], id, events)
        return b"".join([piece for id in ids for piece in (starts[len(id)], id, events)])

    def fragments(self, id: bytes, bytes_max: int) -> Iterator[bytes]:
        """
        The response for one id, cut between events where it would be as long as ``bytes_max``.

        A fragment with one event may be longer.
        """
        head = self._header + id
        if len(head) + len(self.events) < bytes_max:
            yield head + self.events
            return
        fields: list[bytes] = []
        size = 0
        for event in self.batch.events:
            field = _event_field(event)
            if fields and len(head) + len(_FRAGMENT) + size + len(field) >= bytes_max:
                yield head + _FRAGMENT + b"".join(fields)
                fields, size = [], 0
            fields.append(field)
            size += len(field)
        yield head + b"".join(fields)
