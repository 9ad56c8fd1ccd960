"""
The bytes of bbolt's pages, version 2 of the format: little-endian, as on every machine we meet.

A file is an array of pages of one size.  A *logical page* has one header and may run on over the pages that
follow (its *overflow*).  Two *metas* come first; the rest are *leaves*, with keys and values, and *branches*,
with the first key and the number of each child.  A *bucket* is a tree of them, or, if it is small, a leaf
without a page of its own, inside the value that stands for the bucket (*inline*).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct, pack
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096  # of the images that we make
BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04

PAGE_HEADER: Final = Struct("<QHHI")  # number, flags, count of elements, overflow
HEADER_BYTES: Final = 16
ELEMENT_BYTES: Final = (
    16  # a header of each; of a leaf's: flags, position, key's size, value's size, each u32
)
BUCKET_FLAG: Final = 1  # of a leaf's element: the value is a bucket

BUCKET: Final = Struct("<QQ")  # root page, or 0 if the bucket is inline; a counter, which etcd does not use

_META: Final = Struct("<IIIIQQQQQ")  # then a checksum of it
_CHECKSUM: Final = Struct("<Q")
META_BYTES: Final = HEADER_BYTES + _META.size + _CHECKSUM.size
_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_NO_FREELIST: Final = 2**64 - 1  # as etcd on Linux: what no tree reaches is free

Pair = tuple[bytes, bytes]


class Meta(NamedTuple):
    """
    What the rest of the file hangs from.

    Attributes:
        page_bytes: The size of a page.
        root: The page of the bucket that holds the buckets.
        pages: How many there are.  bbolt calls it the high-water mark.
        transaction: The newer of two metas has the higher one.
    """

    page_bytes: int
    root: int
    pages: int
    transaction: int


def encode_meta(number: int, meta: Meta) -> bytes:
    """A whole page of a meta; ``number`` is 0 or 1."""
    fields = (meta.root, 0, _NO_FREELIST, meta.pages, meta.transaction)
    body = _META.pack(_MAGIC, _VERSION, meta.page_bytes, 0, *fields)
    page = PAGE_HEADER.pack(number, META, 0, 0) + body + _CHECKSUM.pack(fnv1a(body))
    return page.ljust(meta.page_bytes, b"\0")


def decode_meta(data: bytes) -> Meta:
    """
    Read a meta from the first bytes of its page.

    Raises:
        ValueError: It is none; the text completes "its meta ...".
    """
    if len(data) < META_BYTES:
        raise ValueError("is cut short")
    body = data[HEADER_BYTES : HEADER_BYTES + _META.size]
    magic, version, page_bytes, _, root, _, _, pages, transaction = _META.unpack(body)
    if magic != _MAGIC:
        raise ValueError("does not have bbolt's magic number")
    if version != _VERSION:
        raise ValueError(f"says that the format is version {version}, not {_VERSION}")
    if _CHECKSUM.unpack_from(data, HEADER_BYTES + _META.size) != (fnv1a(body),):
        raise ValueError("does not match its checksum")
    return Meta(page_bytes, root, pages, transaction)


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a checksum."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def leaf_content(number: int, pairs: Sequence[Pair], flags: int = 0, overflow: int = 0) -> bytes:
    """
    A leaf without the zeros at its end.

    Args:
        number: Its page; 0 for one that is inline.
        pairs: Its keys and values, ascending.
        flags: Of every element.
        overflow: Pages that it needs beyond the first.
    """
    fields: list[int] = []
    position = ELEMENT_BYTES * len(pairs)  # of the key, as seen from its element's header
    for key, value in pairs:
        fields += (flags, position, len(key), len(value))
        position += len(key) + len(value) - ELEMENT_BYTES
    header = PAGE_HEADER.pack(number, LEAF, len(pairs), overflow)
    return b"".join((header, pack(f"<{len(fields)}I", *fields), *chain.from_iterable(pairs)))


def branch_content(number: int, children: Sequence[tuple[bytes, int]], overflow: int = 0) -> bytes:
    """
    A branch without the zeros at its end.

    Args:
        number: Its page.
        children: The first key and the page of each child, ascending.
        overflow: Pages that it needs beyond the first.
    """
    fields: list[int] = []
    position = ELEMENT_BYTES * len(children)
    for key, child in children:
        fields += (position, len(key), child & 0xFFFFFFFF, child >> 32)
        position += len(key) - ELEMENT_BYTES
    header = PAGE_HEADER.pack(number, BRANCH, len(children), overflow)
    return b"".join((header, pack(f"<{len(fields)}I", *fields), *[key for key, _ in children]))
