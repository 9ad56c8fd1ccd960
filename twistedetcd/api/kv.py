"""etcdserverpb.KV."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from twistedetcd.api.calls import answer, check_terms, method, refuse, serve
from twistedetcd.api.checks import check_delete_range, check_put, check_range, check_txn
from twistedetcd.apply import request as kinds
from twistedetcd.apply import responses, txn
from twistedetcd.apply.ranges import find
from twistedetcd.apply.txn import Transaction
from twistedetcd.errors import Code, EmptyKeyError, EtcdError
from twistedetcd.interfaces import ITransaction, Work
from twistedetcd.mvcc.work import Pace
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from twistedetcd.protocols.grpc import Call, Method
from twistedetcd.server.member import EtcdServer
from twistedetcd.server.wait import Callback

_parse_put = PutRequest.FromString
_parse_range = RangeRequest.FromString
_KEY_TAG = 0x0A


class KV:
    """
    The key-value calls of one member.

    Args:
        member: Who serves them.
        txn_operations_max: ``--max-txn-ops``.
    """

    def __init__(self, member: EtcdServer, txn_operations_max: int) -> None:
        self._member = member
        self._propose = member.propose
        self._store = member.store
        self._header = member.header
        self._txn_operations_max = txn_operations_max

    def methods(self) -> dict[str, Method]:
        """By name."""
        member = self._member
        return {
            "Range": Method(unary=self.range),
            "Put": Method(unary=self.put),
            "DeleteRange": method(member, DeleteRangeRequest, self.delete_range),
            "Txn": method(member, TxnRequest, self.txn),
            "Compact": method(member, CompactionRequest, self.compact),
        }

    # Put and Range are `method` written out: every microsecond here is one of every request.

    def put(self, call: Call, raw: bytes) -> None:
        """Put."""
        try:
            request = _parse_put(raw)
            if call.request.terms is not None:
                check_terms(self._member, call.request.terms)
            if request.ignore_value or request.ignore_lease:
                check_put(request)
            elif not request.key:
                raise EmptyKeyError
            self._propose(kinds.PUT, raw, request, call)
        except EtcdError as error:
            refuse(call, error)
        except DecodeError as error:
            call.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")

    def range(self, call: Call, raw: bytes) -> None:
        """Range."""
        try:
            if call.request.terms is not None:
                check_terms(self._member, call.request.terms)
            # Most ranges are a linearizable get of one key: nothing but field 1, up to 127 bytes long.
            if len(raw) > 2 and raw[0] == _KEY_TAG and raw[1] == len(raw) - 2 < 0x80:
                self._member.read(self._get, call, raw[2:])
                return
            request = _parse_range(raw)
            check_range(request)
            if request.serializable:
                self._range(call, request)
            else:
                self._member.read(self._range, call, request)
        except EtcdError as error:
            refuse(call, error)
        except DecodeError as error:
            call.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")

    def _get(self, call: Call, key: bytes) -> None:
        records, _ = self._store.range(key, None)
        header = self._header.field(self._store.revision, self._member.applied_term)
        call.reply(responses.get_response(header, records[0] if records else None))

    def _range(self, call: Call, request: RangeRequest) -> None:
        serve(self._member, call, self._ranging(request))

    def _ranging(self, request: RangeRequest) -> Work[list[bytes]]:
        view = self._store.read()
        try:
            found = yield from find(view, request, Pace())
        finally:
            view.end()
        return responses.range_parts(self._header_of(view), *found)

    def _header_of(self, view: ITransaction) -> bytes:
        return self._header.field(view.revision, self._member.applied_term)

    def delete_range(self, call: Call, raw: bytes, request: DeleteRangeRequest) -> None:
        """DeleteRange."""
        check_delete_range(request)
        self._propose(kinds.DELETE_RANGE, raw, request, call)

    def txn(self, call: Call, raw: bytes, request: TxnRequest) -> None:
        """Txn."""
        transaction = txn.take_apart(request, self._txn_operations_max)
        check_txn(transaction, self._txn_operations_max)
        if not txn.is_read_only(transaction):
            self._propose(kinds.TXN, raw, transaction, call)
        elif txn.is_serializable(transaction):
            self._read_txn(call, transaction)
        else:
            self._member.read(self._read_txn, call, transaction)

    def _read_txn(self, call: Call, transaction: Transaction) -> None:
        serve(self._member, call, self._reading_txn(transaction))

    def _reading_txn(self, transaction: Transaction) -> Work[list[bytes]]:
        view = self._store.read()
        try:
            succeeded, results = yield from txn.read(view, transaction)
        finally:
            view.end()
        return responses.txn_parts(self._header_of(view), succeeded, results)

    def compact(self, call: Call, raw: bytes, request: CompactionRequest) -> None:
        """Compact; a physical one is answered once the records are gone from the disk."""
        waiter: Any = call
        if request.physical:
            waiter = Callback(call, lambda response: self._when_gone(call, response))
        self._propose(kinds.COMPACTION, raw, request, waiter)

    def _when_gone(self, call: Call, response: bytes) -> None:
        gone = self._member.compactions.idle()
        gone.addCallback(lambda _: self._member.committed_to_disk())
        answer(call, gone.addCallback(lambda _: response))
