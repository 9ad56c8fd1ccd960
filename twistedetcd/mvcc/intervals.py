"""
Ranges of keys, found by a key that is in them.

A search tree of the ranges by their starts, balanced as Adelson-Velsky and Landis did, in which each node
also knows the farthest end below it: a search leaves out whole branches that end before the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

Range = tuple[bytes, bytes]
"""The first key, and the first key beyond; the latter empty where there is no end."""


class _Node(Generic[T]):
    __slots__ = ("farthest", "height", "left", "range", "right", "value")

    def __init__(self, range: Range, value: T) -> None:
        self.range = range
        self.value = value
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None
        self.height = 1
        self.farthest = range[1]
        """The farthest end in this branch; empty where one has no end."""


class IntervalTree(Generic[T]):
    """A map from ranges to values."""

    def __init__(self) -> None:
        self._root: _Node[T] | None = None

    def __bool__(self) -> bool:
        return self._root is not None

    def __iter__(self) -> Iterator[T]:
        return _all(self._root)

    def get(self, range: Range) -> T | None:
        """The value of a range, or ``None``."""
        node = self._root
        while node is not None and node.range != range:
            node = node.left if range < node.range else node.right
        return None if node is None else node.value

    def add(self, range: Range, value: T) -> None:
        """Add a range that is not there yet."""
        self._root = _added(self._root, _Node(range, value))

    def remove(self, range: Range) -> None:
        """Take out a range that is there."""
        self._root = _removed(self._root, range)

    def holding(self, key: bytes) -> Iterator[T]:
        """The values of the ranges that ``key`` is in, by their starts."""
        return _holding(self._root, key)


def _holding(node: _Node[T] | None, key: bytes) -> Iterator[T]:
    # Going right in a loop: only a branch to the left takes a call of its own.
    while node is not None and (not node.farthest or key < node.farthest):
        if node.left is not None:
            yield from _holding(node.left, key)
        start, end = node.range
        if key < start:
            return
        if not end or key < end:
            yield node.value
        node = node.right


def _all(node: _Node[T] | None) -> Iterator[T]:
    while node is not None:
        yield from _all(node.left)
        yield node.value
        node = node.right


def _added(node: _Node[T] | None, new: _Node[T]) -> _Node[T]:
    if node is None:
        return new
    if new.range < node.range:
        node.left = _added(node.left, new)
    else:
        node.right = _added(node.right, new)
    return _balanced(node)


def _removed(node: _Node[T] | None, range: Range) -> _Node[T] | None:
    assert node is not None, "the range is not there"
    if range < node.range:
        node.left = _removed(node.left, range)
    elif range > node.range:
        node.right = _removed(node.right, range)
    elif node.left is None or node.right is None:
        return node.left or node.right
    else:
        following = node.right
        while following.left is not None:
            following = following.left
        following.right = _removed(node.right, following.range)
        following.left = node.left
        node = following
    return _balanced(node)


def _height(node: _Node[T] | None) -> int:
    return 0 if node is None else node.height


def _update(node: _Node[T]) -> None:
    """Say again what depends on what is below."""
    left, right = node.left, node.right
    node.height = 1 + max(_height(left), _height(right))
    ends = [node.range[1]]
    if left is not None:
        ends.append(left.farthest)
    if right is not None:
        ends.append(right.farthest)
    node.farthest = max(ends) if all(ends) else b""


def _balanced(node: _Node[T]) -> _Node[T]:
    """The branch, turned until its sides differ by at most one in height, as they did before one change."""
    lean = _height(node.left) - _height(node.right)
    if lean > 1:
        assert node.left is not None
        if _height(node.left.left) < _height(node.left.right):
            node.left = _turned_left(node.left)
        return _turned_right(node)
    if lean < -1:
        assert node.right is not None
        if _height(node.right.right) < _height(node.right.left):
            node.right = _turned_right(node.right)
        return _turned_left(node)
    _update(node)
    return node


def _turned_right(node: _Node[T]) -> _Node[T]:
    top = node.left
    assert top is not None
    node.left, top.right = top.right, node
    _update(node)
    _update(top)
    return top


def _turned_left(node: _Node[T]) -> _Node[T]:
    top = node.right
    assert top is not None
    node.right, top.left = top.left, node
    _update(node)
    _update(top)
    return top
