"""
Calls with one request that last: until it is somebody's turn, or for ever.

To the client most are unary.  They are served as streams, for a connection that has a thousand unary calls
unanswered is not read any more, and it may be the one that brings what others wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from google.protobuf.message import DecodeError
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.api.calls import DEAF, check_terms, refuse
from twistedetcd.errors import Code, EtcdError
from twistedetcd.protocols.grpc import Call, Method, Receiver
from twistedetcd.server.member import EtcdServer

Serve = Callable[["LastingCall", Any], Coroutine["Deferred[Any]", Any, "bytes | None"]]


class LastingCall:
    """
    Who is served; the application's end of the call.

    Args:
        member: Who serves.
        call: The client's.
        request_class: What is asked.
        serve: Carries it out; returns the answer, or ``None`` if the call goes on.
        needs_leader: Whether it ends when there is no leader.
        keep_code: Whether errors are told with their codes.  Upstream's Lock and Election services are
            clients of its own server, and lose them on the way.

    Attributes:
        on_gone: Called when the call ended without an answer.
        on_writable: Called when what was sent has gone out.
    """

    _log = Logger()

    def __init__(
        self,
        member: EtcdServer,
        call: Call,
        request_class: Any,
        serve: Serve,
        needs_leader: bool,
        keep_code: bool,
    ) -> None:
        self._member = member
        self.call = call
        self._parse = request_class.FromString
        self._carry_out = serve
        self._keep_code = keep_code
        self._begun = False
        self.on_gone: Callable[[], None] = _nothing
        self.on_writable: Callable[[], None] = _nothing
        member.streams.add(self.end, "lasting", needs_leader)

    def message_received(self, message: bytes) -> None:
        """The request."""
        if self._begun:
            self.fail(Code.INTERNAL, "grpc: a request of this kind has one message, another one followed it")
            return
        self._begun = True
        try:
            request = self._parse(message)
        except DecodeError as error:
            self.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")
            return
        self.go_on(self._serve(request))

    async def _serve(self, request: Any) -> None:
        answer = await self._carry_out(self, request)
        if answer is not None and not self.call.done:
            self._member.streams.remove(self.end)
            self.call.send(answer)
            self.call.finish()

    def go_on(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Do something for the client, who is told if it fails."""
        Deferred.fromCoroutine(work).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, EtcdError):
            self.fail(error.code if self._keep_code else Code.UNKNOWN, error.message)
        elif not isinstance(error, CancelledError):
            self._log.failure("A request failed", failure)
            self.fail(Code.INTERNAL, "internal error")

    def fail(self, code: Code, message: str) -> None:
        """End the call with a status."""
        self.call.fail(code, message)
        self._gone()

    def end(self, error: EtcdError) -> None:
        """The member ends the call."""
        self.fail(error.code, error.message)

    def half_closed(self) -> None:
        """The client said all it has to say."""
        if not self._begun:
            self.fail(Code.INTERNAL, "EOF")

    def cancelled(self) -> None:
        """The client has gone."""
        self._gone()

    def writable(self) -> None:
        """What was sent has gone out."""
        self.on_writable()

    def _gone(self) -> None:
        self._member.streams.remove(self.end)
        on_gone, self.on_gone = self.on_gone, _nothing
        on_gone()


def lasting(member: EtcdServer, request_class: Any, serve: Serve, keep_code: bool = False) -> Method:
    """A method whose calls may last; see `LastingCall`."""

    def stream(call: Call) -> Receiver:
        asked = call.request.terms
        try:
            if asked is not None:
                check_terms(member, asked)
        except EtcdError as error:
            refuse(call, error)
            return DEAF
        needs_leader = asked is not None and asked.require_leader
        return LastingCall(member, call, request_class, serve, needs_leader, keep_code)

    return Method(stream=stream)


def _nothing() -> None:
    """Nobody wants to know."""
