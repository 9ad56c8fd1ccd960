"""
Who adds members to the cluster, makes learners voters, removes members and moves the leadership.

What came of a change is not always told, so each step begins with a look at who the members are: one that has
no machine, since nobody heard that it was added, is removed; a machine whose member was removed is retired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twistedetcd.pb.rpc_pb2 import (
    Member,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberRemoveRequest,
    MoveLeaderRequest,
)
from twistedetcd.testing.simulation.caller import Caller, Outcome
from twistedetcd.testing.simulation.cluster import Cluster, joining_config

if TYPE_CHECKING:
    pass

ADDED_MAX = 2
"""A cluster gets at most so many members more than it began with."""
TRIES_MAX = 20
"""How often one thing is tried."""
AGAIN_SECONDS = 1.0
"""How long to wait between two tries."""


class Operator:
    """
    An operator, who does one thing after the other.

    Args:
        caller: Makes the calls.
        cluster: What is changed.

    Attributes:
        busy: Whether something is being done.
    """

    def __init__(self, caller: Caller, cluster: Cluster) -> None:
        self._caller = caller
        self._cluster = cluster
        self._random = caller.world.random("operator")
        self._least = len(cluster.machines)
        self.busy = False

    def step(self) -> None:
        """Change something, unless the last change is still under way."""
        if not self.busy:
            self._do(self._step())

    def settle(self) -> None:
        """Bring machines and members in line."""
        if not self.busy:
            self._do(self._reconcile())

    def transfer(self) -> None:
        """Ask the leader to make way for another."""
        leader = self._cluster.leader()
        if leader is not None:
            target = self._random.choice(self._cluster.machines).member_id
            self._caller.ask(leader, MoveLeaderRequest(targetID=target))

    def _do(self, work: Any) -> None:
        self.busy = True

        def over(result: object) -> None:
            self.busy = False
            if isinstance(result, Failure):
                self._caller.world.problem("", f"the operator failed: {result.getTraceback()}")

        Deferred.fromCoroutine(work).addBoth(over)

    async def _ask(self, request: Any) -> Outcome:
        serving = [machine for machine in self._cluster.machines if machine.serves]
        return await self._caller.ask(self._random.choice(serving or self._cluster.machines), request, 8.0)

    async def _members(self) -> Sequence[Member]:
        """Who the members are; nobody if nobody tells."""
        for _ in range(TRIES_MAX):
            answer = await self._ask(MemberListRequest(linearizable=True))
            if isinstance(answer, MemberListResponse):
                return answer.members
            await self._caller.pause(AGAIN_SECONDS)
        return ()

    async def _reconcile(self) -> Sequence[Member]:
        """See who the members are, and do what that calls for."""
        members = await self._members()
        if not members:
            return ()
        ids = {member.ID for member in members}
        for machine in list(self._cluster.machines):
            if machine.member_id not in ids:
                self._cluster.retire(machine)
        known = {machine.member_id for machine in self._cluster.machines}
        for member in members:
            if member.ID not in known:
                await self._ask(MemberRemoveRequest(ID=member.ID))
            elif member.isLearner:
                await self._ask(MemberPromoteRequest(ID=member.ID))
        return members

    async def _step(self) -> None:
        members = await self._reconcile()
        if not members:
            return
        if len(members) >= self._least + ADDED_MAX or (
            len(members) > self._least and self._random.random() < 0.6
        ):
            await self._remove(self._random.choice(members))
        else:
            await self._add()

    async def _remove(self, member: Member) -> None:
        await self._ask(MemberRemoveRequest(ID=member.ID))
        await self._reconcile()

    async def _add(self) -> None:
        cluster = self._cluster
        name, url = cluster.next_name()
        learner = self._random.random() < 0.5
        answer = await self._ask(MemberAddRequest(peerURLs=[url], isLearner=learner))
        if not isinstance(answer, MemberAddResponse):
            return
        others = {
            member.name or f"{member.ID:x}": member.peerURLs[0]
            for member in answer.members
            if member.ID != answer.member.ID
        }
        cluster.add(joining_config(name, url, others, *cluster.flags), answer.member.ID)
        if learner:
            for _ in range(TRIES_MAX):
                await self._caller.pause(AGAIN_SECONDS)
                members = await self._reconcile()
                if not any(member.isLearner for member in members):
                    return
