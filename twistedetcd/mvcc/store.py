"""
The multi-version store: the current revision, reads at any revision not compacted, one writer at a time.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from zope.interface import implementer

from twistedetcd.errors import BackendError, CompactedError, FutureRevisionError
from twistedetcd.interfaces import IKV, Work
from twistedetcd.mvcc import revision as revisions
from twistedetcd.mvcc.hash import KeyValueHash, hash_records
from twistedetcd.mvcc.index import Index
from twistedetcd.mvcc.pending import Pending, PinnedRecords
from twistedetcd.mvcc.txn import ReadTransaction, WriteTransaction
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.schema import FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT
from twistedetcd.wire import varint

_record_key = revisions.record_key
_record = revisions.record
COMPACTION_BATCH = 1000  # revisions removed in one slice (upstream's default)
_RESTORE_SLICE = 10_000  # records read in one slice (upstream's default)

Changes = list[tuple[int, bytes, bytes | None]]
"""
Main revision, key, and what was put as a record, ``None`` for a delete; in the order they were made.

A revision of very many changes stands there with an empty key instead: they are read in the history.
"""


@implementer(IKV)
class Store:
    """
    Keys over time, on top of `Pending`.

    A new store is empty at revision 1.  Run `restore` to the end before anything else when the backend may
    have content.

    Args:
        pending: The overlay it reads and writes through.
        compaction_batch: Revisions removed in one slice of a compaction.
    """

    def __init__(self, pending: Pending, compaction_batch: int = COMPACTION_BATCH) -> None:
        self._pending = pending
        self._compaction_batch = compaction_batch
        self._index = Index()
        # Compact revisions of when the views and hashes that are at work began.
        self._reading: list[int] = []
        self._writing = False
        self.revision = 1
        self.compact_revision = -1
        self.changes: Changes | None = None
        """What was committed since somebody took it; ``None`` while nobody wants to know."""

    # Start.

    def restore(self) -> Work[dict[bytes, int]]:
        """
        Build the index from the backend's records.

        Returns:
            The keys that have a lease, and which.

        Raises:
            BackendError: A record does not read back; the backend is damaged.
        """
        marks = [self._pending.get(META, name) for name in (FINISHED_COMPACT, SCHEDULED_COMPACT)]
        last = 1
        lease_of: dict[bytes, int] = {}
        restore = self._index.restore
        for count, (record_key, record) in enumerate(self._pending.range(KEY, b"", None), 1):
            try:
                last, _, _ = revisions.parse(record_key)
                item = KeyValue.FromString(record)
            except (ValueError, DecodeError) as error:
                raise BackendError(f"the store is damaged at record {record_key!r}: {error}") from error
            restore(item.key, record_key, varint(item.create_revision), item.version)
            if item.lease:
                lease_of[item.key] = item.lease
            elif lease_of:
                lease_of.pop(item.key, None)
            if count % _RESTORE_SLICE == 0:
                yield
        # A crash may come after a trailing tombstone was removed: the revision must not go back.
        self.compact_revision = max(revisions.main_of(mark) if mark else -1 for mark in marks)
        self.revision = max(last, self.compact_revision)
        return lease_of

    def become(self, other: Store) -> None:
        """
        Hold what ``other`` holds, which is not used any more; the overlay must do likewise first.

        No view of this store may be open, and no compaction or hash at work.
        """
        assert not self._reading and not self._writing, "somebody is in the middle of this store"
        self._index = other._index
        self.revision, self.compact_revision = other.revision, other.compact_revision

    @property
    def unfinished_compaction(self) -> int | None:
        """The revision of a compaction that was accepted but had not finished, if there is one."""
        scheduled = self._pending.get(META, SCHEDULED_COMPACT)
        if scheduled is None or scheduled == self._pending.get(META, FINISHED_COMPACT):
            return None
        return revisions.main_of(scheduled)

    # Reading.

    def range(
        self, key: bytes, end: bytes | None, revision: int = 0, limit: int = 0
    ) -> tuple[list[bytes], int]:
        if self._writing or (revision > 0 and revision != self.revision):
            # A write transaction in progress is in the index already, and nobody must see it yet.
            self.check_revision(revision)
            return self.range_before(key, end, revision if revision > 0 else self.revision, limit)
        return self.range_now(key, end, limit)

    def range_now(self, key: bytes, end: bytes | None, limit: int) -> tuple[list[bytes], int]:
        """As `range`, at what the index has as present."""
        if end is None:
            record_key = self._index.get(key)
            return ([], 0) if record_key is None else ([self._pending.record(record_key)], 1)
        found = self._index.range(key, end, limit)
        count = len(found) if not limit or len(found) < limit else self._index.count(key, end)
        return self._pending.records(found), count

    def range_before(
        self, key: bytes, end: bytes | None, revision: int, limit: int
    ) -> tuple[list[bytes], int]:
        """As `range`, at a readable revision whose successors may be in the index already."""
        if end is None:
            record_key = self._index.get_at(key, revision)
            return ([], 0) if record_key is None else ([self._pending.record(record_key)], 1)
        found, count = self._index.range_at(key, end, revision, limit)
        return self._pending.records(found), count

    def count(self, key: bytes, end: bytes | None, revision: int = 0) -> int:
        if self._writing or (revision > 0 and revision != self.revision):
            self.check_revision(revision)
            main = revision if revision > 0 else self.revision
            if end is None:
                return int(self._index.get_at(key, main) is not None)
            return self._index.range_at(key, end, main)[1]
        return self._index.count(key, end) if end is not None else int(self._index.get(key) is not None)

    def read(self) -> ReadTransaction:
        return ReadTransaction(self, self._index, self._pending)

    def shows(self, revision: int) -> bool:
        """Whether the present in the index is what was there at ``revision``."""
        return revision == self.revision and not self._writing

    def began_reading(self, compact_revision: int) -> None:
        """Have the compactions accepted from now on wait; for `ReadTransaction` only."""
        self._reading.append(compact_revision)

    def ended_reading(self, compact_revision: int) -> None:
        """Let them go on."""
        self._reading.remove(compact_revision)

    def check_revision(self, revision: int) -> None:
        """
        Refuse a revision that cannot be read.  Zero and below mean the current one.

        Raises:
            CompactedError: It is below the compact revision.
            FutureRevisionError: It is above the current one.
        """
        if revision > self.revision:
            raise FutureRevisionError
        if 0 < revision < self.compact_revision:
            raise CompactedError

    # Writing.

    def write(self) -> WriteTransaction:
        assert not self._writing, "a write transaction is open"
        self._writing = True
        self._pending.whole = False
        return WriteTransaction(self, self._index, self._pending)

    def put(self, key: bytes, value: bytes) -> int:
        """
        A write transaction of one put without a lease, which is what most of them are.

        Returns:
            The store's revision after it.
        """
        assert not self._writing, "a write transaction is open"
        self.revision = revision = self.revision + 1
        modified = varint(revision)
        record_key = _record_key(revision, 0)
        created, version = self._index.put(key, record_key, modified)
        record = _record(key, created, modified, version, value, 0)
        self._pending.put_record(record_key, record)
        if self.changes is not None:
            self.changes.append((revision, key, record))
        return revision

    def ended_writing(self, revision: int) -> None:
        """The write transaction is over; for `WriteTransaction` only."""
        self._writing = False
        self._pending.whole = True
        self.revision = revision

    # What was changed, for those who watch.

    def history(
        self, first: bytes, last: int, limit: int, bytes_max: int
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """
        Records as they were made.

        Args:
            first: The record key to begin with, not below the compact revision.
            last: The last main revision.
            limit: The most records.
            bytes_max: As for `Pending.history`.

        Returns:
            Record keys and records, ascending, and whether these are all.
        """
        return self._pending.history(first, _record_key(last + 1, 0), limit, bytes_max)

    def record_before(self, key: bytes, revision: int) -> bytes | None:
        """The record a key had before a revision; ``None`` if it had none, or that was compacted."""
        if revision - 1 < self.compact_revision:
            return None
        record_key = self._index.get_at(key, revision - 1)
        return None if record_key is None else self._pending.record(record_key)

    # Forgetting.

    def compact(self, revision: int) -> Work[None]:
        if revision <= self.compact_revision:
            raise CompactedError
        if revision > self.revision:
            raise FutureRevisionError
        self.compact_revision = revision
        self._pending.put(META, SCHEDULED_COMPACT, revisions.record_key(revision, 0))
        return self.resume_compaction(revision)

    def resume_compaction(self, revision: int) -> Work[None]:
        """Remove what a compaction accepted earlier still has to remove."""
        dropping = self._index.compact(revision, self._compaction_batch)
        while True:
            # Views and hashes look up in the index what there was at their own compact revision.  One that
            # began after this compaction was accepted does not see the difference, and is not waited for.
            while any(compacted < revision for compacted in self._reading):
                yield
            dropped = next(dropping, None)
            if dropped is None:
                break
            for record_key in dropped:
                self._pending.remove_record(record_key)
            yield
        self._pending.put(META, FINISHED_COMPACT, revisions.record_key(revision, 0))

    # Comparing.

    def hash(self, revision: int) -> Work[KeyValueHash]:
        self.check_revision(revision)
        # Revision, compact revision and view belong together: take them in this very call.
        pinned = self._pending.pin()
        self._reading.append(self.compact_revision)
        hashing = self._hash(revision if revision > 0 else self.revision, self.compact_revision, pinned)
        # Begun, it lets go of the view however it ends, even if nobody ever asks for a slice.
        next(hashing)
        return hashing

    def _hash(self, revision: int, compacted: int, pinned: PinnedRecords) -> Work[KeyValueHash]:
        try:
            yield
            return (yield from hash_records(pinned, self._index, revision, compacted))
        finally:
            self._reading.remove(compacted)
            pinned.close()
