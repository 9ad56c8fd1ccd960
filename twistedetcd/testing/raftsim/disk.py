"""
A disk that forgets: what was written and not synced may be lost, from any record on.

The log is one sequence of records (a write's entries, then its hard state), so a crash loses a suffix of what
was not synced.  A write that brings a snapshot is lost whole or not at all: a recovery ignores a snapshot
newer than the stored commit index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from twistedetcd.raft.errors import (
    InvariantError,
    LogCompactedError,
    LogUnavailableError,
    SnapshotTemporarilyUnavailableError,
)
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import NO_LIMIT, ConfState, Entry, HardState, Snapshot


class Write(NamedTuple):
    """What one save hands over."""

    snapshot: Snapshot | None
    entries: Sequence[Entry]
    state: HardState | None

    def into(self, storage: MemoryStorage) -> None:
        """Carry it out."""
        if self.snapshot is not None:
            storage.apply_snapshot(self.snapshot)
        storage.append(self.entries)
        if self.state is not None:
            storage.set_hard_state(self.state)


class View(MemoryStorage):
    """The log as raft reads it: everything written, synced or not.  At first a copy of what is durable."""

    def __init__(
        self, durable: MemoryStorage, configuration: ConfState, snapshot_ready: Callable[[], bool]
    ) -> None:
        """
        Args:
            durable: What survived.
            configuration: The one at the index up to which the member has applied.
            snapshot_ready: Called when a snapshot is wanted: may make a newer one; whether one is ready.
        """
        super().__init__()
        first, last, snapshot = durable.first_index(), durable.last_index(), durable.snapshot()
        if first > 1:
            self.apply_snapshot(Snapshot(first - 1, durable.term(first - 1)))
        self.append(durable.entries(first, last + 1, NO_LIMIT))
        if snapshot.index >= first:
            self.create_snapshot(snapshot.index, snapshot.conf_state, snapshot.data)
        elif snapshot.index:
            self._snapshot = snapshot
        self.set_hard_state(durable.initial_state()[0])
        self._configuration, self._snapshot_ready = configuration, snapshot_ready

    def initial_state(self) -> tuple[HardState, ConfState]:
        """See `twistedetcd.raft.storage.Storage`; the configuration is that of the applied index."""
        return super().initial_state()[0], self._configuration

    def snapshot(self) -> Snapshot:
        """See `twistedetcd.raft.storage.Storage`."""
        if not self._snapshot_ready():
            raise SnapshotTemporarilyUnavailableError
        return super().snapshot()


class Disk:
    """One member's disk.  It outlives the member's crashes."""

    def __init__(self, random: Random) -> None:
        """
        Args:
            random: Decides what a crash loses.
        """
        self._random = random
        self.durable = MemoryStorage()
        """What is sure to survive."""
        self._pending: list[Write] = []
        self.view = self.open(ConfState(), lambda: True)

    @property
    def state(self) -> HardState:
        """The durable hard state."""
        return self.durable.initial_state()[0]

    def open(self, configuration: ConfState, snapshot_ready: Callable[[], bool]) -> View:
        """A new view, for a member that starts (see `View`); nothing may be pending."""
        self.view = View(self.durable, configuration, snapshot_ready)
        return self.view

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry, or a snapshot that covers it, is durable."""
        try:
            return self.durable.term(index) == term
        except LogCompactedError:
            return True
        except LogUnavailableError:
            return False

    def write(self, write: Write) -> None:
        """Write; only `sync` makes it certain."""
        self._pending.append(write)
        write.into(self.view)

    def sync(self) -> None:
        """Everything written is durable."""
        for write in self._pending:
            write.into(self.durable)
        self._pending = []

    def crash(self) -> bool:
        """
        Keep a random part of what was not synced.

        Returns:
            Whether anything was lost.
        """
        pending, self._pending = self._pending, []
        kept = self._random.randint(0, len(pending))
        for write in pending[:kept]:
            write.into(self.durable)
        if kept < len(pending) and pending[kept].snapshot is None:
            entries = pending[kept].entries
            self.durable.append(entries[: self._random.randint(0, len(entries))])
        return kept < len(pending)

    def compact(self, index: int, configuration: ConfState, kept: int) -> bool:
        """
        Note a snapshot of the state at ``index``, and drop the log before it.

        Args:
            index: Applied, and committed.
            configuration: The one after applying it.
            kept: How many entries up to it are kept for members that are a little behind.

        Returns:
            Whether it was done: not if there is one as new already.

        Raises:
            InvariantError: Something is not durable yet: it must be, or the snapshot would overtake it.
        """
        durable = self.durable
        if index <= durable.snapshot().index:
            return False
        if self._pending or index > self.state.commit:
            raise InvariantError("a snapshot of what is not durable")
        for storage in (durable, self.view):
            storage.create_snapshot(index, configuration, snapshot_data(index))
            if index - kept >= storage.first_index():
                storage.compact(index - kept)
        return True


def snapshot_data(index: int) -> bytes:
    """What a snapshot of that index holds."""
    return b"state at %d" % index
