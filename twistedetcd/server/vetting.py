"""Whether what another member wants in the log can be carried out: once committed, it must be."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from twistedetcd.apply import request as kinds
from twistedetcd.cluster.roster import Roster
from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.errors import ConfChangeError
from twistedetcd.raft.types import ConfChange, ConfChangeType, Entry, EntryType


def can_be_carried_out(entry: Entry, roster: Roster) -> bool:
    """
    Whether a proposal is one that members make; it may be refused all the same when it is applied.

    Args:
        entry: What is proposed.
        roster: The members.
    """
    try:
        if entry.type == EntryType.NORMAL:
            return kinds.decode(entry.data).kind in kinds.CARRIED_OUT
        change = decode_change(entry)
        if not isinstance(change, ConfChange):
            return False  # no member proposes several changes at once, and no roster knows them
        ConfChangeType(change.type)
        roster.refusal(change)
    except (ConfChangeError, DecodeError, ValueError, RecursionError):
        return False
    return True
