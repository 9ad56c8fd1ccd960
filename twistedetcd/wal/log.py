"""
The log of one member: records appended to the last segment, and a new segment when that is full.

A save is one write and one sync.  A hard state that only moved its commit index waits in memory until a
term, a vote, a snapshot or a new segment is written: a member that forgets it learns it again.  The save that
fills a segment fires once the next one has its name on the disk; a worker filled that one with zeros.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.errors import WALClosedError
from twistedetcd.interfaces import IWAL, IFile, IFiles, RunInThread
from twistedetcd.patience import Patience
from twistedetcd.raft.types import ConfState, Entry, HardState
from twistedetcd.wal.opening import LogOptions, Segment, create_log, open_log, recover
from twistedetcd.wal.reading import Reading, Recovered
from twistedetcd.wal.record import ENTRY, SNAPSHOT, STATE, encode_head, encode_records
from twistedetcd.wal.segments import NextSegment, SegmentName, remove_segments
from twistedetcd.wire import SnapshotRecord, encode_entries, encode_hard_state, encode_snapshot_record

SLOW_SYNC_SECONDS = 1.0
"""A sync that takes longer is told to the operator."""
BUSY_SYNC_SECONDS = 0.005
"""Where syncs take longer, the disk is slow, or others use it, and the next may take a second:"""
BUSY_SECONDS = 10.0
"""for so long none is waited for where it would hold up everything else."""


@implementer(IWAL)
class SegmentedWAL:
    """
    A write-ahead log in etcd's format.  Made by `create` and `open`, which block.

    One writer: wait for each Deferred before the next call; only `close` and `purge` may come at any time.
    """

    _log = Logger()

    def __init__(self, files: IFiles, directory: str, segments: list[Segment], options: LogOptions) -> None:
        """Use `create` or `open`."""
        self._files = files
        self._directory = directory
        self._segment_bytes = options.segment_bytes
        self._run_sync = options.run_sync
        self._patience = Patience(BUSY_SYNC_SECONDS, BUSY_SECONDS, options.busy_until)
        self._disk_busy = options.disk_busy
        self._run_in_worker = options.run_in_worker
        self._seconds = options.seconds
        self._syncs = not options.unsafe_no_sync
        self._next = NextSegment(files, directory, options.segment_bytes, options.run_in_worker, self._syncs)
        # Locked, oldest first; the last one is written to, at ``_offset``.
        self._segments = segments
        # Those before, unlocked, with their sizes.
        self._released: list[tuple[SegmentName, int]] = []
        # Of all segments before the last one, locked or not.
        self._older_bytes = 0
        self._offset = self._crc = self._last_index = 0
        self._metadata = b""
        self._state = HardState()
        # Whether ``_state`` is newer than what was written.
        self._state_owed = False
        # Set from open() until read_all().
        self._reading: Reading | None = None
        self._busy = False
        self._closed = False

    @classmethod
    def create(cls, files: IFiles, directory: str, metadata: bytes, *, options: LogOptions) -> SegmentedWAL:
        """
        Make a log, ready to save; durable on return.  Until then there is none, even after a crash.

        Args:
            files: The file system.
            directory: Where; must not hold a log.  Made under the name ``directory + ".tmp"``.
            metadata: Whose log it is, as `twistedetcd.wire.encode_metadata` gives it.
            options: How to keep it.

        Raises:
            WALError: There is a log already, or other files are in its place.
            OSError: The disk refused.
        """
        segment, tail = create_log(
            files, directory, metadata, options.segment_bytes, not options.unsafe_no_sync
        )
        wal = cls(files, directory, [segment], options)
        wal._metadata = metadata
        wal._offset, wal._crc = tail
        return wal

    @classmethod
    def open(
        cls,
        files: IFiles,
        directory: str,
        snapshot_index: int = 0,
        snapshot_term: int = 0,
        *,
        options: LogOptions,
    ) -> SegmentedWAL:
        """
        Lock a log, to go on after a snapshot.  Call `read_all` next; before it, nothing can be saved.

        Args:
            files: The file system.
            directory: Where the log is.
            snapshot_index: The snapshot's index; 0 for none.
            snapshot_term: Its term.
            options: How to keep it.

        Raises:
            WALSnapshotError: The log begins after the snapshot.
            WALError: Another process uses the log, there is none, or a segment is missing.
            OSError: The disk refused.
        """
        segments, released = open_log(files, directory, snapshot_index)
        wal = cls(files, directory, segments, options)
        wal._released = released
        wal._older_bytes = sum(size for _, size in released)
        wal._older_bytes += sum(segment.file.size() for segment in segments[:-1])
        wal._reading = Reading(snapshot_index, snapshot_term)
        return wal

    def read_all(self) -> Recovered:
        """
        See `IWAL.read_all`.

        What an interrupted write left at the end is cut off, after a copy of its segment was made.
        """
        assert self._reading is not None, "only once, and only after open"
        try:
            recovered, tail = recover(
                self._files, self._directory, self._segments, self._reading, self._segment_bytes
            )
        except BaseException:
            self.close()
            raise
        self._reading = None
        self._metadata = recovered.metadata
        self._state = recovered.hard_state
        self._offset, self._crc = tail
        indices = [snapshot.index for snapshot in recovered.snapshots]
        self._last_index = max(indices + [entry.index for entry in recovered.entries[-1:]])
        return recovered

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk, padding and the prepared segment included."""
        return self._older_bytes + max(self._offset, self._segment_bytes) + self._next.size_bytes

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> Deferred[None]:
        """See `IWAL.save`."""
        if self._closed:
            return fail(self._closed_error())
        state_changed = False
        if state is not None and state != self._state:
            state_changed = state[:2] != self._state[:2]
            self._state, self._state_owed = state, True
        if not entries and not state_changed:
            return succeed(None)
        frames = b""
        if entries:
            self._last_index = entries[-1].index
            frames, self._crc = encode_records(self._crc, ENTRY, encode_entries(entries))
        return self._write(frames + self._owed_state() if state_changed else frames)

    def save_snapshot(
        self, index: int, term: int, conf_state: ConfState, state: HardState | None = None
    ) -> Deferred[None]:
        """See `IWAL.save_snapshot`."""
        if self._closed:
            return fail(self._closed_error())
        data = encode_snapshot_record(SnapshotRecord(index, term, conf_state))
        self._last_index = max(self._last_index, index)
        frames, self._crc = encode_records(self._crc, SNAPSHOT, (data,))
        if state is not None and state != self._state:
            self._state, self._state_owed = state, True
        return self._write(frames + self._owed_state())

    def release_to(self, index: int) -> None:
        """See `IWAL.release_to`; segments before the one that holds ``index`` are unlocked."""
        if self._closed:
            raise self._closed_error()
        while len(self._segments) > 1 and self._segments[1].name.first_index <= index:
            name, file = self._segments.pop(0)
            self._released.append((name, file.size()))
            file.close()

    def cut(self) -> Deferred[None]:
        """See `IWAL.cut`."""
        if self._closed:
            return fail(self._closed_error())
        self._begin_writing()
        return self._cut(None).addCallbacks(self._done, self._broke)

    def purge(self, keep: int) -> Deferred[int]:
        """See `IWAL.purge`; ``keep`` counts segments, and one that another process has locked ends it."""
        surplus = len(self._released) + len(self._segments) - keep
        if not keep or surplus <= 0 or not self._released:
            return succeed(0)
        # What may go is known before the worker begins, so whatever happens meanwhile adds nothing to it.
        names = [name for name, _ in self._released[:surplus]]
        removing = self._run_in_worker(lambda: remove_segments(self._files, self._directory, names))
        return removing.addCallback(self._purged)

    def _purged(self, count: int) -> int:
        self._older_bytes -= sum(size for _, size in self._released[:count])
        del self._released[:count]
        return count

    def close(self) -> None:
        """
        See `IWAL.close`.  Writes the hard state that still waits; a write under way is finished first.

        Raises:
            OSError: The disk refused to take that hard state.
        """
        if self._closed:
            return
        self._closed = True
        self._next.close()
        if not self._busy:
            self._let_go()

    def _let_go(self) -> None:
        try:
            if self._state_owed:
                self._segments[-1].file.write(self._offset, self._owed_state())
        finally:
            while self._segments:
                self._segments.pop().file.close()

    def _closed_error(self) -> WALClosedError:
        return WALClosedError(f"The log in {self._directory} is closed")

    def _owed_state(self) -> bytes:
        """The hard state's frame if it still waits, and it does so no longer."""
        if not self._state_owed:
            return b""
        self._state_owed = False
        frame, self._crc = encode_records(self._crc, STATE, (encode_hard_state(self._state),))
        return frame

    def _write(self, frames: bytes) -> Deferred[None]:
        """Write, sync, and go on to the next segment if this one is full."""
        self._begin_writing()
        file, offset = self._segments[-1].file, self._offset
        run_sync = self._where()
        if run_sync is None:
            try:
                self._took(self._store(file, offset, frames))
            except Exception:
                return fail(self._broke(Failure()))
            self._offset = offset + len(frames)
            if self._offset < self._segment_bytes:
                self._done(None)
                return succeed(None)
            written = self._cut(None)
        else:
            written = run_sync(lambda: self._store(file, offset, frames)).addCallback(self._took)
            self._offset = offset + len(frames)
            if self._offset >= self._segment_bytes:
                written.addCallback(self._cut)
        return written.addCallbacks(self._done, self._broke)

    def _where(self) -> RunInThread | None:
        """Where to sync now; ``None`` for here."""
        if self._run_sync is None:
            return None
        is_busy = self._seconds() < self._patience.lost_until or self._disk_busy()
        return self._run_sync if is_busy else None

    def _begin_writing(self) -> None:
        assert not self._busy, "one writer: wait for each Deferred before the next call"
        assert self._reading is None, "read_all() comes before the first save"
        self._busy = True
        if self._next.idle:
            self._next.prepare()

    def _store(self, file: IFile, offset: int, data: bytes) -> float:
        """Write and sync; returns how long the sync took, in seconds."""
        file.write(offset, data)
        if not self._syncs:
            return 0.0
        began = self._seconds()
        file.sync()
        return self._seconds() - began

    def _took(self, seconds: float) -> None:
        """A sync took so long."""
        self._patience.took(seconds, self._seconds())
        if seconds > SLOW_SYNC_SECONDS:
            expected = {"expected-duration": f"{SLOW_SYNC_SECONDS:g}s"}
            self._log.warn("slow fdatasync", took=f"{seconds:g}s", **expected)

    def _done(self, _: None) -> None:
        self._busy = False
        if self._closed:
            self._let_go()

    def _broke(self, failure: Failure) -> Failure:
        # What reached the disk is not known, so nothing may be written after it.
        self._closed, self._busy, self._state_owed = True, False, False
        self._next.close()
        self._let_go()
        return failure

    def _cut(self, _: None) -> Deferred[None]:
        """End the full segment and begin the prepared one, once there is one."""
        if self._closed:
            return succeed(None)
        return self._next.take().addCallback(self._begin)

    def _begin(self, file: IFile) -> Deferred[None]:
        state = [(STATE, encode_hard_state(self._state))] if any(self._state) else []
        head, crc = encode_head(self._crc, self._metadata, state)
        name = SegmentName(self._segments[-1].name.sequence + 1, self._last_index + 1)
        full, full_bytes = self._segments[-1].file, self._offset
        # Closed with the rest when anything below fails.
        self._segments.append(Segment(name, file))

        def switch() -> float:
            full.truncate(full_bytes)  # only zeros go, so it may get lost
            seconds = self._store(file, 0, head)
            path = os.path.join(self._directory, str(name))
            self._files.rename(file.name, path)
            file.name = path
            if self._syncs:
                self._files.sync_directory(self._directory)
            return seconds

        def switched(seconds: float) -> None:
            self._took(seconds)
            self._older_bytes += full_bytes
            self._offset, self._crc = len(head), crc

        run = self._where() or execute
        return run(switch).addCallback(switched)
