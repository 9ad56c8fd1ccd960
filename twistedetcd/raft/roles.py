"""
Who hears what: one table, and the rules about terms that come before it.

A type without a row for a role is nothing to that role, and is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from twistedetcd.raft import acknowledged, candidate, election, follower, leader, reads
from twistedetcd.raft.describe import message_name
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, Message, MessageType, Role

Reaction: TypeAlias = Callable[[Raft, Message], None]


def ignore(raft: Raft, message: Message) -> None:
    """Heard, and nothing to do."""


IN_ANY_ROLE: Mapping[MessageType, Reaction] = {
    MessageType.HUP: election.hup,
    MessageType.VOTE: election.vote,
    MessageType.PRE_VOTE: election.vote,
    MessageType.STORAGE_APPEND_RESP: acknowledged.saved,
    MessageType.STORAGE_APPLY_RESP: acknowledged.applied,
}

_CAMPAIGNING: Mapping[MessageType, Reaction] = {
    **IN_ANY_ROLE,
    MessageType.PROP: follower.drop_proposal,
    MessageType.APP: candidate.yield_to_leader,
    MessageType.HEARTBEAT: candidate.yield_to_leader,
    MessageType.SNAP: candidate.yield_to_leader,
    MessageType.TIMEOUT_NOW: candidate.ignore_timeout_now,
}

REACTIONS: Mapping[Role, Mapping[MessageType, Reaction]] = {
    Role.FOLLOWER: {
        **IN_ANY_ROLE,
        MessageType.PROP: follower.forward_proposal,
        MessageType.APP: follower.hear_leader,
        MessageType.HEARTBEAT: follower.hear_leader,
        MessageType.SNAP: follower.hear_leader,
        MessageType.TRANSFER_LEADER: follower.forward_transfer,
        MessageType.FORGET_LEADER: follower.forget_leader,
        MessageType.TIMEOUT_NOW: follower.take_over,
        MessageType.READ_INDEX: follower.forward_read,
        MessageType.READ_INDEX_RESP: follower.confirm_read,
    },
    # Each counts its own kind of vote only: a late pre-vote must not elect anybody.
    Role.PRE_CANDIDATE: {**_CAMPAIGNING, MessageType.PRE_VOTE_RESP: election.count_vote},
    Role.CANDIDATE: {**_CAMPAIGNING, MessageType.VOTE_RESP: election.count_vote},
    Role.LEADER: {
        **IN_ANY_ROLE,
        MessageType.BEAT: leader.beat,
        MessageType.CHECK_QUORUM: leader.check_quorum,
        MessageType.PROP: leader.propose,
        MessageType.READ_INDEX: reads.read_index,
        MessageType.APP_RESP: leader.from_member(leader.on_append_response),
        MessageType.HEARTBEAT_RESP: leader.from_member(leader.on_heartbeat_response),
        MessageType.SNAP_STATUS: leader.from_member(leader.on_snapshot_status),
        MessageType.UNREACHABLE: leader.from_member(leader.on_unreachable),
        MessageType.TRANSFER_LEADER: leader.from_member(leader.transfer),
    },
}

_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_REQUESTS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})


def step(raft: Raft, message: Message) -> None:
    """
    Take in one message.

    Raises:
        ProposalDroppedError: It was a proposal, and this member cannot append or forward it.
        ConfChangeError: A change of membership that cannot be read, or a snapshot with an impossible one.
    """
    if message.term and message.term != raft.term:
        news = _from_later_term if message.term > raft.term else _from_earlier_term
        if not news(raft, message):
            return
    REACTIONS[raft.role].get(message.type, ignore)(raft, message)


def _from_later_term(raft: Raft, message: Message) -> bool:
    """Catch up with the term, unless the message only asks about it; whether to go on."""
    if message.type in _REQUESTS:
        leased = (
            raft.config.check_quorum
            and raft.lead != NOBODY
            and raft.election_elapsed < raft.config.election_ticks
        )
        if leased and message.context != election.TRANSFER_CONTEXT:
            why = ": lease is not expired (remaining ticks: {ticks})"
            ticks = raft.config.election_ticks - raft.election_elapsed
            election.trace_vote(raft, message, "ignored {type} from", why, ticks=ticks)
            return False
    if message.type is MessageType.PRE_VOTE:
        return True
    if message.type is MessageType.PRE_VOTE_RESP and not message.reject:
        # Our own question about a term we are not in yet; a rejection comes with the term of who rejects.
        return True
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} [term: {term}] received a {type} message with higher term from {sender:x} [term: {news}]",
            id=raft.id,
            term=raft.term,
            type=message_name(message.type),
            sender=message.sender,
            news=message.term,
        )
    raft.become_follower(message.term, message.sender if message.type in _FROM_LEADER else NOBODY)
    return True


def _from_earlier_term(raft: Raft, message: Message) -> bool:
    """News from the past, never reacted to; some senders must be told that they are behind."""
    careful = raft.config.check_quorum or raft.config.pre_vote
    if careful and message.type in (MessageType.HEARTBEAT, MessageType.APP):
        # We may be waiting with a higher term that nobody else will hear of: the leader has to.
        raft.send(Message(MessageType.APP_RESP, to=message.sender))
    elif message.type is MessageType.PRE_VOTE:
        election.trace_vote(raft, message, "rejected {type} from")
        raft.send(Message(MessageType.PRE_VOTE_RESP, to=message.sender, term=raft.term, reject=True))
    elif message.type is MessageType.STORAGE_APPEND_RESP:
        # Entries of the same indexes but a later term may be on their way to the disk behind this one.
        if message.index and raft.trace:
            raft.trace(
                "INFO",
                "{id:x} [term: {term}] ignored entry appends from a MsgStorageAppendResp message with lower "
                "term [term: {news}]",
                id=raft.id,
                term=raft.term,
                news=message.term,
            )
        acknowledged.snapshot_saved(raft, message)
    elif raft.trace:
        raft.trace(
            "INFO",
            "{id:x} [term: {term}] ignored a {type} message with lower term from {sender:x} [term: {news}]",
            id=raft.id,
            term=raft.term,
            type=message_name(message.type),
            sender=message.sender,
            news=message.term,
        )
    return False


def tick(raft: Raft) -> None:
    """One tick of the driver's clock."""
    if raft.role is Role.LEADER:
        _tick_heartbeat(raft)
    else:
        _tick_election(raft)


def _tick_election(raft: Raft) -> None:
    raft.election_elapsed += 1
    if raft.promotable() and raft.election_elapsed >= raft.randomized_election_ticks:
        raft.election_elapsed = 0
        step(raft, Message(MessageType.HUP, sender=raft.id))


def _tick_heartbeat(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            step(raft, Message(MessageType.CHECK_QUORUM, sender=raft.id))
        if raft.role is not Role.LEADER:
            return
        # A transfer that took a whole election timeout has failed; proposals are taken again.
        raft.lead_transferee = NOBODY
    if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        step(raft, Message(MessageType.BEAT, sender=raft.id))
