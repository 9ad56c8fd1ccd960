"""Ranges: limit, filters, order, count (reference, API 2)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.apply.applying import Applying
from twistedetcd.apply.ranges import find, interval_end
from twistedetcd.apply.responses import range_response
from twistedetcd.errors import CompactedError, FutureRevisionError
from twistedetcd.mvcc.work import Pace, finish
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import RangeRequest, RangeResponse

NONE, ASCEND, DESCEND = RangeRequest.NONE, RangeRequest.ASCEND, RangeRequest.DESCEND
TARGETS = {
    RangeRequest.KEY: "key",
    RangeRequest.VERSION: "version",
    RangeRequest.CREATE: "create_revision",
    RangeRequest.MOD: "mod_revision",
    RangeRequest.VALUE: "value",
}
numbers = st.one_of(st.just(0), st.integers(-2, 12))


class RangeCase(SynchronousTestCase):
    """c=3 (2), a=1 (3), b=2 (4), d=1 (5), a=4 (6), d=1 (7)."""

    def setUp(self) -> None:
        self.member = Applying()
        for key, value in (
            (b"c", b"3"),
            (b"a", b"1"),
            (b"b", b"2"),
            (b"d", b"1"),
            (b"a", b"4"),
            (b"d", b"1"),
        ):
            self.member.put(key, value)

    def find(self, key: bytes = b"\0", range_end: bytes = b"\0", **fields: Any) -> tuple[str, bool, int]:
        """The keys found, side by side; whether there are more; the count."""
        request = RangeRequest(key=key, range_end=range_end, **fields)
        kvs, more, count = self.found(request)
        return b"".join(item.key for item in kvs).decode(), more, count

    def found(self, request: RangeRequest) -> tuple[list[KeyValue], bool, int]:
        """The records, whether there are more, and the count."""
        view = self.member.store.read()
        try:
            found = finish(find(view, request, Pace()))
        finally:
            view.end()
        response = RangeResponse.FromString(range_response(b"", *found))
        return list(response.kvs), response.more, response.count


class BoundsTests(RangeCase):
    """Which keys."""

    def test_ends(self) -> None:
        """No end is one key, a zero byte all from the key on; an end at or below the key is nothing."""
        self.assertEqual([None, b"", b"x"], [interval_end(end) for end in (b"", b"\0", b"x")])
        self.assertEqual(("b", False, 1), self.find(b"b", b""))
        self.assertEqual(("", False, 0), self.find(b"bb", b""))
        self.assertEqual(("bc", False, 2), self.find(b"b", b"d"))
        self.assertEqual(("cd", False, 2), self.find(b"c"))
        self.assertEqual(("abcd", False, 4), self.find())
        self.assertEqual(("", False, 0), self.find(b"c", b"b"))
        self.assertEqual(("", False, 0), self.find(b"c", b"c"))

    def test_revisions(self) -> None:
        """Zero and negative ones are the current one; the compact revision itself can be read."""
        self.assertEqual(("abcd", False, 4), self.find(revision=-5))
        self.assertEqual(("ac", False, 2), self.find(revision=3))
        self.assertEqual(("", False, 0), self.find(revision=1))
        self.assertRaises(FutureRevisionError, self.find, revision=8)
        self.member.compact(4)
        self.assertEqual(("abc", False, 3), self.find(revision=4))
        for fields in ({}, {"count_only": True}, {"limit": 1}):
            self.assertRaises(CompactedError, self.find, revision=3, **fields)


class LimitTests(RangeCase):
    """How many."""

    def test_limit(self) -> None:
        """There are more if there were more than the limit; the count does not mind it."""
        self.assertEqual(("ab", True, 4), self.find(limit=2))
        self.assertEqual(("abc", True, 4), self.find(limit=3))
        for limit in (4, 5, 0, -1, 2**63 - 1, 2**63 - 2, -(2**63)):
            self.assertEqual(("abcd", False, 4), self.find(limit=limit))
        self.assertEqual(("a", True, 2), self.find(limit=1, revision=3))

    def test_count_only(self) -> None:
        """Only the count: no limit, filter or order has any effect."""
        self.assertEqual(("", False, 4), self.find(count_only=True))
        fields = {"limit": 1, "min_mod_revision": 100, "sort_order": DESCEND, "keys_only": True}
        self.assertEqual(("", False, 4), self.find(count_only=True, **fields))
        self.assertEqual(("", False, 2), self.find(count_only=True, revision=3))
        self.assertEqual(("", False, 1), self.find(b"a", b"", count_only=True))

    def test_keys_only(self) -> None:
        """Everything but the value, and the order is still by real values."""
        request = RangeRequest(key=b"a", keys_only=True)
        [item], _, _ = self.found(request)
        self.assertEqual(KeyValue(key=b"a", create_revision=3, mod_revision=6, version=2), item)
        fields = {"sort_order": DESCEND, "sort_target": RangeRequest.VALUE}
        self.assertEqual(("acbd", False, 4), self.find(keys_only=True, **fields))


class OrderTests(RangeCase):
    """In which order."""

    def test_targets(self) -> None:
        """Every target, both ways; ties keep key order, descending too."""
        for target, ascending, descending in (
            (RangeRequest.KEY, "abcd", "dcba"),
            (RangeRequest.VERSION, "bcad", "adbc"),
            (RangeRequest.CREATE, "cabd", "dbac"),
            (RangeRequest.MOD, "cbad", "dabc"),
            (RangeRequest.VALUE, "dbca", "acbd"),
        ):
            self.assertEqual(ascending, self.find(sort_order=ASCEND, sort_target=target)[0])
            self.assertEqual(descending, self.find(sort_order=DESCEND, sort_target=target)[0])
            self.assertEqual(ascending, self.find(sort_order=NONE, sort_target=target)[0])

    def test_limit_and_order(self) -> None:
        """An explicit order is made before the limit cuts; without one the limit cuts in key order first."""
        target = RangeRequest.CREATE
        self.assertEqual(("ca", True, 4), self.find(sort_order=ASCEND, sort_target=target, limit=2))
        self.assertEqual(("db", True, 4), self.find(sort_order=DESCEND, sort_target=target, limit=2))
        # limit + 1 keys are taken, a b and c, then sorted, then cut.
        self.assertEqual(("ca", True, 4), self.find(sort_target=target, limit=2))
        self.assertEqual(("a", True, 4), self.find(sort_target=target, limit=1))


class FilterTests(RangeCase):
    """Those that changed, or were made, within bounds."""

    def test_filters(self) -> None:
        """Bounds are inclusive; the count does not mind them; a negative maximum leaves nothing."""
        self.assertEqual(("ad", False, 4), self.find(min_mod_revision=6))
        self.assertEqual(("bc", False, 4), self.find(max_mod_revision=4))
        self.assertEqual(("bd", False, 4), self.find(min_create_revision=4))
        self.assertEqual(("ac", False, 4), self.find(max_create_revision=3))
        self.assertEqual(("a", False, 4), self.find(min_mod_revision=6, max_create_revision=4))
        self.assertEqual(("", False, 4), self.find(max_mod_revision=-1))
        self.assertEqual(("abcd", False, 4), self.find(min_mod_revision=-1))

    def test_limit_after_filters(self) -> None:
        """There are more if more than the limit passed the filter."""
        self.assertEqual(("a", True, 4), self.find(min_mod_revision=6, limit=1))
        self.assertEqual(("ad", False, 4), self.find(min_mod_revision=6, limit=2))
        self.assertEqual(("d", False, 4), self.find(min_mod_revision=7, limit=1))

    @settings(derandomize=True, deadline=None, database=None, max_examples=200)
    @given(
        limit=st.integers(-1, 5),
        order=st.sampled_from([NONE, ASCEND, DESCEND]),
        target=st.sampled_from(list(TARGETS)),
        revision=st.integers(0, 7),
        bounds=st.tuples(numbers, numbers, numbers, numbers),
    )
    def test_all_together(
        self, limit: int, order: Any, target: Any, revision: int, bounds: tuple[int, int, int, int]
    ) -> None:
        """Against the rules, written down plainly."""
        items = self.member.stack.items(revision=revision)
        count = len(items)
        names = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")
        fields = dict(zip(names, bounds, strict=True))
        if not any(bounds) and order == NONE and limit > 0:
            items = items[: limit + 1]
        for name, bound in fields.items():
            side, what = name.split("_", 1)
            if bound:
                items = [
                    each
                    for each in items
                    if (getattr(each, what) >= bound if side == "min" else getattr(each, what) <= bound)
                ]
        items.sort(key=lambda each: getattr(each, TARGETS[target]), reverse=order == DESCEND)
        more = 0 < limit < len(items)
        expected = b"".join(each.key for each in (items[:limit] if more else items)).decode()
        found = self.find(limit=limit, sort_order=order, sort_target=target, revision=revision, **fields)
        self.assertEqual((expected, more, count), found)
