"""v3lockpb.Lock: a lock is the first place in a queue."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from twistedetcd.api.queue import TTL_SECONDS, Candidate
from twistedetcd.api.waiting import LastingCall, lasting
from twistedetcd.api.within import Within
from twistedetcd.errors import EtcdError, SessionExpiredError
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, RequestOp, TxnRequest
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from twistedetcd.protocols.grpc import Method


class LockAPI:
    """
    The lock calls of one member.

    Args:
        within: Makes the calls that they are made of.
    """

    def __init__(self, within: Within) -> None:
        self._within = within

    def methods(self) -> dict[str, Method]:
        """By name."""
        member = self._within.member
        return {
            "Lock": lasting(member, LockRequest, self.lock),
            "Unlock": lasting(member, UnlockRequest, self.unlock),
        }

    async def lock(self, call: LastingCall, request: Any) -> bytes:
        """Lock: answered when the caller has it."""
        lease = request.lease or await self._within.grant(TTL_SECONDS)
        candidate = Candidate(self._within, request.name, lease)
        call.on_gone = candidate.cancel
        before = await candidate.enter(b"")
        found = candidate.entered
        if not candidate.is_first:
            try:
                await candidate.turn()
            except (CancelledError, EtcdError):
                await candidate.leave()
                raise
            there = await candidate.still_there()
            if there is None:
                raise SessionExpiredError
            found = there
        elif before is not None:
            return self._locked(candidate, found)  # it had it already, whoever asks now
        if call.call.done:
            await candidate.leave()  # nobody will hear of it
        return self._locked(candidate, found)

    @staticmethod
    def _locked(candidate: Candidate, found: Any) -> bytes:
        return LockResponse(header=found.header, key=candidate.key).SerializeToString()

    async def unlock(self, call: LastingCall, request: Any) -> bytes:
        """Unlock: the key goes, whoever's it is."""
        delete = RequestOp(request_delete_range=DeleteRangeRequest(key=request.key))
        done = await self._within.txn(TxnRequest(success=[delete]))
        return UnlockResponse(header=done.header).SerializeToString()
