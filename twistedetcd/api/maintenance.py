"""etcdserverpb.Maintenance and gRPC's health service: what there is of them."""

from __future__ import annotations

from typing import Any

from twistedetcd.api.calls import answer, method
from twistedetcd.api.snapshot import SnapshotAPI
from twistedetcd.apply import request as kinds
from twistedetcd.config import ETCD_VERSION
from twistedetcd.errors import UnknownServiceNameError, UnsupportedError
from twistedetcd.mvcc.hash import KeyValueHash
from twistedetcd.pb import health_pb2, rpc_pb2
from twistedetcd.protocols.grpc import Call, Method
from twistedetcd.schema import STORAGE_FORMAT
from twistedetcd.server.member import EtcdServer

DEFAULT_QUOTA_BYTES = 2 * 1024**3


class Maintenance:
    """The maintenance calls of one member."""

    def __init__(self, member: EtcdServer) -> None:
        self._member = member

    def methods(self) -> dict[str, Method]:
        """By name."""
        return {
            "Status": method(self._member, rpc_pb2.StatusRequest, self.status),
            "HashKV": method(self._member, rpc_pb2.HashKVRequest, self.hash_kv),
            "Alarm": method(self._member, rpc_pb2.AlarmRequest, self.alarm),
            "Snapshot": SnapshotAPI(self._member).method(),
            "MoveLeader": method(self._member, rpc_pb2.MoveLeaderRequest, self.move_leader),
        }

    def status(self, call: Call, raw: bytes, request: Any) -> None:
        """Status: this member's own view, at once."""
        member = self._member
        raft = member.node.raft.status()
        response = rpc_pb2.StatusResponse(
            version=ETCD_VERSION,
            dbSize=member.pending.size_bytes(),
            leader=raft.soft_state.lead,
            raftIndex=raft.hard_state.commit,
            raftTerm=raft.hard_state.term,
            raftAppliedIndex=member.applied_index,
            dbSizeInUse=member.pending.size_in_use_bytes(),
            storageVersion=STORAGE_FORMAT.decode(),
            dbSizeQuota=DEFAULT_QUOTA_BYTES,
            isLearner=member.learner,
            downgradeInfo=rpc_pb2.DowngradeInfo(),
        )
        if not raft.soft_state.lead:
            response.errors.append("etcdserver: no leader")
        call.reply(self._header() + response.SerializeToString())

    def hash_kv(self, call: Call, raw: bytes, request: Any) -> None:
        """HashKV; the header has the revision of when it began, as its hash of the current revision has."""
        header = self._header()

        def response(result: KeyValueHash) -> bytes:
            hashed = rpc_pb2.HashKVResponse(
                hash=result.hash, compact_revision=result.compact_revision, hash_revision=result.revision
            )
            return header + hashed.SerializeToString()

        answer(call, self._member.hash(request.revision).addCallback(response))

    def move_leader(self, call: Call, raw: bytes, request: Any) -> None:
        """MoveLeader."""
        moved = self._member.clustering.move_leader(request.targetID)
        answer(call, moved.addCallback(lambda _: rpc_pb2.MoveLeaderResponse().SerializeToString()))

    def alarm(self, call: Call, raw: bytes, request: Any) -> None:
        """Alarm: listing only."""
        if request.action != rpc_pb2.AlarmRequest.GET:
            raise UnsupportedError("alarms cannot be set or cleared in this version of twistedetcd")
        self._member.propose(kinds.ALARM, raw, request, call)

    def _header(self) -> bytes:
        return self._member.header.field(self._member.store.revision, self._member.applied_term)


class Health:
    """grpc.health.v1.Health: serving, or the member would not be listening."""

    def __init__(self, member: EtcdServer) -> None:
        self._member = member

    def methods(self) -> dict[str, Method]:
        """By name."""
        return {
            "Check": method(self._member, health_pb2.HealthCheckRequest, self.check),
            "List": method(self._member, health_pb2.HealthListRequest, self.list),
        }

    def check(self, call: Call, raw: bytes, request: Any) -> None:
        """Check."""
        if request.service:
            raise UnknownServiceNameError
        call.reply(_serving().SerializeToString())

    def list(self, call: Call, raw: bytes, request: Any) -> None:
        """List."""
        response = health_pb2.HealthListResponse()
        response.statuses[""].CopyFrom(_serving())
        call.reply(response.SerializeToString())


def _serving() -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
