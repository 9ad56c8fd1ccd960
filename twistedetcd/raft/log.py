"""
The log as raft sees it: the storage, then the unstable tail, and how much of it is committed and applied.

Invariant: applied <= applying <= committed <= last index.  An index is *applying* once it was handed out, and
applied once that was acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twistedetcd.raft.errors import (
    InvariantError,
    LogCompactedError,
    LogLostError,
    LogUnavailableError,
)
from twistedetcd.raft.sizes import encoded_size, limit
from twistedetcd.raft.storage import Storage
from twistedetcd.raft.types import NO_LIMIT, Entry, EntryType, Snapshot, Trace
from twistedetcd.raft.unstable import Unstable


class RaftLog:
    """See the module."""

    def __init__(
        self, storage: Storage, trace: Trace | None = None, applying_bytes_max: int = NO_LIMIT
    ) -> None:
        """
        Args:
            storage: The durable part.
            trace: Hears of conflicts.
            applying_bytes_max: Encoded bytes handed out to be applied and not yet acknowledged, over all
                Readys; at least one entry always goes out.
        """
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1, trace)
        self.committed = self.applying = self.applied = storage.first_index() - 1
        self._trace = trace
        self._applying_bytes_max = applying_bytes_max
        self._applying_bytes = 0
        self._outstanding: deque[tuple[int, int]] = deque()
        self._paused = False

    def __str__(self) -> str:
        unstable = self.unstable
        return (
            f"committed={self.committed}, applied={self.applied}, applying={self.applying}, "
            f"unstable.offset={unstable.offset}, unstable.offsetInProgress={unstable.offset_in_progress}, "
            f"len(unstable.Entries)={len(unstable.entries)}"
        )

    # What it holds.

    def first_index(self) -> int:
        """The first index whose entry can be read."""
        snapshot = self.unstable.snapshot
        return self.storage.first_index() if snapshot is None else snapshot.index + 1

    def last_index(self) -> int:
        """The last index; that of the snapshot when no entry follows it."""
        unstable = self.unstable
        return unstable.offset + len(unstable.entries) - 1

    def last_term(self) -> int:
        """The term at the last index."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """
        The term at ``index``.

        Raises:
            LogCompactedError: It is below the first index by more than one.
            LogUnavailableError: It is past the last one.
        """
        unstable = self.unstable
        if index < unstable.offset and unstable.snapshot is None:
            return self.storage.term(index)
        term = unstable.term(index)
        if term is None:
            # What the storage holds is from before the snapshot, if there is one.
            raise LogCompactedError if index < unstable.offset else LogUnavailableError
        return term

    def term_or_zero(self, index: int) -> int:
        """The term at ``index``; 0 when it is not known."""
        try:
            return self.term(index)
        except (LogCompactedError, LogUnavailableError):
            return 0

    def matches(self, index: int, term: int) -> bool:
        """Whether the log has an entry, or its snapshot, of that term there."""
        try:
            return self.term(index) == term
        except (LogCompactedError, LogUnavailableError):
            return False

    def is_up_to_date(self, term: int, index: int) -> bool:
        """Whether a log that ends so may lead this one (raft paper, 5.4.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self.last_index())

    def entries(self, low: int, bytes_max: int = NO_LIMIT) -> Sequence[Entry]:
        """The entries from ``low`` on, as many as fit but one at least."""
        offset = self.unstable.offset
        if low >= offset:
            return limit(self.unstable.entries[low - offset :], bytes_max)
        last = self.last_index()
        return self.slice(low, last + 1, bytes_max) if low <= last else ()

    def slice(self, low: int, high: int, bytes_max: int = NO_LIMIT) -> Sequence[Entry]:
        """
        The entries with ``low`` <= index < ``high``, as many as fit but one at least.

        Raises:
            LogCompactedError: ``low`` was compacted away.
            InvariantError: The storage lacks what it had.
        """
        if low < self.first_index():
            raise LogCompactedError
        last = self.last_index()
        if low > high or high > last + 1:
            raise InvariantError(f"slice[{low},{high}) out of bound, last index is {last}")
        if low == high:
            return ()
        offset = self.unstable.offset
        if low >= offset:
            return limit(self.unstable.slice(low, high), bytes_max)
        try:
            stable = self.storage.entries(low, min(high, offset), bytes_max)
        except LogUnavailableError as error:
            raise InvariantError(
                f"entries[{low},{min(high, offset)}) are missing from the storage"
            ) from error
        if high <= offset or len(stable) < offset - low:
            return stable
        left = NO_LIMIT if bytes_max >= NO_LIMIT else bytes_max - encoded_size(stable)
        if left <= 0:
            return stable
        tail = limit(self.unstable.slice(offset, high), left)
        if len(tail) == 1 and encoded_size(tail) > left:
            return stable
        return [*stable, *tail]

    def has_conf_change(self, low: int, high: int) -> bool:
        """Whether a membership change lies in [``low``, ``high``)."""
        while low < high:
            page = self._committed_slice(low, high, self._applying_bytes_max)
            if any(entry.type != EntryType.NORMAL for entry in page):
                return True
            low += len(page)
        return False

    # Adding to it.

    def append(self, entries: Sequence[Entry]) -> int:
        """Add entries, replacing all from the first one's index on; the last index then."""
        if entries:
            if entries[0].index <= self.committed:
                raise InvariantError(
                    f"entry {entries[0].index} would replace one committed ({self.committed})"
                )
            self.unstable.append(entries)
        return self.last_index()

    def maybe_append(self, index: int, term: int, commit: int, entries: Sequence[Entry]) -> int | None:
        """
        Take in what a leader sent after (``index``, ``term``), and its commit index.

        Only what is new or in conflict is written: an old message must not cut off what a newer one brought.

        Returns:
            The last index of this message; ``None`` if the log does not match it.
        """
        if not self.matches(index, term):
            return None
        for position, entry in enumerate(entries):
            if self.matches(entry.index, entry.term):
                continue
            if entry.index <= self.last_index() and self._trace:
                self._trace(
                    "INFO",
                    "found conflict at index {index} [existing term: {existing}, conflicting term: {term}]",
                    index=entry.index,
                    existing=self.term_or_zero(entry.index),
                    term=entry.term,
                )
            self.append(entries[position:])
            break
        last = index + len(entries)
        self.commit_to(min(commit, last))
        return last

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The greatest index up to ``index`` whose term is not above ``term`` or not known, and that term."""
        while index > 0:
            try:
                held = self.term(index)
            except (LogCompactedError, LogUnavailableError):
                return index, 0
            if held <= term:
                return index, held
            index -= 1
        return 0, 0

    def restore(self, snapshot: Snapshot) -> None:
        """Start over from a snapshot that a leader sent."""
        if self._trace:
            self._trace(
                "INFO",
                "log [{log}] starts to restore snapshot [index: {index}, term: {term}]",
                log=str(self),
                index=snapshot.index,
                term=snapshot.term,
            )
        self.committed = snapshot.index
        self.unstable.restore(snapshot)

    # Committing and applying.

    def commit_to(self, index: int) -> None:
        """Raise the commit index; it never falls."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise LogLostError(
                f"commit index {index} is past the last index {self.last_index()}: log lost or damaged?"
            )
        self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to ``index`` if its entry is of ``term``: older ones only go along (paper, 5.4.2)."""
        if index <= self.committed or self.term_or_zero(index) != term:
            return False
        self.commit_to(index)
        return True

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Whether `next_committed` has something."""
        return self.applying < self._appliable(allow_unstable)

    def next_committed(self, allow_unstable: bool) -> Sequence[Entry]:
        """
        The committed entries to apply next.

        Args:
            allow_unstable: Hand out entries too that are not acknowledged as saved on this member.
        """
        end = self._appliable(allow_unstable)
        if self.applying >= end:
            return ()
        left = self._applying_bytes_max - self._applying_bytes
        return self._committed_slice(self.applying + 1, end + 1, left)

    def _committed_slice(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        try:
            return self.slice(low, high, bytes_max)
        except LogCompactedError as error:
            raise InvariantError(f"entries[{low},{high}) were compacted before they were applied") from error

    def _appliable(self, allow_unstable: bool) -> int:
        if self._paused or self.unstable.snapshot is not None:
            return 0
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def accept_applying(self, entries: Sequence[Entry], allow_unstable: bool) -> None:
        """`next_committed` was handed out: all of it, as ``entries``."""
        more = self._appliable(allow_unstable)
        self.applying = entries[-1].index
        size = encoded_size(entries)
        self._outstanding.append((self.applying, size))
        self._applying_bytes += size
        self._paused = self._applying_bytes >= self._applying_bytes_max or self.applying < more

    def applied_to(self, index: int, handed_out: int = 0) -> None:
        """
        Everything up to ``index`` is applied.

        Args:
            index: Not below the last one.
            handed_out: Entries up to here, handed out to be applied, are done with: so what a snapshot
                overtook keeps counting until it is let go of too.
        """
        if not self.applied <= index <= self.committed:
            raise InvariantError(f"applied {index} is not within [{self.applied}, {self.committed}]")
        self.applied = index
        self.applying = max(self.applying, index)
        while self._outstanding and self._outstanding[0][0] <= handed_out:
            self._applying_bytes -= self._outstanding.popleft()[1]
        self._paused = self._applying_bytes >= self._applying_bytes_max
