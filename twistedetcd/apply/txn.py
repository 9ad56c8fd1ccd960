"""
Transactions: choose the path, check it, then carry it out.

All compares, nested ones too, see the state before the transaction.  Whatever can refuse is checked on the
path taken before the first write, so a transaction happens whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twistedetcd.apply import responses
from twistedetcd.apply.ranges import View, find, interval_end
from twistedetcd.errors import CompactedError, FutureRevisionError, KeyNotFoundError
from twistedetcd.interfaces import IReadView
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import Compare, PutRequest, RequestOp, TxnRequest

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


class Path(NamedTuple):
    """The branch that a transaction takes; ``nested`` are the paths of its nested transactions, in order."""

    succeeded: bool
    operations: list[RequestOp]
    nested: list[Path]


def choose(view: View, request: TxnRequest) -> Path:
    """Evaluate the compares, and those of the transactions nested in the branch taken."""
    succeeded = all(_holds(view, compare) for compare in request.compare)
    operations = list(request.success if succeeded else request.failure)
    nested = [
        choose(view, operation.request_txn)
        for operation in operations
        if operation.WhichOneof("request") == "request_txn"
    ]
    return Path(succeeded, operations, nested)


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
    changes: list[tuple[bytes, bytes | None, bool]] = []  # key, end, whether it is there afterwards
    for operation in _flattened(path):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            revision = operation.request_range.revision
            if revision > store.revision:
                raise FutureRevisionError
            # Outside of transactions a negative revision means the current one; here it is a low one.
            if revision and revision < store.compact_revision:
                raise CompactedError
        elif kind == "request_put":
            put = operation.request_put
            if (put.ignore_value or put.ignore_lease) and not _will_be_there(store, put.key, changes):
                raise KeyNotFoundError
            check_put(put)
            changes.append((put.key, None, True))
        elif kind == "request_delete_range":
            delete = operation.request_delete_range
            changes.append((delete.key, interval_end(delete.range_end), False))


def _flattened(path: Path) -> Iterator[RequestOp]:
    nested = iter(path.nested)
    for operation in path.operations:
        if operation.WhichOneof("request") == "request_txn":
            yield from _flattened(next(nested))
        else:
            yield operation


def _will_be_there(store: IReadView, key: bytes, changes: list[tuple[bytes, bytes | None, bool]]) -> bool:
    """
    Whether a put that keeps a key's value or lease will find the key.

    It must be there before the transaction (upstream's rule), and no operation before this one may have
    deleted it: upstream overlooks that and dies of it (KF-67).
    """
    if not store.count(key, None):
        return False
    for start, end, there in reversed(changes):
        if key == start if end is None else start <= key and (end == b"" or key < end):
            return there
    return True


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
    nested = iter(path.nested)
    results = []
    for operation in path.operations:
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            found = find(view, operation.request_range)
            response = responses.range_response(responses.inner_header(view.revision), *found)
            results.append(responses.delimited(responses.RESPONSE_RANGE, response))
        elif kind == "request_put":
            previous = view.put(operation.request_put)
            response = responses.put_response(responses.inner_header(view.revision), previous)
            results.append(responses.delimited(responses.RESPONSE_PUT, response))
        elif kind == "request_delete_range":
            deleted, gone = view.delete_range(operation.request_delete_range)
            header = responses.inner_header(view.revision)
            response = responses.delete_range_response(header, deleted, gone)
            results.append(responses.delimited(responses.RESPONSE_DELETE_RANGE, response))
        else:
            inner = next(nested)
            response = responses.txn_response(responses.EMPTY_HEADER, inner.succeeded, carry_out(view, inner))
            results.append(responses.delimited(responses.RESPONSE_TXN, response))
    return results


def is_read_only(request: TxnRequest) -> bool:
    """Whether every operation of both branches is a range; a nested transaction never is."""
    return all(
        operation.WhichOneof("request") == "request_range"
        for operation in (*request.success, *request.failure)
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
