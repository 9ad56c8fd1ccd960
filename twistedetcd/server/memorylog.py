"""How much of the applied log stays in memory: what a slow follower may ask for, within limits."""

from __future__ import annotations

from collections import deque
from typing import Final

from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import NO_LIMIT, ConfState

CATCH_UP_BYTES: Final = 256 * 1024 * 1024
"""At most so many bytes of entries stay, however few these are."""

AWAITED_ENTRIES: Final = 1_000_000
"""At most so many stay while a snapshot is on its way."""

COMPACT_EVERY: Final = 100
"""How many entries are applied between two cuts, at most; so much longer than the limits the log may get."""


class MemoryLog:
    """
    Cuts the log in memory behind the applied entry.

    Args:
        storage: The log.
        entries_max: How many applied entries stay for followers.
        bytes_max: And how many bytes of them.
    """

    def __init__(self, storage: MemoryStorage, entries_max: int, bytes_max: int = CATCH_UP_BYTES) -> None:
        self._storage = storage
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        # What stays, in pieces: the last index of each, and its bytes.
        self._pieces: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def compact(self, applied: int, conf_state: ConfState, awaited: bool = False) -> None:
        """
        Forget what nobody will ask for.

        Args:
            applied: The last applied entry, which was in the log at the last call or came after it.
            conf_state: The configuration after it.  Who is alone in it has nobody to keep entries for.
            awaited: Whether a member that gets a snapshot will ask for what comes after it: then more entries
                stay, but not more bytes.
        """
        storage = self._storage
        if applied > storage.snapshot().index:
            storage.create_snapshot(applied, conf_state)  # for a member that needs what is forgotten
        if sum(map(len, conf_state[:4])) == 1:
            self._pieces.clear()
            self._bytes, forgotten = 0, applied
        else:
            forgotten = self._forget_pieces(applied, awaited)
        if forgotten >= storage.first_index():
            storage.compact(forgotten)

    def begin_anew(self) -> None:
        """The log begins after a snapshot now."""
        self._pieces.clear()
        self._bytes = 0

    def _forget_pieces(self, applied: int, awaited: bool) -> int:
        """The index up to which followers have had their time."""
        storage, pieces = self._storage, self._pieces
        first = pieces[-1][0] + 1 if pieces else storage.first_index()
        if first <= applied:
            size = sum([len(entry.data) for entry in storage.entries(first, applied + 1, NO_LIMIT)])
            pieces.append((applied, size))
            self._bytes += size
        forgotten = 0
        entries_max = AWAITED_ENTRIES if awaited else self._entries_max
        while pieces and (pieces[0][0] <= applied - entries_max or self._bytes > self._bytes_max):
            forgotten, size = pieces.popleft()
            self._bytes -= size
        return forgotten
