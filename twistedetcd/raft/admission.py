"""
What may come in from outside.

Past this door raft trusts a message: whatever breaks a rule further in stops the member.  A peer's mistake
must not, so it is refused here, by name.
"""

from __future__ import annotations

from twistedetcd.raft.describe import message_name
from twistedetcd.raft.errors import LocalMessageError, MalformedMessageError, PeerNotFoundError
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import APPEND_THREAD, APPLY_THREAD, NOBODY, Message, MessageType

_STORAGE = (APPEND_THREAD, APPLY_THREAD)
_LOCAL = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_RESP,
    }
)
_RESPONSES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.UNREACHABLE,
        MessageType.READ_INDEX_RESP,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY_RESP,
    }
)
_TERMLESS = frozenset({MessageType.PROP, MessageType.READ_INDEX})
_EITHER = frozenset({MessageType.TRANSFER_LEADER, MessageType.FORGET_LEADER})
_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})

TERM_MAX = 2**63
"""No election gets there; a member that took a higher term could not campaign in the next one."""


def check_admission(raft: Raft, message: Message) -> None:
    """
    Refuse what must not come from outside.

    Raises:
        LocalMessageError: A type that only this member sends itself.
        PeerNotFoundError: An answer from a stranger.
        MalformedMessageError: A message that no member sends.
    """
    if message.sender in _STORAGE:
        return
    if message.type in _LOCAL:
        raise LocalMessageError
    if message.type in _RESPONSES and message.sender not in raft.tracker.members:
        raise PeerNotFoundError
    flaw = _flaw(raft, message)
    if flaw:
        raise MalformedMessageError(
            f"refused {message_name(message.type)} from {message.sender:x}: {flaw}",
        )


def _flaw(raft: Raft, message: Message) -> str:
    kind, entries = message.type, message.entries
    if message.term > TERM_MAX:
        return f"its term is above {TERM_MAX}"
    if kind in _TERMLESS:
        if message.term:
            return "it must not bring a term"
        if not entries:
            return "it has no entries"
        if kind is MessageType.READ_INDEX and len(entries) != 1:
            return "it must name one read"
    elif kind not in _EITHER:
        if not message.term:
            return "it has no term"
        if message.sender == NOBODY:
            return "it has no sender"
        if kind in _FROM_LEADER and message.sender == raft.id:
            return "this member did not send it"
        ends = (message.index + 1, message.index + len(entries))
        if kind is MessageType.APP and entries and (entries[0].index, entries[-1].index) != ends:
            return "its entries do not follow its index"
    return ""
