"""What a RangeRequest asks for beyond the store's own range: limit, filters, order, count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import RangeRequest

_FROM_KEY = b"\0"
_INT64_MAX = 2**63 - 1

_SORT_KEYS: dict[int, Callable[[Any], Any]] = {
    RangeRequest.KEY: lambda item: item.key,
    RangeRequest.VERSION: lambda item: item.version,
    RangeRequest.CREATE: lambda item: item.create_revision,
    RangeRequest.MOD: lambda item: item.mod_revision,
    RangeRequest.VALUE: lambda item: item.value,
}


class View(Protocol):
    """What is read: the store, or a write transaction in progress."""

    @property
    def revision(self) -> int: ...

    def range(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int = 0
    ) -> tuple[list[bytes], int]: ...

    def count(self, key: bytes, end: bytes | None, revision: int = 0) -> int: ...


class Found(NamedTuple):
    """The records to answer with, whether there were more, and how many keys the range has."""

    records: list[bytes]
    more: bool
    keys: int


def interval_end(range_end: bytes) -> bytes | None:
    """
    The wire's ``range_end`` as the store's ``end``.

    On the wire empty means the one key, and a zero byte means all from the key on.
    """
    if not range_end:
        return None
    return b"" if range_end == _FROM_KEY else range_end


def find(view: View, request: RangeRequest) -> Found:
    """
    Carry out a range.

    Ties of a sort keep key order (upstream's sort is not stable for many keys; ours is).

    Raises:
        CompactedError: The revision was compacted.
        FutureRevisionError: The revision is yet to come.
    """
    key, revision = request.key, request.revision
    end = interval_end(request.range_end)
    if request.count_only:
        return Found([], False, view.count(key, end, revision))
    # The largest number is no limit either: nothing could be one more.
    limit = request.limit if 0 < request.limit < _INT64_MAX else 0
    filtered = (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )
    # Without an order or a filter the limit is applied to the keys, before any sorting.
    plain = request.sort_order == RangeRequest.NONE and not filtered
    records, count = view.range(key, end, revision, limit + 1 if limit and plain else 0)
    if filtered:
        records = [record for record in records if _passes(request, KeyValue.FromString(record))]
    if request.sort_target != RangeRequest.KEY or request.sort_order == RangeRequest.DESCEND:
        records = _sorted(records, request)
    more = bool(limit) and len(records) > limit
    if more:
        records = records[:limit]
    if request.keys_only:
        records = [_without_value(record) for record in records]
    return Found(records, more, count)


def _passes(request: RangeRequest, item: KeyValue) -> bool:
    mod, created = item.mod_revision, item.create_revision
    return (
        (not request.min_mod_revision or mod >= request.min_mod_revision)
        and (not request.max_mod_revision or mod <= request.max_mod_revision)
        and (not request.min_create_revision or created >= request.min_create_revision)
        and (not request.max_create_revision or created <= request.max_create_revision)
    )


def _sorted(records: list[bytes], request: RangeRequest) -> list[bytes]:
    by = _SORT_KEYS[request.sort_target]
    descending = request.sort_order == RangeRequest.DESCEND
    return sorted(records, key=lambda record: by(KeyValue.FromString(record)), reverse=descending)


def _without_value(record: bytes) -> bytes:
    item = KeyValue.FromString(record)
    item.ClearField("value")
    return item.SerializeToString()
