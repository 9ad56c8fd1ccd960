"""The values raft speaks in.  Field meanings and numbers are raftpb's; all of them are immutable."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class EntryType(IntEnum):
    """What an entry's data is."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class Entry(NamedTuple):
    """
    One place in the log.

    ``type`` is an `EntryType`; plain ints compare equal to it.  ``data`` is never copied: the object that was
    proposed on this member is the object that comes back committed (design D3 finds the waiter by it).
    """

    term: int
    index: int
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

    index: int = 0
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""
