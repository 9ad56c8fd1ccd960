"""Which keys are in a range, which of them a Range answers with, and what a Compare says of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import Compare, RangeRequest, RangeResponse

OPEN_END = b"\0"


def inside(name: bytes, key: bytes, range_end: bytes) -> bool:
    """Whether a key is in a range, as the wire writes ranges."""
    if not range_end:
        return name == key
    return key <= name and (range_end == OPEN_END or name < range_end)


def slice_of(names: Sequence[bytes], key: bytes, range_end: bytes) -> Sequence[bytes]:
    """Those of some sorted keys that are in a range."""
    first = bisect_left(names, key)
    if not range_end:
        return names[first : first + 1] if first < len(names) and names[first] == key else ()
    return names[first:] if range_end == OPEN_END else names[first : bisect_left(names, range_end)]


_TARGETS: dict[int, Callable[[KeyValue], bytes | int]] = {
    RangeRequest.KEY: lambda item: item.key,
    RangeRequest.VERSION: lambda item: item.version,
    RangeRequest.CREATE: lambda item: item.create_revision,
    RangeRequest.MOD: lambda item: item.mod_revision,
    RangeRequest.VALUE: lambda item: item.value,
}


def select(request: RangeRequest, items: Sequence[KeyValue]) -> RangeResponse:
    """
    Answer a Range.

    Args:
        request: Its bounds and its revision count no more.
        items: What is in the range, in the order of keys.
    """
    count = len(items)
    if request.count_only:
        return RangeResponse(count=count)
    filtered = False
    for low, high, field in (
        (request.min_mod_revision, request.max_mod_revision, "mod_revision"),
        (request.min_create_revision, request.max_create_revision, "create_revision"),
    ):
        if low or high:
            filtered = True
            found = ((item, getattr(item, field)) for item in items)
            items = [item for item, number in found if low <= number and (not high or number <= high)]
    limit = request.limit if request.limit > 0 else None
    order, target = request.sort_order, request.sort_target
    if order != RangeRequest.NONE:
        items = sorted(items, key=_TARGETS[target], reverse=order == RangeRequest.DESCEND)
    elif target != RangeRequest.KEY:
        # Without an order the limit comes first, in the order of keys.
        if limit is not None and not filtered:
            items = items[: limit + 1]
        items = sorted(items, key=_TARGETS[target])
    more = limit is not None and len(items) > limit
    result = RangeResponse(kvs=items[:limit], more=more, count=count)
    if request.keys_only:
        for item in result.kvs:
            item.ClearField("value")
    return result


_FIELDS = {
    Compare.VERSION: "version",
    Compare.CREATE: "create_revision",
    Compare.MOD: "mod_revision",
    Compare.VALUE: "value",
    Compare.LEASE: "lease",
}
_ABSENT = KeyValue()


def holds(compare: Compare, items: Sequence[KeyValue]) -> bool:
    """
    Whether a Compare holds.

    Args:
        compare: Its range counts no more.
        items: What is in it.  Nothing compares as a key of zeros, but never by its value.
    """
    if not items:
        if compare.target == Compare.VALUE:
            return False
        items = [_ABSENT]
    field = _FIELDS[compare.target]
    wanted = getattr(compare, field)
    found = [getattr(item, field) for item in items]
    if compare.result == Compare.EQUAL:
        return all(value == wanted for value in found)
    if compare.result == Compare.NOT_EQUAL:
        return all(value != wanted for value in found)
    if compare.result == Compare.GREATER:
        return all(value > wanted for value in found)
    return all(value < wanted for value in found)
