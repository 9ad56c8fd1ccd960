"""A candidate's reactions, and a pre-candidate's: they count votes until somebody else turns out to lead."""

from __future__ import annotations

from twistedetcd.raft.describe import role_name
from twistedetcd.raft.follower import take_from_leader
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import Message


def yield_to_leader(raft: Raft, message: Message) -> None:
    """Somebody leads this term: follow."""
    raft.become_follower(message.term, message.sender)
    take_from_leader(raft, message)


def ignore_timeout_now(raft: Raft, message: Message) -> None:
    """It campaigns already."""
    if raft.trace:
        text = "{id:x} [term {term} state {state}] ignored MsgTimeoutNow from {sender:x}"
        state = role_name(raft.role)
        raft.trace("DEBUG", text, id=raft.id, term=raft.term, state=state, sender=message.sender)
