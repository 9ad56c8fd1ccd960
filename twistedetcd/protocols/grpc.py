"""
gRPC's rules over HTTP/2 as a state machine: bytes in, calls of handlers out.

A unary call is a handler's ``(call, message)``; a streaming one is a `Receiver` that the handler makes.
The handler answers when it likes, through the `Call`.  Facts: grpc's PROTOCOL-HTTP2.md; where that is silent,
grpc-go's texts and codes, since that is what etcd's clients were written against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from twistedetcd.errors import Code
from twistedetcd.protocols.compression import MessageError, gunzip
from twistedetcd.protocols.framing import WAITING_BYTES_MAX, EventKind, Stream, WholeResponse
from twistedetcd.protocols.hpack import Header, encode
from twistedetcd.protocols.http2 import ServerConnection
from twistedetcd.protocols.metadata import is_grpc, percent_encoded, text, timeout_seconds

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
PARTIAL_BYTES_MAX = 64 * 1024 * 1024  # bodies not complete yet, over all calls of a connection
SENT_MESSAGE_BYTES_MAX = 2**31 - 1  # etcd's limit for responses
SMALL_MESSAGE_BYTES = 2048  # responses below are sent whatever else waits

UNREAD = "grpc: too many bytes of responses unread on this connection"

_OPENED, _WHOLE, _DATA, _ENDED, _RESET, _WRITABLE, _ = EventKind
_HEAD: list[Header] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK = WholeResponse(encode(_HEAD), encode([(b"grpc-status", b"0")]))
_PREFIXES = [b"\0" + length.to_bytes(4, "big") for length in range(SMALL_MESSAGE_BYTES)]


class Receiver(Protocol):
    """The application's end of a streaming call."""

    def message_received(self, message: bytes) -> None:
        """The client sent a message."""

    def half_closed(self) -> None:
        """The client will send no more."""

    def cancelled(self) -> None:
        """The call ended without the application: reset, deadline, malformed, or connection lost."""

    def writable(self) -> None:
        """What was queued for the client has gone out."""


class Method(NamedTuple):
    """
    How one path is served.  Exactly one of the two is given.

    Attributes:
        unary: Called with the call and the one request message.
        stream: Called with the call; returns its `Receiver`.
    """

    unary: Callable[[Call, bytes], None] | None = None
    stream: Callable[[Call], Receiver] | None = None


class Request(NamedTuple):
    """What a header list asks for; shared by all calls with the same header block."""

    unary: Callable[[Call, bytes], None] | None
    stream: Callable[[Call], Receiver] | None
    timeout_seconds: float | None
    encoding: bytes
    headers: tuple[Header, ...]
    refusal: tuple[Code, str, bytes] | None  # code, message, HTTP status
    terms: Any = None  # what the application made of the metadata

    def metadata(self, name: bytes) -> bytes | None:
        """The first value of a header, or ``None``."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Call(Stream):
    """One call in progress."""

    request: Request
    connection: Connection = None  # type: ignore[assignment]  # until OPENED was acted on
    done = False
    started = False
    receiver: Receiver | None = None
    partial: bytearray | None = None
    deadline: float | None = None
    on_cancelled: Callable[[], None] | None = None

    def reply(self, message: bytes) -> None:
        """Answer a unary call.  Ignored when the call is over: the client has gone."""
        if self.done:
            return
        connection = self.connection
        length = len(message)
        if length < SMALL_MESSAGE_BYTES:
            prefix = _PREFIXES[length]
        elif problem := self._unfit(length):
            self.fail(Code.RESOURCE_EXHAUSTED, problem)
            return
        else:
            prefix = b"\0" + length.to_bytes(4, "big")
        self.done = True
        if not connection.has_output:
            connection.has_output = True
            connection.wake()
        connection.http2.respond(self, _OK, prefix, message)

    def _unfit(self, length: int) -> str | None:
        """Why a large answer may not be sent: for itself, or on top of what the client did not read."""
        if length > SENT_MESSAGE_BYTES_MAX:
            return f"grpc: trying to send message larger than max ({length} vs. {SENT_MESSAGE_BYTES_MAX})"
        return UNREAD if self.connection.overloaded() else None

    def fail(self, code: Code, message: str, http_status: bytes = b"200") -> None:
        """End the call with a status that is not OK."""
        if self.done:
            return
        self._end([(b"grpc-status", b"%d" % code), (b"grpc-message", percent_encoded(message))], http_status)

    def send(self, message: bytes) -> int:
        """
        Send one message of a response stream.

        Returns:
            Bytes that wait for the client to open its window; `Receiver.writable` tells when they went.
        """
        if len(message) > SENT_MESSAGE_BYTES_MAX and (problem := self._unfit(len(message))):
            self.break_off(Code.RESOURCE_EXHAUSTED, problem)
            return 0
        return self.send_prefixed(b"\0" + len(message).to_bytes(4, "big") + message)

    def send_prefixed(self, messages: bytes) -> int:
        """As `send`, for any number of messages, each with gRPC's prefix: a zero byte and its length."""
        if self.done:
            return 0
        self.connection.touch()
        http2 = self.connection.http2
        if not self.started:
            self.started = True
            http2.send_headers(self, _OK.head)
        return http2.send_data(self, messages)

    def finish(self) -> None:
        """End a response stream with status OK."""
        if not self.done:
            self._end([(b"grpc-status", b"0")], b"200")

    def _end(self, trailers: list[Header], http_status: bytes) -> None:
        self.done = True
        self.connection.touch()
        http2 = self.connection.http2
        if self.started:
            http2.send_trailers(self, encode(trailers))
        else:
            head = [(b":status", http_status), (b"content-type", b"application/grpc"), *trailers]
            http2.send_headers(self, encode(head), end=True)
        self.connection.forget(self)

    def cancel(self) -> None:
        """The call ended without any answer: tell the application, once."""
        if not self.done:
            self.done = True
            if self.connection is not None:
                self.connection.forget(self)
            self._tell_cancelled()

    def break_off(self, code: Code, message: str) -> None:
        """The call ends with a status that the application did not choose: tell both sides."""
        if not self.done:
            self.fail(code, message)
            self._tell_cancelled()

    def _tell_cancelled(self) -> None:
        if self.receiver is not None:
            self.receiver.cancelled()
        elif self.on_cancelled is not None:
            self.on_cancelled()


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
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        wake: Callable[[], None],
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        max_concurrent_streams: int | None = None,
        terms: Callable[[Request], Any] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        self._methods = methods
        self._terms = terms
        self._failed = failed
        self.wake = wake
        self._message_bytes_max = message_bytes_max
        self.http2 = ServerConnection(self._interpret, Call, max_concurrent_streams)
        self.has_output = True
        self.streaming = 0
        """Streaming calls in progress; they end when the client likes, so they do not count as load."""
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
        for kind, call, argument in self.http2.receive(data):
            if kind == _OPENED:
                call.connection = self
                request = call.request
                if request.timeout_seconds is not None:
                    call.deadline = now + request.timeout_seconds
                    self._deadlines = True
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
        return served

    def hold(self) -> None:
        """The transport does not take our output: `Call.send` shall keep what it is given."""
        self.http2.hold()

    def release(self) -> None:
        """The transport took it all."""
        for _, call, _ in self.http2.release():
            self._writable(call)
        if self.http2.out:
            self.touch()

    def busier_than(self, calls_max: int) -> bool:
        """
        Whether the application has more unary calls that it did not answer.

        Calls that wait for the client, for the rest of the request or for a window, do not count: to stop
        reading because of them would be to wait for ever.
        """
        calls = self.http2.streams
        if len(calls) - self.streaming <= calls_max:
            return False
        unary = [call for call in calls.values() if call.receiver is None]
        return len([call for call in unary if call.remote_closed and not call.done]) > calls_max

    def expire(self, now: float) -> None:
        """End the calls whose deadline has passed; the client gave up on them at the same time."""
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

    # Requests, taken apart.

    def _interpret(self, headers: list[Header]) -> Request:
        """Once for each distinct header block."""
        fields = dict(reversed(headers))  # the first of a repeated name wins
        timeout, problem = timeout_seconds(fields.get(b"grpc-timeout"))
        method = self._methods.get(fields[b":path"])
        refusal: tuple[Code, str, bytes] | None = None
        content_type = fields.get(b"content-type", b"")
        if not is_grpc(content_type):
            shown = text(content_type)
            refusal = (Code.INVALID_ARGUMENT, f'invalid gRPC request content-type "{shown}"', b"415")
        elif problem is not None:
            refusal = (Code.INTERNAL, problem, b"400")
        elif fields[b":method"] != b"POST":
            shown = text(fields[b":method"])
            refusal = (
                Code.INTERNAL,
                f'Received a HEADERS frame with :method "{shown}" which should be POST',
                b"405",
            )
        elif method is None:
            refusal = (Code.UNIMPLEMENTED, self._unknown(text(fields[b":path"])), b"200")
        elif fields.get(b"grpc-encoding", b"identity") not in (b"identity", b"gzip"):
            shown = text(fields[b"grpc-encoding"])
            reason = f'grpc: Decompressor is not installed for grpc-encoding "{shown}"'
            refusal = (Code.UNIMPLEMENTED, reason, b"200")
        if refusal is not None:
            method = None
        request = Request(
            method.unary if method else None,
            method.stream if method else None,
            timeout,
            fields.get(b"grpc-encoding", b"identity"),
            tuple(headers),
            refusal,
        )
        return request if self._terms is None else request._replace(terms=self._terms(request))

    def _unknown(self, path: str) -> str:
        service, slash, name = path.removeprefix("/").rpartition("/")
        if not slash:
            return f'malformed method name: "{path}"'
        known = f"/{service}/".encode("utf-8", "surrogateescape")
        if any(served.startswith(known) for served in self._methods):
            return f"unknown method {name} for service {service}"
        return f"unknown service {service}"

    def _open(self, call: Call) -> None:
        request = call.request
        if request.refusal is not None:
            call.fail(*request.refusal)
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
            self.http2.consumed(call, len(data))
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
            call.break_off(Code.RESOURCE_EXHAUSTED, "grpc: too many unfinished messages on this connection")
        self.http2.consumed(call, len(data))

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
            call.break_off(Code.INTERNAL, "unexpected EOF" if call.partial else "EOF")
            return 0
        if call.partial:
            call.break_off(Code.INTERNAL, "grpc: a unary request has one message, more bytes followed it")
            return 0
        if self._overloaded and self.overloaded():
            call.break_off(Code.RESOURCE_EXHAUSTED, UNREAD)
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
            call.break_off(Code.INTERNAL, f"grpc: received unexpected payload format {compressed}")
            return None
        if call.request.encoding == b"identity":
            call.break_off(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
            return None
        try:
            return gunzip(message, self._message_bytes_max)
        except MessageError as error:
            call.break_off(error.code, str(error))
            return None

    def _refuse_too_large(self, call: Call, length: int) -> bool:
        if length <= self._message_bytes_max:
            return False
        call.break_off(
            Code.RESOURCE_EXHAUSTED,
            f"grpc: received message larger than max ({length} vs. {self._message_bytes_max})",
        )
        return True
