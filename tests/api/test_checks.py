"""What is wrong with a request before anybody carries it out (reference, API 2 to 5.2)."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.apply.applying import compare, op_delete, op_put, op_range, op_txn
from twistedetcd.api import checks
from twistedetcd.api.checks import check_delete_range, check_put, check_range
from twistedetcd.apply.txn import take_apart
from twistedetcd.errors import (
    DuplicateKeyError,
    EmptyKeyError,
    EtcdError,
    InvalidSortOptionError,
    KeyNotFoundError,
    LeaseProvidedError,
    TooManyOpsError,
    ValueProvidedError,
)
from twistedetcd.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

UNKNOWN = 5
EMPTY_COMPARE = Compare(target=Compare.VERSION)


def check_txn(request: TxnRequest, operations_max: int) -> None:
    """Check a request as it comes."""
    checks.check_txn(take_apart(request, operations_max), operations_max)


class SingleTests(SynchronousTestCase):
    """Range, Put and DeleteRange."""

    def test_range(self) -> None:
        """A key first, then the order, then the target; known numbers pass."""
        for order in (0, 1, 2):
            for target in (0, 1, 2, 3, 4):
                check_range(RangeRequest(key=b"k", sort_order=order, sort_target=target))  # type: ignore[arg-type]
        unknown: Any = UNKNOWN
        for fields in ({"sort_order": unknown}, {"sort_target": unknown}, {"sort_order": -1}):
            self.assertRaises(InvalidSortOptionError, check_range, RangeRequest(key=b"k", **fields))
            self.assertRaises(EmptyKeyError, check_range, RangeRequest(**fields))

    def test_put(self) -> None:
        """A key, then no value beside ignore_value, then no lease beside ignore_lease."""
        check_put(PutRequest(key=b"k", ignore_value=True, ignore_lease=True))
        check_put(PutRequest(key=b"k", value=b"v", lease=5))
        check_put(PutRequest(key=b"k", value=b"v", ignore_lease=True))
        check_put(PutRequest(key=b"k", lease=5, ignore_value=True))
        both = {"value": b"v", "lease": 5, "ignore_value": True, "ignore_lease": True}
        self.assertRaises(EmptyKeyError, check_put, PutRequest(**both))
        self.assertRaises(ValueProvidedError, check_put, PutRequest(key=b"k", **both))
        del both["value"]
        self.assertRaises(LeaseProvidedError, check_put, PutRequest(key=b"k", **both))

    def test_delete_range(self) -> None:
        """A key; any end, inverted ones too."""
        self.assertRaises(EmptyKeyError, check_delete_range, DeleteRangeRequest(range_end=b"z"))
        check_delete_range(DeleteRangeRequest(key=b"k", range_end=b"a"))


class TxnCase(SynchronousTestCase):
    """Short ways to check a transaction, in either branch."""

    def accepted(self, *branch: RequestOp, limit: int = 128) -> None:
        check_txn(TxnRequest(success=branch), limit)
        check_txn(TxnRequest(failure=branch), limit)

    def refused(self, error: type[EtcdError], *branch: RequestOp, limit: int = 128) -> None:
        self.assertRaises(error, check_txn, TxnRequest(success=branch), limit)
        self.assertRaises(error, check_txn, TxnRequest(failure=branch), limit)


class BudgetTests(TxnCase):
    """How many operations."""

    def test_the_longest_list_counts(self) -> None:
        """Compares, success and failure each may have as many as the limit."""
        reads, compares = [op_range(b"k")] * 3, [compare(0, 0, b"k")] * 3
        check_txn(TxnRequest(compare=compares, success=reads, failure=reads), 3)
        for request in (TxnRequest(compare=compares), TxnRequest(success=reads), TxnRequest(failure=reads)):
            check_txn(request, 3)
            self.assertRaises(TooManyOpsError, check_txn, request, 2)

    def test_nested_have_what_is_left(self) -> None:
        """A nested transaction's limit is its parent's less the parent's own; siblings do not share it."""
        two, three = op_txn(*[op_range(b"k")] * 2), op_txn(*[op_range(b"k")] * 3)
        self.accepted(two, two, limit=4)
        self.refused(TooManyOpsError, three, two, limit=4)
        self.refused(TooManyOpsError, two, two, limit=3)
        self.accepted(op_txn(op_txn(op_range(b"k"))), limit=3)
        self.refused(TooManyOpsError, op_txn(op_txn(op_range(b"k"))), limit=2)
        self.accepted(op_txn(), limit=1)

    def test_the_parents_longest_list_counts(self) -> None:
        """What a parent used up is its longest list, not the one that the nested one is in."""
        nested = op_txn(*[op_range(b"k")] * 2)
        check_txn(TxnRequest(success=[nested], failure=[op_range(b"k")] * 3), 5)
        self.assertRaises(
            TooManyOpsError, check_txn, TxnRequest(success=[nested], failure=[op_range(b"k")] * 3), 4
        )
        self.assertRaises(
            TooManyOpsError, check_txn, TxnRequest(success=[nested], compare=[compare(0, 0, b"k")] * 3), 4
        )


class OperationTests(TxnCase):
    """Each operation by itself, in order."""

    def test_compares_need_keys(self) -> None:
        """Nested ones too."""
        self.assertRaises(EmptyKeyError, check_txn, TxnRequest(compare=[EMPTY_COMPARE]), 9)
        self.refused(EmptyKeyError, op_txn(compare=[EMPTY_COMPARE]))

    def test_operations_are_checked_as_single_ones(self) -> None:
        """By the rules of Range, Put and DeleteRange, at every depth."""
        for error, bad in (
            (EmptyKeyError, op_range(b"")),
            (InvalidSortOptionError, op_range(b"k", sort_order=UNKNOWN)),
            (EmptyKeyError, op_put(b"")),
            (ValueProvidedError, op_put(b"k", b"v", ignore_value=True)),
            (LeaseProvidedError, op_put(b"k", lease=1, ignore_lease=True)),
            (EmptyKeyError, op_delete(b"")),
            (KeyNotFoundError, RequestOp()),
        ):
            self.refused(error, bad)
            self.refused(error, op_range(b"k"), op_txn(op_txn(op_range(b"k"), bad)))

    def test_first_fault(self) -> None:
        """Number, then compares, then success, then failure, then collisions."""
        twice = [op_put(b"k"), op_put(b"k")]
        for error, request, limit in (
            (TooManyOpsError, TxnRequest(compare=[EMPTY_COMPARE] * 2, success=[RequestOp()]), 1),
            (EmptyKeyError, TxnRequest(compare=[EMPTY_COMPARE], success=[RequestOp()]), 9),
            (KeyNotFoundError, TxnRequest(success=[RequestOp()], failure=[op_put(b"")]), 9),
            (EmptyKeyError, TxnRequest(success=twice, failure=[op_put(b"")]), 9),
            (EmptyKeyError, TxnRequest(success=[op_txn(compare=[EMPTY_COMPARE]), RequestOp()]), 9),
            (KeyNotFoundError, TxnRequest(success=[RequestOp(), op_txn(compare=[EMPTY_COMPARE])]), 9),
            (TooManyOpsError, TxnRequest(success=[op_txn(*twice, *twice), op_put(b"")]), 3),
            (DuplicateKeyError, TxnRequest(success=twice, failure=[op_put(b"k")]), 9),
        ):
            self.assertRaises(error, check_txn, request, limit)


class CollisionTests(TxnCase):
    """A branch writes a key twice, or one that it also deletes (reference, API 5.2)."""

    def test_put_twice(self) -> None:
        """In one list; in the other branch, or read in between, it is another matter."""
        self.refused(DuplicateKeyError, op_put(b"k"), op_range(b"k"), op_put(b"k"))
        self.accepted(op_put(b"k"), op_put(b"kk"))
        check_txn(TxnRequest(success=[op_put(b"k")], failure=[op_put(b"k")]), 9)

    def test_put_and_delete(self) -> None:
        """In either order; the end of the range is not in it."""
        for delete in (
            op_delete(b"k"),
            op_delete(b"a", b"z"),
            op_delete(b"k", b"kk"),
            op_delete(b"j", b"k\0"),
        ):
            self.refused(DuplicateKeyError, op_put(b"k"), delete)
            self.refused(DuplicateKeyError, delete, op_put(b"k"))
        for delete in (
            op_delete(b"a", b"k"),
            op_delete(b"k\0"),
            op_delete(b"z", b"a"),
            op_delete(b"k", b"k"),
        ):
            self.accepted(delete, op_put(b"k"))
            self.accepted(op_put(b"k"), delete)

    def test_deletes_may_overlap(self) -> None:
        """Deleting twice harms nobody."""
        self.accepted(op_delete(b"a", b"z"), op_delete(b"k"), op_delete(b"k"), op_txn(op_delete(b"k")))

    def test_open_end(self) -> None:
        """An interval that ends in a zero byte is taken literally: it is inverted, and covers nothing."""
        self.accepted(op_delete(b"a", b"\0"), op_put(b"m"))
        self.accepted(op_put(b"a"), op_delete(b"a", b"\0"))
        self.accepted(op_delete(b"\0", b"\0"), op_put(b"\0"), op_txn(op_put(b"m")))

    def test_nested_puts(self) -> None:
        """A nested put collides with a put of its parent and of a sibling, wherever they stand."""
        nested = op_txn(op_put(b"k"))
        self.refused(DuplicateKeyError, op_put(b"k"), nested)
        self.refused(DuplicateKeyError, nested, op_put(b"k"))
        self.refused(DuplicateKeyError, nested, nested)
        self.refused(DuplicateKeyError, nested, op_txn(failure=[op_put(b"k")]))
        self.refused(DuplicateKeyError, op_txn(nested), op_txn(op_txn(nested)))
        self.refused(DuplicateKeyError, op_txn(op_put(b"k"), op_put(b"k")))

    def test_then_and_else(self) -> None:
        """Only one of the two happens: they may put the same key, and one may delete what the other puts."""
        self.accepted(op_txn(op_put(b"k"), failure=[op_put(b"k")]))
        self.accepted(op_txn(op_put(b"k"), failure=[op_delete(b"a", b"z")]))
        self.accepted(op_txn(op_delete(b"a", b"z"), failure=[op_put(b"k")]))
        self.refused(DuplicateKeyError, op_txn(op_put(b"k"), failure=[op_put(b"k")]), op_put(b"k"))

    def test_nested_against_the_list(self) -> None:
        """A nested put collides with a delete of the list, wherever it stands; and the other way round."""
        for delete in (op_delete(b"k"), op_delete(b"a", b"z")):
            self.refused(DuplicateKeyError, delete, op_txn(op_put(b"k")))
            self.refused(DuplicateKeyError, op_txn(op_put(b"k")), delete)
            self.refused(DuplicateKeyError, op_put(b"k"), op_txn(delete))
            self.refused(DuplicateKeyError, op_txn(failure=[op_txn(delete)]), op_put(b"k"))

    def test_between_siblings_the_order_counts(self) -> None:
        """A nested put before a sibling's delete is allowed; after it, it is not."""
        put, delete = op_txn(op_put(b"k")), op_txn(op_delete(b"a", b"z"))
        self.accepted(put, delete)
        self.refused(DuplicateKeyError, delete, put)
        self.refused(DuplicateKeyError, op_txn(failure=[op_delete(b"k")]), op_txn(failure=[op_put(b"k")]))
        self.accepted(op_txn(put, delete))
        self.refused(DuplicateKeyError, op_txn(delete), op_txn(put))

    def test_one_operation(self) -> None:
        """A branch of one operation collides only within, if it is a transaction."""
        self.accepted(op_put(b"k"))
        self.refused(DuplicateKeyError, op_txn(op_put(b"k"), op_delete(b"k")))
        self.refused(DuplicateKeyError, op_txn(op_txn(op_put(b"k"), op_delete(b"k"))))

    def test_as_plainly_told(self) -> None:
        """Whatever is nested in whatever, the answer is that of the rules as they are written down."""
        draw = random.Random(2)
        outcomes = set()
        for _ in range(2000):
            branch = _some_branch(draw, 3)
            expected = True
            try:
                _told_plainly(branch)
            except DuplicateKeyError:
                expected = False
            outcomes.add(expected)
            if expected:
                self.accepted(*branch)
            else:
                self.refused(DuplicateKeyError, *branch)
        self.assertEqual({True, False}, outcomes)


class CostTests(SynchronousTestCase):
    """What a check costs, in calls: one that grew with the square would hold up everybody."""

    def calls(self, *branch: RequestOp) -> int:
        request = TxnRequest(success=branch)
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        try:
            check_txn(request, sys.maxsize)
        finally:
            sys.setprofile(None)
        return calls

    def assertLinear(self, small: Sequence[RequestOp], large: Sequence[RequestOp]) -> None:
        """Four times the operations cost about four times the calls."""
        self.assertLess(self.calls(*large), 6 * self.calls(*small))

    def test_siblings(self) -> None:
        """Deletes and puts in as many nested transactions, and in the list itself."""

        def branch(size: int) -> list[RequestOp]:
            deletes = [op_delete(b"d%05d" % number) for number in range(size)]
            puts = [op_put(b"p%05d" % number) for number in range(size)]
            return [*deletes[::2], *map(op_txn, deletes[1::2]), *map(op_txn, puts[::2]), *puts[1::2]]

        self.assertLinear(branch(100), branch(400))

    def test_depth(self) -> None:
        """A heap of puts far down is not counted again by each that it is nested in."""

        def nested(operations: list[RequestOp], depth: int) -> list[RequestOp]:
            for level in range(depth):
                operations = [op_delete(b"d%d" % level), op_put(b"e%d" % level), op_txn(*operations)]
            return operations

        puts = [op_put(b"p%05d" % number) for number in range(1000)]
        self.assertLess(self.calls(*nested(puts, 30)), 2 * self.calls(*nested(puts, 1)))


def _some_branch(draw: random.Random, depth: int) -> list[RequestOp]:
    def key() -> bytes:
        return b"%c" % draw.randrange(97, 113)

    branch = []
    for _ in range(draw.randrange(4)):
        kind = draw.randrange(4 if depth else 2)
        if kind == 0:
            branch.append(op_put(key()))
        elif kind == 1:
            branch.append(op_delete(key(), draw.choice([b"", b"\0", key()])))
        else:
            branch.append(op_txn(*_some_branch(draw, depth - 1), failure=_some_branch(draw, depth - 1)))
    return branch


def _told_plainly(branch: Sequence[RequestOp]) -> tuple[set[bytes], list[tuple[bytes, bytes]]]:
    """The rules of collisions, without regard to cost: what a branch puts and which ranges it deletes."""
    deletes = [each.request_delete_range for each in branch if each.HasField("request_delete_range")]
    deleted = [(each.key, each.range_end or each.key + b"\0") for each in deletes]
    written: set[bytes] = set()

    def check(keys: set[bytes]) -> None:
        if keys & written or any(start <= key < end for key in keys for start, end in deleted):
            raise DuplicateKeyError

    for each in branch:
        if each.HasField("request_txn"):
            then, otherwise = _told_plainly(each.request_txn.success), _told_plainly(each.request_txn.failure)
            check(then[0] | otherwise[0])
            written |= then[0] | otherwise[0]
            deleted += then[1] + otherwise[1]
    for each in branch:
        if each.HasField("request_put"):
            check({each.request_put.key})
            written.add(each.request_put.key)
    return written, deleted
