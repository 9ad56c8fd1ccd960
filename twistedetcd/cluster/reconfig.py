"""
What a member asks itself before it proposes a change of membership (``--strict-reconfig-check``).

A change that leaves no quorum of members that work can never be taken back, for that would need a quorum.
So a change is refused, before it is in anybody's log, when too few members have ever started, or too few have
been connected lately.  Source of the rules: upstream's `membership.RaftCluster` and `etcdserver` (3.6.11 on).

A *steady* member has been connected to us for `STEADY_SECONDS`; an *active* one is connected now.  Both are
sets of member ids; whether they hold our own makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from twistedetcd.cluster.member import Member
from twistedetcd.errors import EtcdError, LearnerNotReadyError, MemberNotEnoughStartedError, UnhealthyError

STEADY_SECONDS = 5.0


def quorum(count: int) -> int:
    """How many of so many voters are a majority."""
    return count // 2 + 1


def refuse_adding(
    members: Sequence[Member], steady: Set[int], ourselves: int, learner: bool
) -> EtcdError | None:
    """
    Why a member must not be added now, or ``None``.

    Args:
        members: All of the cluster.
        steady: See the module.
        ourselves: Our own id.
        learner: Whether it would be a learner.
    """
    voters = _voters(members)
    started = _started(voters)
    # A lone member could otherwise never be joined by a second one.
    alone = len(voters) == 1
    if not learner and started < quorum(len(voters) + 1) and not (alone and started == 1):
        return MemberNotEnoughStartedError()
    if not alone and _connected(voters, steady, ourselves) < quorum(len(voters) + 1):
        return UnhealthyError()
    return None


def refuse_removing(
    number: int, members: Sequence[Member], active: Set[int], steady: Set[int], ourselves: int
) -> EtcdError | None:
    """
    Why a member must not be removed now, or ``None``; also for one that is not there.

    Args:
        number: Whose removal is asked for.
        members: All of the cluster.
        active: See the module.
        steady: See the module.
        ourselves: Our own id.
    """
    voters = _voters(members)
    remaining = [voter for voter in voters if voter.id != number]
    if len(remaining) == len(voters):
        return None  # a learner or nobody: no quorum changes
    if _started(remaining) < quorum(len(remaining)):
        return MemberNotEnoughStartedError()
    if number != ourselves and number not in active:
        return None  # it is not among those that make the quorum now
    if _connected(voters, steady, ourselves) - 1 < quorum(len(remaining)):
        return UnhealthyError()
    return None


def refuse_promoting(members: Sequence[Member]) -> EtcdError | None:
    """
    Why no learner must be made a voter now, or ``None``.

    The learner itself counts as started, which `refuse_lagging` makes sure of.

    Args:
        members: All of the cluster.
    """
    voters = _voters(members)
    enough = _started(voters) + 1 >= quorum(len(voters) + 1)
    return None if enough else MemberNotEnoughStartedError()


def refuse_lagging(match: int, leader_match: int) -> EtcdError | None:
    """
    Why a learner must not be promoted yet, or ``None``: it has less than nine tenths of the leader's log.

    Only the leader can tell.

    Args:
        match: The last index that the learner is known to have.
        leader_match: The leader's own.
    """
    return LearnerNotReadyError() if 10 * match < 9 * leader_match else None


def _voters(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if not member.is_learner]


def _started(members: Sequence[Member]) -> int:
    return sum(member.is_started for member in members)


def _connected(voters: Sequence[Member], steady: Set[int], ourselves: int) -> int:
    return sum(voter.id == ourselves or voter.id in steady for voter in voters)
