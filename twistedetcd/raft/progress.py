"""
What a leader knows of each member, and how much it may send.

A member is probed one append at a time until it accepts one; then entries are streamed to it inside a window;
while a snapshot is under way nothing else is sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import IntEnum

from twistedetcd.raft.errors import InvariantError


class ProgressState(IntEnum):
    """How entries go to a member."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Inflights:
    """Appends sent and not acknowledged: the last index and the payload bytes of each, oldest first."""

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_sent")

    def __init__(self, count_max: int, bytes_max: int = 0) -> None:
        """
        Args:
            count_max: How many may be in flight.
            bytes_max: How many payload bytes; 0 is no limit.  The append that crosses it is still sent.
        """
        self._count_max, self._bytes_max = count_max, bytes_max
        self._sent: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    def empty_copy(self) -> Inflights:
        """A window with the same limits and nothing in it."""
        return Inflights(self._count_max, self._bytes_max)

    def add(self, index: int, size: int) -> None:
        """Note an append that ends with ``index``."""
        if self.full():
            raise InvariantError("cannot add into a full window")
        self._sent.append((index, size))
        self._bytes += size

    def free_through(self, index: int) -> None:
        """Forget every append that ends at or below ``index``."""
        sent = self._sent
        while sent and sent[0][0] <= index:
            self._bytes -= sent.popleft()[1]

    def full(self) -> bool:
        """Whether no more may be sent."""
        return len(self._sent) == self._count_max or bool(self._bytes_max and self._bytes >= self._bytes_max)


@dataclass(slots=True)
class Progress:
    """One member as its leader sees it.  Invariant: 0 <= ``match`` < ``next``."""

    match: int
    """The last index known to be in its log, durable."""
    next: int
    """The first index of the next append."""
    inflights: Inflights
    """The window of REPLICATE."""
    state: ProgressState = ProgressState.PROBE
    pending_snapshot: int = 0
    """The index of the snapshot under way; 0 unless SNAPSHOT."""
    recent_active: bool = False
    """Whether it was heard from since the last quorum check."""
    flow_paused: bool = False
    """Wait for an answer before the next append."""
    is_learner: bool = False
    sent_commit: int = 0
    """The highest commit index it was told."""

    def copy(self) -> Progress:
        """A copy that may change without this one; the window is shared, as a change never touches it."""
        return replace(self)

    def _enter(self, state: ProgressState) -> None:
        self.flow_paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights = self.inflights.empty_copy()

    def become_probe(self) -> None:
        """Start over from what is known; a snapshot that arrived counts."""
        next_index = self.match + 1
        if self.state is ProgressState.SNAPSHOT:
            next_index = max(next_index, self.pending_snapshot + 1)
        self._enter(ProgressState.PROBE)
        self.next = next_index
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """Stream from what is known."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Wait until the snapshot of ``index`` arrived."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size: int) -> None:
        """Account for an append of ``count`` entries with ``size`` payload bytes."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size)
            self.flow_paused = self.inflights.full()
        elif self.state is ProgressState.PROBE:
            if count:
                self.flow_paused = True
        else:
            raise InvariantError("sent an append to a member that waits for a snapshot")

    def can_bump_commit(self, commit: int) -> bool:
        """Whether telling it ``commit`` would be news, and of use with the entries it was sent."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """It acknowledged ``index``; whether that is news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.flow_paused = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """It rejected an append after ``rejected``; ``False`` when that answer is stale."""
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if rejected != self.next - 1:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.flow_paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def paused(self) -> bool:
        """Whether nothing may be sent now."""
        return self.state is ProgressState.SNAPSHOT or self.flow_paused

    def __str__(self) -> str:
        words = [f"State{self.state.name.title()} match={self.match} next={self.next}"]
        words += ["learner"] * self.is_learner + ["paused"] * self.paused()
        words += [f"pendingSnap={self.pending_snapshot}"] * (self.pending_snapshot > 0)
        words += ["inactive"] * (not self.recent_active)
        if len(self.inflights):
            words.append(f"inflight={len(self.inflights)}" + "[full]" * self.inflights.full())
        return " ".join(words)
