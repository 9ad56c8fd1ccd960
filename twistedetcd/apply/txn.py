"""
Transactions: take apart, choose the path, check it, then carry it out.

All compares, nested ones too, see the state before the transaction.  Whatever can refuse is checked on the
path taken before the first write, so a transaction happens whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, eq, gt, lt, ne
from typing import Any, NamedTuple

from twistedetcd.apply import responses
from twistedetcd.apply.intervals import Intervals
from twistedetcd.apply.ranges import find, interval_end
from twistedetcd.errors import CompactedError, FutureRevisionError, KeyNotFoundError
from twistedetcd.interfaces import IReadView, ITransaction, Work
from twistedetcd.mvcc.work import SLICE_KEYS, Pace
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import Compare, PutRequest, RequestOp, TxnRequest

_FIELD: dict[int, Callable[[Any], Any]] = {
    Compare.VERSION: attrgetter("version"),
    Compare.CREATE: attrgetter("create_revision"),
    Compare.MOD: attrgetter("mod_revision"),
    Compare.VALUE: attrgetter("value"),
    Compare.LEASE: attrgetter("lease"),
}
"""By target; what a key has and what is asked for have the same name."""

_HOLDS: dict[int, Callable[[Any, Any], bool]] = {
    Compare.EQUAL: eq,
    Compare.NOT_EQUAL: ne,
    Compare.GREATER: gt,
    Compare.LESS: lt,
}
_MISSING = KeyValue()


RANGE, PUT, DELETE_RANGE, TXN = "request_range", "request_put", "request_delete_range", "request_txn"

Operation = tuple[str | None, Any]
"""
A kind (the name of its field in ``RequestOp``) and its request; for a nested transaction a `Transaction`, and
`Path` once the branch is known.  ``None`` is an operation that asks for nothing.
"""


class Transaction(NamedTuple):
    """
    A ``TxnRequest`` taken apart.

    Done once, on arrival: each look into a protobuf message makes an object, and all those that checking,
    choosing and carrying out take cost more than what they do.
    """

    compares: Sequence[Compare]
    success: Sequence[Operation]
    failure: Sequence[Operation]


def take_apart(request: TxnRequest, operations_max: int = sys.maxsize) -> Transaction:
    """
    The parts of a request, and of the transactions nested in it.

    Args:
        request: As it came.
        operations_max: The budget, counted along a path of nested transactions.  What is above it will be
            refused for its length alone, so its parts are left as they are: looking into half a million
            operations would hold up everybody else.
    """
    compares, success, failure = request.compare, request.success, request.failure
    left = operations_max - max(len(compares), len(success), len(failure))
    if left < 0:
        untouched: Any = (compares, success, failure)
        return Transaction(*untouched)
    # A slice of a repeated field is a list, made faster than by iteration.
    return Transaction(compares[:], _operations(success[:], left), _operations(failure[:], left))


def _operations(operations: Sequence[RequestOp], operations_max: int) -> Sequence[Operation]:
    parts: list[Operation] = []
    for operation in operations:
        kind = operation.WhichOneof("request")
        if kind == PUT:
            parts.append((PUT, operation.request_put))
        elif kind is None:
            parts.append((None, None))
        else:
            request = getattr(operation, kind)
            parts.append((kind, take_apart(request, operations_max) if kind == TXN else request))
    return parts


class Path(NamedTuple):
    """The branch that a transaction takes, and so does each one nested in it."""

    succeeded: bool
    operations: Sequence[Operation]


def choose(
    view: ITransaction, transaction: Transaction, pace: Pace, succeeded: bool | None = None
) -> Work[Path]:
    """
    Evaluate the compares, and those of the transactions nested in the branch taken.

    Args:
        view: The state before the transaction.
        transaction: The request, taken apart.
        pace: Of all the work for this transaction.
        succeeded: What `all_hold` said, if it was asked: its own compares are not evaluated again.
    """
    if succeeded is None:
        succeeded = yield from _compare(view, transaction.compares, pace)
    operations = transaction.success if succeeded else transaction.failure
    if any(kind == TXN for kind, _ in operations):
        chosen: list[Operation] = []
        for kind, request in operations:
            chosen.append((kind, (yield from choose(view, request, pace)) if kind == TXN else request))
        operations = chosen
    return Path(succeeded, operations)


def _compare(view: ITransaction, compares: Sequence[Compare], pace: Pace) -> Work[bool]:
    """As `all_hold`, for any compares, in slices."""
    for compare in compares:
        if pace.tired():
            yield
        holds = (yield from _all_hold(view, compare, pace)) if compare.range_end else _holds(view, compare)
        pace.spend(1)
        if not holds:
            return False
    return True


def all_hold(store: IReadView, compares: Sequence[Compare]) -> bool | None:
    """Whether all compares hold, evaluated at once; ``None`` if that is too much, as ranges may be."""
    if len(compares) > SLICE_KEYS:
        return None
    hold = True
    for compare in compares:
        if compare.range_end:
            return None
        hold = hold and _holds(store, compare)
    return hold


def _holds(view: IReadView, compare: Compare) -> bool:
    records, _ = view.range(compare.key, None)
    return _matches(compare, KeyValue.FromString(records[0])) if records else _holds_of_nothing(compare)


def _all_hold(view: ITransaction, compare: Compare, pace: Pace) -> Work[bool]:
    found = False
    for records, _, looked_at in view.scan(compare.key, interval_end(compare.range_end)):
        if pace.tired():
            yield
        pace.spend(looked_at)
        if not all(_matches(compare, KeyValue.FromString(record)) for record in records):
            return False
        found = found or bool(records)
    return found or _holds_of_nothing(compare)


def _holds_of_nothing(compare: Compare) -> bool:
    """A missing key is all zeros, except that it has no value to compare with."""
    return compare.target != Compare.VALUE and _matches(compare, _MISSING)


def _matches(compare: Compare, item: KeyValue) -> bool:
    holds = _HOLDS.get(compare.result)
    if holds is None:
        return True  # an operator nobody knows refuses nothing (upstream, again)
    get = _FIELD.get(compare.target)
    # Upstream compares nothing when it does not know the target, and finds it equal.
    return holds(get(item), get(compare)) if get is not None else holds(0, 0)


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
    deleted: Intervals | None = None  # and not put again; most transactions delete nothing
    for kind, request in _flattened(path):
        if kind == RANGE:
            revision = request.revision
            if revision > store.revision:
                raise FutureRevisionError
            # Outside of transactions a negative revision means the current one; here it is a low one.
            if revision and revision < store.compact_revision:
                raise CompactedError
        elif kind == PUT:
            key = request.key
            # A put that keeps something needs the key before the transaction (upstream's rule), and no
            # operation before it may have deleted it: upstream overlooks that and dies of it (KF-67).
            keeps = request.ignore_value or request.ignore_lease
            if keeps and ((deleted and key in deleted) or not store.count(key, None)):
                raise KeyNotFoundError
            check_put(request)
            if deleted:
                deleted.remove(key)
        else:
            if deleted is None:
                deleted = Intervals()
            end = interval_end(request.range_end)
            deleted.add(request.key, request.key + b"\0" if end is None else end or None)


def _flattened(path: Path) -> Iterator[Operation]:
    for kind, request in path.operations:
        if kind == TXN:
            yield from _flattened(request)
        else:
            yield kind, request


def are_plain_puts(operations: Sequence[Operation]) -> bool:
    """Whether they are puts that nothing can refuse any more, and few enough to be done at once."""
    plain = len(operations) <= SLICE_KEYS
    for kind, request in operations:
        plain = plain and kind == PUT and is_plain(request)
    return plain


def is_plain(put: PutRequest) -> bool:
    """Whether it has no more than a key and a value."""
    return not (put.lease or put.prev_kv or put.ignore_value or put.ignore_lease)


def carry_out(view: Any, path: Path, pace: Pace) -> Work[list[bytes]]:
    """
    Do the operations of a path in order.

    Args:
        view: Reads see what was written before them.  Only a path that writes needs ``put`` and
            ``delete_range``.
        path: As `check` found nothing wrong with.
        pace: Of all the work for this transaction.

    Returns:
        An encoded ``ResponseOp`` for each operation.
    """
    results = []
    for kind, request in path.operations:
        if pace.tired():
            yield
        pace.spend(1)
        if kind == PUT:
            previous = view.put(request)
            response = responses.put_response(responses.inner_header(view.revision), previous)
            results.append(responses.delimited(responses.RESPONSE_PUT, response))
        elif kind == RANGE:
            found = yield from find(view, request, pace)
            response = responses.range_response(responses.inner_header(view.revision), *found)
            results.append(responses.delimited(responses.RESPONSE_RANGE, response))
        elif kind == DELETE_RANGE:
            deleted, gone = yield from view.delete_range(request, pace)
            header = responses.inner_header(view.revision)
            response = responses.delete_range_response(header, deleted, gone)
            results.append(responses.delimited(responses.RESPONSE_DELETE_RANGE, response))
        else:
            inner = yield from carry_out(view, request, pace)
            response = responses.txn_response(responses.EMPTY_HEADER, request.succeeded, inner)
            results.append(responses.delimited(responses.RESPONSE_TXN, response))
    return results


def is_read_only(transaction: Transaction) -> bool:
    """Whether every operation of both branches is a range; a nested transaction never is."""
    for kind, _ in transaction.success:
        if kind != RANGE:
            return False
    return all(kind == RANGE for kind, _ in transaction.failure)


def is_serializable(transaction: Transaction) -> bool:
    """Whether a read-only transaction may be answered from local state."""
    return all(request.serializable for _, request in (*transaction.success, *transaction.failure))


def read(view: ITransaction, transaction: Transaction) -> Work[tuple[bool, list[bytes]]]:
    """
    Carry out a read-only transaction; returns which branch was taken and the operations' responses.

    Raises:
        CompactedError: A range asks below the compact revision.
        FutureRevisionError: A range asks above the current one.
    """
    pace = Pace()
    path = yield from choose(view, transaction, pace)
    check(view, path, lambda put: None)
    return path.succeeded, (yield from carry_out(view, path, pace))
