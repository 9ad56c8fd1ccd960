"""
Which records go into which page: trees are filled from the left, and a page is handed out once it is full.

What bbolt demands of a file that it is to write to later: a branch has two children at least, and a child's
key in its branch is the first key of that child.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from twistedetcd.snap.bbolt.pages import (
    BUCKET,
    BUCKET_FLAG,
    ELEMENT_BYTES,
    HEADER_BYTES,
    PAGE_BYTES,
    Pair,
    branch_content,
    leaf_content,
)

INLINE_BYTES_MAX: Final = PAGE_BYTES // 4  # as bbolt does it
CHILDREN_MIN: Final = 2


class Leaf(NamedTuple):
    """
    A leaf, and where it goes.

    Attributes:
        number: Its first page.
        size_bytes: Its length without the zeros at its end.
        elements: Its keys and values.
        flags: Of each element.
    """

    number: int
    size_bytes: int
    elements: list[Pair]
    flags: int

    def encode(self) -> bytes:
        """All its pages."""
        pages = _pages(self.size_bytes)
        return leaf_content(self.number, self.elements, self.flags, pages - 1).ljust(
            pages * PAGE_BYTES, b"\0"
        )


class Branch(NamedTuple):
    """
    A branch, and where it goes.

    Attributes:
        number: Its first page.
        size_bytes: Its length without the zeros at its end.
        elements: The first key and the page of each child.
    """

    number: int
    size_bytes: int
    elements: list[tuple[bytes, int]]

    def encode(self) -> bytes:
        """All its pages."""
        pages = _pages(self.size_bytes)
        content = branch_content(self.number, self.elements, pages - 1)
        return content.ljust(pages * PAGE_BYTES, b"\0")


Page: TypeAlias = Leaf | Branch


class Packing:
    """
    Hands out the pages of one file in the order of their numbers.

    Holds a few leaves, and for each level of the tree one branch.

    Args:
        first: The first page's number.

    Attributes:
        next: The number that the next page gets.
    """

    def __init__(self, first: int) -> None:
        self.next = first

    def bucket(self, pairs: Iterable[Pair]) -> Generator[Page, None, bytes]:
        """
        The pages of a bucket without buckets in it.

        Args:
            pairs: Its keys and values, ascending.

        Returns:
            The value that stands for it in the bucket that holds it.
        """
        leaves = _leaves(pairs)
        first = next(leaves, [])
        second = next(leaves, None)
        if second is None and _leaf_bytes(first) <= INLINE_BYTES_MAX:
            return BUCKET.pack(0, 0) + leaf_content(0, first)
        begin = [first] if second is None else [first, second]
        root = yield from self._tree(chain(begin, leaves), 0)
        return BUCKET.pack(root, 0)

    def root(self, buckets: Iterable[Pair]) -> Generator[Page, None, int]:
        """
        The pages of the bucket that holds the buckets; returns the number of its root.

        Args:
            buckets: The name of each, ascending, and the value that stands for it.
        """
        return (yield from self._tree(_leaves(buckets), BUCKET_FLAG))

    def _tree(self, leaves: Iterable[list[Pair]], flags: int) -> Generator[Page, None, int]:
        levels: list[_Level] = []
        for elements in leaves:
            size = _leaf_bytes(elements)
            number = self._number(size)
            yield Leaf(number, size, elements, flags)
            yield from self._grow(levels, 0, elements[0][0], number)
        height = 0
        while height + 1 < len(levels) or len(levels[height].children) > 1:
            for children in levels[height].rest():
                branch = self._branch(children)
                yield branch
                yield from self._grow(levels, height + 1, children[0][0], branch.number)
            height += 1
        return levels[height].children[0][1]

    def _grow(self, levels: list[_Level], height: int, key: bytes, number: int) -> Iterator[Page]:
        """A page is done: tell the branch above, which may thereby be done, too."""
        while True:
            if height == len(levels):
                levels.append(_Level())
            done = levels[height].add(key, number)
            if done is None:
                return
            branch = self._branch(done)
            yield branch
            key, number = done[0][0], branch.number
            height += 1

    def _branch(self, children: list[tuple[bytes, int]]) -> Branch:
        size = HEADER_BYTES + sum(ELEMENT_BYTES + len(key) for key, _ in children)
        return Branch(self._number(size), size, children)

    def _number(self, size: int) -> int:
        number = self.next
        self.next += _pages(size)
        return number


class _Level:
    """
    The branch that is being filled at one height.

    It is done only when there is enough for another one.  ``_full`` is how many children fit into it, once
    that is known; seven at least, for an engine's keys have 500 bytes at most.
    """

    def __init__(self) -> None:
        self.children: list[tuple[bytes, int]] = []
        self._bytes = HEADER_BYTES
        self._full = 0

    def add(self, key: bytes, number: int) -> list[tuple[bytes, int]] | None:
        """Add a child; returns the children of a branch that is done by that."""
        children = self.children
        self._bytes += ELEMENT_BYTES + len(key)
        if not self._full and self._bytes > PAGE_BYTES:
            self._full = len(children)
        children.append((key, number))
        if not self._full or len(children) - self._full < CHILDREN_MIN:
            return None
        done, self.children = children[: self._full], children[self._full :]
        self._bytes = HEADER_BYTES + sum(ELEMENT_BYTES + len(key) for key, _ in self.children)
        self._full = 0
        return done

    def rest(self) -> list[list[tuple[bytes, int]]]:
        """No more children come: the last branches, one or two."""
        if not self._full:
            return [self.children]
        return [self.children[:-CHILDREN_MIN], self.children[-CHILDREN_MIN:]]


def _leaves(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """
    Cut records into leaves.

    One that is larger than a page has a leaf to itself: values are never cut.
    """
    leaf: list[Pair] = []
    size = HEADER_BYTES
    for pair in pairs:
        more = ELEMENT_BYTES + len(pair[0]) + len(pair[1])
        size += more
        if size > PAGE_BYTES and leaf:
            yield leaf
            leaf = []
            size = HEADER_BYTES + more
        leaf.append(pair)
    if leaf:
        yield leaf


def _leaf_bytes(elements: list[Pair]) -> int:
    return HEADER_BYTES + sum(ELEMENT_BYTES + len(key) + len(value) for key, value in elements)


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES)
