"""
What is wrong with a key-value request before anybody carries it out (upstream's api/v3rpc/key.go).

The order of the checks is part of the API: a request with two faults is refused for the first.
"""

from __future__ import annotations

from collections.abc import Sequence

from BTrees.OOBTree import OOTreeSet

from twistedetcd.apply.intervals import Intervals
from twistedetcd.apply.txn import DELETE_RANGE, PUT, RANGE, TXN, Operation, Transaction
from twistedetcd.errors import (
    DuplicateKeyError,
    EmptyKeyError,
    InvalidSortOptionError,
    KeyNotFoundError,
    LeaseProvidedError,
    TooManyOpsError,
    ValueProvidedError,
)
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest

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


def check_txn(transaction: Transaction, operations_max: int) -> None:
    """
    Check both branches, and the transactions nested in them.

    Args:
        transaction: The request, taken apart.
        operations_max: What is left of the budget, which is counted along a path of nested transactions.

    Raises:
        TooManyOpsError: Above the budget.
        EmptyKeyError: A compare or an operation without a key.
        KeyNotFoundError: An operation that asks for nothing.
        DuplicateKeyError: A branch writes a key twice, or writes one that it also deletes.
        EtcdError: As the operation's own check says.
    """
    _check_operations(transaction, operations_max)
    for branch in transaction[1:]:
        # One operation alone has nothing to collide with.
        if len(branch) > 1 or (branch and branch[0][0] == TXN):
            _check_intervals(branch)


def _check_operations(transaction: Transaction, operations_max: int) -> None:
    compares, success, failure = transaction
    operations = max(len(compares), len(success), len(failure))
    if operations > operations_max:
        raise TooManyOpsError
    for compare in compares:
        if not compare.key:
            raise EmptyKeyError
    for kind, request in (*success, *failure) if failure else success:
        if kind == PUT:
            check_put(request)
        elif kind == RANGE:
            check_range(request)
        elif kind == DELETE_RANGE:
            check_delete_range(request)
        elif kind == TXN:
            _check_operations(request, operations_max - operations)
        else:
            raise KeyNotFoundError


class _Writes:
    """
    What one branch puts and deletes, with the transactions nested in it.

    Branches are compared and joined at the cost of the smaller side, so that a transaction of many small
    ones, or a deep one, costs little more than its size.
    """

    def __init__(self) -> None:
        self.puts = OOTreeSet()
        self.puts_count = 0
        self.deleted = Intervals()

    def put(self, key: bytes) -> None:
        self.puts_count += self.puts.add(key)

    def collides(self, later: _Writes) -> bool:
        """Whether something later puts a key that is put or deleted here."""
        few, many = (self, later) if self.puts_count < later.puts_count else (later, self)
        if any(key in many.puts for key in few.puts):
            return True
        if self.deleted.weight < later.puts_count:
            # The ends are no keys of theirs, hence excluded.
            return any(later.puts.keys(start, end, False, True) for start, end in self.deleted.items())
        return any(key in self.deleted for key in later.puts)

    def join(self, other: _Writes) -> None:
        """Have the other's too; the other is used up."""
        if self.puts_count < other.puts_count:
            self.puts, other.puts = other.puts, self.puts
            self.puts_count = other.puts_count
        for key in other.puts:
            self.put(key)
        if self.deleted.weight < other.deleted.weight:
            self.deleted, other.deleted = other.deleted, self.deleted
        self.deleted.update(other.deleted)


def _check_intervals(branch: Sequence[Operation]) -> _Writes:
    """Refuse collisions in one branch; returns what it writes."""
    writes = _Writes()
    for kind, request in branch:
        if kind == DELETE_RANGE:
            # As upstream's check sees it: an end of one zero byte is taken literally here, so that the
            # interval is inverted and covers nothing.
            writes.deleted.add(request.key, request.range_end or request.key + b"\0")
    for kind, nested in branch:
        if kind == TXN:
            # Only one of the two happens, so they may name the same key.
            alternatives = _check_intervals(nested.success), _check_intervals(nested.failure)
            if any(writes.collides(each) for each in alternatives):
                raise DuplicateKeyError
            for each in alternatives:
                writes.join(each)
    for kind, request in branch:
        if kind == PUT:
            key = request.key
            if key in writes.puts or key in writes.deleted:
                raise DuplicateKeyError
            writes.put(key)
    return writes
