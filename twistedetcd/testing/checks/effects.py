"""What an operation's answer says of its place in the order, and of what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.message import Message

from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    PutResponse,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest
from twistedetcd.testing.checks.history import Operation, Refused, Unknown

KEY_VALUE = (RangeRequest, PutRequest, DeleteRangeRequest, TxnRequest)
_ORDERED = (
    PutRequest,
    DeleteRangeRequest,
    CompactionRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    LockRequest,
    UnlockRequest,
)


def _local(operation: RequestOp) -> bool:
    return operation.HasField("request_range") and operation.request_range.serializable


def is_linearizable(request: Message) -> bool:
    """Whether the answer has its place in the one order; others come from what a member happens to have."""
    if isinstance(request, RangeRequest):
        return not request.serializable
    if isinstance(request, TxnRequest):
        return not all(map(_local, [*request.success, *request.failure]))
    return isinstance(request, _ORDERED)


def _txn_changed(answer: TxnResponse) -> bool:
    return any(
        part.HasField("response_put")
        or part.response_delete_range.deleted > 0
        or (part.HasField("response_txn") and _txn_changed(part.response_txn))
        for part in answer.responses
    )


def changed(operation: Operation) -> bool:
    """Whether the answer says that this made the revision of its header."""
    match operation.outcome:
        case PutResponse():
            return True
        case DeleteRangeResponse(deleted=deleted):
            return bool(deleted)
        case TxnResponse() as answer:
            return _txn_changed(answer)
    return False


class Effects(NamedTuple):
    """
    What an answer says that was done.

    Attributes:
        puts: Keys and values; the value is ``None`` where the old one was kept.
        deleted: How many keys were deleted.
    """

    puts: list[tuple[bytes, bytes | None]]
    deleted: int


def effects(operation: Operation) -> Effects:
    """What the answer to a Put, DeleteRange or Txn says that was done."""
    puts: list[tuple[bytes, bytes | None]] = []
    deleted = 0
    for request, answer in _parts(operation.request, operation.outcome):
        if isinstance(request, PutRequest):
            puts.append((request.key, None if request.ignore_value else request.value))
        elif isinstance(answer, DeleteRangeResponse):
            deleted += answer.deleted
    return Effects(puts, deleted)


def _parts(request: Message, answer: object) -> Iterator[tuple[Message, Message]]:
    if isinstance(request, TxnRequest) and isinstance(answer, TxnResponse):
        taken = request.success if answer.succeeded else request.failure
        for asked, told in zip(taken, answer.responses, strict=False):
            kind = asked.WhichOneof("request") or ""
            yield from _parts(getattr(asked, kind), getattr(told, kind.replace("request", "response")))
    elif isinstance(answer, Message):
        yield request, answer


def unplaced_writes(operation: Operation) -> list[Message]:
    """
    The requests that an operation may have made a revision with, which its answer does not tell.

    That is any write of unknown outcome; and those whose answers do not tell whether the revision is theirs.
    """
    if isinstance(operation.outcome, Refused):
        return []
    answer = operation.outcome
    match operation.request:
        case LeaseRevokeRequest():
            return [operation.request]
        case UnlockRequest(key=key):
            return [DeleteRangeRequest(key=key)]
        case LockRequest() as request:
            # Of one who brought no lease, nobody but the server knows the key before the answer.
            key = answer.key if isinstance(answer, LockResponse) else b"%s/%x" % (request.name, request.lease)
            absent = Compare(target=Compare.CREATE, key=key)
            put = PutRequest(key=key, lease=int(key.rpartition(b"/")[2], 16))
            enter: Message = TxnRequest(compare=[absent], success=[RequestOp(request_put=put)])
            # Whoever gives up leaves the line.
            return [enter] if isinstance(answer, LockResponse) else [enter, DeleteRangeRequest(key=key)]
        case PutRequest() | DeleteRangeRequest() | TxnRequest():
            return [operation.request] if isinstance(answer, Unknown) else []
    return []


class Reach(NamedTuple):
    """
    Keys that a request may change.

    Attributes:
        key: The first.
        range_end: As on the wire.
        value: What it puts there, if it puts, and that is known.
    """

    key: bytes
    range_end: bytes
    value: bytes | None


def reaches(request: Message) -> Iterator[Reach]:
    """All that a Put, DeleteRange or Txn may change, whichever branch it takes."""
    match request:
        case PutRequest():
            yield Reach(request.key, b"", None if request.ignore_value else request.value)
        case DeleteRangeRequest():
            yield Reach(request.key, request.range_end, None)
        case TxnRequest():
            for operation in [*request.success, *request.failure]:
                kind = operation.WhichOneof("request")
                if kind is not None:
                    yield from reaches(getattr(operation, kind))
