"""A leader's log on its way to everybody: appending, sending, committing (raft paper, 5.3 and 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

from twistedetcd.raft.errors import (
    InvariantError,
    LogCompactedError,
    LogUnavailableError,
    SnapshotTemporarilyUnavailableError,
)
from twistedetcd.raft.progress import Progress, ProgressState
from twistedetcd.raft.reads import release_parked
from twistedetcd.raft.sizes import payload_size
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import Entry, Message, MessageType, Snapshot


def append_own(raft: Raft, entries: Sequence[Entry]) -> bool:
    """
    Append a leader's entries, numbered by the caller from the end of its log.

    Its own acknowledgement waits, addressed to itself, until they are saved.

    Returns:
        ``False``, and nothing was appended, when too much is uncommitted.
    """
    if not _admit(raft, entries):
        if raft.trace:
            text = (
                "{id:x} appending new entries to log would exceed uncommitted entry size limit; "
                "dropping proposal"
            )
            raft.trace("WARN", text, id=raft.id)
        return False
    raft.acknowledge(raft.id, raft.log.append(entries))
    return True


def _admit(raft: Raft, entries: Sequence[Entry]) -> bool:
    bytes_max = raft.config.max_uncommitted_bytes
    if bytes_max:
        size = payload_size(entries)
        # The first proposal passes whatever its size, and empty entries always do: a leader needs one.
        if raft.uncommitted_bytes and size and raft.uncommitted_bytes + size > bytes_max:
            return False
        raft.uncommitted_bytes += size
    return True


def maybe_commit(raft: Raft) -> bool:
    """Commit what a quorum holds; whether that is news.  The caller broadcasts it."""
    if not raft.log.maybe_commit(raft.tracker.committed(), raft.term):
        return False
    release_parked(raft)
    return True


def broadcast_append(raft: Raft) -> None:
    """Send everybody what they lack, or at least the commit index."""
    for member, progress in raft.tracker.members.items():
        if member != raft.id:
            send_append(raft, member, progress)


def send_append(raft: Raft, to: int, progress: Progress, *, even_empty: bool = True) -> bool:
    """
    Send one append, or the snapshot when the log does not go back far enough.

    Args:
        raft: A leader.
        to: Whom.
        progress: What is known of it.
        even_empty: Send without entries too, to probe or to tell the commit index.

    Returns:
        Whether something was sent.
    """
    if progress.paused() or (not even_empty and progress.next > raft.log.last_index()):
        return False
    previous = progress.next - 1
    try:
        previous_term = raft.log.term(previous)
    except (LogCompactedError, LogUnavailableError):
        return _send_snapshot(raft, to, progress)
    entries: Sequence[Entry] = ()
    # With a full window an empty append still goes out: its answer shows what got lost.
    if progress.state is not ProgressState.REPLICATE or not progress.inflights.full():
        try:
            entries = raft.log.entries(progress.next, raft.config.max_bytes_per_message)
        except LogCompactedError:
            return even_empty and _send_snapshot(raft, to, progress)
    if not entries and not even_empty:
        return False
    commit = raft.log.committed
    # As `Raft.send` would queue it: the write path has no use for its checks.
    raft.messages.append(
        Message(MessageType.APP, to, raft.id, raft.term, previous_term, previous, entries, commit)
    )
    progress.sent_entries(len(entries), payload_size(entries) if entries else 0)
    progress.sent_commit = commit
    return True


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    if not progress.recent_active:
        if raft.trace:
            raft.trace("DEBUG", "ignore sending snapshot to {to:x} since it is not recently active", to=to)
        return False
    snapshot = _snapshot(raft, to)
    if snapshot is None:
        return False
    if raft.trace:
        raft.trace(
            "DEBUG",
            "{id:x} [firstindex: {first}, commit: {commit}] sent snapshot[index: {index}, term: {term}] "
            "to {to:x} [{progress}]",
            id=raft.id,
            first=raft.log.first_index(),
            commit=raft.log.committed,
            index=snapshot.index,
            term=snapshot.term,
            to=to,
            progress=str(progress),
        )
    progress.become_snapshot(snapshot.index)
    if raft.trace:
        text = "{id:x} paused sending replication messages to {to:x} [{progress}]"
        raft.trace("DEBUG", text, id=raft.id, to=to, progress=str(progress))
    raft.send(Message(MessageType.SNAP, to=to, snapshot=snapshot))
    return True


def _snapshot(raft: Raft, to: int) -> Snapshot | None:
    if raft.log.unstable.snapshot is not None:
        return raft.log.unstable.snapshot
    try:
        snapshot = raft.config.storage.snapshot()
    except SnapshotTemporarilyUnavailableError:
        if raft.trace:
            text = "{id:x} failed to send snapshot to {to:x} because snapshot is temporarily unavailable"
            raft.trace("DEBUG", text, id=raft.id, to=to)
        return None
    if not snapshot.index:
        raise InvariantError(f"the log is compacted, but there is no snapshot to send to {to:x}")
    return snapshot
