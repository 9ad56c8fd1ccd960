"""Messages, looked at twice: when they are queued, and when they leave."""

from __future__ import annotations

from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import Message, MessageType, Role
from twistedetcd.testing.raftsim.disk import Disk
from twistedetcd.testing.raftsim.history import History
from twistedetcd.testing.raftsim.rules import Rule, require


def check_queued(raft: Raft, message: Message, history: History) -> None:
    """A message was queued by the call just made."""
    kind = message.type
    text = "{} queues a message to itself: {}"
    require(message.to != raft.id, Rule.VOUCHING, text, raft.id, message)
    if kind is MessageType.APP:
        text = "{} tells {} of commit {}, its own is {}"
        committed = raft.log.committed
        require(
            message.commit <= committed,
            Rule.COMMIT_TOLD,
            text,
            raft.id,
            message.to,
            message.commit,
            committed,
        )
    elif kind is MessageType.HEARTBEAT:
        progress = raft.tracker.members.get(message.to)
        if progress is not None and raft.role is Role.LEADER:
            text = "{} tells {} of commit {}, which holds {}"
            kept = message.commit <= progress.match
            require(kept, Rule.COMMIT_TOLD, text, raft.id, message.to, message.commit, progress.match)
    elif kind is MessageType.VOTE or kind is MessageType.PRE_VOTE:
        own = raft.tracker.members.get(raft.id)
        kept = own is not None and not own.is_learner and raft.log.unstable.snapshot is None
        text = "{} asks {} for a vote under {}"
        require(kept, Rule.WHO_CAMPAIGNS, text, raft.id, message.to, raft.tracker.configuration)
    elif kind is MessageType.SNAP:
        _check_snapshot(raft, message, history)


def _check_snapshot(raft: Raft, message: Message, history: History) -> None:
    snapshot = message.snapshot
    assert snapshot is not None
    known = history.committed_at(snapshot.index)
    kept = known is not None and known.term == snapshot.term
    require(kept, Rule.SNAPSHOT_SENT, "{} sends {}, committed is {}", raft.id, snapshot, known)
    configuration = history.configuration_at(snapshot.index)
    text = "{} sends {}, configured then was {}"
    require(snapshot.conf_state == configuration, Rule.SNAPSHOT_SENT, text, raft.id, snapshot, configuration)
    progress = raft.tracker.members.get(message.to)
    if progress is not None and raft.role is Role.LEADER:
        first = raft.log.first_index()
        text = "{} sends {} a snapshot at {}, which holds {}, and its log begins at {}"
        kept = progress.match < first - 1 or raft.log.unstable.snapshot is not None
        require(kept, Rule.SNAPSHOT_SENT, text, raft.id, message.to, snapshot.index, progress.match, first)


def check_leaving(message: Message, member: int, disk: Disk, history: History) -> None:
    """
    A message leaves its member.  Once a later term is durable, an older one has no more to vouch for.

    Args:
        message: What leaves.
        member: Whose it is.  (What it forwards names another sender.)
        disk: Its disk.
        history: Remembers whom it votes for.
    """
    kind, term = message.type, message.term
    require(message.to != member, Rule.VOUCHING, "{} leaves for its sender", message)
    if kind is MessageType.APP_RESP:
        last = disk.durable.last_index()
        kept = disk.state.term > term
        kept = kept or (disk.state.term == term and (message.reject or message.index <= last))
        require(kept, Rule.VOUCHING, "{} leaves; durable are {} and {}", message, disk.state, last)
    elif kind is MessageType.VOTE_RESP:
        state = disk.state
        kept = state.term >= term
        if not message.reject:
            history.votes(message.sender, term, message.to)
            kept = state.term > term or (state.term == term and state.vote == message.to)
        require(kept, Rule.VOUCHING, "{} leaves; durable is {}", message, state)
    elif kind is MessageType.PRE_VOTE_RESP:
        kept = not message.reject or disk.state.term >= term
        require(kept, Rule.VOUCHING, "{} leaves; durable is {}", message, disk.state)
