"""Transactions: which path, whether it can be gone, and what it does."""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.apply.applying import Applying, compare, op_delete, op_put, op_range, op_txn
from twistedetcd.apply import txn
from twistedetcd.errors import (
    CompactedError,
    EtcdError,
    FutureRevisionError,
    KeyNotFoundError,
    LeaseNotFoundError,
)
from twistedetcd.mvcc.work import Pace, finish
from twistedetcd.pb.rpc_pb2 import Compare, RequestOp, TxnRequest

EQUAL, GREATER, LESS, NOT_EQUAL = Compare.EQUAL, Compare.GREATER, Compare.LESS, Compare.NOT_EQUAL
RESULTS = (EQUAL, GREATER, LESS, NOT_EQUAL)
NUMBERS = {
    Compare.VERSION: "version",
    Compare.CREATE: "create_revision",
    Compare.MOD: "mod_revision",
    Compare.LEASE: "lease",
}
UNKNOWN = 9


class TxnCase(SynchronousTestCase):
    """A store with a=1 (2), b=1 (3), b=2 (4)."""

    def setUp(self) -> None:
        self.member = Applying()
        self.member.put(b"a", b"1")
        self.member.put(b"b", b"1")
        self.member.put(b"b", b"2")

    def holds(self, *compares: Compare) -> bool:
        return self.member.txn(compare=list(compares)).succeeded

    def results(self, target: int, key: bytes, range_end: bytes = b"", **wanted: object) -> list[int]:
        """The operators with which a compare holds."""
        return [each for each in RESULTS if self.holds(compare(target, each, key, range_end, **wanted))]

    def assertRefused(self, error: type[EtcdError], *operations: RequestOp) -> None:
        """A transaction fails, with nothing changed, and does not stand in the way of the next."""
        before = self.member.state()
        self.assertRaises(error, self.member.txn, *operations)
        self.assertEqual(before, self.member.state())
        self.assertEqual(before[0] + 1, self.member.put(b"next").header.revision)

    def values(self) -> dict[bytes, bytes]:
        return self.member.stack.values()


class CompareTests(TxnCase):
    """What a compare compares (reference, API 5.3)."""

    def test_operators(self) -> None:
        """GREATER means that the key's field is greater than the number given."""
        fields = {Compare.VERSION: 2, Compare.CREATE: 3, Compare.MOD: 4, Compare.LEASE: 0}
        for target, ours in fields.items():
            name = NUMBERS[target]
            self.assertEqual([EQUAL], self.results(target, b"b", **{name: ours}))
            self.assertEqual([LESS, NOT_EQUAL], self.results(target, b"b", **{name: ours + 1}))
            self.assertEqual([GREATER, NOT_EQUAL], self.results(target, b"b", **{name: ours - 1}))

    def test_values(self) -> None:
        """Values compare as bytes."""
        self.assertEqual([EQUAL], self.results(Compare.VALUE, b"b", value=b"2"))
        self.assertEqual([GREATER, NOT_EQUAL], self.results(Compare.VALUE, b"b", value=b"1\xff"))
        self.assertEqual([LESS, NOT_EQUAL], self.results(Compare.VALUE, b"b", value=b"2\0"))

    def test_missing_key(self) -> None:
        """A key that is not there has zeros for numbers; no compare of its value holds, whatever it says."""
        for target, name in NUMBERS.items():
            self.assertEqual([EQUAL], self.results(target, b"x", **{name: 0}))
            self.assertEqual([LESS, NOT_EQUAL], self.results(target, b"x", **{name: 1}))
            self.assertEqual([GREATER, NOT_EQUAL], self.results(target, b"x", **{name: -1}))
        for value in (b"", b"1"):
            self.assertEqual([], self.results(Compare.VALUE, b"x", value=value))

    def test_ranges(self) -> None:
        """Every key in the range must satisfy it; an open end reaches the last key."""
        self.assertEqual([LESS], self.results(Compare.MOD, b"a", b"c", mod_revision=5)[:1])
        for end in (b"c", b"\0"):
            self.assertTrue(self.holds(compare(Compare.MOD, LESS, b"a", end, mod_revision=5)))
            self.assertFalse(self.holds(compare(Compare.MOD, LESS, b"a", end, mod_revision=4)))
            self.assertTrue(self.holds(compare(Compare.VALUE, NOT_EQUAL, b"a", end, value=b"")))
        self.assertTrue(self.holds(compare(Compare.MOD, LESS, b"a", b"b", mod_revision=4)))

    def test_empty_ranges(self) -> None:
        """A range without keys is as one missing key."""
        for end in (b"z", b"m", b"\0"):
            self.assertEqual([EQUAL], self.results(Compare.VERSION, b"m", end, version=0))
            self.assertEqual([], self.results(Compare.VALUE, b"m", end, value=b""))

    def test_unknown_target(self) -> None:
        """What nobody knows is found equal, on a missing key too."""
        for key in (b"b", b"x"):
            self.assertEqual([EQUAL], self.results(UNKNOWN, key, version=77))

    def test_unknown_operator(self) -> None:
        """An operator that nobody knows holds; for the value of a missing key nothing does."""
        self.assertTrue(self.holds(compare(Compare.VERSION, UNKNOWN, b"b", version=77)))
        self.assertTrue(self.holds(compare(Compare.VALUE, UNKNOWN, b"b", value=b"other")))
        self.assertTrue(self.holds(compare(Compare.VERSION, UNKNOWN, b"x")))
        self.assertFalse(self.holds(compare(Compare.VALUE, UNKNOWN, b"x")))

    def test_other_member_of_the_union(self) -> None:
        """A number given for another target counts as zero, a value as empty."""
        self.assertEqual([GREATER, NOT_EQUAL], self.results(Compare.MOD, b"b", version=4))
        self.assertEqual([GREATER, NOT_EQUAL], self.results(Compare.VALUE, b"b", version=2))

    def test_all_must_hold(self) -> None:
        """All compares together; none at all holds."""
        true, false = compare(Compare.VERSION, EQUAL, b"x"), compare(Compare.VERSION, LESS, b"x")
        self.assertTrue(self.holds())
        self.assertTrue(self.holds(true, true))
        self.assertFalse(self.holds(true, false))


class PathTests(TxnCase):
    """Which branch is taken, at every level."""

    def test_nested_compares_see_the_state_before(self) -> None:
        """A nested compare does not see what the transaction wrote before it."""
        result = self.member.txn(
            op_put(b"a", b"2"),
            op_txn(op_put(b"yes"), compare=[compare(Compare.VALUE, EQUAL, b"a", value=b"1")]),
        )
        self.assertTrue(result.responses[1].response_txn.succeeded)
        self.assertIn(b"yes", self.values())

    def test_each_nested_one_by_itself(self) -> None:
        """Nested transactions take their own branches; those of the branch not taken do not count."""
        false = [compare(Compare.VERSION, GREATER, b"x")]
        result = self.member.txn(
            op_put(b"not"),
            compare=false,
            failure=[
                op_txn(op_put(b"not"), compare=false, failure=[op_put(b"one")]),
                op_put(b"two"),
                op_txn(op_txn(op_put(b"three"), op_range(b"one")), failure=[op_put(b"not")]),
            ],
        )
        self.assertFalse(result.succeeded)
        kinds = [response.WhichOneof("response") for response in result.responses]
        self.assertEqual(["response_txn", "response_put", "response_txn"], kinds)
        self.assertFalse(result.responses[0].response_txn.succeeded)
        inner = result.responses[2].response_txn.responses[0].response_txn
        self.assertTrue(inner.succeeded)
        self.assertEqual([b"one"], [item.key for item in inner.responses[1].response_range.kvs])
        self.assertEqual({b"a", b"b", b"one", b"two", b"three"}, set(self.values()))
        self.assertEqual(1, len({item.mod_revision for item in self.member.stack.items(b"o")}))

    def test_empty_operation(self) -> None:
        """A branch without operations changes nothing and answers with nothing."""
        result = self.member.txn(compare=[compare(Compare.VERSION, GREATER, b"x")])
        self.assertEqual((False, 0, 4), (result.succeeded, len(result.responses), result.header.revision))


class CheckTests(TxnCase):
    """What refuses a transaction does so before its first write (reference, API 5.4)."""

    def test_range_revisions(self) -> None:
        """A range above the revision before the transaction, its own included, or below the compact one."""
        self.assertRefused(FutureRevisionError, op_put(b"x"), op_range(b"a", revision=5))
        self.member.compact(3)
        self.assertRefused(CompactedError, op_put(b"x"), op_range(b"a", revision=2))
        self.assertRefused(CompactedError, op_put(b"x"), op_range(b"a", revision=-1))
        self.member.txn(op_put(b"x"), op_range(b"a", revision=3), op_range(b"a", revision=4))

    def test_negative_revision_on_a_fresh_store(self) -> None:
        """Here a negative revision is a low one, and -1 is where a store that was never compacted begins."""
        self.member.txn(op_put(b"x"), op_range(b"a", revision=-1))
        self.assertRefused(CompactedError, op_put(b"x"), op_range(b"a", revision=-2))

    def test_keeping_what_is_not_there(self) -> None:
        """ignore_value and ignore_lease need the key before the transaction; a put in it does not count."""
        for field in ("ignore_value", "ignore_lease"):
            self.assertRefused(KeyNotFoundError, op_put(b"y"), op_put(b"x", **{field: True}))
            self.assertRefused(KeyNotFoundError, op_put(b"x"), op_txn(op_put(b"x", **{field: True})))

    def test_unknown_lease(self) -> None:
        """A lease that does not exist; looked at after the ignore flags, unlike outside of transactions."""
        self.assertRefused(LeaseNotFoundError, op_put(b"x"), op_put(b"a", lease=5))
        self.assertRefused(LeaseNotFoundError, op_put(b"x"), op_put(b"a", lease=5, ignore_value=True))
        self.assertRefused(KeyNotFoundError, op_put(b"x"), op_put(b"y", lease=5, ignore_value=True))

    def test_nested(self) -> None:
        """However deep: nothing of the whole transaction happens."""
        for error, bad in (
            (LeaseNotFoundError, op_put(b"y", lease=5)),
            (KeyNotFoundError, op_put(b"y", ignore_value=True)),
            (FutureRevisionError, op_range(b"y", revision=100)),
        ):
            self.assertRefused(error, op_put(b"x"), op_txn(op_delete(b"a"), op_txn(op_range(b"a"), bad)))

    def test_the_first_fault_counts(self) -> None:
        """Operations are checked in order, nested ones in their place."""
        future, lease = op_range(b"a", revision=100), op_put(b"a", lease=5)
        self.assertRefused(FutureRevisionError, op_txn(future), lease)
        self.assertRefused(LeaseNotFoundError, op_txn(lease), future)
        self.assertRefused(LeaseNotFoundError, lease, op_txn(future))

    def test_branch_not_taken(self) -> None:
        """What is not carried out is not checked."""
        result = self.member.txn(op_put(b"x"), failure=[op_put(b"y", lease=5), op_range(b"a", revision=100)])
        self.assertEqual(5, result.header.revision)

    def test_deleted_on_the_way(self) -> None:
        """A key deleted earlier in the transaction is not there to keep anything of (KF-67)."""
        for field in ("ignore_value", "ignore_lease"):
            keep = op_put(b"b", **{field: True})
            self.assertRefused(KeyNotFoundError, op_delete(b"a", b"\0"), keep)
            self.assertRefused(KeyNotFoundError, op_txn(op_delete(b"b")), keep)
            self.assertRefused(KeyNotFoundError, op_delete(b"a", b"c"), op_txn(op_txn(keep)))
            self.assertRefused(KeyNotFoundError, op_put(b"b"), op_txn(op_delete(b"b")), op_txn(keep))

    def test_put_again_on_the_way(self) -> None:
        """Deleted and put again, or deleted next to it: there is something to keep."""
        keep = op_put(b"b", ignore_value=True)
        self.member.txn(op_delete(b"a", b"\0"), op_txn(op_put(b"b", b"3")), op_txn(keep))
        self.assertEqual({b"b": b"3"}, self.values())
        self.member.txn(op_delete(b"a", b"b"), op_delete(b"b\0", b"\0"), op_delete(b"z", b"a"), keep)
        self.assertEqual({b"b": b"3"}, self.values())

    def test_cost(self) -> None:
        """Many puts that keep something: the lines run to check them grow in proportion."""
        for number in range(400):
            self.member.put(b"k%d" % number)

        def lines(size: int) -> int:
            view = self.member.stack.store.read()
            keeps = [op_put(b"k%d" % number, ignore_value=True) for number in range(size)]
            deletes = [op_delete(b"x%d" % number) for number in range(size)]
            path = finish(txn.choose(view, txn.take_apart(TxnRequest(success=deletes + keeps)), Pace()))
            counted = 0

            def count(frame: object, event: str, argument: object) -> Any:
                nonlocal counted
                counted += event == "line"
                return count

            before = sys.gettrace()
            sys.settrace(count)
            try:
                txn.check(view, path, lambda put: None)
            finally:
                sys.settrace(before)
            return counted

        self.assertLess(lines(400), 5 * lines(100))


class PartsTests(SynchronousTestCase):
    """A request taken apart."""

    def test_above_the_budget(self) -> None:
        """What will be refused for its length is counted, not looked into, nested or not."""
        many = [op_put(b"a")] * 4
        self.assertEqual(4, len(txn.take_apart(TxnRequest(success=many), 4).success))
        for request, opened in (
            (TxnRequest(success=many), lambda parts: parts.success),
            (TxnRequest(failure=[op_txn(*many)]), lambda parts: parts.failure[0][1].success),
        ):
            operations = opened(txn.take_apart(request, 3))
            self.assertEqual(4, len(operations))
            self.assertIsInstance(operations[0], RequestOp)


class EffectTests(TxnCase):
    """What a transaction does, in order, at one revision."""

    def test_header_revisions(self) -> None:
        """Each response has the revision that its operation saw or made; the transaction that after all."""
        result = self.member.txn(
            op_range(b"a"),
            op_delete(b"x"),
            op_txn(op_range(b"b")),
            op_put(b"c"),
            op_range(b"c"),
            op_delete(b"x"),
            op_txn(op_delete(b"c")),
        )
        self.assertEqual(5, result.header.revision)
        inner = [
            response
            for outer in result.responses
            for response in (
                outer.response_txn.responses if outer.WhichOneof("response") == "response_txn" else [outer]
            )
        ]
        revisions = [getattr(each, each.WhichOneof("response") or "").header.revision for each in inner]
        self.assertEqual([4, 4, 4, 5, 5, 5, 5], revisions)
        nested = result.responses[2].response_txn
        self.assertTrue(nested.HasField("header"))
        self.assertEqual(b"", nested.header.SerializeToString())
        put = result.responses[3].response_put.header
        self.assertEqual((0, 0, 0), (put.cluster_id, put.member_id, put.raft_term))

    def test_nothing_changed(self) -> None:
        """Deleting what is not there uses no revision."""
        result = self.member.txn(op_delete(b"x"), op_txn(op_delete(b"y", b"\0")))
        self.assertEqual(4, result.header.revision)
        self.assertEqual(4, self.member.store.revision)

    def test_reads_see_earlier_writes(self) -> None:
        """A range sees what was written before it; one at an explicit revision what was then."""
        result = self.member.txn(
            op_put(b"a", b"new"),
            op_range(b"a"),
            op_range(b"a", revision=4),
            op_range(b"b", revision=3),
            op_delete(b"b", prev_kv=True),
            op_range(b"a", b"\0"),
            op_txn(op_put(b"b", b"again", prev_kv=True), op_range(b"b")),
        )
        found = [each.response_range for each in result.responses]
        self.assertEqual([b"new"], [item.value for item in found[1].kvs])
        self.assertEqual([b"1"], [item.value for item in found[2].kvs])
        self.assertEqual([b"1"], [item.value for item in found[3].kvs])
        self.assertEqual([b"2"], [item.value for item in result.responses[4].response_delete_range.prev_kvs])
        self.assertEqual((1, [b"a"]), (found[5].count, [item.key for item in found[5].kvs]))
        nested = result.responses[6].response_txn.responses
        self.assertFalse(nested[0].response_put.HasField("prev_kv"))
        self.assertEqual(
            (5, 1), (nested[1].response_range.kvs[0].create_revision, nested[1].response_range.kvs[0].version)
        )

    def test_sub_revisions(self) -> None:
        """Changes are numbered in the order they are made, a range's in key order."""
        self.member.txn(op_put(b"z"), op_txn(op_delete(b"a", b"c")), op_put(b"y"))
        last = [key for key in self.member.stack.stored() if key[:8] == (5).to_bytes(8, "big")]
        self.assertEqual([b"_" + sub.to_bytes(8, "big") for sub in range(4)], [key[8:17] for key in last])
        self.assertEqual([b"", b"t", b"t", b""], [key[17:] for key in last])

    def test_plain_puts(self) -> None:
        """Puts of nothing but a value are done at once, and it makes no difference."""
        nothing = op_delete(b"nobody")  # which is not, so this goes the long way
        for puts in ([], [op_put(b"b", b"3")], [op_put(b"c", b"1"), op_put(b"a", b"2"), op_put(b"d")]):
            short, long = Applying(), Applying()
            results = []
            for member, more in ((short, []), (long, [nothing])):
                member.put(b"a", b"1")
                results.append(
                    member.txn(*puts, *more, compare=[compare(Compare.VERSION, EQUAL, b"a", version=1)])
                )
            self.assertEqual(short.stack.stored(), long.stack.stored())
            self.assertEqual(short.stack.items(), long.stack.items())
            self.assertEqual(results[0].header, results[1].header)
            self.assertEqual(list(results[0].responses), list(results[1].responses)[: len(puts)])
            self.assertTrue(results[0].succeeded)

    def test_survives_a_restart(self) -> None:
        """Deleted and put again within one transaction, read back from the engine."""
        self.member.txn(op_delete(b"a", b"\0"), op_put(b"b", b"3"))
        before = self.member.stack.items()
        self.member.stack.restart()
        self.assertEqual(before, self.member.stack.items())


class ReadOnlyTests(TxnCase):
    """Transactions that need no log entry (reference, API 5.7)."""

    def test_which(self) -> None:
        """Only ranges, directly in both branches; a nested transaction never, even of ranges."""
        read, write = op_range(b"a"), op_put(b"a")
        for expected, success, failure in (
            (True, [], []),
            (True, [read], [read, read]),
            (False, [read, write], []),
            (False, [read], [op_delete(b"a")]),
            (False, [op_txn(read)], []),
        ):
            request = txn.take_apart(TxnRequest(success=success, failure=failure))
            self.assertEqual(expected, txn.is_read_only(request))

    def test_serializable(self) -> None:
        """Only if every range of both branches is; without any, it is."""
        local, read = op_range(b"a", serializable=True), op_range(b"a")
        for expected, success, failure in (
            (True, [], []),
            (True, [local], [local]),
            (False, [local], [read]),
        ):
            request = txn.take_apart(TxnRequest(success=success, failure=failure))
            self.assertEqual(expected, txn.is_serializable(request))

    def read(self, transaction: txn.Transaction) -> tuple[bool, list[bytes]]:
        view = self.member.store.read()
        try:
            return finish(txn.read(view, transaction))
        finally:
            view.end()

    def test_read(self) -> None:
        """It answers as a written one would, and is refused as one."""
        request = TxnRequest(
            compare=[compare(Compare.VALUE, EQUAL, b"a", value=b"1")],
            success=[op_range(b"a", b"\0", limit=1), op_range(b"b", revision=3)],
        )
        succeeded, results = self.read(txn.take_apart(request))
        self.assertTrue(succeeded)
        expected = self.member.txn(*request.success, compare=list(request.compare))
        self.assertEqual([each.SerializeToString() for each in expected.responses], results)
        future = txn.take_apart(TxnRequest(success=[op_range(b"a", revision=5)]))
        self.assertRaises(FutureRevisionError, self.read, future)
        self.member.compact(4)
        self.assertRaises(CompactedError, self.read, txn.take_apart(request))
