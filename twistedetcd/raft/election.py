"""Campaigns and votes (raft paper, 5.2 and 5.4.1; the pre-vote: dissertation, 9.6)."""

from __future__ import annotations

from enum import Enum

from twistedetcd.raft.describe import message_name
from twistedetcd.raft.quorum import VoteResult
from twistedetcd.raft.replication import append_own, broadcast_append
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, Entry, Message, MessageType, Role

TRANSFER_CONTEXT = b"CampaignTransfer"
"""The context of votes that a leader itself asked for: they are granted although it is still heard."""


class Campaign(Enum):
    """Why, and thereby how."""

    PRE_ELECTION = 1
    ELECTION = 2
    TRANSFER = 3


_ANSWERS = {
    MessageType.VOTE: MessageType.VOTE_RESP,
    MessageType.PRE_VOTE: MessageType.PRE_VOTE_RESP,
}


def hup(raft: Raft, message: Message) -> None:
    """Time to campaign."""
    start(raft, Campaign.PRE_ELECTION if raft.config.pre_vote else Campaign.ELECTION)


def start(raft: Raft, campaign: Campaign) -> None:
    """Campaign, unless this member must not."""
    if raft.role is Role.LEADER:
        if raft.trace:
            raft.trace("DEBUG", "{id:x} ignoring MsgHup because already leader", id=raft.id)
        return
    if not raft.promotable():
        if raft.trace:
            raft.trace("WARN", "{id:x} is unpromotable and can not campaign", id=raft.id)
        return
    # A change that is committed but not applied may have removed this member already.
    if raft.log.has_conf_change(raft.log.applied + 1, raft.log.committed + 1):
        if raft.trace:
            text = (
                "{id:x} cannot campaign at term {term} since there are still pending configuration changes "
                "to apply"
            )
            raft.trace("WARN", text, id=raft.id, term=raft.term)
        return
    if raft.trace:
        raft.trace("INFO", "{id:x} is starting a new election at term {term}", id=raft.id, term=raft.term)
    _run(raft, campaign)


def _run(raft: Raft, campaign: Campaign) -> None:
    if campaign is Campaign.PRE_ELECTION:
        raft.become_pre_candidate()
        request, term = MessageType.PRE_VOTE, raft.term + 1
    else:
        raft.become_candidate()
        request, term = MessageType.VOTE, raft.term
    last, last_term = raft.log.last_index(), raft.log.last_term()
    context = TRANSFER_CONTEXT if campaign is Campaign.TRANSFER else b""
    for voter in raft.tracker.voters():
        if voter == raft.id:
            # Its own vote counts like any other: once it is saved, when this comes back.
            raft.send(Message(_ANSWERS[request], to=voter, term=term))
            continue
        if raft.trace:
            raft.trace(
                "INFO",
                "{id:x} [logterm: {last_term}, index: {last}] sent {request} request to {to:x} "
                "at term {term}",
                id=raft.id,
                last_term=last_term,
                last=last,
                request=message_name(request),
                to=voter,
                term=raft.term,
            )
        raft.send(Message(request, to=voter, term=term, index=last, log_term=last_term, context=context))


def vote(raft: Raft, message: Message) -> None:
    """
    A candidate asks.  Whoever asks may be voted for, a learner's vote included: a member that was not told
    yet of a promotion must not stand in the way of a new leader.
    """
    free = raft.vote == message.sender or (raft.vote == NOBODY and raft.lead == NOBODY)
    may = free or (message.type is MessageType.PRE_VOTE and message.term > raft.term)
    granted = may and raft.log.is_up_to_date(message.log_term, message.index)
    trace_vote(raft, message, "cast {type} for" if granted else "rejected {type} from")
    answer = _ANSWERS[message.type]
    if not granted:
        raft.send(Message(answer, to=message.sender, term=raft.term, reject=True))
        return
    raft.send(Message(answer, to=message.sender, term=message.term))
    if message.type is MessageType.VOTE:
        raft.election_elapsed = 0
        raft.vote = message.sender


def trace_vote(raft: Raft, message: Message, verdict: str, why: str = "", **fields: object) -> None:
    """Tell the trace what became of a request; ``verdict`` and ``why`` are format texts."""
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} [logterm: {last_term}, index: {last}, vote: {vote:x}] "
            + verdict
            + " {sender:x} [logterm: {log_term}, index: {index}] at term {term}"
            + why,
            id=raft.id,
            last_term=raft.log.last_term(),
            last=raft.log.last_index(),
            vote=raft.vote,
            type=message_name(message.type),
            sender=message.sender,
            log_term=message.log_term,
            index=message.index,
            term=raft.term,
            **fields,
        )


def count_vote(raft: Raft, message: Message) -> None:
    """An answer to a (pre-)candidate, its own included."""
    kind = message_name(message.type)
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} received {type} rejection from {sender:x} at term {term}"
            if message.reject
            else "{id:x} received {type} from {sender:x} at term {term}",
            id=raft.id,
            type=kind,
            sender=message.sender,
            term=raft.term,
        )
    raft.tracker.record_vote(message.sender, not message.reject)
    granted, rejected, result = raft.tracker.tally()
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} has received {granted} {type} votes and {rejected} vote rejections",
            id=raft.id,
            granted=granted,
            type=kind,
            rejected=rejected,
        )
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, NOBODY)
    elif result is VoteResult.WON and raft.role is Role.PRE_CANDIDATE:
        _run(raft, Campaign.ELECTION)
    elif result is VoteResult.WON and raft.id in raft.tracker.votes:
        # Not before its own vote is saved, even if others suffice: forgetting it in a crash, this member
        # could win the term again, and write other entries where its first ones still may arrive.
        _win(raft)


def _win(raft: Raft) -> None:
    raft.become_leader()
    # Older entries are committed by this one: counting copies of them alone could be undone (paper, 5.4.2).
    append_own(raft, [Entry(raft.term, raft.log.last_index() + 1)])
    raft.trace_leader()
    broadcast_append(raft)
