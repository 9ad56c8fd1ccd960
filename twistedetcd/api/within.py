"""The API's own calls, made from within: what locks and elections are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twistedetcd.api.kv import KV
from twistedetcd.api.lease import LeaseAPI
from twistedetcd.errors import Code, EtcdError
from twistedetcd.interfaces import IWatchReceiver
from twistedetcd.mvcc.events import Options
from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.server.member import EtcdServer

OPERATIONS_MAX = 10  # more than any of their transactions has
_DELETES = Options(puts=False)


class Within:
    """
    Calls on one member, checked and carried out as a client's would be.

    Args:
        member: Who serves them.
    """

    def __init__(self, member: EtcdServer) -> None:
        self.member = member
        self._kv = KV(member, OPERATIONS_MAX)
        self._lease = LeaseAPI(member)

    def txn(self, request: TxnRequest) -> Deferred[TxnResponse]:
        """
        Carry out a transaction.

        Raises:
            EtcdError: It was refused.
        """
        asked: Any = _Asked(TxnResponse)
        self._kv.txn(asked, request.SerializeToString(), request)
        answer: Deferred[TxnResponse] = asked.answer
        return answer

    async def get(self, request: RangeRequest) -> TxnResponse:
        """As a transaction whose only operation is this read, which is linearizable."""
        return await self.txn(TxnRequest(success=[RequestOp(request_range=request)]))

    async def grant(self, ttl_seconds: int) -> int:
        """
        Grant a lease; returns its id.

        Raises:
            EtcdError: It was refused.
        """
        request = LeaseGrantRequest(TTL=ttl_seconds)
        asked: Any = _Asked(LeaseGrantResponse)
        self._lease.grant(asked, request.SerializeToString(), request)
        response: LeaseGrantResponse = await asked.answer
        return response.ID

    def gone(self, key: bytes, revision: int) -> Deferred[None]:
        """
        Fires once a key, which was there at a revision, was deleted.  It may be cancelled.

        If it cannot be known, for that was compacted, it fires as well: look again.
        """
        gone = _Gone()
        watches = self.member.watches
        watch = watches.watch(key, None, gone, revision + 1, None, _DELETES)
        # However it ends, nobody watches any longer.
        return gone.told.addBoth(_ended, watches, watch)


def _ended(result: Any, watches: Any, watch: Any) -> Any:
    watches.cancel(watch)
    return result


class _Asked:
    """A call without a client: the answer comes through ``answer``."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.answer: Deferred[Any] = Deferred()

    def reply(self, message: bytes) -> None:
        """See `twistedetcd.server.wait.Waiter`."""
        self.answer.callback(self._response.FromString(message))

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        """See `twistedetcd.protocols.calls.Call`."""
        self.reply(b"".join(parts))

    def fail(self, code: Code, message: str) -> None:
        """See `twistedetcd.server.wait.Waiter`."""
        error = EtcdError(message)
        error.code = code
        self.answer.errback(error)


@implementer(IWatchReceiver)
class _Gone:
    """Who waits for one key to be deleted."""

    ready = True

    def __init__(self) -> None:
        self.told: Deferred[None] = Deferred()

    def changed(self, watches: Sequence[Any], batch: Any) -> Sequence[Any]:
        if not self.told.called:
            self.told.callback(None)
        return ()

    def compacted(self, watch: Any, compact_revision: int) -> None:
        self.changed((), None)
