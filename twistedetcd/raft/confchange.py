"""
Changing a configuration: from what is and what is asked, what comes next.  Nothing is changed in place.

A change of one voter may be made at once.  Anything larger goes through a joint configuration: the voters
of before become its outgoing half, the change is made to the incoming half, and leaving drops the former.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from twistedetcd.raft.errors import ConfChangeError, InvariantError
from twistedetcd.raft.progress import Inflights, Progress
from twistedetcd.raft.types import (
    NOBODY,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)

Members: TypeAlias = dict[int, Progress]


def restore(state: ConfState, last: int, window: Inflights) -> tuple[ConfState, Members]:
    """
    The configuration that a snapshot or a stored state describes, with fresh members.

    Raises:
        ConfChangeError: The state is not one that changes can lead to.
    """
    add, learn, remove = ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.REMOVE_NODE
    changer = Changer(ConfState(), {}, last, window)
    incoming = [ConfChangeSingle(add, member) for member in state.voters]
    incoming += [ConfChangeSingle(learn, member) for member in state.learners]
    incoming += [ConfChangeSingle(learn, member) for member in state.learners_next]
    if state.voters_outgoing:
        for member in state.voters_outgoing:
            changer.simple([ConfChangeSingle(add, member)])
        outgoing = [ConfChangeSingle(remove, member) for member in state.voters_outgoing]
        changer.enter_joint(outgoing + incoming, auto_leave=state.auto_leave)
    else:
        for single in incoming:
            changer.simple([single])
    configuration, members = changer.result()
    if configuration != _sorted(state):
        raise ConfChangeError(f"configuration {state} restores as {configuration}")
    return configuration, members


def _sorted(state: ConfState) -> ConfState:
    return ConfState(
        voters=tuple(sorted(state.voters)),
        learners=tuple(sorted(state.learners)),
        voters_outgoing=tuple(sorted(state.voters_outgoing)),
        learners_next=tuple(sorted(state.learners_next)),
        auto_leave=state.auto_leave,
    )


class Changer:
    """
    A configuration taken apart to be changed.  Sets never decide an order: `result` sorts.

    One changer makes one change.  When it raises, drop it: nothing happened.
    """

    def __init__(
        self, configuration: ConfState, members: Mapping[int, Progress], last: int, window: Inflights
    ) -> None:
        """
        Args:
            configuration: The one in force.
            members: Everybody in it; left as they are.
            last: The last index of the log; new members are first probed there.
            window: Whose limits a new member's window takes.
        """
        self._voters = set(configuration.voters)
        self._outgoing = set(configuration.voters_outgoing)
        self._learners = set(configuration.learners)
        self._learners_next = set(configuration.learners_next)
        self._auto_leave = configuration.auto_leave
        self._members = {member: progress.copy() for member, progress in members.items()}
        self._last, self._window = last, window
        self._check()

    def result(self) -> tuple[ConfState, Members]:
        """Put together again: ids ascending."""
        self._check()
        configuration = ConfState(
            voters=tuple(sorted(self._voters)),
            learners=tuple(sorted(self._learners)),
            voters_outgoing=tuple(sorted(self._outgoing)),
            learners_next=tuple(sorted(self._learners_next)),
            auto_leave=self._auto_leave,
        )
        return configuration, {member: self._members[member] for member in sorted(self._members)}

    def change(self, asked: ConfChangeV2) -> None:
        """
        Make a change by the protocol that it calls for.

        Raises:
            ConfChangeError: The configuration in force does not allow it.
        """
        if asked.transition == ConfChangeTransition.AUTO and not asked.changes:
            self.leave_joint()
        elif asked.transition != ConfChangeTransition.AUTO or len(asked.changes) > 1:
            auto_leave = asked.transition != ConfChangeTransition.JOINT_EXPLICIT
            self.enter_joint(asked.changes, auto_leave=auto_leave)
        else:
            self.simple(asked.changes)

    def simple(self, changes: Sequence[ConfChangeSingle]) -> None:
        """Change the incoming half by one voter at most, outside of a joint configuration."""
        if self._outgoing:
            raise ConfChangeError("can't apply simple config change in joint config")
        before = set(self._voters)
        self._apply(changes)
        if len(before ^ self._voters) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")

    def enter_joint(self, changes: Sequence[ConfChangeSingle], *, auto_leave: bool) -> None:
        """Keep the voters of now as the outgoing half, then change the incoming one."""
        if self._outgoing:
            raise ConfChangeError("config is already joint")
        if not self._voters:
            raise ConfChangeError("can't make a zero-voter config joint")
        self._outgoing = set(self._voters)
        self._apply(changes)
        self._auto_leave = auto_leave

    def leave_joint(self) -> None:
        """Drop the outgoing half, and make learners of those who waited for that."""
        if not self._outgoing:
            raise ConfChangeError("can't leave a non-joint config")
        for member in sorted(self._learners_next):
            self._members[member].is_learner = True
        self._learners |= self._learners_next
        self._learners_next = set()
        for member in sorted(self._outgoing - self._voters - self._learners):
            del self._members[member]
        self._outgoing = set()
        self._auto_leave = False

    def _apply(self, changes: Sequence[ConfChangeSingle]) -> None:
        for single in changes:
            if single.node_id == NOBODY:
                continue
            if single.type == ConfChangeType.ADD_NODE:
                self._make_voter(single.node_id)
            elif single.type == ConfChangeType.ADD_LEARNER_NODE:
                self._make_learner(single.node_id)
            elif single.type == ConfChangeType.REMOVE_NODE:
                self._remove(single.node_id)
            elif single.type != ConfChangeType.UPDATE_NODE:
                raise ConfChangeError(f"unexpected conf type {int(single.type)}")
        if not self._voters:
            raise ConfChangeError("removed all voters")

    def _new_member(self, member: int, *, is_learner: bool) -> None:
        # Active from the start: a quorum check right after the change must not depose the leader for it.
        window = self._window.empty_copy()
        self._members[member] = Progress(
            0, max(self._last, 1), window, recent_active=True, is_learner=is_learner
        )

    def _make_voter(self, member: int) -> None:
        if member in self._members:
            self._members[member].is_learner = False
            self._learners.discard(member)
            self._learners_next.discard(member)
        else:
            self._new_member(member, is_learner=False)
        self._voters.add(member)

    def _make_learner(self, member: int) -> None:
        progress = self._members.get(member)
        if progress is None:
            self._new_member(member, is_learner=True)
            self._learners.add(member)
        elif not progress.is_learner:
            self._voters.discard(member)
            # Still a voter of the outgoing half: a learner only once that half is gone.
            if member in self._outgoing:
                self._learners_next.add(member)
            else:
                progress.is_learner = True
                self._learners.add(member)

    def _remove(self, member: int) -> None:
        self._voters.discard(member)
        self._learners.discard(member)
        self._learners_next.discard(member)
        if member not in self._outgoing:
            self._members.pop(member, None)

    def _check(self) -> None:
        """The rules every configuration keeps, whatever led to it."""
        members = self._members
        for member in sorted(self._voters | self._outgoing | self._learners | self._learners_next):
            if member not in members:
                raise InvariantError(f"no progress for {member}")
        for member in sorted(self._learners_next):
            if member not in self._outgoing:
                raise InvariantError(f"{member} is in LearnersNext, but not Voters[1]")
            if members[member].is_learner:
                raise InvariantError(f"{member} is in LearnersNext, but is already marked as learner")
        for member in sorted(self._learners):
            if member in self._outgoing:
                raise InvariantError(f"{member} is in Learners and Voters[1]")
            if member in self._voters:
                raise InvariantError(f"{member} is in Learners and Voters[0]")
            if not members[member].is_learner:
                raise InvariantError(f"{member} is in Learners, but is not marked as learner")
        if not self._outgoing and self._learners_next:
            raise InvariantError("cfg.LearnersNext must be nil when not joint")
        if not self._outgoing and self._auto_leave:
            raise InvariantError("AutoLeave must be false when not joint")
