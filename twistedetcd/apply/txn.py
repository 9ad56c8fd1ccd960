"""
Transactions: choose the path, check it, then carry it out.

All compares, nested ones too, see the state before the transaction.  Whatever can refuse is checked on the
path taken before the first write, so a transaction happens whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twistedetcd.apply import responses
from twistedetcd.apply.intervals import Intervals
from twistedetcd.apply.ranges import View, find, interval_end
from twistedetcd.errors import CompactedError, FutureRevisionError, KeyNotFoundError
from twistedetcd.interfaces import IReadView
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import Compare, PutRequest, TxnRequest

_FIELD: dict[int, Callable[[Any], Any]] = {
    Compare.VERSION: lambda item: item.version,
    Compare.CREATE: lambda item: item.create_revision,
    Compare.MOD: lambda item: item.mod_revision,
    Compare.VALUE: lambda item: item.value,
    Compare.LEASE: lambda item: item.lease,
}
_WANTED: dict[int, Callable[[Any], Any]] = {
    Compare.VERSION: lambda compare: compare.version,
    Compare.CREATE: lambda compare: compare.create_revision,
    Compare.MOD: lambda compare: compare.mod_revision,
    Compare.VALUE: lambda compare: compare.value,
    Compare.LEASE: lambda compare: compare.lease,
}
_MISSING = KeyValue()


_RANGE, _PUT, _DELETE, _TXN = "request_range", "request_put", "request_delete_range", "request_txn"


class Path(NamedTuple):
    """
    The branch that a transaction takes.

    Each operation is a kind (the name of its field in ``RequestOp``) and its request, or for a nested
    transaction the path that it takes.
    """

    succeeded: bool
    operations: list[tuple[str, Any]]


def choose(view: View, request: TxnRequest) -> Path:
    """Evaluate the compares, and those of the transactions nested in the branch taken."""
    succeeded = True
    for compare in request.compare:
        if not _holds(view, compare):
            succeeded = False
            break
    operations: list[tuple[str, Any]] = []
    for operation in request.success if succeeded else request.failure:
        kind = operation.WhichOneof("request")
        chosen = getattr(operation, kind)
        operations.append((kind, choose(view, chosen) if kind == _TXN else chosen))
    return Path(succeeded, operations)


def _holds(view: View, compare: Compare) -> bool:
    records, _ = view.range(compare.key, interval_end(compare.range_end))
    if not records:
        # A missing key is all zeros, except that it has no value to compare with.
        return compare.target != Compare.VALUE and _matches(compare, _MISSING)
    return all(_matches(compare, KeyValue.FromString(record)) for record in records)


def _matches(compare: Compare, item: KeyValue) -> bool:
    if compare.target in _FIELD:
        ours, wanted = _FIELD[compare.target](item), _WANTED[compare.target](compare)
    else:
        ours = wanted = 0  # upstream compares nothing then, and finds it equal
    if compare.result == Compare.EQUAL:
        return bool(ours == wanted)
    if compare.result == Compare.NOT_EQUAL:
        return bool(ours != wanted)
    if compare.result == Compare.GREATER:
        return bool(ours > wanted)
    if compare.result == Compare.LESS:
        return bool(ours < wanted)
    return True  # an operator nobody knows refuses nothing (upstream, again)


def check(store: IReadView, path: Path, check_put: Callable[[PutRequest], None]) -> None:
    """
    Refuse what would fail on the way.

    Args:
        store: The state before the transaction.
        path: The branch taken.
        check_put: Refuses a put for what it names besides its key: the lease.

    Raises:
        EtcdError: Nothing was changed.
    """
    deleted = Intervals()  # and not put again
    for kind, request in _flattened(path):
        if kind == _RANGE:
            revision = request.revision
            if revision > store.revision:
                raise FutureRevisionError
            # Outside of transactions a negative revision means the current one; here it is a low one.
            if revision and revision < store.compact_revision:
                raise CompactedError
        elif kind == _PUT:
            key = request.key
            # A put that keeps something needs the key before the transaction (upstream's rule), and no
            # operation before it may have deleted it: upstream overlooks that and dies of it (KF-67).
            keeps = request.ignore_value or request.ignore_lease
            if keeps and (key in deleted or not store.count(key, None)):
                raise KeyNotFoundError
            check_put(request)
            deleted.remove(key)
        else:
            end = interval_end(request.range_end)
            deleted.add(request.key, request.key + b"\0" if end is None else end or None)


def _flattened(path: Path) -> Iterator[tuple[str, Any]]:
    for kind, request in path.operations:
        if kind == _TXN:
            yield from _flattened(request)
        else:
            yield kind, request


def carry_out(view: Any, path: Path) -> list[bytes]:
    """
    Do the operations of a path in order.

    Args:
        view: Reads see what was written before them.  Only a path that writes needs ``put`` and
            ``delete_range``.
        path: As `check` found nothing wrong with.

    Returns:
        An encoded ``ResponseOp`` for each operation.
    """
    results = []
    for kind, request in path.operations:
        if kind == _PUT:
            previous = view.put(request)
            response = responses.put_response(responses.inner_header(view.revision), previous)
            results.append(responses.delimited(responses.RESPONSE_PUT, response))
        elif kind == _RANGE:
            found = find(view, request)
            response = responses.range_response(responses.inner_header(view.revision), *found)
            results.append(responses.delimited(responses.RESPONSE_RANGE, response))
        elif kind == _DELETE:
            deleted, gone = view.delete_range(request)
            header = responses.inner_header(view.revision)
            response = responses.delete_range_response(header, deleted, gone)
            results.append(responses.delimited(responses.RESPONSE_DELETE_RANGE, response))
        else:
            inner = carry_out(view, request)
            response = responses.txn_response(responses.EMPTY_HEADER, request.succeeded, inner)
            results.append(responses.delimited(responses.RESPONSE_TXN, response))
    return results


def is_read_only(request: TxnRequest) -> bool:
    """Whether every operation of both branches is a range; a nested transaction never is."""
    return all(
        operation.WhichOneof("request") == _RANGE for operation in (*request.success, *request.failure)
    )


def is_serializable(request: TxnRequest) -> bool:
    """Whether a read-only transaction may be answered from local state."""
    return all(operation.request_range.serializable for operation in (*request.success, *request.failure))


def read(store: IReadView, request: TxnRequest) -> tuple[bool, list[bytes]]:
    """
    Carry out a read-only transaction; returns which branch was taken and the operations' responses.

    Raises:
        CompactedError: A range asks below the compact revision.
        FutureRevisionError: A range asks above the current one.
    """
    path = choose(store, request)
    check(store, path, lambda put: None)
    return path.succeeded, carry_out(store, path)
