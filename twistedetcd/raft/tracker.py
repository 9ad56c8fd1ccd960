"""The configuration a member acts under, its view of each member in it, and the votes of a campaign."""

from __future__ import annotations

from collections.abc import Mapping

from twistedetcd.raft.progress import Progress
from twistedetcd.raft.quorum import VoteResult, joint_index, joint_vote
from twistedetcd.raft.types import ConfState


class Tracker:
    """Who counts, and how far they are."""

    __slots__ = ("configuration", "members", "votes")

    def __init__(self) -> None:
        self.configuration = ConfState()
        self.members: dict[int, Progress] = {}
        """Everybody in any part of the configuration, ids ascending."""
        self.votes: dict[int, bool] = {}

    def voters(self) -> list[int]:
        """The voters of both halves, ascending."""
        configuration = self.configuration
        if not configuration.voters_outgoing:
            return list(configuration.voters)
        return sorted({*configuration.voters, *configuration.voters_outgoing})

    def is_single_voter(self) -> bool:
        """Whether one member decides alone."""
        return len(self.configuration.voters) == 1 and not self.configuration.voters_outgoing

    def committed(self) -> int:
        """The highest index that a quorum holds."""
        if self.is_single_voter():
            [voter] = self.configuration.voters
            return self.members[voter].match
        return self.confirmed({member: progress.match for member, progress in self.members.items()})

    def confirmed(self, acknowledged: Mapping[int, int]) -> int:
        """The highest number that a quorum has acknowledged."""
        return joint_index(self.configuration.voters, self.configuration.voters_outgoing, acknowledged)

    def result(self, votes: dict[int, bool]) -> VoteResult:
        """What these answers decide."""
        return joint_vote(self.configuration.voters, self.configuration.voters_outgoing, votes)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard from since the last check."""
        active = {
            member: progress.recent_active
            for member, progress in self.members.items()
            if not progress.is_learner
        }
        return self.result(active) is VoteResult.WON

    def record_vote(self, member: int, granted: bool) -> None:
        """The first answer of a member counts."""
        self.votes.setdefault(member, granted)

    def tally(self) -> tuple[int, int, VoteResult]:
        """Grants, rejections, and what they decide.  Answers of learners and strangers do not count."""
        votes = self.votes
        counted = [
            votes[member]
            for member, progress in self.members.items()
            if member in votes and not progress.is_learner
        ]
        granted = sum(counted)
        return granted, len(counted) - granted, self.result(votes)
