"""etcdserverpb.Lease."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred

from twistedetcd.api.calls import DEAF, answer, check_terms, method, refuse, serve
from twistedetcd.apply import request as kinds
from twistedetcd.apply.responses import delimited, lease_response
from twistedetcd.errors import BadAnswerError, Code, EtcdError, TooManyRequestsError, UnreadResponsesError
from twistedetcd.interfaces import Work
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseStatus,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from twistedetcd.protocols.grpc import Call, Method, Receiver
from twistedetcd.server.member import EtcdServer

RENEWALS_WAITING_MAX = 1000  # of one stream, behind one that cannot be answered yet
UNREAD_BYTES_MAX = 1024 * 1024  # answers that wait on a stream for its client: above it the stream is ended
TIME_TO_LIVE = "lease-ttl"
"""What a leader is asked: a LeaseTimeToLiveRequest; answered with the response, without a header."""
STREAMS = "lease-keepalive"
"""What streams of renewals are counted under."""

_KEYS = b"\x2a"  # LeaseTimeToLiveResponse 5
_parse_keep_alive = LeaseKeepAliveRequest.FromString


class LeaseAPI:
    """The lease calls of one member."""

    def __init__(self, member: EtcdServer) -> None:
        self._member = member
        self._leases = member.leases
        member.clustering.peers.answers[TIME_TO_LIVE] = self._answer_time_to_live

    def methods(self) -> dict[str, Method]:
        """By name."""
        member = self._member
        return {
            "LeaseGrant": method(member, LeaseGrantRequest, self.grant),
            "LeaseRevoke": method(member, LeaseRevokeRequest, self.revoke),
            "LeaseKeepAlive": Method(stream=self.keep_alive),
            "LeaseTimeToLive": method(member, LeaseTimeToLiveRequest, self.time_to_live),
            "LeaseLeases": method(member, LeaseLeasesRequest, self.leases),
        }

    def grant(self, call: Call, raw: bytes, request: Any) -> None:
        """LeaseGrant; an id that the client leaves to us is chosen before anything is replicated."""
        if not request.ID:
            request.ID = self._member.new_id()
            raw = request.SerializeToString()
        self._member.propose(kinds.LEASE_GRANT, raw, request, call)

    def revoke(self, call: Call, raw: bytes, request: Any) -> None:
        """LeaseRevoke."""
        self._member.propose(kinds.LEASE_REVOKE, raw, request, call)

    def keep_alive(self, call: Call) -> Receiver:
        """LeaseKeepAlive."""
        asked = call.request.terms
        try:
            if asked is not None:
                check_terms(self._member, asked)
        except EtcdError as error:
            refuse(call, error)
            return DEAF
        return _KeepAlive(call, self._member, asked is not None and asked.require_leader)

    def time_to_live(self, call: Call, raw: bytes, request: Any) -> None:
        """LeaseTimeToLive: of a lease that is not there, -1.  The leader knows."""
        if self._leases.here:
            self._leases.when_applied(
                lambda: self._time_to_live(call, request), lambda error: refuse(call, error)
            )
        else:
            asked = self._member.ask_leader(TIME_TO_LIVE, raw)
            answer(call, asked.addCallback(self._checked))

    def _checked(self, response: bytes) -> bytes:
        try:
            LeaseTimeToLiveResponse.FromString(response)
        except DecodeError as error:
            raise BadAnswerError from error
        return self._header() + response

    def _time_to_live(self, call: Call, request: Any) -> None:
        try:
            work = self._described(self._header(), request)
        except EtcdError as error:
            refuse(call, error)
        else:
            serve(self._member, call, work)

    def _answer_time_to_live(self, body: bytes) -> Deferred[bytes]:
        """Another member's client asks."""
        done: Deferred[bytes] = Deferred()
        try:
            request = LeaseTimeToLiveRequest.FromString(body)
        except DecodeError as error:
            raise BadAnswerError from error

        def go_on() -> None:
            try:
                work = self._described(b"", request)
            except EtcdError:
                done.errback()
            else:
                self._member.read_slowly(work).addCallback(b"".join).chainDeferred(done)

        self._leases.when_applied(go_on, done.errback)
        return done

    def _described(self, header: bytes, request: Any) -> Work[list[bytes]]:
        """A lease, in parts; raises `EtcdError` if this member does not know any more."""
        found = self._leases.time_to_live(request.ID)
        if found is None:
            response = LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        else:
            response = LeaseTimeToLiveResponse(ID=request.ID, TTL=found[0], grantedTTL=found[1])
        keys = self._leases.lessor.keys(request.ID, sys.maxsize) if found and request.keys else []
        return self._with_keys(header, response, keys)

    def _with_keys(
        self, header: bytes, response: LeaseTimeToLiveResponse, keys: list[bytes]
    ) -> Work[list[bytes]]:
        parts = [header, response.SerializeToString()]
        for start in range(0, len(keys), SLICE_KEYS):
            if start:
                yield
            parts += [delimited(_KEYS, key) for key in keys[start : start + SLICE_KEYS]]
        return parts

    def leases(self, call: Call, raw: bytes, request: Any) -> None:
        """LeaseLeases: what this member knows, at once."""
        serve(self._member, call, self._listing())

    def _listing(self) -> Work[list[bytes]]:
        ids = yield from self._leases.lessor.by_expiry()
        parts = [self._header()]
        for start in range(0, len(ids), SLICE_KEYS):
            if start:
                yield
            some = ids[start : start + SLICE_KEYS]
            parts.append(
                LeaseLeasesResponse(leases=[LeaseStatus(ID=each) for each in some]).SerializeToString()
            )
        return parts

    def _header(self) -> bytes:
        return self._member.header.field(self._member.store.revision, self._member.applied_term)


class _KeepAlive:
    """
    One stream of renewals, each answered before the next one is looked at.

    Its answers name the revision at which the request came.
    """

    def __init__(self, call: Call, member: EtcdServer, needs_leader: bool) -> None:
        self._call = call
        self._member = member
        self._renew = member.leases.renew
        self._store = member.store
        self._field = member.header.field
        self._lease_id = 0
        self._header = b""
        self._busy = False
        self._catching_up = False
        self._waiting: deque[int] = deque()
        self._half_closed = False
        member.streams.add(self.end, STREAMS, needs_leader)

    def message_received(self, message: bytes) -> None:
        """A renewal."""
        try:
            lease_id = _parse_keep_alive(message).ID
        except DecodeError as error:
            self.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")
            return
        if not self._busy:
            self._begin(lease_id)
        elif len(self._waiting) < RENEWALS_WAITING_MAX:
            self._waiting.append(lease_id)
        else:
            self.end(TooManyRequestsError())

    def _begin(self, lease_id: int) -> None:
        self._busy = True
        self._lease_id = lease_id
        self._header = self._field(self._store.revision, self._member.applied_term)
        try:
            self._renew(lease_id, self)
        except EtcdError as error:
            self.end(error)

    def renewed(self, ttl_seconds: int) -> None:
        """See `twistedetcd.server.leases.Renewal`."""
        self._busy = False
        unread = self._call.send(lease_response(self._header, self._lease_id, ttl_seconds))
        if unread > UNREAD_BYTES_MAX:
            self.end(UnreadResponsesError())
        elif self._waiting:
            if not self._catching_up:
                self._catch_up()
        elif self._half_closed:
            self._finish()

    def _catch_up(self) -> None:
        """Go through what waits, as far as that can be answered at once; not by recursion."""
        self._catching_up = True
        while self._waiting and not self._busy:
            self._begin(self._waiting.popleft())
        self._catching_up = False

    def fail(self, code: Code, message: str) -> None:
        """See `twistedetcd.server.leases.Renewal`."""
        self._call.fail(code, message)
        self._forget()

    def end(self, error: EtcdError) -> None:
        """End the stream; the client is told why."""
        self.fail(error.code, error.message)

    def _finish(self) -> None:
        self._call.finish()
        self._forget()

    def _forget(self) -> None:
        self._member.streams.remove(self.end)
        self._waiting.clear()

    def half_closed(self) -> None:
        """The client has asked for all it wants."""
        self._half_closed = True
        if not self._busy:
            self._finish()

    def cancelled(self) -> None:
        """The client has gone; a renewal on its way is no harm."""
        self._forget()

    def writable(self) -> None:
        """There are as many answers as requests: nothing waits for this."""
