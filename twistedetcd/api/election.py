"""v3electionpb.Election: who is first in a queue leads, and its value is what it proclaims."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from twistedetcd.api.observe import Observer
from twistedetcd.api.queue import TTL_SECONDS, Candidate, created_at, delete_candidate, first_in
from twistedetcd.api.waiting import LastingCall, lasting
from twistedetcd.api.within import Within
from twistedetcd.errors import (
    ElectionNoLeaderError,
    ElectionNotLeaderError,
    EtcdError,
    MissingLeaderKeyError,
)
from twistedetcd.pb.rpc_pb2 import PutRequest, RequestOp, TxnRequest, TxnResponse
from twistedetcd.pb.v3election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ProclaimResponse,
    ResignRequest,
    ResignResponse,
)
from twistedetcd.protocols.grpc import Method


class ElectionAPI:
    """
    The election calls of one member.

    Args:
        within: Makes the calls that they are made of.
    """

    def __init__(self, within: Within) -> None:
        self._within = within

    def methods(self) -> dict[str, Method]:
        """By name."""
        member = self._within.member
        return {
            "Campaign": lasting(member, CampaignRequest, self.campaign),
            "Proclaim": lasting(member, ProclaimRequest, self.proclaim),
            "Leader": lasting(member, LeaderRequest, self.leader),
            "Observe": lasting(member, LeaderRequest, self.observe),
            "Resign": lasting(member, ResignRequest, self.resign),
        }

    async def campaign(self, call: LastingCall, request: Any) -> bytes:
        """Campaign: answered when the caller leads."""
        lease = request.lease or await self._within.grant(TTL_SECONDS)
        candidate = Candidate(self._within, request.name, lease)
        call.on_gone = candidate.cancel
        before = await candidate.enter(request.value)
        leader = LeaderKey(name=request.name, key=candidate.key, rev=candidate.revision, lease=lease)
        try:
            if before is not None and before.value != request.value:
                await self._proclaim(leader, request.value)
            await candidate.turn()
        except (CancelledError, EtcdError):
            await candidate.leave()
            raise
        if await candidate.still_there() is None:
            raise ElectionNotLeaderError
        if call.call.done and before is None:
            await candidate.leave()  # nobody will hear of it
        return CampaignResponse(header=candidate.entered.header, leader=leader).SerializeToString()

    async def proclaim(self, call: LastingCall, request: Any) -> bytes:
        """Proclaim: the leader has a new value."""
        if not request.HasField("leader"):
            raise MissingLeaderKeyError
        done = await self._proclaim(request.leader, request.value)
        return ProclaimResponse(header=done.header).SerializeToString()

    async def _proclaim(self, leader: LeaderKey, value: bytes) -> TxnResponse:
        lease = leader.lease or await self._within.grant(TTL_SECONDS)
        put = RequestOp(request_put=PutRequest(key=leader.key, value=value, lease=lease))
        done = await self._within.txn(TxnRequest(compare=[created_at(leader.key, leader.rev)], success=[put]))
        if not done.succeeded:
            raise ElectionNotLeaderError
        return done

    async def leader(self, call: LastingCall, request: Any) -> bytes:
        """Leader: who leads now."""
        found = await self._within.get(first_in(request.name))
        kvs = found.responses[0].response_range.kvs
        if not kvs:
            raise ElectionNoLeaderError
        return LeaderResponse(header=found.header, kv=kvs[0]).SerializeToString()

    async def observe(self, call: LastingCall, request: Any) -> None:
        """Observe: who leads, what it proclaims, and who leads next."""
        await Observer(self._within, call, request.name).find()

    async def resign(self, call: LastingCall, request: Any) -> bytes:
        """Resign: the leader, or candidate, goes; one that is gone already is no matter."""
        if not request.HasField("leader"):
            raise MissingLeaderKeyError
        done = await self._within.txn(delete_candidate(request.leader.key, request.leader.rev))
        return ResignResponse(header=done.header).SerializeToString()
