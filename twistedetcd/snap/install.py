"""
A store replaced by an image, in batches of which each is durable before the next.

While that lasts the store is half the one and half the other.  So the first batch marks it, and the last one,
which brings the consistent index, takes the mark away: whoever opens a marked store must install the image
again from the beginning before anything reads from it.  Until then the image's file must be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from twistedetcd.errors import BackendError, SnapshotImageError
from twistedetcd.interfaces import IBackend, IReadTransaction, Work
from twistedetcd.schema import INSTALLING, META
from twistedetcd.snap.bbolt.pages import Pair
from twistedetcd.snap.bbolt.reading import ImageFile

OPERATIONS_MAX: Final = 10_000  # of a batch
BYTES_MAX: Final = 4 * 1024 * 1024  # of a batch; a larger value has one to itself


def installing(view: IReadTransaction) -> int | None:
    """
    Whether a store is half replaced.

    Returns:
        The index of the image that must be installed again, or ``None``.

    Raises:
        BackendError: The mark is damaged.
    """
    mark = view.get(META, INSTALLING)
    if mark is None:
        return None
    if len(mark) != 8:
        raise BackendError(f"the store is damaged: the mark of an installation has {len(mark)} bytes, not 8")
    return int.from_bytes(mark, "big")


def install(
    backend: IBackend,
    image: ImageFile,
    operations_max: int = OPERATIONS_MAX,
    bytes_max: int = BYTES_MAX,
) -> Work[None]:
    """
    Replace all that a backend has by what an image has.

    Each slice writes one batch, and must be run where the backend is written to.  Views that are open keep
    what they see.

    Args:
        backend: Nobody else writes to it meanwhile.
        image: It is not checked beforehand: when it turns out to be damaged, the store stays marked.
        operations_max: The most keys in a batch.
        bytes_max: The most bytes in one, by its keys and values, as long as it has more than one key.

    Raises:
        SnapshotImageError: The image is damaged, or has more in the bucket ``meta`` than fits into one batch.
        BackendError: The engine refused.
        OSError: The disk refused.
    """
    batches = _batches(image.pairs(META), operations_max, bytes_max)
    meta = dict(next(batches, []))
    if next(batches, None) is not None:
        raise SnapshotImageError(f"the image at {image.consistent_index} has too much in the bucket meta")
    backend.write({META: {INSTALLING: image.consistent_index.to_bytes(8, "big")}})
    yield
    for bucket in _buckets(backend):
        while keys := _some_keys(backend, bucket, operations_max, bytes_max):
            backend.write({bucket: dict.fromkeys(keys)})
            yield
    for bucket in image.buckets:
        if bucket != META:
            for batch in _batches(image.pairs(bucket), operations_max, bytes_max):
                backend.write({bucket: dict(batch)})
                yield
    backend.write({META: {**meta, INSTALLING: None}})


def _batches(pairs: Iterable[Pair], operations_max: int, bytes_max: int) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    size = 0
    for pair in pairs:
        more = len(pair[0]) + len(pair[1])
        if batch and (len(batch) == operations_max or size + more > bytes_max):
            yield batch
            batch = []
            size = 0
        batch.append(pair)
        size += more
    if batch:
        yield batch


def _buckets(backend: IBackend) -> list[bytes]:
    view = backend.read()
    try:
        return view.buckets()
    finally:
        view.close()


def _some_keys(backend: IBackend, bucket: bytes, operations_max: int, bytes_max: int) -> list[bytes]:
    """The first keys of a bucket other than the mark; no more than can be read in one slice."""
    keys: list[bytes] = []
    size = 0
    view = backend.read()
    try:
        for key, value in view.range(bucket, b"", None):
            if (bucket, key) == (META, INSTALLING):
                continue
            keys.append(key)
            size += len(key) + len(value)
            if len(keys) == operations_max or size >= bytes_max:
                break
    finally:
        view.close()
    return keys
