"""etcdserverpb.Cluster: who the members are, and how they become others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from twistedetcd.api.calls import answer, method
from twistedetcd.cluster.member import Member
from twistedetcd.cluster.urls import parse_peer_urls
from twistedetcd.pb import rpc_pb2
from twistedetcd.protocols.grpc import Call, Method
from twistedetcd.server.member import EtcdServer


class ClusterAPI:
    """
    The membership calls of one member.

    Args:
        member: Who serves them.
        changeable: Whether members may be added, removed and so on: not without a way to the others.
    """

    def __init__(self, member: EtcdServer, changeable: bool) -> None:
        self._member = member
        self._changeable = changeable

    def methods(self) -> dict[str, Method]:
        """By name."""
        member = self._member
        found = {"MemberList": method(member, rpc_pb2.MemberListRequest, self.member_list)}
        if self._changeable:
            found |= {
                "MemberAdd": method(member, rpc_pb2.MemberAddRequest, self.member_add),
                "MemberRemove": method(member, rpc_pb2.MemberRemoveRequest, self.member_remove),
                "MemberUpdate": method(member, rpc_pb2.MemberUpdateRequest, self.member_update),
                "MemberPromote": method(member, rpc_pb2.MemberPromoteRequest, self.member_promote),
            }
        return found

    def member_list(self, call: Call, raw: bytes, request: Any) -> None:
        """MemberList."""
        if request.linearizable:
            self._member.read(self._member_list, call, request)
        else:
            self._member_list(call, request)

    def _member_list(self, call: Call, request: Any) -> None:
        call.reply(self._response(rpc_pb2.MemberListResponse(), self._member.cluster.members))

    def member_add(self, call: Call, raw: bytes, request: Any) -> None:
        """MemberAdd."""
        urls = parse_peer_urls(request.peerURLs)
        member, added = self._member.clustering.membership.add(urls, request.isLearner)
        response = rpc_pb2.MemberAddResponse(member=_message(member))
        self._answer(call, added, response)

    def member_remove(self, call: Call, raw: bytes, request: Any) -> None:
        """MemberRemove."""
        self._answer(
            call, self._member.clustering.membership.remove(request.ID), rpc_pb2.MemberRemoveResponse()
        )

    def member_update(self, call: Call, raw: bytes, request: Any) -> None:
        """MemberUpdate: as upstream, without a look at the URLs."""
        updated = self._member.clustering.membership.update(request.ID, request.peerURLs)
        self._answer(call, updated, rpc_pb2.MemberUpdateResponse())

    def member_promote(self, call: Call, raw: bytes, request: Any) -> None:
        """MemberPromote: the leader does it, and says who the members are then."""
        promoted = self._member.clustering.membership.promote(request.ID)
        response = rpc_pb2.MemberPromoteResponse()
        answer(call, promoted.addCallback(lambda members: self._response(response, members)))

    def _answer(self, call: Call, changed: Deferred[None], response: Any) -> None:
        answer(call, changed.addCallback(lambda _: self._response(response, self._member.cluster.members)))

    def _response(self, response: Any, members: Sequence[Member]) -> bytes:
        member = self._member
        response.header.cluster_id = member.cluster_id
        response.header.member_id = member.identity.id
        response.header.raft_term = member.applied_term
        response.members.extend(map(_message, members))
        encoded: bytes = response.SerializeToString()
        return encoded


def _message(member: Member) -> rpc_pb2.Member:
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )
