"""
Majorities, and joint majorities: what a configuration agrees on.

A joint configuration has two halves and agrees only when both do; an empty half agrees with everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

INFINITE = 2**64 - 1
"""The index that a majority of nobody has acknowledged."""


class VoteResult(IntEnum):
    """How a vote stands."""

    PENDING = 1
    LOST = 2
    WON = 3


def majority_index(voters: Sequence[int], acknowledged: Mapping[int, int]) -> int:
    """
    The highest index that more than half of the voters have acknowledged.

    Args:
        voters: Ids, without repetition.
        acknowledged: Index by id; a missing one counts as 0.
    """
    if not voters:
        return INFINITE
    indexes = sorted([acknowledged.get(voter, 0) for voter in voters])
    return indexes[len(indexes) - (len(indexes) // 2 + 1)]


def joint_index(voters: Sequence[int], outgoing: Sequence[int], acknowledged: Mapping[int, int]) -> int:
    """The highest index that a majority of each half has acknowledged."""
    if not outgoing:
        return majority_index(voters, acknowledged)
    return min(majority_index(voters, acknowledged), majority_index(outgoing, acknowledged))


def majority_vote(voters: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """The result among the voters; nobody always wins."""
    if not voters:
        return VoteResult.WON
    needed = len(voters) // 2 + 1
    granted = sum(votes.get(voter, False) for voter in voters)
    if granted >= needed:
        return VoteResult.WON
    missing = sum(voter not in votes for voter in voters)
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


def joint_vote(voters: Sequence[int], outgoing: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """The result over both halves: lost when one is lost, won when both are won."""
    first, second = majority_vote(voters, votes), majority_vote(outgoing, votes)
    if first == second:
        return first
    return VoteResult.LOST if VoteResult.LOST in (first, second) else VoteResult.PENDING
