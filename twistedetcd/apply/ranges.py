"""What a RangeRequest asks for beyond the store's own range: limit, filters, order, count."""

from __future__ import annotations

from collections.abc import Callable
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from twistedetcd.apply.responses import range_kvs
from twistedetcd.interfaces import ITransaction, Work
from twistedetcd.mvcc.work import SLICE_KEYS, Pace
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import RangeRequest

SORT_RUN_KEYS = 4 * SLICE_KEYS
"""Keys that are sorted at once; of larger ranges such runs are merged."""
_FROM_KEY = b"\0"
_INT64_MAX = 2**63 - 1

_SORT_KEYS: dict[int, Callable[[Any], Any]] = {
    RangeRequest.KEY: attrgetter("key"),
    RangeRequest.VERSION: attrgetter("version"),
    RangeRequest.CREATE: attrgetter("create_revision"),
    RangeRequest.MOD: attrgetter("mod_revision"),
    RangeRequest.VALUE: attrgetter("value"),
}


class Found(NamedTuple):
    """
    What a range answers with.

    Attributes:
        kvs: The records as fields of a response, many of them in each piece.
        more: Whether there were more than the limit.
        keys: How many keys the range has.
    """

    kvs: list[bytes]
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


def find(view: ITransaction, request: RangeRequest, pace: Pace) -> Work[Found]:
    """
    Carry out a range.

    Ties of a sort keep key order (upstream's sort is not stable for many keys; ours is).

    Raises:
        CompactedError: The revision was compacted.
        FutureRevisionError: The revision is yet to come.
    """
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
    wanted = 0 if request.count_only else limit + 1 if limit and plain else None
    by = None
    if request.sort_target != RangeRequest.KEY or request.sort_order == RangeRequest.DESCEND:
        by = _SORT_KEYS[request.sort_target]
    records: list[bytes] = []
    sort_keys: list[Any] = []
    count = 0
    parts = view.scan(request.key, interval_end(request.range_end), request.revision, wanted)
    for part, keys, looked_at in parts:
        if pace.tired():
            yield
        pace.spend(looked_at)
        count += keys
        if filtered and not request.count_only:
            part = [record for record in part if _passes(request, KeyValue.FromString(record))]
        if by is not None:
            sort_keys += [by(KeyValue.FromString(record)) for record in part]
        records += part
    more = bool(limit) and not request.count_only and len(records) > limit
    if by is not None:
        descending = request.sort_order == RangeRequest.DESCEND
        records = yield from _sorted(records, sort_keys, descending, limit or len(records), pace)
    elif more:
        records = records[:limit]
    kvs = yield from _as_fields(records, request.keys_only, pace)
    return Found(kvs, more, count)


def _sorted(
    records: list[bytes], keys: list[Any], descending: bool, limit: int, pace: Pace
) -> Work[list[bytes]]:
    """The first ``limit`` records in the order of their keys; ties stay as they are."""
    by = keys.__getitem__
    runs = []
    for at in range(0, len(records), SORT_RUN_KEYS):
        if pace.tired():
            yield
        run = range(at, min(at + SORT_RUN_KEYS, len(records)))
        pace.spend(len(run))
        runs.append(sorted(run, key=by, reverse=descending))
    if len(runs) < 2:
        return [records[position] for run in runs for position in run[:limit]]
    ordered: list[bytes] = []
    merged = islice(merge(*runs, key=by, reverse=descending), limit)
    while part := list(islice(merged, SLICE_KEYS)):
        if pace.tired():
            yield
        pace.spend(len(part))
        ordered += [records[position] for position in part]
    return ordered


def _as_fields(records: list[bytes], keys_only: bool, pace: Pace) -> Work[list[bytes]]:
    """The records, side by side as a response has them."""
    if len(records) <= SLICE_KEYS and not keys_only:
        return [range_kvs(records)]  # nearly free, beside having read them
    fields = []
    for at in range(0, len(records), SLICE_KEYS):
        if pace.tired():
            yield
        part = records[at : at + SLICE_KEYS]
        pace.spend(len(part))
        fields.append(range_kvs([_without_value(record) for record in part] if keys_only else part))
    return fields


def _passes(request: RangeRequest, item: KeyValue) -> bool:
    mod, created = item.mod_revision, item.create_revision
    return (
        (not request.min_mod_revision or mod >= request.min_mod_revision)
        and (not request.max_mod_revision or mod <= request.max_mod_revision)
        and (not request.min_create_revision or created >= request.min_create_revision)
        and (not request.max_create_revision or created <= request.max_create_revision)
    )


def _without_value(record: bytes) -> bytes:
    item = KeyValue.FromString(record)
    item.ClearField("value")
    return item.SerializeToString()
