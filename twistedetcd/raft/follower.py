"""A follower's reactions: it believes the leader of its term, and hands on what only a leader can do."""

from __future__ import annotations

from twistedetcd.raft.election import Campaign, start
from twistedetcd.raft.errors import ProposalDroppedError
from twistedetcd.raft.membership import restore_snapshot
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, Message, MessageType, ReadState, Snapshot


def hear_leader(raft: Raft, message: Message) -> None:
    """An append, a heartbeat or a snapshot: the sender leads, and the election timer starts over."""
    raft.election_elapsed = 0
    raft.lead = message.sender
    take_from_leader(raft, message)


def take_from_leader(raft: Raft, message: Message) -> None:
    """Take in what the leader of the current term sent."""
    if message.type is MessageType.APP:
        _append(raft, message)
    elif message.type is MessageType.HEARTBEAT:
        raft.log.commit_to(message.commit)
        raft.send(Message(MessageType.HEARTBEAT_RESP, to=message.sender, context=message.context))
    else:
        _install(raft, message)


def _append(raft: Raft, message: Message) -> None:
    log = raft.log
    if message.index < log.committed:
        raft.acknowledge(message.sender, log.committed)
        return
    last = log.maybe_append(message.index, message.log_term, message.commit, message.entries)
    if last is not None:
        raft.acknowledge(message.sender, last)
        return
    if raft.trace:
        raft.trace(
            "DEBUG",
            "{id:x} [logterm: {held}, index: {index}] rejected MsgApp [logterm: {log_term}, index: {index}] "
            "from {sender:x}",
            id=raft.id,
            held=log.term_or_zero(message.index),
            index=message.index,
            log_term=message.log_term,
            sender=message.sender,
        )
    # The hint skips what cannot match: everything here with a term above the leader's at that place.
    hint, hint_term = log.find_conflict_by_term(min(message.index, log.last_index()), message.log_term)
    raft.send(
        Message(
            MessageType.APP_RESP,
            to=message.sender,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def _install(raft: Raft, message: Message) -> None:
    # Without one it is the empty snapshot, which is always old news.
    snapshot = message.snapshot or Snapshot()
    restored = restore_snapshot(raft, snapshot)
    if raft.trace:
        verdict = "restored" if restored else "ignored"
        raft.trace(
            "INFO",
            "{id:x} [commit: {commit}] " + verdict + " snapshot [index: {index}, term: {term}]",
            id=raft.id,
            commit=raft.log.committed,
            index=snapshot.index,
            term=snapshot.term,
        )
    index = raft.log.last_index() if restored else raft.log.committed
    raft.acknowledge(message.sender, index)


def forward_proposal(raft: Raft, message: Message) -> None:
    """Hand a proposal on to the leader."""
    if raft.lead == NOBODY:
        drop_proposal(raft, message)
    if raft.config.disable_proposal_forwarding:
        if raft.trace:
            text = "{id:x} not forwarding to leader {lead:x} at term {term}; dropping proposal"
            raft.trace("INFO", text, id=raft.id, lead=raft.lead, term=raft.term)
        raise ProposalDroppedError
    raft.send(message._replace(to=raft.lead))


def drop_proposal(raft: Raft, message: Message) -> None:
    """Nobody leads."""
    if raft.trace:
        text = "{id:x} no leader at term {term}; dropping proposal"
        raft.trace("INFO", text, id=raft.id, term=raft.term)
    raise ProposalDroppedError


def forward_transfer(raft: Raft, message: Message) -> None:
    """Hand the wish for another leader on.  The term that a forwarded one brings is not sent again."""
    if raft.lead == NOBODY:
        if raft.trace:
            text = "{id:x} no leader at term {term}; dropping leader transfer msg"
            raft.trace("INFO", text, id=raft.id, term=raft.term)
        return
    raft.send(message._replace(to=raft.lead, term=0))


def forward_read(raft: Raft, message: Message) -> None:
    """Hand a read on; without a leader it is lost, and its caller asks again."""
    if raft.lead == NOBODY:
        if raft.trace:
            text = "{id:x} no leader at term {term}; dropping index reading msg"
            raft.trace("INFO", text, id=raft.id, term=raft.term)
        return
    raft.send(message._replace(to=raft.lead))


def confirm_read(raft: Raft, message: Message) -> None:
    """The leader's answer to a read of this member."""
    if len(message.entries) == 1:
        raft.read_states.append(ReadState(message.index, message.entries[0].data))
    elif raft.trace:
        text = "{id:x} invalid format of MsgReadIndexResp from {sender:x}, entries count: {count}"
        raft.trace("ERROR", text, id=raft.id, sender=message.sender, count=len(message.entries))


def take_over(raft: Raft, message: Message) -> None:
    """The leader asks this member to campaign at once; no pre-vote, as there is a leader and it agrees."""
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} [term {term}] received MsgTimeoutNow from {sender:x} and starts an election to get "
            "leadership.",
            id=raft.id,
            term=raft.term,
            sender=message.sender,
        )
    start(raft, Campaign.TRANSFER)


def forget_leader(raft: Raft, message: Message) -> None:
    """Stop believing that the leader lives; term, vote and timer stay."""
    if raft.config.lease_based_reads:
        if raft.trace:
            raft.trace("ERROR", "ignoring MsgForgetLeader due to ReadOnlyLeaseBased")
    elif raft.lead != NOBODY:
        if raft.trace:
            text = "{id:x} forgetting leader {lead:x} at term {term}"
            raft.trace("INFO", text, id=raft.id, lead=raft.lead, term=raft.term)
        raft.lead = NOBODY
