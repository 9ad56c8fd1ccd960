"""
Who is in the cluster, change by change.

All that decides whether a change takes effect is in here: the members before it, and the ids of those that
were removed.  So whoever starts from the same members and reads the same log gets the same members.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from twistedetcd.cluster.member import Member
from twistedetcd.errors import (
    EtcdError,
    MemberExistError,
    MemberNotFoundError,
    MemberNotLearnerError,
    PeerURLExistError,
    TooManyLearnersError,
)
from twistedetcd.raft.types import NOBODY, ConfChange, ConfChangeType

LEARNERS_MAX = 1


def is_promotion(change: ConfChange) -> bool:
    """
    Whether a change makes a voter of a learner.

    Raises:
        ValueError: Its context is not JSON.
    """
    if change.type != ConfChangeType.ADD_NODE or not change.context:
        return False
    fields = json.loads(change.context)
    return isinstance(fields, dict) and bool(fields.get("isPromote"))


class Roster:
    """
    Members, and those that were removed.

    Args:
        members: Those at the start.
        removed: The ids of those that had been removed by then.
        learners_max: How many learners there may be.  Changes are refused by it when they are applied, so it
            must be the same on all members.
    """

    def __init__(
        self, members: Iterable[Member] = (), removed: Iterable[int] = (), learners_max: int = LEARNERS_MAX
    ) -> None:
        self._learners_max = learners_max
        self._members = {member.id: member for member in members}
        self._removed = set(removed)

    def copy(self) -> Roster:
        """A roster of its own, with the same content and nothing kept on any disk."""
        return Roster(self.members, self._removed, self._learners_max)

    # Who there is.

    @property
    def members(self) -> list[Member]:
        """All members, by ascending id."""
        return [self._members[number] for number in sorted(self._members)]

    @property
    def voters(self) -> list[Member]:
        """Those that vote, by ascending id."""
        return [member for member in self.members if not member.is_learner]

    @property
    def learners(self) -> list[Member]:
        """Those that do not, by ascending id."""
        return [member for member in self.members if member.is_learner]

    @property
    def removed(self) -> list[int]:
        """The ids of all members that ever were removed, ascending."""
        return sorted(self._removed)

    def is_removed(self, number: int) -> bool:
        """Whether a member of that id was removed; then there is none, and never will be."""
        return number in self._removed

    def member(self, number: int) -> Member | None:
        """One member, or ``None``."""
        return self._members.get(number)

    def named(self, name: str) -> Member | None:
        """The member of that name, the first by id if there are several, or ``None``."""
        return next((member for member in self.members if member.name == name), None)

    def at_peer_url(self, url: str) -> Member | None:
        """The member that has that peer URL, spelled so, or ``None``."""
        return next((member for member in self.members if url in member.peer_urls), None)

    # Changes of membership.

    def refusal(self, change: ConfChange) -> EtcdError | None:
        """
        Why a committed change must not take effect, or ``None``: the same on every member.

        Args:
            change: One that names nobody changes nothing, and is not refused.

        Raises:
            ValueError: Its context is not that of such a change: the log is damaged.
        """
        number = change.node_id
        if number == NOBODY:
            return None
        member = self._members.get(number)
        if number in self._removed:
            return MemberNotFoundError()
        if change.type == ConfChangeType.REMOVE_NODE or is_promotion(change):
            if member is None:
                return MemberNotFoundError()
            if change.type != ConfChangeType.REMOVE_NODE and not member.is_learner:
                return MemberNotLearnerError()
            return None
        urls = _named_member(change).peer_urls
        in_use = self._in_use(urls, number)
        if change.type == ConfChangeType.UPDATE_NODE:
            if member is None:
                return MemberNotFoundError()
            return PeerURLExistError() if in_use else None
        if member is not None:
            return MemberExistError()
        if in_use:
            return PeerURLExistError()
        if change.type == ConfChangeType.ADD_LEARNER_NODE and len(self.learners) >= self._learners_max:
            return TooManyLearnersError()
        return None

    def _in_use(self, urls: Sequence[str], number: int) -> bool:
        """Whether another member than that one has one of the peer URLs."""
        wanted = frozenset(urls)
        others = (member for member in self._members.values() if member.id != number)
        return any(not wanted.isdisjoint(other.peer_urls) for other in others)

    def apply(self, change: ConfChange) -> EtcdError | None:
        """
        Carry out a committed change, unless it is refused.  What it means for raft is the caller's business.

        Returns:
            Why nothing was changed, or ``None``.  Raft must be given a change that names nobody then.

        Raises:
            ValueError: As `refusal`.
        """
        refused = self.refusal(change)
        if refused is not None or change.node_id == NOBODY:
            return refused
        member = self._members.get(change.node_id)
        if change.type == ConfChangeType.REMOVE_NODE:
            self._remove(change.node_id)
        elif member is None:
            learner = change.type == ConfChangeType.ADD_LEARNER_NODE
            self._write(_named_member(change)._replace(is_learner=learner))
        elif change.type == ConfChangeType.UPDATE_NODE:
            self._write(member._replace(peer_urls=_named_member(change).peer_urls))
        else:
            self._write(member._replace(is_learner=False))
        return None

    def _remove(self, number: int) -> None:
        del self._members[number]
        self._removed.add(number)

    def _write(self, member: Member) -> None:
        self._members[member.id] = member


def _named_member(change: ConfChange) -> Member:
    member = Member.from_json(change.context)
    if member.id != change.node_id:
        raise ValueError(f"a change of member {change.node_id:x} describes member {member.id:x}")
    return member
