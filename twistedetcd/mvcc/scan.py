"""Ranges of any size, a slice at a time, all of it as it was at one revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twistedetcd.mvcc.index import Index
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.work import SLICE_KEYS

Part = tuple[list[bytes], int, int]
"""
Records in key order; how many keys they stand for, which are more than there are records above a limit; and
how many keys were looked at, which are more again where some did not exist at the revision.
"""


def scan(
    index: Index,
    pending: Pending,
    key: bytes,
    end: bytes,
    limit: int | None,
    main: int,
    is_present: Callable[[], bool],
) -> Iterator[Part]:
    """
    Read the keys in [``key``, ``end``) at a revision; ``end`` empty: all from ``key`` on.

    Between two slices the store may change, but no record that was there at the revision may go.

    Args:
        index: Says which record is whose.
        pending: Has the records.
        key: The first key.
        end: The first key that is not in the range.
        limit: The most records; ``None`` for all.  All keys are counted.
        main: The revision.
        is_present: Tells, before each slice, whether the index's present is what was there at ``main``.
            Reading the present costs much less than looking up each key in the past.
    """
    left = limit
    while True:
        if is_present():
            if left == 0:
                yield [], index.count(key, end), 1  # which costs next to nothing
                return
            wanted = SLICE_KEYS if left is None else min(left, SLICE_KEYS)
            names, record_keys = index.items(key, end, wanted)
            found = len(names)
        else:
            wanted = SLICE_KEYS
            names = index.names(key, end, wanted)
            record_keys = [at for name in names if (at := index.get_at(name, main)) is not None]
            found = len(record_keys)
            if left is not None:
                record_keys = record_keys[:left]
        if left is not None:
            left -= len(record_keys)
        yield pending.records(record_keys), found, len(names)
        if len(names) < wanted:
            return
        # No iteration over a tree survives a change to it: go on behind the last key.
        key = names[-1] + b"\0"
