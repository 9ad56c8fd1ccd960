"""
Views of the store that may last: to read one revision, and to write the next.

A write transaction is a main revision, and a sub revision for each change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zope.interface import implementer

from twistedetcd.errors import CompactedError, FutureRevisionError
from twistedetcd.interfaces import ITransaction, IWriteView
from twistedetcd.mvcc import revision as revisions
from twistedetcd.mvcc.index import Index
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.scan import Part, scan
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.wire import varint

if TYPE_CHECKING:
    from twistedetcd.mvcc.store import Changes, Store

_record_key = revisions.record_key
_record = revisions.record


@implementer(ITransaction)
class ReadTransaction:
    """The store as it is when this is made, whatever happens to it until `end`."""

    __slots__ = ("_index", "_pending", "_store", "compact_revision", "revision")

    def __init__(self, store: Store, index: Index, pending: Pending) -> None:
        self._store = store
        self._index = index
        self._pending = pending
        self.revision: int = store.revision
        self.compact_revision: int = store.compact_revision
        store.began_reading(self.compact_revision)

    def range(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int = 0
    ) -> tuple[list[bytes], int]:
        main, store = self._checked(revision), self._store
        if store.shows(main):
            return store.range_now(key, end, limit)
        return store.range_before(key, end, main, limit)

    def count(self, key: bytes, end: bytes | None, revision: int = 0) -> int:
        return self.range(key, end, revision, 1)[1]

    def scan(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int | None = None
    ) -> Iterator[Part]:
        main = self._checked(revision)
        if end is None:
            records, count = self.range(key, None, main)
            return iter([(records[:limit], count, 1)])
        store = self._store
        return scan(self._index, self._pending, key, end, limit, main, lambda: store.shows(main))

    def _checked(self, revision: int) -> int:
        """A revision that can be read; raises as `IReadView.range`."""
        if revision > self.revision:
            raise FutureRevisionError
        if revision <= 0:
            return self.revision
        # What is compacted meanwhile waits for us, so what could be read at the beginning still can.
        if revision < self.compact_revision:
            raise CompactedError
        return revision

    def end(self) -> int:
        self._store.ended_reading(self.compact_revision)
        return self._store.revision


@implementer(IWriteView)
class WriteTransaction:
    """Changes are in the index and the open batch at once; others read the revision before until `end`."""

    __slots__ = ("_index", "_noted", "_pending", "_store", "begin", "changes")

    def __init__(self, store: Store, index: Index, pending: Pending) -> None:
        self._store = store
        self._index = index
        self._pending = pending
        self.begin: int = store.revision
        self.changes = 0
        self._noted: Changes | None = None if store.changes is None else []

    def put(self, key: bytes, value: bytes, lease: int) -> int:
        revision = self.begin + 1
        modified = varint(revision)
        record_key = _record_key(revision, self.changes)
        created, version = self._index.put(key, record_key, modified)
        record = _record(key, created, modified, version, value, lease)
        self._pending.put_record(record_key, record)
        self.changes += 1
        if self._noted is not None and self.changes <= SLICE_KEYS:
            self._noted.append((revision, key, record))
        return revision

    def delete(self, key: bytes) -> bool:
        record_key = _record_key(self.begin + 1, self.changes)
        if not self._index.delete(key, record_key):
            return False
        self._pending.put_record(record_key + revisions.TOMBSTONE, KeyValue(key=key).SerializeToString())
        self.changes += 1
        if self._noted is not None and self.changes <= SLICE_KEYS:
            self._noted.append((self.begin + 1, key, None))
        return True

    def keys(self, key: bytes, end: bytes | None, limit: int) -> list[bytes]:
        if end is None:
            return [key] if self._index.get(key) is not None else []
        return self._index.keys(key, end, limit)

    @property
    def revision(self) -> int:
        """What a read through this transaction sees as current."""
        return self.begin + 1 if self.changes else self.begin

    @property
    def compact_revision(self) -> int:
        """As the store's."""
        return self._store.compact_revision

    def range(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int = 0
    ) -> tuple[list[bytes], int]:
        main = self._checked(revision)
        if main == self.revision:
            return self._store.range_now(key, end, limit)
        return self._store.range_before(key, end, main, limit)

    def count(self, key: bytes, end: bytes | None, revision: int = 0) -> int:
        return self.range(key, end, revision, 1)[1]

    def scan(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int | None = None
    ) -> Iterator[Part]:
        main = self._checked(revision)
        if end is None:
            records, count = self.range(key, None, main)
            return iter([(records[:limit], count, 1)])
        present = main == self.revision
        return scan(self._index, self._pending, key, end, limit, main, lambda: present)

    def _checked(self, revision: int) -> int:
        """A revision that can be read; the current one includes this transaction's changes."""
        if revision > self.revision:
            raise FutureRevisionError
        if revision <= 0:
            return self.revision
        if revision < self._store.compact_revision:
            raise CompactedError
        return revision

    def end(self) -> int:
        revision = self.revision
        if self.changes and self._store.changes is not None:
            # Nothing was noted if the first one to watch came in the middle of it.
            noted = self._noted if self.changes <= SLICE_KEYS else None
            self._store.changes += [(revision, b"", None)] if noted is None else noted
        self._store.ended_writing(revision)
        return revision
