"""Making a log, locking the segments of one that is there, repairing its end.  All of it blocks."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from twisted.logger import Logger

from twistedetcd.errors import WALError
from twistedetcd.interfaces import IFile, IFiles, RunInThread
from twistedetcd.wal.reading import Reading, Recovered
from twistedetcd.wal.record import SNAPSHOT, encode_head
from twistedetcd.wal.scanner import WINDOW_BYTES
from twistedetcd.wal.segments import (
    SEGMENT_BYTES,
    SegmentName,
    clear_rest,
    lock_segment,
    segments_from,
    segments_in,
    write_zeros,
)
from twistedetcd.wire import SnapshotRecord, encode_snapshot_record

_log = Logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How a log is kept; may differ from one start to the next."""

    run_in_worker: RunInThread
    """Where the next segment is filled: a thread."""
    run_sync: RunInThread | None = None
    """Where a save is written and synced; ``None`` for at once, in the caller's thread."""
    disk_busy: Callable[[], bool] = lambda: True
    """Whether a sync would wait for others: if not, it is done at once in spite of ``run_sync``."""
    busy_until: float = -inf
    """Until when it would in any case, by ``seconds``: the disk was found to be slow."""
    segment_bytes: int = SEGMENT_BYTES
    """How long a segment gets before the next one is begun."""
    unsafe_no_sync: bool = False
    """Write, but never sync while running: what was saved may be lost when the machine stops."""
    seconds: Callable[[], float] = lambda: 0.0
    """The time, to notice a slow disk by; called where a save is written."""


class Segment(NamedTuple):
    """A segment that is open and locked."""

    name: SegmentName
    file: IFile


class Tail(NamedTuple):
    """Where to write on in the last segment, and the running checksum there."""

    offset: int
    crc: int


def exists(files: IFiles, directory: str) -> bool:
    """Whether there is a log: then the member was set up before.  One that was only partly created is not."""
    return bool(segments_in(files, directory))


def create_log(
    files: IFiles, directory: str, metadata: bytes, segment_bytes: int, sync: bool
) -> tuple[Segment, Tail]:
    """
    Make a log of one segment.  It gets its name last, so a crash on the way leaves none.

    Raises:
        WALError: There is a log already, or other files are in its place.
        OSError: The disk refused.
    """
    if exists(files, directory):
        raise WALError(f"There is a log in {directory} already")
    if strangers := [name for name in files.list(directory) if not name.endswith(".tmp")]:
        raise WALError(f"The log directory {directory} holds another file: {strangers[0]}")
    temporary = f"{os.path.normpath(directory)}.tmp"
    files.remove_directory(temporary)
    files.make_directory(temporary)
    name = SegmentName(0, 0)
    file = files.open(os.path.join(temporary, str(name)), create=True)
    try:
        lock_segment(file)
        write_zeros(file, 0, segment_bytes)
        snapshot = encode_snapshot_record(SnapshotRecord(0, 0))
        head, crc = encode_head(0, metadata, [(SNAPSHOT, snapshot)])
        file.write(0, head)
        if sync:
            file.sync()
            files.sync_directory(temporary)
        files.remove_directory(directory)
        files.rename(temporary, directory)
        file.name = os.path.join(directory, str(name))
        if sync:
            files.sync_directory(os.path.dirname(temporary) or ".")
    except BaseException:
        file.close()
        raise
    return Segment(name, file), Tail(len(head), crc)


def open_log(
    files: IFiles, directory: str, index: int
) -> tuple[list[Segment], list[tuple[SegmentName, int]]]:
    """
    Open and lock the segments needed after ``index``, and remove what an earlier run prepared.

    Returns:
        The segments, oldest first; and those before them, with their sizes.

    Raises:
        WALSnapshotError: The log begins after ``index``.
        WALError: Another process uses the log, there is none, or a segment is missing.
        OSError: The disk refused.
    """
    present = segments_in(files, directory)
    segments: list[Segment] = []
    older: list[tuple[SegmentName, int]] = []
    try:
        for name in segments_from(present, index, directory):
            segments.append(Segment(name, files.open(os.path.join(directory, str(name)))))
            lock_segment(segments[-1].file)
        for name in present[: -len(segments)]:
            file = files.open(os.path.join(directory, str(name)))
            older.append((name, file.size()))
            file.close()
        for leftover in files.list(directory):
            if leftover.endswith(".tmp"):
                files.remove(os.path.join(directory, leftover))
    except BaseException:
        for segment in segments:
            segment.file.close()
        raise
    return segments, older


def recover(
    files: IFiles, directory: str, segments: Sequence[Segment], reading: Reading, segment_bytes: int
) -> tuple[Recovered, Tail]:
    """
    Read locked segments; cut off a torn end, once, and leave zeros after what is whole.  Durable on return.

    Raises:
        WALCorruptError: A record that was once durable does not read back; nothing was changed.
        WALSnapshotError: The log does not vouch for the snapshot; nothing was changed.
        OSError: The disk refused.
    """
    last = segments[-1]
    for name, file in segments:
        path = os.path.join(directory, str(name))
        scanner = reading.take_segment(file, path, file is last.file)
    recovered = reading.finish(directory)
    tail = Tail(scanner.offset, scanner.crc or 0)
    if scanner.torn:
        copy = _cut_torn_end(files, directory, last.file, path, tail.offset)
        _log.warn(
            "Cut the torn end of {path} at offset {offset}; a copy is in {copy}",
            path=path,
            offset=tail.offset,
            copy=copy,
        )
        recovered = recovered._replace(broken_copy=copy)
    clear_rest(last.file, tail.offset, segment_bytes)
    # What was read may never have been synced, if it was only the process that ended: whoever builds on it
    # must not lose it.  And once something is written after it, sectors of a torn end between those of a new
    # record would look like damage, where zeros look like a write that was not finished.
    last.file.sync()
    files.sync_directory(directory)
    files.sync_directory(os.path.dirname(os.path.normpath(directory)) or ".")
    return recovered, tail


def _cut_torn_end(files: IFiles, directory: str, file: IFile, path: str, offset: int) -> str:
    """
    Keep a copy of a segment, durably, then cut it at the end of its last whole record, which is not yet.

    Returns:
        The copy's path.
    """
    copy_path = f"{path}.broken"
    files.remove(copy_path)
    copy = files.open(copy_path, create=True)
    try:
        position = 0
        while piece := file.read(position, WINDOW_BYTES):
            copy.write(position, piece)
            position += len(piece)
        copy.sync()
    finally:
        copy.close()
    files.sync_directory(directory)
    file.truncate(offset)
    return copy_path
