"""
An image of a store, made from a view of any engine.

The metas come first and say how long the image is and where its root is, so the view is gone through twice:
once to see which record will be in which page, and once for the bytes.  Nothing is kept in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from twistedetcd.interfaces import Batch, IReadTransaction, Work
from twistedetcd.schema import IMAGE_BUCKETS, INSTALLING, META
from twistedetcd.snap.bbolt.packing import Packing, Page
from twistedetcd.snap.bbolt.pages import PAGE_BYTES, Meta, Pair, encode_meta

SLICE_RECORDS: Final = 2000  # looked at in one slice
SLICE_BYTES: Final = 256 * 1024  # likewise
CHUNK_BYTES: Final = 64 * 1024
_FIRST: Final = 2  # page, after the metas


class Image:
    """
    A store as a bbolt file; made by `measure`.

    It has all buckets of the view and those that etcd expects.  Reading it reads the view, in that one's
    thread; the view must stay as it is.

    Attributes:
        size_bytes: How long it is.
    """

    def __init__(self, view: IReadTransaction, changes: Batch, pages: int, root: int) -> None:
        self._view = view
        self._changes = changes
        self._pages = pages
        self._root = root
        self.size_bytes = pages * PAGE_BYTES

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """
        All its bytes, in pieces of ``chunk_bytes`` and a smaller last one.

        To make one takes the time of a slice of work.  May be called again, and gives the same.
        """
        # A commit writes one meta and leaves the other as it was; the newer one has the higher transaction.
        buffer = bytearray()
        for number, transaction in ((0, 2), (1, 1)):
            buffer += encode_meta(number, Meta(PAGE_BYTES, self._root, self._pages, transaction))
        packing = Packing(_FIRST)
        for page in _pages(self._view, self._changes, packing):
            buffer += page.encode()
            while len(buffer) >= chunk_bytes:
                yield bytes(buffer[:chunk_bytes])
                del buffer[:chunk_bytes]
        assert packing.next == self._pages, "a view never changes"
        if buffer:
            yield bytes(buffer)


def measure(view: IReadTransaction, changes: Batch | None = None) -> Work[Image]:
    """
    See how long the image of a store will be.

    Args:
        view: The store; not one that is half replaced, see `twistedetcd.snap.install`.
        changes: What the image has other than the view has it.

    Returns:
        The image.
    """
    assert view.get(META, INSTALLING) is None, "half a store has no image"
    changed = {} if changes is None else changes
    packing = Packing(_FIRST)
    root = records = size = 0
    for page in _pages(view, changed, packing):
        root = page.number
        records += len(page.elements)
        size += page.size_bytes
        if records >= SLICE_RECORDS or size >= SLICE_BYTES:
            yield
            records = size = 0
    return Image(view, changed, packing.next, root)


def _pages(view: IReadTransaction, changes: Batch, packing: Packing) -> Iterator[Page]:
    """All pages after the metas; the last one is the root."""
    buckets: list[Pair] = []
    for name in sorted({*IMAGE_BUCKETS, *view.buckets(), *changes}):
        pairs = _changed(view.range(name, b"", None), changes.get(name, {}))
        buckets.append((name, (yield from packing.bucket(pairs))))
    yield from packing.root(buckets)


def _changed(pairs: Iterator[Pair], changes: Mapping[bytes, bytes | None]) -> Iterator[Pair]:
    """A bucket's records with some put or, by ``None``, deleted."""
    waiting = sorted(changes.items(), reverse=True)
    for key, value in pairs:
        while waiting and waiting[-1][0] < key:
            yield from _there(waiting.pop())
        if waiting and waiting[-1][0] == key:
            yield from _there(waiting.pop())
        else:
            yield key, value
    for change in reversed(waiting):
        yield from _there(change)


def _there(change: tuple[bytes, bytes | None]) -> Iterator[Pair]:
    key, value = change
    if value is not None:
        yield key, value
