"""
The tail of the log that the storage does not hold yet, and a snapshot on its way there.

``entries[n]`` has index ``offset + n``.  What was handed out to be saved is in progress: below
``offset_in_progress``.  It leaves when the save is acknowledged, unless it was replaced meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from twistedetcd.raft.errors import InvariantError
from twistedetcd.raft.types import Entry, Snapshot, Trace


class Unstable:
    """See the module.  Invariant: ``offset`` <= ``offset_in_progress`` <= ``offset + len(entries)``."""

    __slots__ = ("_trace", "entries", "offset", "offset_in_progress", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int, trace: Trace | None = None) -> None:
        """
        Args:
            offset: One past the last index of the storage.
            trace: Hears of truncations and of late acknowledgements.
        """
        self.offset = self.offset_in_progress = offset
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False
        self._trace = trace

    def term(self, index: int) -> int | None:
        """The term at ``index`` if it is known here."""
        position = index - self.offset
        if position < 0:
            return self.snapshot.term if self.snapshot and self.snapshot.index == index else None
        return self.entries[position].term if position < len(self.entries) else None

    def slice(self, low: int, high: int) -> list[Entry]:
        """The entries with ``low`` <= index < ``high``; all of them must be here."""
        if not self.offset <= low <= high <= self.offset + len(self.entries):
            upper = self.offset + len(self.entries)
            raise InvariantError(f"unstable.slice[{low},{high}) out of bound [{self.offset},{upper}]")
        return self.entries[low - self.offset : high - self.offset]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they replace all from the first one's index on."""
        first = entries[0].index
        end = self.offset + len(self.entries)
        if first == end:
            self.entries += entries
        elif first <= self.offset:
            if self._trace:
                self._trace("INFO", "replace the unstable entries from index {index}", index=first)
            self.entries = list(entries)
            self.offset = self.offset_in_progress = first
        else:
            if self._trace:
                self._trace("INFO", "truncate the unstable entries before index {index}", index=first)
            self.entries = self.slice(self.offset, first)
            self.entries += entries
            self.offset_in_progress = min(self.offset_in_progress, first)

    def restore(self, snapshot: Snapshot) -> None:
        """Hold nothing but ``snapshot``."""
        self.offset = self.offset_in_progress = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def next_entries(self) -> list[Entry]:
        """The entries not handed out yet."""
        return self.entries[self.offset_in_progress - self.offset :]

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot if it was not handed out yet."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept_in_progress(self) -> None:
        """All that is here was handed out."""
        self.offset_in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, term: int, index: int) -> None:
        """
        The log is saved up to ``index``, where its term was ``term``.

        Another term there means that the entry was replaced since, and the save of the new one is behind it.
        """
        held = self.term(index)
        if held is None:
            if self._trace:
                self._trace("INFO", "entry at index {index} missing from unstable log; ignoring", index=index)
        elif index < self.offset:
            if self._trace:
                self._trace("INFO", "entry at index {index} matched unstable snapshot; ignoring", index=index)
        elif held != term:
            if self._trace:
                self._trace(
                    "INFO",
                    "entry at (index,term)=({index},{term}) mismatched with entry at ({index},{held}) "
                    "in unstable log; ignoring",
                    index=index,
                    term=term,
                    held=held,
                )
        else:
            del self.entries[: index + 1 - self.offset]
            self.offset = index + 1
            self.offset_in_progress = max(self.offset_in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """The snapshot of ``index`` is saved."""
        if self.snapshot and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False
