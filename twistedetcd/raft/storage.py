"""
The durable log as raft reads it, and the one that lives in memory beside the write-ahead log.

What a `Ready` hands out is appended here after it was saved; raft reads it back from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twistedetcd.raft.errors import (
    InvariantError,
    LogCompactedError,
    LogUnavailableError,
    SnapshotOutOfDateError,
)
from twistedetcd.raft.sizes import limit
from twistedetcd.raft.types import ConfState, Entry, HardState, Snapshot


class Storage(Protocol):
    """What raft asks of the durable log.  It never writes; the driver does."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """What was saved last, and the configuration at the snapshot's index; both empty when new."""

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """
        The entries with ``low`` <= index < ``high``, or a prefix of them.

        Args:
            low: First index, not below `first_index`.
            high: One past the last index, at most one past `last_index`.
            bytes_max: Encoded bytes allowed; the first entry is returned however large it is.

        Raises:
            LogCompactedError: ``low`` was compacted away.
            LogUnavailableError: They are not there.
        """

    def term(self, index: int) -> int:
        """
        The term at ``index``, known from ``first_index() - 1`` to `last_index`.

        Raises:
            LogCompactedError: Below that range.
            LogUnavailableError: Above it.
        """

    def first_index(self) -> int:
        """The first index that `entries` can serve; one past `last_index` when it holds none."""

    def last_index(self) -> int:
        """The last index, that of the snapshot when no entry follows it."""

    def snapshot(self) -> Snapshot:
        """
        The newest snapshot, to send to a member that is too far behind.

        Raises:
            SnapshotTemporarilyUnavailableError: Ask again later.
        """


class MemoryStorage:
    """
    A log in memory.  Entries are kept as they are given, never copied.

    Invariant: ``_entries[n].index == _compacted + 1 + n``.
    """

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        self._compacted, self._compacted_term = 0, 0
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        """See `Storage`."""
        return self._hard_state, self._snapshot.conf_state

    def set_hard_state(self, state: HardState) -> None:
        """Keep ``state`` for `initial_state`."""
        self._hard_state = state

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """See `Storage`."""
        base = self._compacted + 1
        if low < base:
            raise LogCompactedError
        if high > base + len(self._entries):
            raise LogUnavailableError
        return limit(self._entries[low - base : high - base], bytes_max)

    def term(self, index: int) -> int:
        """See `Storage`."""
        position = index - self._compacted - 1
        if position < 0:
            if position == -1:
                return self._compacted_term
            raise LogCompactedError
        if position >= len(self._entries):
            raise LogUnavailableError
        return self._entries[position].term

    def first_index(self) -> int:
        """See `Storage`."""
        return self._compacted + 1

    def last_index(self) -> int:
        """See `Storage`."""
        return self._compacted + len(self._entries)

    def snapshot(self) -> Snapshot:
        """See `Storage`; the empty snapshot when none was made."""
        return self._snapshot

    def append(self, entries: Sequence[Entry]) -> None:
        """Add saved entries: the first one replaces what the log holds from its index on."""
        if not entries:
            return
        position = entries[0].index - self._compacted - 1
        if position < 0:
            entries, position = entries[-position:], 0
            if not entries:
                return
        held = self._entries
        if position > len(held):
            raise InvariantError(f"log ends at {self.last_index()}, next is {entries[0].index}")
        if position < len(held):
            del held[position:]
        held += entries

    def compact(self, index: int) -> None:
        """
        Drop the entries up to and including ``index``; its term stays known.

        Raises:
            LogCompactedError: It is gone already.
        """
        if index <= self._compacted:
            raise LogCompactedError
        if index > self.last_index():
            raise InvariantError(f"compaction to {index} is past the last index {self.last_index()}")
        count = index - self._compacted
        self._compacted_term = self._entries[count - 1].term
        del self._entries[:count]
        self._compacted = index

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """
        Start over from a received snapshot; entries are dropped.

        Raises:
            SnapshotOutOfDateError: The one held is as new.
        """
        if self._snapshot.index and self._snapshot.index >= snapshot.index:
            raise SnapshotOutOfDateError
        self._snapshot = snapshot
        self._compacted, self._compacted_term = snapshot.index, snapshot.term
        self._entries = []

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """
        Note a snapshot of the applied state; entries are kept until `compact`.

        Args:
            index: The last index applied to it.
            conf_state: The configuration after applying it.
            data: What a member that receives it starts from.

        Raises:
            SnapshotOutOfDateError: The one held is as new.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDateError
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot
