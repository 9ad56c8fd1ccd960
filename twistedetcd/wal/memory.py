"""A log in memory, for tests: it forgets everything with the process, and shows what was asked of it."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from twistedetcd.errors import WALClosedError
from twistedetcd.interfaces import IWAL
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.wire import SnapshotRecord, encode_entries


@implementer(IWAL)
class MemoryWAL:
    """
    Attributes:
        saves: What `save` was given, in order.
        entries: What a restart would read.
        hard_state: The last one saved.
        snapshots: The records of `save_snapshot`, in order.
        released_to: The last index given to `release_to`.
        closed: Whether it was closed.
    """

    def __init__(self) -> None:
        self.saves: list[tuple[HardState | None, tuple[Entry, ...]]] = []
        self.entries: list[Entry] = []
        self.hard_state = HardState()
        self.snapshots: list[SnapshotRecord] = []
        self.released_to = 0
        self.closed = False
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

    def save_snapshot(self, index: int, term: int, conf_state: ConfState) -> Deferred[None]:
        """See `twistedetcd.wal.log.SegmentedWAL.save_snapshot`."""
        if self.closed:
            return fail(WALClosedError("The log in memory is closed"))
        self.snapshots.append(SnapshotRecord(index, term, conf_state))
        return succeed(None)

    def release_to(self, index: int) -> None:
        """See `twistedetcd.wal.log.SegmentedWAL.release_to`; only remembered."""
        if self.closed:
            raise WALClosedError("The log in memory is closed")
        self.released_to = index

    def close(self) -> None:
        """See `IWAL.close`."""
        self.closed = True
