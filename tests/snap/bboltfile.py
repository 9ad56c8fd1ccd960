"""Images of stores for tests; and what is where in one, found without the code under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from struct import unpack_from

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.files.simulated import SimulatedFile, SimulatedFiles
from twistedetcd.interfaces import IBackend
from twistedetcd.mvcc.work import finish
from twistedetcd.schema import CONSISTENT_INDEX, META
from twistedetcd.snap.bbolt.pages import Meta, encode_meta
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.snap.bbolt.writing import measure

Content = Mapping[bytes, Mapping[bytes, bytes]]
INDEX = 0x1234
MARK = {CONSISTENT_INDEX: INDEX.to_bytes(8, "big")}


def backend_of(content: Content) -> MemoryBackend:
    """A backend that has this, and nothing else."""
    backend = MemoryBackend()
    backend.write(content)
    return backend


def stored(backend: IBackend) -> dict[bytes, dict[bytes, bytes]]:
    """All that a backend has, without buckets that are empty."""
    view = backend.read()
    try:
        found = {bucket: dict(view.range(bucket, b"", None)) for bucket in view.buckets()}
    finally:
        view.close()
    return {bucket: pairs for bucket, pairs in found.items() if pairs}


def image_of(content: Content) -> bytes:
    """The image of a store."""
    view = backend_of(content).read()
    return b"".join(finish(measure(view)).chunks())


def file_of(data: bytes) -> SimulatedFile:
    """A file with these bytes."""
    file = SimulatedFiles(Random(1)).open("image", create=True)
    file.write(0, data)
    return file


def read(data: bytes) -> dict[bytes, dict[bytes, bytes]]:
    """All that an image has."""
    image = ImageFile(file_of(data))
    return {bucket: dict(image.pairs(bucket)) for bucket in image.buckets}


def by_hand(pages: Sequence[bytes], page_bytes: int = 4096) -> bytes:
    """A file of pages that were made by hand, from page 2 on; the last one is the root."""
    padded = [page.ljust(-(-len(page) // page_bytes) * page_bytes, b"\0") for page in pages]
    total = 2 + sum(map(len, padded)) // page_bytes
    meta = Meta(page_bytes, total - len(padded[-1]) // page_bytes, total, 2)
    return encode_meta(0, meta) + encode_meta(1, meta._replace(transaction=1)) + b"".join(padded)


@dataclass
class Anatomy:
    """
    What is where in an image with pages of 4096 bytes; raises `AssertionError` where bbolt could not go on.

    Attributes:
        loose: One for each byte: not 0 where a change may go unnoticed, since nothing contradicts it.  That
            is the content of records, the names of buckets, and what `sizes` has.
        sizes: Where the sizes of each leaf's last record are, and the root of each bucket.
        branches: The number of children of each branch.
        pages: Those that the trees reach.
    """

    data: bytes
    loose: bytearray = field(default_factory=bytearray)
    sizes: set[int] = field(default_factory=set)
    branches: list[int] = field(default_factory=list)
    pages: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.loose.extend(bytes(len(self.data)))
        root, pages = unpack_from("<Q", self.data, 32)[0], unpack_from("<Q", self.data, 56)[0]
        for at, length in self._tree(root, True):
            [bucket] = unpack_from("<Q", self.data, at)
            self.sizes.update(range(at, at + 8))
            if bucket:
                assert length == 16
                self._tree(bucket, True)
            else:
                assert length <= 16 + 1024
                self._leaf(at + 16)
        for at in self.sizes:
            self.loose[at] = 1
        assert self.pages == set(range(2, pages)), "each page is in one tree, and in no other"
        assert len(self.data) == pages * 4096

    def _tree(self, number: int, is_root: bool) -> list[tuple[int, int]]:
        """Where the values of a tree are."""
        at = number * 4096
        found, flags, count, overflow = unpack_from("<QHHI", self.data, at)
        assert found == number
        pages = set(range(number, number + overflow + 1))
        assert not pages & self.pages, "no page is in two trees"
        self.pages |= pages
        if flags == 2:
            assert count or is_root
            values, end = self._leaf(at)
        else:
            assert flags == 1
            assert count >= 2, "bbolt cannot delete from a branch with one child"
            self.branches.append(count)
            values = []
            for element in range(at + 16, at + 16 + 16 * count, 16):
                position, size, child = unpack_from("<IIQ", self.data, element)
                key = self.data[element + position : element + position + size]
                assert key == self.first_key(child), "bbolt finds a child by its first key"
                values += self._tree(child, False)
                end = element + position + size
        assert overflow == -(-(end - at) // 4096) - 1, "as many pages as it needs"
        assert not any(self.data[end : at + 4096 * (overflow + 1)]), "zeros up to the end"
        return values

    def _leaf(self, at: int) -> tuple[list[tuple[int, int]], int]:
        _, flags, count, _ = unpack_from("<QHHI", self.data, at)
        assert flags == 2
        values, end = [], at + 16
        for element in range(at + 16, at + 16 + 16 * count, 16):
            _, position, key_size, value_size = unpack_from("<IIII", self.data, element)
            start = element + position
            end = start + key_size + value_size
            self.loose[start:end] = b"\1" * (end - start)
            values.append((start + key_size, value_size))
        if count:
            self.sizes.update(range(element + 8, element + 16))
        return values, end

    def first_key(self, number: int) -> bytes:
        """Of a page."""
        at = number * 4096 + 16
        leaf = self.data[number * 4096 + 8] == 2
        position, size = unpack_from("<II", self.data, at + 4 * leaf)
        return self.data[at + position : at + position + size]


SMALL: Content = {
    b"cluster": {b"clusterVersion": b"3.6.0"},
    b"key": {b"%017d" % number: b"value of %d" % number for number in range(400)},
    b"lease": {b"%08d" % number: b"l" * 40 for number in range(30)},
    META: MARK,
}
