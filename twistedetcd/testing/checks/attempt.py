"""A request carried out on top of a model, which stays as it is: the answer, and what it would change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from google.protobuf.message import Message

from twistedetcd.errors import CompactedError, FutureRevisionError, KeyNotFoundError, LeaseNotFoundError
from twistedetcd.pb.kv_pb2 import Event, KeyValue
from twistedetcd.pb.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseHeader,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.testing.checks.ranges import holds, inside, select


class State(Protocol):
    """What an attempt reads of a model."""

    revision: int
    compact_revision: int

    def get(self, key: bytes) -> KeyValue | None:
        """The record of a key, if it lives."""

    def scan(self, key: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        """The records of a range at a revision, in the order of keys."""

    def has_lease(self, lease: int) -> bool:
        """Whether there is such a lease."""

    def keys_of(self, lease: int) -> Iterable[bytes]:
        """The keys that are attached to a lease."""


class Attempt:
    """
    One request.  It is taken for valid: only what depends on the state is refused.

    Attributes:
        events: What it changes, in order.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._pending: dict[bytes, KeyValue | None] = {}
        self.events: list[Event] = []

    def run(self, request: Message) -> Message:
        """
        Carry a Range, Put, DeleteRange, Txn or LeaseRevoke out.

        Returns:
            The response, whose header has only a revision.

        Raises:
            EtcdError: It would be refused.
        """
        match request:
            case PutRequest():
                self._check_lease(request)
                self._check_kept(request)
                return self._put(request)
            case RangeRequest():
                self._check_range(request)
                return self._range(request)
            case TxnRequest():
                taken = self._branches(request)
                self._check(taken)
                answer = self._txn(request, taken)
                answer.header.revision = self._revision
                return answer
            case DeleteRangeRequest():
                return self._delete_range(request)
            case LeaseRevokeRequest():
                return self._revoke(request)
        raise TypeError(f"no model of {type(request).__name__}")

    # The state that it sees.

    @property
    def _revision(self) -> int:
        return self._state.revision + bool(self.events)

    def _header(self) -> ResponseHeader:
        return ResponseHeader(revision=self._revision)

    def _get(self, key: bytes) -> KeyValue | None:
        return self._pending[key] if key in self._pending else self._state.get(key)

    def _scan(self, key: bytes, range_end: bytes) -> list[KeyValue]:
        items = self._state.scan(key, range_end, self._state.revision)
        if not self._pending:
            return items
        found: dict[bytes, KeyValue | None] = {item.key: item for item in items}
        found |= {name: item for name, item in self._pending.items() if inside(name, key, range_end)}
        return [item for _, item in sorted(found.items()) if item is not None]

    def _change(self, event: Event) -> None:
        self.events.append(event)
        self._pending[event.kv.key] = None if event.type == Event.DELETE else event.kv

    # What is refused.

    def _check_range(self, request: RangeRequest) -> None:
        if request.revision > self._state.revision:
            raise FutureRevisionError
        if 0 < request.revision < self._state.compact_revision:
            raise CompactedError

    def _check_lease(self, request: PutRequest) -> None:
        if request.lease and not self._state.has_lease(request.lease):
            raise LeaseNotFoundError

    def _check_kept(self, request: PutRequest) -> None:
        keeps = request.ignore_value or request.ignore_lease
        if keeps and self._state.get(request.key) is None:
            raise KeyNotFoundError

    def _check(self, taken: _Taken) -> None:
        for operation, inner in taken.operations:
            kind = operation.WhichOneof("request")
            if kind == "request_range":
                self._check_range(operation.request_range)
            elif kind == "request_put":
                self._check_kept(operation.request_put)
                self._check_lease(operation.request_put)
            elif inner is not None:
                self._check(inner)

    # What is done.

    def _range(self, request: RangeRequest) -> RangeResponse:
        if request.revision > 0:
            items = self._state.scan(request.key, request.range_end, request.revision)
        else:
            items = self._scan(request.key, request.range_end)
        answer = select(request, items)
        answer.header.revision = self._revision
        return answer

    def _put(self, request: PutRequest) -> PutResponse:
        before = self._get(request.key)
        main = self._state.revision + 1
        kept = before or KeyValue()
        item = KeyValue(
            key=request.key,
            value=kept.value if request.ignore_value else request.value,
            lease=kept.lease if request.ignore_lease else request.lease,
            create_revision=kept.create_revision or main,
            mod_revision=main,
            version=kept.version + 1,
        )
        self._change(Event(kv=item))
        previous = before if request.prev_kv else None
        return PutResponse(header=self._header(), prev_kv=previous)

    def _delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        items = self._scan(request.key, request.range_end)
        self._delete(item.key for item in items)
        previous = items if request.prev_kv else ()
        return DeleteRangeResponse(header=self._header(), deleted=len(items), prev_kvs=previous)

    def _delete(self, keys: Iterable[bytes]) -> None:
        main = self._state.revision + 1
        for key in keys:
            self._change(Event(type=Event.DELETE, kv=KeyValue(key=key, mod_revision=main)))

    def _revoke(self, request: LeaseRevokeRequest) -> LeaseRevokeResponse:
        if not self._state.has_lease(request.ID):
            raise LeaseNotFoundError
        self._delete(sorted(self._state.keys_of(request.ID)))
        return LeaseRevokeResponse(header=self._header())

    # Transactions.

    def _branches(self, request: TxnRequest) -> _Taken:
        """All compares, of nested transactions too, look at the state before the first operation."""
        state = self._state
        succeeded = all(
            holds(compare, state.scan(compare.key, compare.range_end, state.revision))
            for compare in request.compare
        )
        operations = request.success if succeeded else request.failure
        return _Taken(
            succeeded,
            [
                (
                    operation,
                    self._branches(operation.request_txn) if operation.HasField("request_txn") else None,
                )
                for operation in operations
            ],
        )

    def _txn(self, request: TxnRequest, taken: _Taken) -> TxnResponse:
        # The header of a nested one is there, and empty.
        answer = TxnResponse(header=ResponseHeader(), succeeded=taken.succeeded)
        for operation, inner in taken.operations:
            kind = operation.WhichOneof("request")
            part: Any
            if kind == "request_range":
                part = ResponseOp(response_range=self._range(operation.request_range))
            elif kind == "request_put":
                part = ResponseOp(response_put=self._put(operation.request_put))
            elif kind == "request_delete_range":
                part = ResponseOp(response_delete_range=self._delete_range(operation.request_delete_range))
            else:
                assert inner is not None
                part = ResponseOp(response_txn=self._txn(operation.request_txn, inner))
            answer.responses.append(part)
        return answer


class _Taken:
    """The branch that a transaction takes; with each nested one the branch that it takes."""

    __slots__ = ("operations", "succeeded")

    def __init__(self, succeeded: bool, operations: Sequence[tuple[RequestOp, _Taken | None]]) -> None:
        self.succeeded = succeeded
        self.operations = operations
