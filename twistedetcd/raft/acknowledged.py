"""What the driver has done: entries and snapshots that are saved, entries that are applied."""

from __future__ import annotations

from twistedetcd.raft.describe import describe
from twistedetcd.raft.errors import ProposalDroppedError
from twistedetcd.raft.leader import propose
from twistedetcd.raft.sizes import payload_size
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import Entry, EntryType, Message, MessageType, Role


def saved(raft: Raft, message: Message) -> None:
    """The log is saved up to a place of the current term's writing, and perhaps a snapshot."""
    if message.index:
        raft.log.unstable.stable_to(message.log_term, message.index)
    snapshot_saved(raft, message)


def snapshot_saved(raft: Raft, message: Message) -> None:
    """A snapshot is saved; being state already, it is applied too."""
    if message.snapshot is not None:
        raft.log.unstable.stable_snapshot_to(message.snapshot.index)
        _applied_to(raft, message.snapshot.index)


def applied(raft: Raft, message: Message) -> None:
    """Entries are applied."""
    if message.entries:
        last = message.entries[-1].index
        _applied_to(raft, last, handed_out=last)
        if raft.uncommitted_bytes:
            raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - payload_size(message.entries))


def _applied_to(raft: Raft, index: int, handed_out: int = 0) -> None:
    raft.log.applied_to(max(index, raft.log.applied), handed_out)
    leaves = raft.tracker.configuration.auto_leave and raft.role is Role.LEADER
    if leaves and raft.log.applied >= raft.pending_conf_index:
        _leave_joint(raft)


def _leave_joint(raft: Raft) -> None:
    """The joint configuration is applied: propose to leave it.  Dropped, it is tried at the next apply."""
    configuration = describe(raft.tracker.configuration)
    entry = Entry(0, 0, b"", EntryType.CONF_CHANGE_V2)
    try:
        propose(raft, Message(MessageType.PROP, sender=raft.id, entries=(entry,)))
    except ProposalDroppedError as error:
        if raft.trace:
            raft.trace(
                "DEBUG",
                "not initiating automatic transition out of joint configuration {configuration}: {error}",
                configuration=configuration,
                error=str(error),
            )
    else:
        if raft.trace:
            text = "initiating automatic transition out of joint configuration {configuration}"
            raft.trace("INFO", text, configuration=configuration)
