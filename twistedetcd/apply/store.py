"""The end of the chain: requests carried out on the stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from twistedetcd.apply import request as kinds
from twistedetcd.apply import responses, txn
from twistedetcd.apply.ranges import interval_end
from twistedetcd.apply.request import Request
from twistedetcd.apply.txn import Transaction, take_apart
from twistedetcd.cluster.members import Cluster
from twistedetcd.errors import KeyNotFoundError, LeaseNotFoundError
from twistedetcd.interfaces import IKV, IApplier, ILessor, IWriteView, Work
from twistedetcd.mvcc.work import SLICE_KEYS, Pace, begin
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import (
    AlarmResponse,
    DeleteRangeRequest,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    TxnRequest,
)
from twistedetcd.raft.types import Entry


@implementer(IApplier)
class StoreApplier:
    """
    Carries out what the links before it let through.

    Args:
        store: The keys.
        lessor: The leases.
        cluster: The members.
        header: Makes this member's response headers.
        compact: Takes the work of a compaction that was accepted.
    """

    def __init__(
        self,
        store: IKV,
        lessor: ILessor,
        cluster: Cluster,
        header: responses.Header,
        compact: Callable[[int, Work[None]], None],
    ) -> None:
        self._store = store
        self._lessor = lessor
        self._cluster = cluster
        self._header = header
        self._compact_later = compact
        self._handlers: dict[str, Callable[[Any, Entry], bytes | Work[bytes]]] = {
            kinds.PUT: self._put,
            kinds.DELETE_RANGE: self._delete_range,
            kinds.TXN: self._txn,
            kinds.COMPACTION: self._compact,
            kinds.ALARM: self._alarm,
            kinds.LEASE_GRANT: self._lease_grant,
            kinds.LEASE_REVOKE: self._lease_revoke,
            kinds.LEASE_CHECKPOINT: self._lease_checkpoint,
            kinds.CLUSTER_VERSION_SET: self._set_cluster_version,
            kinds.CLUSTER_MEMBER_ATTR_SET: self._set_member_attributes,
        }

    def apply(self, request: Request, context: Entry) -> bytes | Work[bytes]:
        try:
            handler = self._handlers[request.kind]
        except KeyError:
            raise ValueError(f"this version cannot carry out a request of kind {request.kind}") from None
        return handler(request.message, context)

    def _put(self, request: PutRequest, entry: Entry) -> bytes:
        if txn.is_plain(request):
            if self._lessor.lease_of:
                self._lessor.detach(request.key)
            return self._header.field(self._store.put(request.key, request.value), entry.term)
        self._check_lease(request)
        transaction = self._store.write()
        try:
            previous = _Writing(transaction, self._lessor).put(request)
        finally:
            revision = transaction.end()
        return responses.put_response(self._header.field(revision, entry.term), previous)

    def _delete_range(self, request: DeleteRangeRequest, entry: Entry) -> bytes | Work[bytes]:
        return begin(self._deleting(request, entry))

    def _deleting(self, request: DeleteRangeRequest, entry: Entry) -> Work[bytes]:
        transaction = self._store.write()
        deleted, previous = yield from _Writing(transaction, self._lessor).delete_range(request, Pace())
        header = self._header.field(transaction.end(), entry.term)
        return responses.delete_range_response(header, deleted, previous)

    def _txn(self, request: TxnRequest | Transaction, entry: Entry) -> bytes | Work[bytes]:
        parts = request if isinstance(request, Transaction) else take_apart(request)
        succeeded = txn.all_hold(self._store, parts.compares)
        if succeeded is not None:
            operations = parts.success if succeeded else parts.failure
            if txn.are_plain_puts(operations):
                return self._put_all(operations, succeeded, entry)
        return begin(self._transacting(parts, succeeded, entry))

    def _put_all(self, puts: Sequence[txn.Operation], succeeded: bool, entry: Entry) -> bytes:
        """The rest of what most transactions are: compares of single keys, then plain puts."""
        if self._lessor.lease_of:
            for _, put in puts:
                self._lessor.detach(put.key)
        if len(puts) == 1:
            put = puts[0][1]
            revision = self._store.put(put.key, put.value)
        else:
            transaction = self._store.write()
            for _, put in puts:
                transaction.put(put.key, put.value, 0)
            revision = transaction.end()
        results = [responses.put_operation(revision)] * len(puts)
        return responses.txn_response(self._header.field(revision, entry.term), succeeded, results)

    def _transacting(self, parts: Transaction, succeeded: bool | None, entry: Entry) -> Work[bytes]:
        pace, store = Pace(), self._store
        # Nothing else is applied meanwhile, so what the compares saw is what the writes find.
        view = store.read()
        try:
            path = yield from txn.choose(view, parts, pace, succeeded)
            txn.check(view, path, self._check_lease)
        finally:
            view.end()
        transaction = store.write()
        results = yield from txn.carry_out(_Writing(transaction, self._lessor), path, pace)
        header = self._header.field(transaction.end(), entry.term)
        return responses.txn_response(header, path.succeeded, results)

    def _compact(self, request: Any, entry: Entry) -> bytes:
        work = self._store.compact(request.revision)
        self._compact_later(request.revision, work)
        return self._current_header(entry)

    def _alarm(self, request: Any, entry: Entry) -> bytes:
        # Nothing raises an alarm yet, so there is none to list; the API refuses the other actions.
        return self._current_header(entry) + AlarmResponse().SerializeToString()

    def _lease_grant(self, request: LeaseGrantRequest, entry: Entry) -> bytes:
        ttl = self._lessor.grant(request.ID, request.TTL)
        return responses.lease_response(self._current_header(entry), request.ID, ttl)

    def _lease_revoke(self, request: LeaseRevokeRequest, entry: Entry) -> bytes | Work[bytes]:
        return begin(self._revoking(request.ID, entry))

    def _revoking(self, lease_id: int, entry: Entry) -> Work[bytes]:
        """The lease and its keys, in key order, go in one transaction."""
        lessor, pace = self._lessor, Pace()
        keys = lessor.keys(lease_id, SLICE_KEYS)
        transaction = self._store.write()
        while keys:
            if pace.tired():
                yield
            pace.spend(len(keys))
            for key in keys:
                transaction.delete(key)
                lessor.detach(key)
            keys = lessor.keys(lease_id, SLICE_KEYS)
        lessor.revoke(lease_id)  # before the end, after which the batch may be sealed
        return self._header.field(transaction.end(), entry.term)

    def _lease_checkpoint(self, request: LeaseCheckpointRequest, entry: Entry) -> bytes:
        for checkpoint in request.checkpoints:
            self._lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL)
        return self._current_header(entry)

    def _current_header(self, entry: Entry) -> bytes:
        return self._header.field(self._store.revision, entry.term)

    def _check_lease(self, request: PutRequest) -> None:
        """
        Raises:
            LeaseNotFoundError: The lease that the key is to have does not exist.
        """
        if request.lease and request.lease not in self._lessor:
            raise LeaseNotFoundError

    def _set_cluster_version(self, request: Any, entry: Entry) -> bytes:
        self._cluster.set_version(request.ver)
        return b""

    def _set_member_attributes(self, request: Any, entry: Entry) -> bytes:
        attributes = request.member_attributes
        self._cluster.set_attributes(request.member_ID, attributes.name, tuple(attributes.client_urls))
        return b""


class _Writing:
    """Requests on one write transaction; leases hear of what they do to keys."""

    __slots__ = ("_lease_of", "_lessor", "_transaction", "count", "range", "scan")

    def __init__(self, transaction: IWriteView, lessor: ILessor) -> None:
        self._transaction = transaction
        self._lessor = lessor
        self._lease_of = lessor.lease_of
        self.range = transaction.range
        self.count = transaction.count
        self.scan = transaction.scan

    @property
    def revision(self) -> int:
        revision: int = self._transaction.revision
        return revision

    def put(self, request: PutRequest) -> bytes | None:
        """Write a key; returns the record before it, if that was asked for and there was one."""
        transaction = self._transaction
        key, value, lease = request.key, request.value, request.lease
        previous = None
        if request.prev_kv or request.ignore_value or request.ignore_lease:
            records, _ = transaction.range(key, None)
            previous = records[0] if records else None
            if request.ignore_value or request.ignore_lease:
                if previous is None:
                    raise KeyNotFoundError
                before = KeyValue.FromString(previous)
                value = before.value if request.ignore_value else value
                lease = before.lease if request.ignore_lease else lease
        transaction.put(key, value, lease)
        if lease or self._lease_of:
            self._lessor.attach(key, lease)
        return previous if request.prev_kv else None

    def delete_range(self, request: DeleteRangeRequest, pace: Pace) -> Work[tuple[int, list[bytes]]]:
        """Delete a range; returns how many keys there were, and their records if asked for."""
        transaction = self._transaction
        start, end = request.key, interval_end(request.range_end)
        deleted = 0
        previous: list[bytes] = []
        while keys := transaction.keys(start, end, SLICE_KEYS):
            if pace.tired():
                yield
            pace.spend(len(keys))
            if request.prev_kv:
                previous += transaction.range(keys[0], keys[-1] + b"\0")[0]
            for key in keys:
                transaction.delete(key)
            if self._lease_of:
                for key in keys:
                    self._lessor.detach(key)
            deleted += len(keys)
            if len(keys) < SLICE_KEYS:
                break
        return deleted, previous
