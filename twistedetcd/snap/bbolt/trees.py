"""
The trees of a file that may be damaged, or made by somebody who means harm, walked in bounded memory.

Pages have no checksum.  What stands for it are the rules that all writers of bbolt keep: every page knows its
number, the elements of a page lie one behind the other without a gap, the leaves of a tree are at one depth,
and keys ascend, within the bounds that the branches above them say.  So no walk meets a page twice, and the
length of the file bounds the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import unpack_from
from typing import Final, NamedTuple, Protocol

from twistedetcd.errors import SnapshotImageError
from twistedetcd.interfaces import IFile
from twistedetcd.snap.bbolt.pages import BRANCH, ELEMENT_BYTES, HEADER_BYTES, LEAF, PAGE_HEADER, Meta, Pair

DEPTH_MAX: Final = 32
BRANCH_BYTES_MAX: Final = 1024 * 1024
LEAF_BYTES_WHOLE_MAX: Final = 2 * 1024 * 1024  # a longer leaf is read record by record
KEY_BYTES_MAX: Final = 500  # as `IBackend` takes them
VALUE_BYTES_MAX: Final = 256 * 1024 * 1024
_FIRST: Final = 2  # page, after the metas


class _Bytes(Protocol):
    """What a page's content is cut from."""

    def __getitem__(self, part: slice, /) -> bytes: ...


class _Page(NamedTuple):
    """
    A logical page.

    Attributes:
        where: What to call it in an error.
        flags: `LEAF` or `BRANCH`.
        elements: How many it has.
        fields: Their headers, four numbers each.
        size_bytes: Its length, header and zeros included.
        content: All of it.
    """

    where: str
    flags: int
    elements: int
    fields: tuple[int, ...]
    size_bytes: int
    content: _Bytes


class _Child(NamedTuple):
    """A page as the branch above describes it: its keys are from ``low`` on and, if given, below ``high``."""

    number: int
    low: bytes = b""
    high: bytes | None = None


class Trees:
    """
    The trees of a file.

    Memory: `DEPTH_MAX` branches, and `LEAF_BYTES_WHOLE_MAX` or the largest value.

    Args:
        file: The file; at least as long as the meta says.
        meta: How long that is, and in which pages.
    """

    def __init__(self, file: IFile, meta: Meta) -> None:
        self._file = file
        self._page_bytes = meta.page_bytes
        self._pages = meta.pages

    def pairs(self, root: int, flag: int) -> Iterator[Pair]:
        """
        The keys and values of a tree, ascending.

        Args:
            root: Its page.
            flag: That of every element.

        Raises:
            SnapshotImageError: It is damaged, or beyond a limit of this module; pairs may have come before.
            OSError: The disk refused.
        """
        path: list[Iterator[_Child]] = [iter([_Child(root)])]
        depth = 0  # of the leaves
        while path:
            child = next(path[-1], None)
            if child is None:
                path.pop()
                continue
            page = self._page(child.number)
            if not page.elements and (page.flags == BRANCH or len(path) > 1):
                raise self.damaged(page.where, "it is empty")
            if page.flags == BRANCH:
                if len(path) == DEPTH_MAX:
                    raise self.damaged(page.where, f"it is {DEPTH_MAX} levels below the root")
                path.append(self._children(page, child))
                continue
            if depth not in (0, len(path)):
                raise self.damaged(page.where, "it is at another depth than the leaves before")
            depth = len(path)
            yield from self._elements(page, child, flag)

    def inline(self, where: str, content: bytes) -> Iterator[Pair]:
        """
        The keys and values of a bucket that has no page.

        Args:
            where: What to call it in an error.
            content: What is there for a page.

        Raises:
            SnapshotImageError: As for `pairs`.
        """
        if len(content) < HEADER_BYTES:
            raise self.damaged(where, "its leaf is cut short")
        _, flags, elements, _ = PAGE_HEADER.unpack_from(content)
        if flags != LEAF:
            raise self.damaged(where, f"it is no leaf: its flags are {flags:#x}")
        page = self._parsed(where, flags, elements, content, len(content), content)
        needed = HEADER_BYTES + ELEMENT_BYTES * elements + sum(page.fields[2::4]) + sum(page.fields[3::4])
        if needed != len(content):
            raise self.damaged(where, "its elements do not fill it")
        return self._elements(page, _Child(0), 0)

    def _elements(self, page: _Page, bounds: _Child, flag: int) -> Iterator[Pair]:
        """The keys and values of a leaf."""
        flags, positions, key_sizes, value_sizes = (page.fields[at::4] for at in range(4))
        if {*flags} - {flag}:
            raise self.damaged(page.where, "what should be a value is a bucket, or the other way round")
        if max(value_sizes, default=0) > VALUE_BYTES_MAX:
            raise self.damaged(page.where, f"a value has more than {VALUE_BYTES_MAX} bytes")
        sizes = [key_size + value_size for key_size, value_size in zip(key_sizes, value_sizes, strict=True)]
        start = self._first_key(page, positions, sizes, key_sizes, bounds)
        content, previous = page.content, b""
        for key_size, value_size in zip(key_sizes, value_sizes, strict=True):
            middle = start + key_size
            key = content[start:middle]
            if key <= previous:
                raise self._out_of_order(page, key)
            start = middle + value_size
            yield key, content[middle:start]
            previous = key
        if bounds.high is not None and previous >= bounds.high:
            raise self._out_of_order(page, previous)

    def _children(self, page: _Page, bounds: _Child) -> Iterator[_Child]:
        """The children of a branch."""
        positions, key_sizes, numbers, numbers_high = (page.fields[at::4] for at in range(4))
        start = self._first_key(page, positions, key_sizes, key_sizes, bounds)
        child: _Child | None = None
        for key_size, number, number_high in zip(key_sizes, numbers, numbers_high, strict=True):
            key = page.content[start : start + key_size]
            start += key_size
            if child is not None:
                if key <= child.low:
                    raise self._out_of_order(page, key)
                yield child._replace(high=key)
            child = _Child(number | number_high << 32, key)
        assert child is not None, "an empty branch has been refused"
        yield child._replace(high=bounds.high)

    def _first_key(
        self,
        page: _Page,
        positions: Sequence[int],
        sizes: Sequence[int],
        key_sizes: Sequence[int],
        bounds: _Child,
    ) -> int:
        """Check where a page's elements are, and its first key; returns the place of that."""
        start = HEADER_BYTES + ELEMENT_BYTES * page.elements
        expected = start - HEADER_BYTES
        for position, size in zip(positions, sizes, strict=True):
            if position != expected:
                raise self.damaged(page.where, "its elements do not follow each other")
            expected += size - ELEMENT_BYTES
        if start + sum(sizes) > page.size_bytes:
            raise self.damaged(page.where, f"its elements need more than its {page.size_bytes} bytes")
        for size in (min(key_sizes, default=1), max(key_sizes, default=1)):
            if not 1 <= size <= KEY_BYTES_MAX:
                raise self.damaged(page.where, f"a key has {size} bytes, not 1 to {KEY_BYTES_MAX}")
        if page.elements:
            first = page.content[start : start + key_sizes[0]]
            if first < bounds.low:
                raise self._out_of_order(page, first)
        return start

    # Pages.

    def _page(self, number: int) -> _Page:
        where = f"at page {number}"
        if not _FIRST <= number < self._pages:
            raise self.damaged(where, f"there are {self._pages} pages, of which the first two are metas")
        at = number * self._page_bytes
        start = self.read(where, at, self._page_bytes)
        found, flags, elements, overflow = PAGE_HEADER.unpack_from(start)
        if found != number:
            raise self.damaged(where, f"it says that it is page {found}")
        if flags not in (LEAF, BRANCH):
            raise self.damaged(where, f"it is neither leaf nor branch: its flags are {flags:#x}")
        if number + overflow >= self._pages:
            raise self.damaged(where, f"its {overflow} further pages go beyond the end")
        size = (overflow + 1) * self._page_bytes
        if flags == BRANCH and size > BRANCH_BYTES_MAX:
            raise self.damaged(where, f"a branch of {size} bytes is beyond {BRANCH_BYTES_MAX}")
        if size > LEAF_BYTES_WHOLE_MAX:
            headers = self.read(where, at, HEADER_BYTES + ELEMENT_BYTES * elements)
            content = _Pieces(self, where, at)
            return self._parsed(where, flags, elements, headers, size, content)
        if overflow:
            start = self.read(where, at, size)
        return self._parsed(where, flags, elements, start, size, start)

    def _parsed(
        self, where: str, flags: int, elements: int, headers: bytes, size: int, content: _Bytes
    ) -> _Page:
        if HEADER_BYTES + ELEMENT_BYTES * elements > len(headers):
            raise self.damaged(where, f"it has no room for {elements} elements")
        fields = unpack_from(f"<{4 * elements}I", headers, HEADER_BYTES)
        return _Page(where, flags, elements, fields, size, content)

    def read(self, where: str, offset: int, length: int) -> bytes:
        """Bytes that are there, if the file is as long as it was."""
        data = self._file.read(offset, length)
        if len(data) != length:
            raise self.damaged(where, "the file ends in it")
        return data

    # What is wrong.

    def _out_of_order(self, page: _Page, key: bytes) -> SnapshotImageError:
        return self.damaged(page.where, f"the key {key.hex()} is out of order")

    def damaged(self, where: str, reason: str) -> SnapshotImageError:
        """The error to raise."""
        return SnapshotImageError(f"the image {self._file.name} is damaged {where}: {reason}")


class _Pieces:
    """The content of a page that is too long to be read whole."""

    def __init__(self, trees: Trees, where: str, offset: int) -> None:
        self._trees = trees
        self._where = where
        self._offset = offset

    def __getitem__(self, part: slice) -> bytes:
        return self._trees.read(self._where, self._offset + part.start, part.stop - part.start)
