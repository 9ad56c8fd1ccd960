"""Reading the log from a snapshot on that it vouches for."""

from __future__ import annotations

import os.path
from typing import NamedTuple

from twistedetcd.errors import WALCorruptError, WALSnapshotError
from twistedetcd.interfaces import IFile, IFiles
from twistedetcd.raft.types import Entry, EntryType, HardState
from twistedetcd.wal.record import CRC, ENTRY, METADATA, SNAPSHOT, STATE
from twistedetcd.wal.scanner import RecordScanner
from twistedetcd.wal.segments import segments_from, segments_in
from twistedetcd.wire import (
    SnapshotRecord,
    decode_entry,
    decode_hard_state,
    decode_snapshot_record,
    encode_hard_state,
)

_ENTRY_TYPES = frozenset(map(int, EntryType))
_TERM_JUMP_MAX = 1 << 32  # more elections than there ever were; a vote taken for a term is beyond it


class Recovered(NamedTuple):
    """What a log holds after a snapshot."""

    metadata: bytes
    """What `SegmentedWAL.create` was given."""
    hard_state: HardState
    """The last one saved; zeros when there was none."""
    entries: list[Entry]
    """Contiguous, from the snapshot's index + 1 on."""
    snapshots: list[SnapshotRecord]
    """Every snapshot record read, oldest first."""
    broken_copy: str | None = None
    """Where the last segment was copied to before its torn end was cut off; ``None`` when it was whole."""


class Reading:
    """Gathers what the records of consecutive segments say, by the rules of replay."""

    def __init__(self, snapshot_index: int, snapshot_term: int) -> None:
        """What comes up to ``snapshot_index`` is skipped; a record of that snapshot must be met."""
        self._snapshot_index = snapshot_index
        self._snapshot_term = snapshot_term
        self._snapshot_seen = False
        self.crc: int | None = None
        self.metadata: bytes | None = None
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.snapshots: list[SnapshotRecord] = []

    def take_segment(self, file: IFile, name: str, last: bool) -> RecordScanner:
        """
        Take in all records of a segment.

        Returns:
            The scanner, at its end.

        Raises:
            WALCorruptError: Something that was once durable does not read back.
        """
        scanner = RecordScanner(file.read, file.size(), self.crc, name, last)
        for kind, data in scanner:
            try:
                self._take(kind, data)
            except ValueError as error:
                raise scanner.corrupt(str(error)) from error
        # A segment gets its name only after its head is durable.
        if scanner.offset == 0:
            raise scanner.corrupt("the segment does not begin with its checksum record")
        if self.metadata is None:
            raise scanner.corrupt("the segment ends before its metadata")
        if not self._snapshot_index and not self._snapshot_seen:
            raise scanner.corrupt("the first segment ends before its first record of a snapshot")
        self.crc = scanner.crc
        return scanner

    def finish(self, directory: str) -> Recovered:
        """
        What was read, once it is all there.

        Raises:
            WALSnapshotError: The log does not vouch for the snapshot.
        """
        assert self.metadata is not None, "no segment was read"
        index, term = self._snapshot_index, self._snapshot_term
        if not self._snapshot_seen:
            raise WALSnapshotError(
                f"The log in {directory} has no record of the snapshot at index {index} of term {term}"
            )
        if index > self.hard_state.commit:
            # The record was written, but not the hard state before it that makes it true.
            raise WALSnapshotError(
                f"The log in {directory} is committed to index {self.hard_state.commit}, not to that of the "
                f"snapshot at {index}"
            )
        return Recovered(self.metadata, self.hard_state, self.entries, self.snapshots)

    def _take(self, kind: int, data: bytes) -> None:
        if kind == ENTRY:
            self._take_entry(decode_entry(data))
        elif kind == STATE:
            self._take_state(decode_hard_state(data), data)
        elif kind == METADATA:
            if self.metadata is not None and self.metadata != data:
                raise ValueError("the metadata is not that of the records before")
            self.metadata = data
        elif kind == SNAPSHOT:
            self._take_snapshot(decode_snapshot_record(data))
        elif kind != CRC:
            raise ValueError(f"unknown record type {kind}")

    # The checksum does not cover a record's type.  An entry that now says it is a hard state, or a hard state
    # that says it is an entry, is told by what no member would have saved.

    def _take_state(self, state: HardState, data: bytes) -> None:
        if state.term < self.hard_state.term or encode_hard_state(state) != data:
            raise ValueError(f"not a hard state that could follow term {self.hard_state.term}")
        self.hard_state = state

    def _take_entry(self, entry: Entry) -> None:
        if entry.type not in _ENTRY_TYPES:
            raise ValueError(f"entry {entry.index} has the unknown type {entry.type}")
        place = entry.index - self._snapshot_index - 1
        if place < 0:
            return
        if place > len(self.entries):
            expected = self._snapshot_index + 1 + len(self.entries)
            raise ValueError(f"slice out of range: entry {entry.index} where {expected} is the next")
        if place and entry.term < self.entries[place - 1].term:
            raise ValueError(f"entry {entry.index} has a lower term than the one before it")
        if entry.term > self.hard_state.term + _TERM_JUMP_MAX:
            raise ValueError(f"entry {entry.index} has the term {entry.term}, far above the one before it")
        if entry.type == EntryType.CONF_CHANGE and not entry.data:
            raise ValueError(f"entry {entry.index} changes the membership, but not how")
        if (
            place < len(self.entries)
            and self.entries[place] != entry
            and self.entries[place].term == entry.term
        ):
            raise ValueError(f"entry {entry.index} is another than before, of the same term {entry.term}")
        # A new leader's entries replace those of the old one, and all after them.
        del self.entries[place:]
        self.entries.append(entry)

    def _take_snapshot(self, snapshot: SnapshotRecord) -> None:
        self.snapshots.append(snapshot)
        if snapshot[:2] == (self._snapshot_index, self._snapshot_term):
            self._snapshot_seen = True


def vouched_snapshots(files: IFiles, directory: str) -> set[tuple[int, int]]:
    """
    Index and term of the snapshots that a log vouches for: recorded, and committed.

    All that is there is read; what does not read back is for whoever opens the log to refuse.
    """
    found: list[SnapshotRecord] = []
    commit = 0
    crc = None
    names = segments_in(files, directory)
    for name in names:
        path = os.path.join(directory, str(name))
        file = files.open(path)
        try:
            scanner = RecordScanner(file.read, file.size(), crc, path, name == names[-1])
            for kind, data in scanner:
                if kind == SNAPSHOT:
                    found.append(decode_snapshot_record(data))
                elif kind == STATE:
                    commit = max(commit, decode_hard_state(data).commit)
            crc = scanner.crc
        except (WALCorruptError, ValueError):
            break
        finally:
            file.close()
    return {(snapshot.index, snapshot.term) for snapshot in found if snapshot.index <= commit}


def verify(files: IFiles, directory: str, snapshot_index: int = 0, snapshot_term: int = 0) -> Recovered:
    """
    Read the log after a snapshot as a start would, without locking or changing anything.

    A torn end is left out.

    Raises:
        WALCorruptError: A record that was once durable does not read back.
        WALSnapshotError: The log does not vouch for the snapshot.
        WALError: A segment is missing.
    """
    names = segments_from(segments_in(files, directory), snapshot_index, directory)
    reading = Reading(snapshot_index, snapshot_term)
    for name in names:
        path = os.path.join(directory, str(name))
        file = files.open(path)
        try:
            reading.take_segment(file, path, name == names[-1])
        finally:
            file.close()
    return reading.finish(directory)
