"""An engine without a disk: for tests, simulations and embedded members that may forget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Any, ClassVar
from weakref import WeakSet

from BTrees.OOBTree import OOBTree
from twisted.plugin import IPlugin
from zope.interface import implementer

from twistedetcd.interfaces import Batch, IBackend, IBackendFactory, IReadTransaction, PluginOption

_CHUNK = 1000  # pairs taken from a tree at a time, under the lock


@implementer(IReadTransaction)
class MemoryView:
    """
    A view that stays as it was: before the writer changes a key it notes the old value here.
    """

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._before: dict[bytes, dict[bytes, bytes | None]] = {}
        self._buckets = sorted(backend.buckets)
        backend.views.add(self)

    def note(self, bucket: bytes, tree: Mapping[bytes, bytes], keys: Mapping[bytes, bytes | None]) -> None:
        """The writer is about to change ``keys``; it holds the lock."""
        before = self._before.setdefault(bucket, {})
        for key in keys:
            if key not in before:
                before[key] = tree.get(key)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        with self._backend.lock:
            before = self._before.get(bucket)
            if before is not None and key in before:
                return before[key]
            tree = self._backend.buckets.get(bucket)
            return None if tree is None else tree.get(key)

    def get_many(self, bucket: bytes, keys: Sequence[bytes]) -> list[bytes]:
        return [value for key in keys if (value := self.get(bucket, key)) is not None]

    def range(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        after = False
        while True:
            chunk = self._chunk(bucket, start, end, after)
            yield from ((key, value) for key, value in chunk if value is not None)
            if len(chunk) < _CHUNK:
                return
            start, after = chunk[-1][0], True

    def _chunk(
        self, bucket: bytes, start: bytes, end: bytes | None, after: bool
    ) -> list[tuple[bytes, bytes | None]]:
        """The next keys, with ``None`` for those that this view does not see."""
        with self._backend.lock:
            tree = self._backend.buckets.get(bucket)
            if tree is None:
                return []
            found: dict[bytes, bytes | None] = dict(
                islice(tree.items(start, end, after, end is not None), _CHUNK)
            )
            full = len(found) == _CHUNK
            last = max(found) if full else end
            for key, value in self._before.get(bucket, {}).items():
                inside = key > start if after else key >= start
                if inside and (last is None or key < last or (full and key == last)):
                    found[key] = value
            return sorted(found.items())

    def buckets(self) -> list[bytes]:
        return list(self._buckets)

    def renew(self) -> None:
        with self._backend.lock:
            self._before.clear()
            self._buckets = sorted(self._backend.buckets)

    def close(self) -> None:
        with self._backend.lock:  # the writer may be going through the views
            self._backend.views.discard(self)


@implementer(IBackend)
class MemoryBackend:
    """Buckets in B-trees.  Nothing survives the process."""

    durable = False

    def __init__(self) -> None:
        self.lock = Lock()
        self.buckets: dict[bytes, OOBTree[bytes, bytes]] = {}
        self.views: WeakSet[MemoryView] = WeakSet()
        self._bytes = 0

    def read(self) -> MemoryView:
        with self.lock:
            return MemoryView(self)

    def write(self, batch: Batch) -> None:
        with self.lock:
            for bucket, values in batch.items():
                tree = self.buckets.setdefault(bucket, OOBTree())
                for view in self.views:
                    view.note(bucket, tree, values)
                for key, value in values.items():
                    before = tree.pop(key, None)
                    if before is not None:
                        self._bytes -= len(key) + len(before)
                    if value is not None:
                        tree[key] = value
                        self._bytes += len(key) + len(value)

    def size_bytes(self) -> int:
        return self._bytes

    def size_in_use_bytes(self) -> int:
        return self._bytes

    def close(self) -> None:
        self.buckets.clear()


@implementer(IPlugin, IBackendFactory)
class MemoryFactory:
    """``--backend memory``."""

    name = "memory"
    help = "In memory: fast, and gone when the process ends (the log is still replayed)."
    options: ClassVar[dict[str, PluginOption]] = {}

    def open(self, directory: str, **options: Any) -> MemoryBackend:
        return MemoryBackend()
