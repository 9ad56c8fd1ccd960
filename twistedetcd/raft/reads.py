"""
Linearizable reads on a leader, and the heartbeats that confirm them (dissertation, 6.4).

A leader knows the newest commit index only after it has committed an entry of its own term; reads are
parked until then.  That holds for a single voter too: the commit index it stored may lag behind what it
acknowledged.
"""

from __future__ import annotations

from twistedetcd.raft.progress import Progress
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, Message, MessageType, ReadState

WAITING_MAX = 65_536
"""Reads that wait on a leader, for its first commit or a quorum.  One more is lost; its caller asks again."""


def read_index(raft: Raft, message: Message) -> None:
    """A read, of this member or forwarded by a follower."""
    if len(raft.parked_reads) + len(raft.read_only) >= WAITING_MAX:
        if raft.trace:
            raft.trace("WARN", "{id:x} too many reads wait; dropping index reading msg", id=raft.id)
    elif raft.committed_in_term():
        _begin(raft, message)
    else:
        raft.parked_reads.append(message)


def release_parked(raft: Raft) -> None:
    """Something was committed: begin the reads that waited for it."""
    if raft.parked_reads and raft.committed_in_term():
        parked, raft.parked_reads = raft.parked_reads, []
        for message in parked:
            _begin(raft, message)


def acknowledge(raft: Raft, message: Message) -> None:
    """A heartbeat answer that confirms reads."""
    if raft.config.lease_based_reads or not message.context:
        return
    acknowledged = raft.read_only.acknowledge(message.sender, message.context)
    for read in raft.read_only.release(raft.tracker.confirmed(acknowledged)):
        _answer(raft, read.request, read.index)


def broadcast_heartbeat(raft: Raft, context: bytes) -> None:
    """Tell everybody who leads, and ask them to confirm the reads up to ``context``."""
    for member, progress in raft.tracker.members.items():
        if member != raft.id:
            _send_heartbeat(raft, member, progress, context)


def _send_heartbeat(raft: Raft, to: int, progress: Progress, context: bytes) -> None:
    # Not more than it has: it would take the rest of its log, which may be another leader's, as committed.
    commit = min(progress.match, raft.log.committed)
    raft.send(Message(MessageType.HEARTBEAT, to=to, commit=commit, context=context))
    progress.sent_commit = commit


def _begin(raft: Raft, message: Message) -> None:
    # Of a single voter nobody has to be asked, unless that is another: a removed leader may lead on unaware.
    alone = raft.tracker.is_single_voter() and raft.id in raft.tracker.configuration.voters
    if alone or raft.config.lease_based_reads:
        _answer(raft, message, raft.log.committed)
        return
    broadcast_heartbeat(raft, raft.read_only.add(raft.id, raft.log.committed, message))


def _answer(raft: Raft, request: Message, index: int) -> None:
    if request.sender in (NOBODY, raft.id):
        raft.read_states.append(ReadState(index, request.entries[0].data))
    else:
        answer = Message(MessageType.READ_INDEX_RESP, to=request.sender, index=index, entries=request.entries)
        raft.send(answer)
