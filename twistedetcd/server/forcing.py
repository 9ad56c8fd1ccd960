"""
Making a cluster of one member's log when all others are lost (``--force-new-cluster``).

Nobody is left to commit anything, so the member commits by itself what makes it the only one: it appends the
removal of all others to its log.  Every view of the membership then follows from the log, as always.
"""

from __future__ import annotations

from collections.abc import Sequence

from twistedetcd.cluster.member import Member
from twistedetcd.cluster.roster import Roster
from twistedetcd.errors import MemberError
from twistedetcd.raft.changebytes import decode_change, encode_change
from twistedetcd.raft.types import ConfChange, ConfChangeType, Entry, EntryType, HardState


def force_new_cluster(
    ourselves: Member, roster: Roster, applied: int, state: HardState, entries: Sequence[Entry]
) -> tuple[HardState, list[Entry]]:
    """
    What makes a member the only one.

    Entries that are not known to be committed are given up: the first one returned takes the place of the
    first of them.  Known to be committed is also what the backend has applied, for a commit index reaches the
    disk late, and what was saved while this member was the only voter.

    Args:
        ourselves: This member, as it is added if the log does not know it.
        roster: The members as the backend has them.
        applied: The last entry that the backend has applied.
        state: The hard state saved last.
        entries: What the log holds; those up to ``applied`` are passed over.

    Returns:
        What to save to the log, durably, before raft is made of it: a hard state and entries, or no entries
        if this is the only member already.

    Raises:
        MemberError: The cluster has removed this member; it cannot come back.
        ConfChangeError: The log holds a change that does not read back.
        ValueError: Or one without a member.
    """
    members, index = roster.copy(), applied
    rest = [entry for entry in entries if entry.index > applied]
    for entry in rest:
        alone = [voter.id for voter in members.voters] == [ourselves.id]
        if entry.index > state.commit and not alone:
            break
        if entry.type:
            change = decode_change(entry)
            if isinstance(change, ConfChange):  # no member proposes another kind, or carries it out
                members.apply(change)
        index = entry.index
    if members.is_removed(ourselves.id):
        raise MemberError(f"member {ourselves.id:x} has been permanently removed from the cluster")
    changes = _changes(ourselves, members)
    if not changes and (not rest or rest[-1].index == index):
        return state, []
    term = state.term + 1  # what was given up may be of the last one, and two entries must not look the same
    # Without a change, an empty entry takes the place of what is given up.
    written = [encode_change(change) for change in changes] or [(EntryType.NORMAL, b"")]
    forced = [Entry(term, index + 1 + n, data, kind) for n, (kind, data) in enumerate(written)]
    return HardState(term, 0, forced[-1].index), forced


def _changes(ourselves: Member, members: Roster) -> list[ConfChange]:
    """First we become a voter, for there must always be one; then the others go."""
    changes = []
    known = members.member(ourselves.id)
    if known is None:
        # Whoever has one of our URLs still is somebody whose place we were to take.
        urls = tuple(url for url in ourselves.peer_urls if members.at_peer_url(url) is None)
        context = ourselves._replace(peer_urls=urls).to_context()
        changes.append(ConfChange(0, ConfChangeType.ADD_NODE, ourselves.id, context))
    elif known.is_learner:
        context = ourselves.to_context(is_promote=True)
        changes.append(ConfChange(0, ConfChangeType.ADD_NODE, ourselves.id, context))
    others = [member.id for member in members.members if member.id != ourselves.id]
    return changes + [ConfChange(0, ConfChangeType.REMOVE_NODE, number) for number in others]
