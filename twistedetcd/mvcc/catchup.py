"""Reading what happened: whole revisions out of the history, a slice at a time."""

from __future__ import annotations

from typing import Final

from twistedetcd.interfaces import Work
from twistedetcd.mvcc import revision as revisions
from twistedetcd.mvcc.events import Change
from twistedetcd.mvcc.store import Store
from twistedetcd.mvcc.work import SLICE_KEYS

REVISIONS_MAX: Final = 1000
"""Revisions that a watch is told of at once (upstream's number)."""
RECORDS_BYTES_MAX: Final = 256 * 1024
"""Records that are read at once, but for the last one and the rest of its revision."""


def read_history(store: Store, first: int, last: int) -> Work[tuple[list[Change], int]]:
    """
    Read the changes of some revisions.

    Many changes take many slices; a compaction may come in between and take from those below its revision.

    Args:
        store: Whose changes.
        first: The first revision.
        last: The last one, unless that becomes too much.

    Returns:
        The changes, in order, and the last revision that they are of: all of it is there.
    """
    changes: list[Change] = []
    size = 0
    position = revisions.record_key(first, 0)
    while True:
        part, complete = store.history(position, last, SLICE_KEYS, max(RECORDS_BYTES_MAX - size, 1))
        for record_key, record in part:
            size += len(record)
            main, sub, tombstone = revisions.parse(record_key)
            changes.append(Change(main, revisions.key_of(record), None if tombstone else record))
        if complete:
            return changes, last
        if size >= RECORDS_BYTES_MAX and main > changes[0].main:
            # There may be more of the last one.
            while changes[-1].main == main:
                changes.pop()
            return changes, main - 1
        position = revisions.record_key(main, sub + 1)
        yield
