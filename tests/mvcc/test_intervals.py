"""Ranges are found by a key that is in them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mvcc.model import inside
from twistedetcd.mvcc.intervals import IntervalTree, _height, _Node

keys = st.binary(min_size=1, max_size=2)
ranges = st.tuples(keys, st.one_of(st.just(b""), keys)).filter(
    lambda range: not range[1] or range[0] < range[1]
)


def check(node: _Node[int] | None) -> None:
    """The sides of each branch differ by one in height at most."""
    if node is not None:
        assert abs(_height(node.left) - _height(node.right)) <= 1
        check(node.left)
        check(node.right)


class IntervalTreeTests(SynchronousTestCase):
    """The tree against a dictionary."""

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(st.lists(st.tuples(ranges, st.booleans()), max_size=60), st.lists(keys, max_size=10))
    def test_holding(self, steps: list[tuple[tuple[bytes, bytes], bool]], wanted: list[bytes]) -> None:
        """Whatever was added and removed, exactly the ranges around a key are found, by their starts."""
        tree: IntervalTree[int] = IntervalTree()
        model: dict[tuple[bytes, bytes], int] = {}
        for number, (range, keep) in enumerate(steps):
            if range in model:
                tree.remove(range)
                del model[range]
            elif keep or not model:
                tree.add(range, number)
                model[range] = number
            else:
                gone = min(model)
                tree.remove(gone)
                del model[gone]
            check(tree._root)
        self.assertEqual(bool(model), bool(tree))
        self.assertEqual([model[range] for range in sorted(model)], list(tree))
        for key in wanted:
            expected = [value for range, value in sorted(model.items()) if inside(key, *range)]
            self.assertEqual(expected, list(tree.holding(key)))
        for range, value in model.items():
            self.assertEqual(value, tree.get(range))
        self.assertIsNone(tree.get((b"not there", b"")))

    def test_it_does_not_look_at_all(self) -> None:
        """A search in many ranges that do not overlap looks into a few."""
        tree: IntervalTree[int] = IntervalTree()
        for number in range(1 << 12):
            tree.add((number.to_bytes(2, "big"), number.to_bytes(2, "big") + b"\0"), number)
        looked = 0
        original = _Node.__dict__["farthest"]

        class Counting(_Node[int]):
            __slots__ = ()

            @property
            def farthest(self) -> bytes:  # type: ignore[override]
                nonlocal looked
                looked += 1
                end: bytes = original.__get__(self)
                return end

        nodes = [tree._root]
        while nodes:
            node = nodes.pop()
            if node is not None:
                nodes += [node.left, node.right]
                node.__class__ = Counting  # type: ignore[assignment]
        self.assertEqual([77], list(tree.holding((77).to_bytes(2, "big"))))
        self.assertLess(looked, 60)
