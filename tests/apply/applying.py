"""A store applier in memory, and short ways to write requests."""

from __future__ import annotations

from typing import Any

from tests.mvcc.stores import Stack
from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Request
from twistedetcd.apply.responses import Header
from twistedetcd.apply.store import StoreApplier
from twistedetcd.cluster.members import Cluster
from twistedetcd.interfaces import Work
from twistedetcd.lease.lessor import Lessor
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseCheckpointResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.raft.types import Entry

CLUSTER_ID, MEMBER_ID, TERM = 0xCDF818194E3A8C32, 0x8E9E05C52164694D, 3
ENTRY = Entry(TERM, 10)
TTL_MIN_SECONDS = 2
RESPONSES: dict[str, Any] = {
    kinds.PUT: PutResponse,
    kinds.DELETE_RANGE: DeleteRangeResponse,
    kinds.TXN: TxnResponse,
    kinds.COMPACTION: CompactionResponse,
    kinds.LEASE_GRANT: LeaseGrantResponse,
    kinds.LEASE_REVOKE: LeaseRevokeResponse,
    kinds.LEASE_CHECKPOINT: LeaseCheckpointResponse,
}


class Applying:
    """The end of a chain, with its store."""

    def __init__(self, stack: Stack | None = None) -> None:
        self.stack = Stack() if stack is None else stack
        self.store = self.stack.store
        self.lessor = Lessor(self.stack.pending, TTL_MIN_SECONDS)
        self.lessor.restore()
        for key, lease_id in self.stack.restored.items():
            self.lessor.attach(key, lease_id)
        self.cluster = Cluster(self.stack.pending)
        self.compactions: list[tuple[int, Work[None]]] = []
        self.applier = StoreApplier(
            self.store,
            self.lessor,
            self.cluster,
            Header(CLUSTER_ID, MEMBER_ID),
            lambda *work: self.compactions.append(work),
        )

    def apply(self, kind: str, message: Any, entry: Entry = ENTRY) -> Any:
        """Carry out a request; returns the response, parsed."""
        response = self.applier.apply(Request(kind, message), entry)
        if not isinstance(response, bytes):
            response = finish(response)
        parsed = RESPONSES[kind].FromString(response)
        # Put together by hand, and just as protobuf writes it.
        assert parsed.SerializeToString() == response
        return parsed

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> PutResponse:
        return self.apply(kinds.PUT, PutRequest(key=key, value=value, **fields))

    def delete(self, key: bytes, range_end: bytes = b"", prev_kv: bool = False) -> DeleteRangeResponse:
        request = DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
        return self.apply(kinds.DELETE_RANGE, request)

    def txn(
        self,
        *success: RequestOp,
        compare: list[Compare] | None = None,
        failure: list[RequestOp] | None = None,
    ) -> TxnResponse:
        return self.apply(
            kinds.TXN, TxnRequest(compare=compare or [], success=success, failure=failure or [])
        )

    def compact(self, revision: int) -> CompactionResponse:
        return self.apply(kinds.COMPACTION, CompactionRequest(revision=revision))

    def grant(self, lease_id: int, ttl: int = 60) -> LeaseGrantResponse:
        return self.apply(kinds.LEASE_GRANT, LeaseGrantRequest(ID=lease_id, TTL=ttl))

    def revoke(self, lease_id: int) -> LeaseRevokeResponse:
        return self.apply(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=lease_id))

    def checkpoint(self, lease_id: int, remaining: int) -> LeaseCheckpointResponse:
        checkpoints = [LeaseCheckpoint(ID=lease_id, remaining_TTL=remaining)]
        return self.apply(kinds.LEASE_CHECKPOINT, LeaseCheckpointRequest(checkpoints=checkpoints))

    def state(self) -> tuple[int, dict[bytes, bytes], int]:
        """All that a request could have changed."""
        return self.store.revision, self.stack.stored(), self.stack.pending.operations


def op_range(key: bytes, range_end: bytes = b"", **fields: Any) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, range_end=range_end, **fields))


def op_put(key: bytes, value: bytes = b"", **fields: Any) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=value, **fields))


def op_delete(key: bytes, range_end: bytes = b"", prev_kv: bool = False) -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv))


def op_txn(
    *success: RequestOp, compare: list[Compare] | None = None, failure: list[RequestOp] | None = None
) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(compare=compare or [], success=success, failure=failure or []))


def compare(target: int, result: int, key: bytes, range_end: bytes = b"", **wanted: Any) -> Compare:
    """A compare; numbers that no enumeration has are allowed, as on the wire."""
    return Compare(target=target, result=result, key=key, range_end=range_end, **wanted)  # type: ignore[arg-type]
