"""A log in memory, for tests: it forgets everything with the process, and shows what was asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from twistedetcd.errors import WALClosedError, WALSnapshotError
from twistedetcd.interfaces import IWAL
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.wal.reading import Recovered
from twistedetcd.wire import SnapshotRecord, encode_entries


@implementer(IWAL)
class MemoryWAL:
    """
    Attributes:
        saves: What `save` was given, in order.
        entries: What a restart would read.
        hard_state: The last one saved.
        snapshots: The records of `save_snapshot`, in order.
        released_to: The last index given to `release_to`; nothing is forgotten for it.
        cuts: How often `cut` was called.
        closed: Whether it was closed.
    """

    def __init__(self) -> None:
        self.saves: list[tuple[HardState | None, tuple[Entry, ...]]] = []
        self.entries: list[Entry] = []
        self.hard_state = HardState()
        self.snapshots: list[SnapshotRecord] = []
        self.released_to = self.cuts = 0
        self.closed = False
        self._opened_at = SnapshotRecord(0, 0)
        self._written_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries ever saved: as in a file, replaced ones still count."""
        return self._written_bytes

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> Deferred[None]:
        """See `IWAL.save`; what it is given is there at once."""
        if self.closed:
            return fail(WALClosedError("The log in memory is closed"))
        self.saves.append((state, tuple(entries)))
        if entries:
            first = entries[0].index
            while self.entries and self.entries[-1].index >= first:
                self.entries.pop()
            self.entries.extend(entries)
            self._written_bytes += sum(map(len, encode_entries(entries)))
        if state is not None:
            self.hard_state = state
        return succeed(None)

    def save_snapshot(
        self, index: int, term: int, conf_state: ConfState, state: HardState | None = None
    ) -> Deferred[None]:
        """See `IWAL.save_snapshot`."""
        if self.closed:
            return fail(WALClosedError("The log in memory is closed"))
        self.snapshots.append(SnapshotRecord(index, term, conf_state))
        if state is not None:
            self.hard_state = state
        return succeed(None)

    def release_to(self, index: int) -> None:
        """See `IWAL.release_to`; only remembered."""
        if self.closed:
            raise WALClosedError("The log in memory is closed")
        self.released_to = index

    def cut(self) -> Deferred[None]:
        """See `IWAL.cut`; only counted."""
        if self.closed:
            return fail(WALClosedError("The log in memory is closed"))
        self.cuts += 1
        return succeed(None)

    def purge(self, keep: int) -> Deferred[int]:
        """See `IWAL.purge`; it is all one piece, which stays."""
        return succeed(0)

    def reopened(self, snapshot_index: int = 0, snapshot_term: int = 0) -> Self:
        """What a restart would open: a log with the same content, to be read from a snapshot on."""
        again = type(self)()
        again.entries, again.hard_state = list(self.entries), self.hard_state
        again.snapshots, again._written_bytes = list(self.snapshots), self._written_bytes
        again._opened_at = SnapshotRecord(snapshot_index, snapshot_term)
        return again

    def read_all(self) -> Recovered:
        """See `IWAL.read_all`."""
        index, term, _ = self._opened_at
        known = {snapshot[:2] for snapshot in self.snapshots if snapshot.index <= self.hard_state.commit}
        if index and (index, term) not in known:
            self.close()
            raise WALSnapshotError(f"The log in memory does not vouch for snapshot {index} of term {term}")
        entries = [entry for entry in self.entries if entry.index > index]
        return Recovered(b"", self.hard_state, entries, list(self.snapshots))

    def close(self) -> None:
        """See `IWAL.close`."""
        self.closed = True
