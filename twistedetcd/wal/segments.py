"""
Segment files: their names, their zeros, and the next one, made ahead of need.

Segments are filled by writing zeros: a file that was only reserved makes every later sync also record that a
block is now in use.  And zeros are what tells a torn write from a corrupt record (see ``record.py``).
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.errors import WALClosedError, WALError, WALSnapshotError
from twistedetcd.interfaces import IFile, IFiles, RunInThread

SEGMENT_BYTES: Final = 64_000_000
"""When a segment is this long, the next one is begun."""

_ZEROS = bytes(1 << 20)
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


class SegmentName(NamedTuple):
    """``first_index`` is that of the first entry that may be in the segment."""

    sequence: int
    first_index: int

    def __str__(self) -> str:
        return f"{self.sequence:016x}-{self.first_index:016x}.wal"


def parse_name(name: str) -> SegmentName | None:
    """The segment of that name; ``None`` when it is another file."""
    match = _NAME.fullmatch(name)
    return SegmentName(int(match[1], 16), int(match[2], 16)) if match else None


def segments_in(files: IFiles, directory: str) -> list[SegmentName]:
    """The segments in a directory, oldest first."""
    return sorted(filter(None, map(parse_name, files.list(directory))))


def segments_from(names: Iterable[SegmentName], index: int, directory: str) -> list[SegmentName]:
    """
    The segments to read for the entries after ``index``, oldest first.

    Raises:
        WALSnapshotError: The log begins after ``index``.
        WALError: There is none, or a segment is missing.
    """
    ordered = sorted(names)
    if not ordered:
        raise WALError(f"There is no log in {directory}")
    first = max((at for at, name in enumerate(ordered) if name.first_index <= index), default=None)
    if first is None:
        raise WALSnapshotError(
            f"The log in {directory} begins at index {ordered[0].first_index}, after index {index}"
        )
    needed = ordered[first:]
    for name, following in pairwise(needed):
        if following.sequence != name.sequence + 1:
            raise WALError(f"A segment is missing between {name} and {following} in {directory}")
        if following.first_index < name.first_index:
            raise WALError(f"Segment {following} begins before {name} in {directory}")
    return needed


def remove_segments(files: IFiles, directory: str, names: Iterable[SegmentName]) -> int:
    """
    Remove segments, the oldest first, up to one that somebody else has locked.

    Nothing needs them to be gone, so nothing is synced: a crash may bring some of them back.

    Returns:
        How many are gone.
    """
    count = 0
    for name in names:
        path = os.path.join(directory, str(name))
        if files.exists(path):
            file = files.open(path)
            try:
                file.lock()
                files.remove(path)
            except BlockingIOError:
                break
            finally:
                file.close()
        count += 1
    return count


def lock_segment(file: IFile) -> None:
    """
    Lock a segment until it is closed.

    Raises:
        WALError: Somebody else has it.
    """
    try:
        file.lock()
    except BlockingIOError as error:
        raise WALError(f"The log segment {file.name} is in use by another process") from error


def write_zeros(file: IFile, start: int, end: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Write zeros from ``start`` up to ``end``, a piece at a time, unless stopped; does not sync."""
    while start < end and not stopped():
        piece = _ZEROS[: end - start]
        file.write(start, piece)
        start += len(piece)


def clear_rest(file: IFile, offset: int, segment_bytes: int) -> None:
    """Leave only zeros after ``offset``, up to ``segment_bytes`` or the file's end; does not sync."""
    size = file.size()
    position = offset
    while position < size:
        piece = file.read(position, min(len(_ZEROS), size - position))
        if not piece:
            break
        if piece != _ZEROS[: len(piece)]:
            file.write(position, _ZEROS[: len(piece)])
        position += len(piece)
    if size < segment_bytes:
        write_zeros(file, max(size, offset), segment_bytes)


class NextSegment:
    """
    The segment after the current one, still under a temporary name: a worker locks, fills and syncs it.

    `prepare`, then `take`, then `prepare` the one after it; one at a time.
    """

    _log = Logger()

    def __init__(
        self, files: IFiles, directory: str, segment_bytes: int, run_in_worker: RunInThread, sync: bool
    ) -> None:
        """``sync`` is false when nothing is ever synced."""
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._run_in_worker = run_in_worker
        self._sync = sync
        self._count = 0
        self._result: IFile | Failure | None = None
        self._waiter: Deferred[IFile] | None = None
        # Read by the worker between two pieces.
        self._closed = False
        self.idle = True
        """Whether `prepare` should be called."""

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk once it is prepared."""
        return 0 if self.idle or isinstance(self._result, Failure) else self._segment_bytes

    def prepare(self) -> None:
        """Have the next segment made.  A failure waits for `take`."""
        assert self.idle, "one at a time"
        self.idle = False
        path = os.path.join(self._directory, f"{self._count % 2}.tmp")
        self._count += 1
        making = self._run_in_worker(lambda: self._make(path))
        making.addCallbacks(self._made, self._failed, errbackArgs=(path,))

    def take(self) -> Deferred[IFile]:
        """
        Hand over the prepared segment; its ``name`` is the temporary path.

        Raises:
            WALClosedError: Closed before it was ready.
            OSError: It could not be made.
        """
        assert self._waiter is None, "one taker at a time"
        result, self._result = self._result, None
        if result is None:
            self._waiter = Deferred()
            return self._waiter
        if isinstance(result, Failure):
            return fail(result)
        self.idle = True
        return succeed(result)

    def close(self) -> None:
        """Stop preparing.  The temporary file stays; the next opening removes it."""
        self._closed = True
        result, self._result = self._result, None
        if isinstance(result, Failure) or result is None:
            self._answer(Failure(WALClosedError(f"The log in {self._directory} was closed")))
        else:
            result.close()

    def _make(self, path: str) -> IFile:
        """On the worker."""
        self._files.remove(path)
        file = self._files.open(path, create=True)
        try:
            lock_segment(file)
            write_zeros(file, 0, self._segment_bytes, lambda: self._closed)
            if self._sync and not self._closed:
                file.sync()
        except BaseException:
            # On a full disk, what was filled so far is needed more elsewhere.
            file.close()
            self._files.remove(path)
            raise
        return file

    def _made(self, file: IFile) -> None:
        if self._closed:
            file.close()
        elif self._waiter is None:
            self._result = file
        else:
            self.idle = True
            self._answer(file)

    def _failed(self, failure: Failure, path: str) -> None:
        self._log.warn(
            "The next log segment {path} could not be prepared: {error}", path=path, error=failure.value
        )
        if self._waiter is None:
            self._result = failure
        else:
            self._answer(failure)

    def _answer(self, result: IFile | Failure) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if isinstance(result, Failure):
            waiter.errback(result)
        else:
            waiter.callback(result)
