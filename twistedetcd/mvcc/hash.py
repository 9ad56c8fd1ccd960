"""
The hash by which members compare their stores (upstream's server/storage/mvcc/hash.go).

CRC-32C over the bucket's name and then each record's key and value, in revision order.  Two results may be
compared when their revision and their compact revision are equal.
"""

from __future__ import annotations

from typing import NamedTuple

from google_crc32c import extend

from twistedetcd.interfaces import Work
from twistedetcd.mvcc import revision as revisions
from twistedetcd.mvcc.index import Index
from twistedetcd.mvcc.pending import PinnedRecords
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.schema import KEY


class KeyValueHash(NamedTuple):
    """A hash, and what it is a hash of."""

    hash: int
    compact_revision: int
    revision: int


def hash_records(
    view: PinnedRecords, index: Index, revision: int, compact_revision: int
) -> Work[KeyValueHash]:
    """
    Hash the records up to ``revision``.

    A record at or below the compact revision counts only if a compaction at ``revision`` would keep it and
    it is no tombstone, so that the hash is the same while a compaction works and after it.  When such a
    compaction would keep nothing at all, upstream takes what is there; we take what will be there once the
    accepted compaction is done, which is the same then, and does not differ between members before.
    """
    crc = extend(0, KEY)
    kept_at = revision if (yield from _any_at(index, revision)) else max(compact_revision, 0)
    end = revisions.record_key(revision + 1, 0)
    for count, (record_key, record) in enumerate(view.range(b"", end), 1):
        main = revisions.main_of(record_key)
        skipped = main <= compact_revision and (
            index.get_at(KeyValue.FromString(record).key, kept_at) != record_key
        )
        if not skipped:
            crc = extend(extend(crc, record_key), record)
        if count % SLICE_KEYS == 0:
            yield
    return KeyValueHash(crc, compact_revision, revision)


def _any_at(index: Index, revision: int) -> Work[bool]:
    """Whether any key existed at a revision; nearly always the first one decides."""
    key, wanted = b"", 1
    while names := index.names(key, b"", wanted):
        if any(index.get_at(name, revision) is not None for name in names):
            return True
        key = names[-1] + b"\0"
        if wanted == SLICE_KEYS:
            yield
        wanted = SLICE_KEYS
    return False
