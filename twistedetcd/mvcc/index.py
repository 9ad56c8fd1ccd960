"""
Which record is a key's, now and then.

Two B-trees.  ``live`` has the keys that exist now, and is all that current reads and counts touch.  ``past``
has the older revisions of a key, side by side in one growing array, so that a write costs the same however
often the key was written.  Entries are packed bytes: a million keys are no load for the garbage collector.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from struct import Struct

from BTrees.OOBTree import OOBTree

from twistedetcd.mvcc.revision import RECORD_KEY_BYTES, TOMBSTONE

_FIRST_VERSION = (1).to_bytes(8, "big")
_NUMBER = Struct(">Q")
_SLOT = RECORD_KEY_BYTES + 1  # a record key, padded where there is no tombstone mark
_NO_MARK = b"\0"
_KEY = slice(0, RECORD_KEY_BYTES)
_VERSION_AT = RECORD_KEY_BYTES
_CREATED_AT = RECORD_KEY_BYTES + 8
_SCAN_KEYS = 5000  # keys looked at in one slice of a compaction


class Index:
    """The revisions of every key.  Reading a revision above the newest one is the caller's mistake."""

    def __init__(self) -> None:
        self._live: OOBTree[bytes, bytes] = OOBTree()  # key → record key, version, created
        self._past: OOBTree[bytes, bytearray] = OOBTree()  # key → slots, ascending

    # Changes.  Each record key is above all that came before.

    def put(self, key: bytes, record_key: bytes, created: bytes) -> tuple[bytes, int]:
        """
        Note a put.

        Args:
            key: The key.
            record_key: Its new record.
            created: The new revision as a record holds a create revision; kept if the key is new.

        Returns:
            What the record holds: the create revision as it was once given, and the version.
        """
        before = self._live.get(key)
        if before is None:
            self._live[key] = record_key + _FIRST_VERSION + created
            return created, 1
        slots = self._past.get(key)
        if slots is None:
            self._past[key] = bytearray(before[_KEY] + _NO_MARK)
        else:
            slots += before[_KEY] + _NO_MARK
        (version,) = _NUMBER.unpack_from(before, _VERSION_AT)
        version += 1
        created = before[_CREATED_AT:]
        self._live[key] = record_key + _NUMBER.pack(version) + created
        return created, version

    def delete(self, key: bytes, record_key: bytes) -> bool:
        """Note a tombstone under ``record_key`` (without its mark); false if the key does not exist."""
        before = self._live.pop(key, None)
        if before is None:
            return False
        self._retire(key, before[_KEY] + _NO_MARK)
        self._retire(key, record_key + TOMBSTONE)
        return True

    def restore(self, key: bytes, record_key: bytes, created: bytes, version: int) -> None:
        """Note a record found on the disk; ``record_key`` carries the mark if it is a tombstone."""
        before = self._live.pop(key, None)
        if before is not None:
            self._retire(key, before[_KEY] + _NO_MARK)
        if len(record_key) > RECORD_KEY_BYTES:
            self._retire(key, record_key)
        else:
            self._live[key] = record_key + _NUMBER.pack(version) + created

    def _retire(self, key: bytes, slot: bytes) -> None:
        slots = self._past.get(key)
        if slots is None:
            self._past[key] = bytearray(slot)
        else:
            slots += slot

    # Reading the present.  Where a range has no end, the trees would exclude their last key for it.

    def get(self, key: bytes) -> bytes | None:
        """The record key of a key that exists now."""
        entry = self._live.get(key)
        return None if entry is None else bytes(entry[:RECORD_KEY_BYTES])

    def range(self, key: bytes, end: bytes, limit: int = 0) -> list[bytes]:
        """Record keys of the keys in [``key``, ``end``), in key order; ``end`` empty: all from ``key`` on."""
        entries = self._live.values(key, end or None, False, end != b"")
        return [entry[:RECORD_KEY_BYTES] for entry in (islice(entries, limit) if limit else entries)]

    def keys(self, key: bytes, end: bytes, limit: int) -> list[bytes]:
        """The keys themselves, as `range` finds them."""
        return list(islice(self._live.keys(key, end or None, False, end != b""), limit))

    def items(self, key: bytes, end: bytes, limit: int) -> tuple[list[bytes], list[bytes]]:
        """The first keys that `range` would find, and their record keys."""
        found = list(islice(self._live.items(key, end or None, False, end != b""), limit))
        return [name for name, _ in found], [entry[:RECORD_KEY_BYTES] for _, entry in found]

    def count(self, key: bytes, end: bytes) -> int:
        """How many keys `range` would find."""
        return len(self._live.keys(key, end or None, False, end != b""))

    # Reading the past.

    def get_at(self, key: bytes, main: int) -> bytes | None:
        """The record key of ``key`` at a revision; ``None`` if it did not exist then."""
        at = main.to_bytes(8, "big")
        entry = self._live.get(key)
        if entry is not None and entry[:8] <= at:
            return bytes(entry[:RECORD_KEY_BYTES])
        slots = self._past.get(key)
        if slots is None:
            return None
        position = _newest(slots, at)
        if position < 0 or slots[position + RECORD_KEY_BYTES] != 0:
            return None
        return bytes(slots[position : position + RECORD_KEY_BYTES])

    def range_at(self, key: bytes, end: bytes, main: int, limit: int = 0) -> tuple[list[bytes], int]:
        """Record keys in key order at a revision, at most ``limit`` of them, and how many there were."""
        names = self.names(key, end, sys.maxsize)
        found = [record_key for name in names if (record_key := self.get_at(name, main)) is not None]
        return found[: limit or None], len(found)

    def names(self, key: bytes, end: bytes, limit: int) -> list[bytes]:
        """The first ``limit`` keys in the range that exist or once did, ascending."""
        last = end or None
        live = islice(self._live.keys(key, last, False, last is not None), limit)
        past = islice(self._past.keys(key, last, False, last is not None), limit)
        return sorted({*live, *past})[:limit]

    # Forgetting.

    def compact(self, main: int, batch: int) -> Iterator[list[bytes]]:
        """
        Forget the revisions that no read at ``main`` or above can see.

        A key keeps its newest revision up to ``main``, unless that is a tombstone older than ``main``, and
        everything above (upstream's key_index.go, ``doCompact``).

        Yields:
            Record keys to remove, at most ``batch`` at a time, and none where many keys had nothing to give.
                Between two slices the index may change.
        """
        at = main.to_bytes(8, "big")
        # No iteration over a tree survives a change to it: take some keys at a time.
        names: list[bytes] = list(islice(self._past.keys(), _SCAN_KEYS))
        while names:
            dropped: list[bytes] = []
            for name in names:
                while (slots := self._past.get(name)) is not None:
                    size = min(self._forgettable(name, slots, at), (batch - len(dropped)) * _SLOT)
                    dropped += _record_keys(slots[:size])
                    if size == len(slots):
                        del self._past[name]
                    else:
                        del slots[:size]
                    if len(dropped) < batch:
                        break
                    yield dropped
                    dropped = []
            yield dropped
            names = list(islice(self._past.keys(names[-1], None, True), _SCAN_KEYS))

    def _forgettable(self, key: bytes, slots: bytearray, at: bytes) -> int:
        """How many bytes at the front of a key's slots no read at ``at`` or above can see."""
        entry = self._live.get(key)
        if entry is not None and entry[:8] <= at:
            keep = len(slots)
        else:
            keep = _newest(slots, at)
            if keep < 0:
                return 0
            if slots[keep + RECORD_KEY_BYTES] != 0 and slots[keep : keep + 8] < at:
                return keep + _SLOT
        # A tombstone of this very revision stays, for watches that start at it.
        while keep and slots[keep - _SLOT : keep - _SLOT + 8] == at and slots[keep - 1]:
            keep -= _SLOT
        return keep


def _newest(slots: bytearray, at: bytes) -> int:
    """Where the newest slot up to a main revision begins; negative if all are above."""
    low, high = 0, len(slots) // _SLOT
    while low < high:
        middle = (low + high) // 2
        if slots[middle * _SLOT : middle * _SLOT + 8] <= at:
            low = middle + 1
        else:
            high = middle
    return (low - 1) * _SLOT


def _record_keys(slots: bytearray) -> list[bytes]:
    """Slots as record keys, with their marks."""
    packed = bytes(slots)
    return [
        packed[position : position + (_SLOT if packed[position + RECORD_KEY_BYTES] else RECORD_KEY_BYTES)]
        for position in range(0, len(packed), _SLOT)
    ]
