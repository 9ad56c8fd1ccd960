"""
What is wrong with a key-value request before anybody carries it out (upstream's api/v3rpc/key.go).

The order of the checks is part of the API: a request with two faults is refused for the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twistedetcd.errors import (
    DuplicateKeyError,
    EmptyKeyError,
    InvalidSortOptionError,
    KeyNotFoundError,
    LeaseProvidedError,
    TooManyOpsError,
    ValueProvidedError,
)
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest

_SORT_ORDERS = frozenset(RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(RangeRequest.SortTarget.values())


def check_range(request: RangeRequest) -> None:
    """
    Raises:
        EmptyKeyError: No key.
        InvalidSortOptionError: An order or a target that does not exist.
    """
    if not request.key:
        raise EmptyKeyError
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise InvalidSortOptionError


def check_put(request: PutRequest) -> None:
    """
    Raises:
        EmptyKeyError: No key.
        ValueProvidedError: A value, and the wish to keep the old one.
        LeaseProvidedError: A lease, and the wish to keep the old one.
    """
    if not request.key:
        raise EmptyKeyError
    if request.ignore_value and request.value:
        raise ValueProvidedError
    if request.ignore_lease and request.lease:
        raise LeaseProvidedError


def check_delete_range(request: DeleteRangeRequest) -> None:
    """
    Raises:
        EmptyKeyError: No key.
    """
    if not request.key:
        raise EmptyKeyError


def check_txn(request: TxnRequest, operations_max: int) -> None:
    """
    Check both branches, and the transactions nested in them.

    Args:
        request: The transaction.
        operations_max: What is left of the budget, which is counted along a path of nested transactions.

    Raises:
        TooManyOpsError: Above the budget.
        EmptyKeyError: A compare or an operation without a key.
        KeyNotFoundError: An operation that asks for nothing.
        DuplicateKeyError: A branch writes a key twice, or writes one that it also deletes.
        EtcdError: As the operation's own check says.
    """
    _check_operations(request, operations_max)
    for branch in (request.success, request.failure):
        # One operation alone has nothing to collide with.
        if len(branch) > 1 or (branch and branch[0].WhichOneof("request") == "request_txn"):
            _check_intervals(branch)


def _check_operations(request: TxnRequest, operations_max: int) -> None:
    operations = max(len(request.compare), len(request.success), len(request.failure))
    if operations > operations_max:
        raise TooManyOpsError
    for compare in request.compare:
        if not compare.key:
            raise EmptyKeyError
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            check_range(operation.request_range)
        elif kind == "request_put":
            check_put(operation.request_put)
        elif kind == "request_delete_range":
            check_delete_range(operation.request_delete_range)
        elif kind == "request_txn":
            _check_operations(operation.request_txn, operations_max - operations)
        else:
            raise KeyNotFoundError


Interval = tuple[bytes, bytes]  # first key, and the first one after it


def _interval(request: DeleteRangeRequest) -> Interval:
    """
    What a delete covers, as upstream's check sees it.

    A ``range_end`` of one zero byte is taken literally here: the interval is inverted and covers nothing.
    """
    return request.key, request.range_end or request.key + b"\0"


def _covered(key: bytes, intervals: Iterable[Interval]) -> bool:
    return any(start <= key < end for start, end in intervals)


def _check_intervals(branch: Sequence[RequestOp]) -> tuple[set[bytes], list[Interval]]:
    """Refuse collisions in one branch; returns the keys it puts and the intervals it deletes."""
    deleted = [
        _interval(operation.request_delete_range)
        for operation in branch
        if operation.WhichOneof("request") == "request_delete_range"
    ]
    written: set[bytes] = set()
    for operation in branch:
        if operation.WhichOneof("request") != "request_txn":
            continue
        nested = operation.request_txn
        then_written, then_deleted = _check_intervals(nested.success)
        else_written, else_deleted = _check_intervals(nested.failure)
        # Only one of the two happens, so they may name the same key.
        for key in then_written | else_written:
            if key in written or _covered(key, deleted):
                raise DuplicateKeyError
        written |= then_written | else_written
        deleted += then_deleted + else_deleted
    for operation in branch:
        if operation.WhichOneof("request") == "request_put":
            key = operation.request_put.key
            if key in written or _covered(key, deleted):
                raise DuplicateKeyError
            written.add(key)
    return written, deleted
