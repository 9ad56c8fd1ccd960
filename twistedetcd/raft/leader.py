"""A leader's reactions: it appends what is proposed, and learns how far everybody is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeAlias

from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.describe import describe, describe_change
from twistedetcd.raft.errors import ConfChangeError, InvariantError, ProposalDroppedError
from twistedetcd.raft.progress import Progress, ProgressState
from twistedetcd.raft.reads import acknowledge, broadcast_heartbeat
from twistedetcd.raft.replication import append_own, broadcast_append, maybe_commit, send_append
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import (
    NOBODY,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
    Message,
    MessageType,
)

_CHANGE_TYPES = frozenset(ConfChangeType)

MemberReaction: TypeAlias = Callable[[Raft, Message, Progress], None]


def from_member(reaction: MemberReaction) -> Callable[[Raft, Message], None]:
    """A reaction to somebody in the configuration; others are not heard."""

    @wraps(reaction)
    def react(raft: Raft, message: Message) -> None:
        progress = raft.tracker.members.get(message.sender)
        if progress is not None:
            reaction(raft, message, progress)
        elif raft.trace:
            text = "{id:x} no progress available for {sender:x}"
            raft.trace("DEBUG", text, id=raft.id, sender=message.sender)

    return react


# Proposals.


def propose_data(raft: Raft, datas: Sequence[bytes]) -> None:
    """
    Append a batch of ordinary proposals.  The write path: no call per entry but the making of it.

    Raises:
        ProposalDroppedError: It cannot append now.
    """
    _check_accepting(raft)
    # `Entry(...)` would check and name its arguments, at twice the cost.
    new, term = tuple.__new__, raft.term
    _append(
        raft,
        [new(Entry, (term, index, data, 0)) for index, data in enumerate(datas, raft.log.last_index() + 1)],
    )


def propose(raft: Raft, message: Message) -> None:
    """
    Append proposals of any kind, from here or forwarded; term and index are given here.

    Raises:
        ProposalDroppedError: It cannot append now.
        ConfChangeError: A change among them cannot be read; none was appended.
    """
    if not message.entries:
        raise InvariantError("a proposal without entries")
    _check_accepting(raft)
    entries, pending = [], raft.pending_conf_index
    for index, proposed in enumerate(message.entries, raft.log.last_index() + 1):
        entry = Entry(raft.term, index, proposed.data, proposed.type)
        if entry.type != EntryType.NORMAL:
            change = decode_change(entry).as_v2()
            for single in change.changes:
                if single.type not in _CHANGE_TYPES:
                    raise ConfChangeError(f"unexpected conf type {single.type}")
            why = _objection(raft, change, pending)
            if why and not raft.config.disable_conf_change_validation:
                _trace_objection(raft, entry, why)
                entry = Entry(raft.term, index)
            else:
                pending = index
        entries.append(entry)
    _append(raft, entries)
    # Not before: a dropped proposal holds up nobody.
    raft.pending_conf_index = pending


def _check_accepting(raft: Raft) -> None:
    if raft.id not in raft.tracker.members:
        raise ProposalDroppedError  # Removed, and leading on only until somebody else is elected.
    if raft.lead_transferee != NOBODY:
        if raft.trace:
            text = "{id:x} [term {term}] transfer leadership to {to:x} is in progress; dropping proposal"
            raft.trace("DEBUG", text, id=raft.id, term=raft.term, to=raft.lead_transferee)
        raise ProposalDroppedError


def _append(raft: Raft, entries: Sequence[Entry]) -> None:
    if not append_own(raft, entries):
        raise ProposalDroppedError
    broadcast_append(raft)


def _objection(raft: Raft, change: ConfChangeV2, pending: int) -> str:
    """Why an empty entry has to take the place of ``change``; empty if it may be appended."""
    joint = bool(raft.tracker.configuration.voters_outgoing)
    leaving, applied = not change.changes, raft.log.applied
    if pending > applied:
        return f"possible unapplied conf change at index {pending} (applied to {applied})"
    if joint and not leaving:
        return "must transition out of joint config first"
    if leaving and not joint:
        return "not in joint state; refusing empty conf change"
    return ""


def _trace_objection(raft: Raft, entry: Entry, why: str) -> None:
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} ignoring conf change {change} at config {configuration}: {why}",
            id=raft.id,
            change=describe_change(decode_change(entry).as_v2()),
            configuration=describe(raft.tracker.configuration),
            why=why,
        )


# Answers to appends.


def on_append_response(raft: Raft, message: Message, progress: Progress) -> None:
    """A member's log is this far, or does not match; its own answers come here too, once it has saved."""
    progress.recent_active = True
    if message.reject:
        _on_rejection(raft, message, progress)
        return
    index, sender = message.index, message.sender
    probing = progress.state is ProgressState.PROBE
    if not progress.maybe_update(index) and not (probing and progress.match == index):
        return
    if probing:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_through(index)
    elif progress.match + 1 >= raft.log.first_index():
        # However it got there: the log goes on from where it is.
        if raft.trace:
            text = (
                "{id:x} recovered from needing snapshot, resumed sending replication messages to {sender:x} "
                "[{progress}]"
            )
            raft.trace("DEBUG", text, id=raft.id, sender=sender, progress=str(progress))
        progress.become_probe()
        progress.become_replicate()
    if index > raft.log.committed and maybe_commit(raft):
        broadcast_append(raft)
    elif sender != raft.id and progress.can_bump_commit(raft.log.committed):
        send_append(raft, sender, progress)
    if sender == raft.id:
        return
    while send_append(raft, sender, progress, even_empty=False):
        pass
    if sender == raft.lead_transferee and progress.match == raft.log.last_index():
        if raft.trace:
            text = "{id:x} sent MsgTimeoutNow to {sender:x} after received MsgAppResp"
            raft.trace("INFO", text, id=raft.id, sender=sender)
        raft.send(Message(MessageType.TIMEOUT_NOW, to=sender))


def _on_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    if raft.trace:
        raft.trace(
            "DEBUG",
            "{id:x} received MsgAppResp(rejected, hint: (index {hint}, term {log_term})) from {sender:x} "
            "for index {index}",
            id=raft.id,
            hint=message.reject_hint,
            log_term=message.log_term,
            sender=message.sender,
            index=message.index,
        )
    probe = message.reject_hint
    if message.log_term > 0:
        # Skip what cannot match on this side too: at most one probe for each term of this log.
        probe, _ = raft.log.find_conflict_by_term(message.reject_hint, message.log_term)
    if not progress.maybe_decrease(message.index, probe):
        return
    if raft.trace:
        text = "{id:x} decreased progress of {sender:x} to [{progress}]"
        raft.trace("DEBUG", text, id=raft.id, sender=message.sender, progress=str(progress))
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    send_append(raft, message.sender, progress)


def on_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    """A member is alive: try it again, and count the read it confirms."""
    progress.recent_active = True
    progress.flow_paused = False
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        send_append(raft, message.sender, progress)
    acknowledge(raft, message)


def on_snapshot_status(raft: Raft, message: Message, progress: Progress) -> None:
    """The snapshot reached the member, or did not; either way wait for its next answer."""
    if progress.state is not ProgressState.SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    if raft.trace:
        verdict = "failed" if message.reject else "succeeded"
        raft.trace(
            "DEBUG",
            "{id:x} snapshot "
            + verdict
            + ", resumed sending replication messages to {sender:x} [{progress}]",
            id=raft.id,
            sender=message.sender,
            progress=str(progress),
        )
    progress.flow_paused = True


def on_unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    """What was streamed to the member is lost: find out where it stands."""
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    if raft.trace:
        text = "{id:x} failed to send message to {sender:x} because it is unreachable [{progress}]"
        raft.trace("DEBUG", text, id=raft.id, sender=message.sender, progress=str(progress))


# What its clock makes it do.


def beat(raft: Raft, message: Message) -> None:
    """Time for heartbeats."""
    broadcast_heartbeat(raft, raft.read_only.last_context())


def check_quorum(raft: Raft, message: Message) -> None:
    """Step down if no quorum was heard from since the last check (dissertation, 6.2)."""
    own = raft.tracker.members.get(raft.id)
    if own is not None:
        own.recent_active = True
    if not raft.tracker.quorum_active():
        if raft.trace:
            text = "{id:x} stepped down to follower since quorum is not active"
            raft.trace("WARN", text, id=raft.id)
        raft.become_follower(raft.term, NOBODY)
    for member, progress in raft.tracker.members.items():
        if member != raft.id:
            progress.recent_active = False


# Handing over.


def transfer(raft: Raft, message: Message, progress: Progress) -> None:
    """Hand over to the sender: once its log is complete, it is told to campaign (dissertation, 3.10)."""
    target = message.sender
    if progress.is_learner:
        if raft.trace:
            raft.trace("DEBUG", "{id:x} is learner. Ignored transferring leadership", id=raft.id)
        return
    if raft.lead_transferee != NOBODY:
        if raft.lead_transferee == target:
            if raft.trace:
                text = (
                    "{id:x} [term {term}] transfer leadership to {to:x} is in progress, "
                    "ignores request to same node {to:x}"
                )
                raft.trace("INFO", text, id=raft.id, term=raft.term, to=target)
            return
        if raft.trace:
            text = "{id:x} [term {term}] abort previous transferring leadership to {to:x}"
            raft.trace("INFO", text, id=raft.id, term=raft.term, to=raft.lead_transferee)
        raft.lead_transferee = NOBODY
    if target == raft.id:
        if raft.trace:
            text = "{id:x} is already leader. Ignored transferring leadership to self"
            raft.trace("DEBUG", text, id=raft.id)
        return
    if raft.trace:
        text = "{id:x} [term {term}] starts to transfer leadership to {to:x}"
        raft.trace("INFO", text, id=raft.id, term=raft.term, to=target)
    raft.election_elapsed = 0
    raft.lead_transferee = target
    if progress.match == raft.log.last_index():
        raft.send(Message(MessageType.TIMEOUT_NOW, to=target))
        if raft.trace:
            text = "{id:x} sends MsgTimeoutNow to {to:x} immediately as {to:x} already has up-to-date log"
            raft.trace("INFO", text, id=raft.id, to=target)
    else:
        send_append(raft, target, progress)
