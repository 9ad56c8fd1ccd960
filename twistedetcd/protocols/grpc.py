"""
gRPC's rules over HTTP/2 as a state machine: bytes in, calls of handlers out.

A unary call is a handler's ``(call, message)``; a streaming one is a `Receiver` that the handler makes.
The handler answers when it likes, through the `Call`.  Facts: grpc's PROTOCOL-HTTP2.md; where that is silent,
grpc-go's texts and codes, since that is what etcd's clients were written against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twistedetcd.errors import Code
from twistedetcd.protocols.asking import TIMEOUT, Interpreter, interpret_timeout, refusal_of
from twistedetcd.protocols.calls import (
    SENT_MESSAGE_BYTES_MAX,
    UNREAD,
    Call,
    Method,
    Receiver,
    Refusal,
    Request,
)
from twistedetcd.protocols.compression import MessageError, gunzip
from twistedetcd.protocols.framing import WAITING_BYTES_MAX, EventKind
from twistedetcd.protocols.http2 import ServerConnection
from twistedetcd.protocols.keepalive import PingStrikes

__all__ = [
    "MESSAGE_BYTES_MAX",
    "SENT_MESSAGE_BYTES_MAX",
    "Call",
    "Code",
    "Connection",
    "Method",
    "Receiver",
    "Refusal",
    "Request",
]

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
PARTIAL_BYTES_MAX = 48 * 1024 * 1024  # bodies not complete yet, over all calls of a connection

_OPENED, _WHOLE, _DATA, _ENDED, _RESET, _WRITABLE, _ = EventKind


class Connection:
    """
    One client's connection.

    Args:
        methods: What is served, by path.
        wake: Called when the first output since `taken` is there.
        message_bytes_max: Largest request message, before and after decompression.
        max_concurrent_streams: As for `ServerConnection`.
        terms: Makes of a request's metadata what the handlers want of it, as ``request.terms``.
        failed: Called in the ``except`` clause when the handler of a unary call raised; the call fails with
            INTERNAL.  Without it, what was raised leaves `receive`.
        pings: As for `ServerConnection`.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        wake: Callable[[], None],
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        max_concurrent_streams: int | None = None,
        terms: Callable[[Request], Any] | None = None,
        failed: Callable[[], None] | None = None,
        pings: PingStrikes | None = None,
    ) -> None:
        interpreter = Interpreter(methods, terms)
        self._failed = failed
        self.wake = wake
        self._message_bytes_max = message_bytes_max
        self.http2 = ServerConnection(
            interpreter.interpret, Call, max_concurrent_streams, TIMEOUT, interpret_timeout, pings
        )
        self.has_output = True
        self.streaming = 0
        """Streaming calls in progress; they end when the client likes, so they do not count as load."""
        self.in_progress = 0
        """Unary calls that the application was given and has not answered."""
        self.held_bytes = 0  # output that was `taken`, but not by the transport; the owner counts it
        self.unread_bytes_max = WAITING_BYTES_MAX  # above it calls fail
        self._overloaded = False  # as of the last large response
        self._deadlines = False
        self._partial_bytes = 0

    def unread_bytes(self) -> int:
        """Bytes of responses that wait: for the client, the transport, or to be `taken`."""
        return self.http2.waiting_bytes + self.http2.out_bytes + self.held_bytes

    def overloaded(self) -> bool:
        """Whether there are too many of them."""
        self._overloaded = self.unread_bytes() > self.unread_bytes_max
        return self._overloaded

    def touch(self) -> None:
        """There is output."""
        if not self.has_output:
            self.has_output = True
            self.wake()

    def taken(self) -> list[bytes | memoryview]:
        """Hand over the output; the connection is quiet until there is more."""
        out = self.http2.out
        self.http2.out = []
        self.has_output = False
        self.http2.written()
        return out

    def receive(self, data: bytes, now: float) -> int:
        """
        Take in the next bytes.

        Args:
            data: What arrived, cut anywhere.
            now: Seconds on the clock that `expire` will be told.

        Returns:
            How many unary calls were handed to their handlers.
        """
        served = 0
        limit = self._message_bytes_max
        for kind, call, argument in self.http2.receive(data, now):
            if kind == _OPENED:
                call.connection = self
                request = call.request
                varied = call.varied
                if varied is not None and varied.__class__ is float:
                    call.deadline = now + varied
                    self._deadlines = True
                elif varied is not None or request.unary is None:
                    self._open(call)
                    continue
                if request.unary is None:
                    self._open(call)
            elif kind == _WHOLE:
                unary = call.request.unary
                if (
                    unary is not None
                    and argument[:1] == b"\0"
                    and int.from_bytes(argument[1:5], "big") == len(argument) - 5 <= limit
                    and not self._overloaded
                ):
                    served += 1
                    try:
                        unary(call, argument[5:])
                    except Exception:
                        self._handler_failed(call)
                else:
                    self._data(call, argument)
                    served += self._ended(call)
            elif kind == _DATA:
                self._data(call, argument)
            elif kind == _ENDED:
                served += self._ended(call)
            elif kind == _RESET:
                call.cancel()
            elif kind == _WRITABLE:
                self._writable(call)
        if self.http2.out or self.http2.draining:  # a drained connection may have lost its last call
            self.touch()
        self.in_progress += served
        return served

    def hold(self) -> None:
        """The transport does not take our output: `Call.send` shall keep what it is given."""
        self.http2.hold()

    def release(self) -> None:
        """The transport took it all, or takes what it is given: go on with what waits."""
        for _, call, _ in self.http2.release():
            self._writable(call)
        if self.http2.out:
            self.touch()

    def expire(self, now: float, reading: bool = True) -> None:
        """
        End what took too long: calls whose deadline has passed (the client gave up on them at the same time),
        and the connection, if its client does not come to the end of a frame.

        Args:
            now: Seconds.
            reading: Whether the client is being read.
        """
        for kind, call, _ in self.http2.expire(now, reading):
            if kind == _RESET:
                call.cancel()
            else:
                self.touch()
        if self._deadlines:
            for call in list(self.http2.streams.values()):
                if call.deadline is not None and call.deadline <= now:
                    call.break_off(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
            self._deadlines = any(call.deadline is not None for call in self.http2.streams.values())

    def lost(self) -> None:
        """
        The transport is gone: all calls are cancelled.

        Raises:
            Exception: The first that a call raised on being told; all the others were told too.
        """
        calls = list(self.http2.streams.values())
        self.http2.streams.clear()
        problem = None
        for call in calls:
            try:
                call.cancel()
            except Exception as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def forget(self, call: Call) -> None:
        """Let go of what a call that ended kept."""
        if call.partial is not None:
            self._partial_bytes -= len(call.partial)
            call.partial = None
        if call.receiver is not None:
            self.streaming -= 1
        elif call.request.unary is not None and call.remote_closed and not call.rejected:
            self.in_progress -= 1

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        self.http2.ping()
        self.touch()

    def drain(self) -> None:
        """Announce the end; see `ServerConnection.drain`."""
        self.http2.drain()
        self.touch()

    def finish_draining(self) -> None:
        """Take no more calls, whether the client knows it or not."""
        self.http2.finish_draining()
        self.touch()

    def _open(self, call: Call) -> None:
        request = call.request
        refusal = refusal_of(request, call.varied)
        if refusal is not None:
            call.request = request._replace(unary=None, stream=None)  # what still comes is nobody's
            call.refuse(refusal)
        elif request.stream is not None:
            receiver = request.stream(call)
            if not call.done:  # it may have refused already
                self.streaming += 1
                call.receiver = receiver

    @staticmethod
    def _writable(call: Call) -> None:
        if call.receiver is not None and not call.done:
            call.receiver.writable()

    def _data(self, call: Call, data: bytes) -> None:
        """Collect a body; hand on the messages that are complete."""
        if call.done:
            return
        if (
            call.receiver is not None
            and not call.partial
            and data[:1] == b"\0"
            and int.from_bytes(data[1:5], "big") == len(data) - 5 <= self._message_bytes_max
        ):
            # Most messages of a stream that lasts come in a frame of their own.
            call.receiver.message_received(data[5:])
            call.taken(len(data))
            return
        if call.partial is None:
            call.partial = bytearray()
        call.partial += data
        self._partial_bytes += len(data)
        if call.receiver is not None:
            while not call.done and (message := self._next_message(call)) is not None:
                call.receiver.message_received(message)
        elif len(call.partial) >= 5:
            self._refuse_too_large(call, int.from_bytes(call.partial[1:5], "big"))
        if self._partial_bytes > PARTIAL_BYTES_MAX:
            call.reject(Code.RESOURCE_EXHAUSTED, "grpc: too many unfinished messages on this connection")
        call.taken(len(data))

    def _ended(self, call: Call) -> int:
        """The client sent all; returns 1 if a unary call was handed on."""
        if call.done:
            return 0
        if call.receiver is not None:
            if call.partial:
                call.break_off(Code.INTERNAL, "unexpected EOF")
            else:
                call.receiver.half_closed()
            return 0
        unary = call.request.unary
        message = self._next_message(call)
        if call.done:
            return 0
        if message is None or unary is None:
            call.reject(Code.UNKNOWN, "unexpected EOF" if call.partial else "EOF")  # as grpc-go does
            return 0
        if call.partial:
            call.reject(Code.INTERNAL, "grpc: a unary request has one message, more bytes followed it")
            return 0
        if self._overloaded and self.overloaded():
            call.reject(Code.RESOURCE_EXHAUSTED, UNREAD)
            return 0
        try:
            unary(call, message)
        except Exception:
            self._handler_failed(call)
        return 1

    def _handler_failed(self, call: Call) -> None:
        """A handler's own bug costs the call it is about; called in the ``except`` clause."""
        if self._failed is None:
            raise
        self._failed()
        call.break_off(Code.INTERNAL, "internal error")

    def _next_message(self, call: Call) -> bytes | None:
        """Cut the next whole message off the call's body; fails the call if it breaks a rule."""
        partial = call.partial
        if partial is None or len(partial) < 5:
            return None
        length = int.from_bytes(partial[1:5], "big")
        if self._refuse_too_large(call, length) or len(partial) < length + 5:
            return None
        compressed = partial[0]
        message = bytes(partial[5 : length + 5])
        del partial[: length + 5]
        self._partial_bytes -= length + 5
        if not compressed:
            return message
        if compressed != 1:
            call.reject(Code.INTERNAL, f"grpc: received unexpected payload format {compressed}")
            return None
        if call.request.encoding == b"identity":
            call.reject(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
            return None
        call.compress()
        try:
            return gunzip(message, self._message_bytes_max)
        except MessageError as error:
            call.reject(error.code, str(error))
            return None

    def _refuse_too_large(self, call: Call, length: int) -> bool:
        if length <= self._message_bytes_max:
            return False
        call.reject(
            Code.RESOURCE_EXHAUSTED,
            f"grpc: received message larger than max ({length} vs. {self._message_bytes_max})",
        )
        return True
