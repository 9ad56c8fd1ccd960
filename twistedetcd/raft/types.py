"""The values raft speaks in.  Field meanings and numbers are raftpb's; all of them are immutable."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

NOBODY = 0
"""The id of no member: no vote, no leader, no sender."""

APPEND_THREAD = 2**64 - 1
"""The id that acknowledgements of the log come from."""

APPLY_THREAD = 2**64 - 2
"""The id that acknowledgements of applied entries come from."""

NO_LIMIT = 2**64 - 1
"""A size limit that nothing reaches."""


class EntryType(IntEnum):
    """What an entry's data is."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class Entry(NamedTuple):
    """
    One place in the log.

    ``type`` is an `EntryType`; plain ints compare equal to it.  ``data`` is never copied: the object that was
    proposed on this member is the object that comes back committed (the waiter is found by it).
    """

    term: int
    index: int  # type: ignore[assignment]  # tuple.index, which nobody calls
    data: bytes = b""
    type: int = 0


class HardState(NamedTuple):
    """What must survive a crash.  ``vote`` 0 is nobody."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class ConfState(NamedTuple):
    """A configuration: member ids, each tuple ascending; ``voters_outgoing`` is empty unless joint."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


class Snapshot(NamedTuple):
    """State up to and including ``index``, which stands in for the log before it."""

    index: int = 0  # type: ignore[assignment]  # tuple.index, which nobody calls
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""


class ConfChangeType(IntEnum):
    """What a change does to one member."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class ConfChangeTransition(IntEnum):
    """How a change passes through a joint configuration, if it has to."""

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


class ConfChangeSingle(NamedTuple):
    """One member's part of a `ConfChangeV2`; ``node_id`` 0 changes nothing."""

    type: int
    node_id: int


class ConfChangeV2(NamedTuple):
    """Several changes at once; without any, and AUTO, it leaves the joint configuration."""

    transition: int = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        """Itself."""
        return self


class ConfChange(NamedTuple):
    """One change of membership, as etcd proposes it; ``node_id`` 0 changes nothing (a refused change)."""

    id: int = 0
    type: int = ConfChangeType.ADD_NODE
    node_id: int = 0
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        """The same change in the form that all changes are applied in."""
        return ConfChangeV2(changes=(ConfChangeSingle(self.type, self.node_id),), context=self.context)


class Role(IntEnum):
    """What a member is in its term."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


class MessageType(IntEnum):
    """What a message is, by raftpb's numbers."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


URGENT = frozenset(
    {
        MessageType.HEARTBEAT,
        MessageType.HEARTBEAT_RESP,
        MessageType.VOTE,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE,
        MessageType.PRE_VOTE_RESP,
    }
)
"""Who leads depends on when these arrive: a transport lets them pass all others."""


class Message(NamedTuple):
    """What members say to each other.  ``sender`` is raftpb's ``from``; 0 or empty is "not set"."""

    type: MessageType
    to: int = NOBODY
    sender: int = NOBODY
    term: int = 0
    log_term: int = 0
    index: int = 0  # type: ignore[assignment]  # tuple.index, which nobody calls
    entries: Sequence[Entry] = ()
    commit: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    vote: int = NOBODY
    responses: tuple[Message, ...] = ()


class SoftState(NamedTuple):
    """What need not survive a crash: who leads, and what this member is."""

    lead: int = NOBODY
    role: Role = Role.FOLLOWER


class ReadState(NamedTuple):
    """The read that was asked for with ``context`` may be served once ``index`` is applied."""

    index: int  # type: ignore[assignment]  # tuple.index, which nobody calls
    context: bytes


class Ready(NamedTuple):
    """Work owed to the outside, in the order it must be done."""

    soft_state: SoftState | None
    """Lead and role; ``None`` when unchanged."""
    read_states: Sequence[ReadState]
    """Reads that are confirmed."""
    snapshot: Snapshot | None
    """Save this first, and apply it before ``committed``."""
    entries: Sequence[Entry]
    """Save these next; one at or below the last saved index replaces it and everything after it."""
    hard_state: HardState | None
    """Save this with them; ``None`` when unchanged."""
    must_sync: bool
    """Whether the save must be durable before going on: not when only the commit index moved."""
    messages: Sequence[Message]
    """Send once all of the above is durable.  A leader may send before."""
    committed: Sequence[Entry]
    """Then apply."""


class Trace(Protocol):
    """Hears what raft does: a level (DEBUG to ERROR), a format text, and the fields it names."""

    def __call__(self, level: str, text: str, /, **fields: object) -> None:
        """Take one event.  Fields are values of that moment; the hook must not call back into raft."""
