"""An image read from a file that nobody vouches for: metas, buckets, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twistedetcd.errors import SnapshotImageError
from twistedetcd.interfaces import IFile
from twistedetcd.schema import CONSISTENT_INDEX, IMAGE_BUCKETS, META
from twistedetcd.snap.bbolt.pages import BUCKET, BUCKET_FLAG, META_BYTES, Meta, Pair, decode_meta
from twistedetcd.snap.bbolt.trees import Trees

PAGE_SIZES: Final = tuple(512 << shift for shift in range(8))  # bbolt takes the operating system's
BUCKETS_MAX: Final = 64


class ImageFile:
    """
    A store as a bbolt file.  What follows its last page, such as a digest, is not looked at.

    Args:
        file: The file; it must not change.

    Attributes:
        size_bytes: The image's length; the file may be longer.
        page_bytes: The size of a page.
        buckets: The names of the buckets, ascending.
        consistent_index: Index of the last log entry that is in it; 0 if it does not say.

    Raises:
        SnapshotImageError: It is no image, is cut short, is damaged as far as that has been looked at, or
            lacks a bucket that etcd's have.
        OSError: The disk refused.
    """

    def __init__(self, file: IFile) -> None:
        self._file = file
        meta = self._newest_meta()
        self.page_bytes = meta.page_bytes
        self.size_bytes = meta.pages * meta.page_bytes
        if self.size_bytes > file.size():
            raise self._unfit(f"is cut short: {file.size()} of {self.size_bytes} bytes are there")
        self._trees = Trees(file, meta)
        self._buckets: dict[bytes, bytes] = {}
        for name, value in self._trees.pairs(meta.root, BUCKET_FLAG):
            if len(self._buckets) == BUCKETS_MAX:
                raise self._unfit(f"has more than {BUCKETS_MAX} buckets")
            self._buckets[name] = value
        for name in IMAGE_BUCKETS:
            if name not in self._buckets:
                raise self._unfit(f"lacks the bucket {name.decode()}")
        self.buckets = list(self._buckets)
        self.consistent_index = self._consistent_index()

    def pairs(self, bucket: bytes) -> Iterator[Pair]:
        """
        The keys and values of one of `buckets`, ascending, in bounded memory.

        Raises:
            SnapshotImageError: It is damaged; some pairs may have come before.
            OSError: The disk refused.
        """
        value = self._buckets[bucket]
        where = f"in the bucket {bucket.decode(errors='backslashreplace')}"
        if len(value) < BUCKET.size:
            raise self._trees.damaged(where, "its root is cut short")
        root, _ = BUCKET.unpack_from(value)
        return self._trees.pairs(root, 0) if root else self._trees.inline(where, value[BUCKET.size :])

    def check(self) -> None:
        """
        Read all of it.

        Raises:
            SnapshotImageError: It is damaged.
            OSError: The disk refused.
        """
        for bucket in self.buckets:
            for _ in self.pairs(bucket):
                pass

    def _newest_meta(self) -> Meta:
        """The second is one page after the first; if that is broken, the page's size is not known yet."""
        found: list[Meta] = []
        reason = ""
        for place in (0, *PAGE_SIZES):
            try:
                meta = decode_meta(self._file.read(place, META_BYTES))
                if meta.page_bytes not in PAGE_SIZES or place not in (0, meta.page_bytes):
                    raise ValueError(f"says that a page has {meta.page_bytes} bytes")
                if not 2 <= meta.root < meta.pages:
                    raise ValueError(f"says that its root is page {meta.root} of {meta.pages}")
            except ValueError as error:
                reason = reason or str(error)
            else:
                found.append(meta)
        if not found:
            raise self._unfit(f"is of no use: its meta {reason}")
        alike = [meta for meta in found if meta.page_bytes == found[0].page_bytes]
        return max(alike, key=lambda meta: meta.transaction)

    def _consistent_index(self) -> int:
        for key, value in self.pairs(META):
            if key == CONSISTENT_INDEX:
                if len(value) != 8:
                    raise self._unfit(f"has a consistent index of {len(value)} bytes, not 8")
                return int.from_bytes(value, "big")
        return 0

    def _unfit(self, reason: str) -> SnapshotImageError:
        return SnapshotImageError(f"the image {self._file.name} {reason}")
