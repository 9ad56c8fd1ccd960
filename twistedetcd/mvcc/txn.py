"""One write transaction: a main revision, and a sub revision for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from twistedetcd.errors import FutureRevisionError
from twistedetcd.interfaces import IWriteView
from twistedetcd.mvcc import revision as revisions
from twistedetcd.mvcc.index import Index
from twistedetcd.mvcc.pending import Pending
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.wire import varint

if TYPE_CHECKING:
    from twistedetcd.mvcc.store import Store

_record_key = revisions.record_key
_record = revisions.record


@implementer(IWriteView)
class WriteTransaction:
    """Changes are in the index and the open batch at once; nobody else reads before `end`."""

    __slots__ = ("_index", "_pending", "_store", "begin", "changes")

    def __init__(self, store: Store, index: Index, pending: Pending) -> None:
        self._store = store
        self._index = index
        self._pending = pending
        self.begin: int = store.revision
        self.changes = 0

    def put(self, key: bytes, value: bytes, lease: int) -> int:
        revision = self.begin + 1
        modified = varint(revision)
        record_key = _record_key(revision, self.changes)
        created, version = self._index.put(key, record_key, modified)
        self._pending.put_record(record_key, _record(key, created, modified, version, value, lease))
        self.changes += 1
        return revision

    def delete(self, key: bytes) -> bool:
        record_key = _record_key(self.begin + 1, self.changes)
        if not self._index.delete(key, record_key):
            return False
        self._pending.put_record(record_key + revisions.TOMBSTONE, KeyValue(key=key).SerializeToString())
        self.changes += 1
        return True

    def keys(self, key: bytes, end: bytes | None) -> list[bytes]:
        """The keys that exist in a range now, this transaction's changes included."""
        if end is None:
            return [key] if self._index.get(key) is not None else []
        return self._index.keys(key, end)

    @property
    def revision(self) -> int:
        """What a read through this transaction sees as current."""
        return self.begin + 1 if self.changes else self.begin

    def range(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int = 0
    ) -> tuple[list[bytes], int]:
        """As `IReadView.range`; the current revision includes this transaction's changes."""
        if revision > self.revision:
            raise FutureRevisionError
        if revision == self.revision:
            revision = 0
        elif revision > 0 and revision == self.begin:
            # The store still calls this one current, but our changes are in its index already.
            return self._store.range_before(key, end, revision, limit)
        return self._store.range(key, end, revision, limit)

    def count(self, key: bytes, end: bytes | None, revision: int = 0) -> int:
        """As `IReadView.count`, as `range` does."""
        return self.range(key, end, revision, 1)[1]

    def end(self) -> int:
        revision = self.revision
        self._store.ended(revision)
        return revision
