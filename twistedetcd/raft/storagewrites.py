"""What a Ready asks to have acknowledged, and the messages that carry it when writes are asynchronous."""

from __future__ import annotations

from collections.abc import Sequence

from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)


def saved_response(raft: Raft, snapshot: Snapshot | None) -> Message | None:
    """
    The acknowledgement of a save, fixed when it is handed out; ``None`` when nothing waits for one.

    It names the end of the whole log, not of this save: the save of a later term's Ready, behind an ignored
    acknowledgement, then still clears what that one would have.
    """
    unstable = raft.log.unstable
    if not unstable.entries and snapshot is None:
        return None
    log_term = index = 0
    if unstable.entries:
        last = unstable.entries[-1]
        log_term, index = last.term, last.index
    # In the order of the fields: names would cost more than all the rest.
    return Message(
        MessageType.STORAGE_APPEND_RESP, raft.id, APPEND_THREAD, raft.term, log_term, index, (), 0, snapshot
    )


def applied_response(raft: Raft, committed: Sequence[Entry]) -> Message:
    """The acknowledgement of applied entries."""
    return Message(MessageType.STORAGE_APPLY_RESP, raft.id, APPLY_THREAD, 0, 0, 0, committed)


def append_message(
    raft: Raft, entries: Sequence[Entry], state: HardState | None, snapshot: Snapshot | None
) -> Message | None:
    """What the append thread has to save, and what to deliver after it; ``None`` if neither."""
    if not (entries or state is not None or snapshot is not None or raft.after_append):
        return None
    saved = saved_response(raft, snapshot)
    term, vote, commit = state if state is not None else HardState()
    return Message(
        MessageType.STORAGE_APPEND,
        to=APPEND_THREAD,
        sender=raft.id,
        term=term,
        entries=entries,
        commit=commit,
        vote=vote,
        snapshot=snapshot,
        responses=(*raft.after_append, *((saved,) if saved else ())),
    )


def apply_message(raft: Raft, committed: Sequence[Entry]) -> Message:
    """What the apply thread has to apply."""
    return Message(
        MessageType.STORAGE_APPLY,
        to=APPLY_THREAD,
        sender=raft.id,
        entries=committed,
        responses=(applied_response(raft, committed),),
    )
