"""
One gRPC call: what was asked for, and the ways to answer.

The handler of a call answers through its `Call`, when it likes; once the call is over, that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from twistedetcd.errors import Code
from twistedetcd.protocols.compression import GZIP, gzip_if_smaller
from twistedetcd.protocols.framing import Stream, WholeResponse
from twistedetcd.protocols.hpack import Header, encode
from twistedetcd.protocols.metadata import binary_values, checked_metadata, percent_encoded
from twistedetcd.protocols.sending import TURN_BYTES_MAX

if TYPE_CHECKING:
    from twistedetcd.protocols.grpc import Connection

SENT_MESSAGE_BYTES_MAX = 2**31 - 1  # grpc-go's and etcd's limit for responses
SMALL_MESSAGE_BYTES = 2048  # responses below are sent whatever else waits
UNREAD = "grpc: too many bytes of responses unread on this connection"
ACCEPTED_ENCODINGS: Header = (b"grpc-accept-encoding", b"gzip")

_HEAD: list[Header] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK = WholeResponse(encode(_HEAD), encode([(b"grpc-status", b"0")]))


def message_prefix(length: int) -> bytes:
    """What stands before a message of so many bytes that is not compressed."""
    return b"\0" + length.to_bytes(4, "big")


_PREFIXES = [message_prefix(length) for length in range(SMALL_MESSAGE_BYTES)]


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


class Refusal(NamedTuple):
    """Why a request cannot be served."""

    code: Code
    message: str
    http_status: bytes = b"200"


class Request(NamedTuple):
    """What a header list asks for; shared by all calls with the same one."""

    unary: Callable[[Call, bytes], None] | None
    stream: Callable[[Call], Receiver] | None
    encoding: bytes
    headers: tuple[Header, ...]  # without grpc-timeout
    refusal: Refusal | None
    terms: Any = None  # what the application made of the metadata

    def metadata(self, name: bytes) -> bytes | None:
        """The first value of a header, or ``None``."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def binary_metadata(self, name: bytes) -> list[bytes]:
        """All values of a header whose name ends with ``-bin``, decoded."""
        return [value for key, coded in self.headers if key == name for value in binary_values(coded) or ()]


class Call(Stream):
    """One call in progress."""

    request: Request
    varied: float | Refusal | None  # the timeout in seconds
    connection: Connection = None  # type: ignore[assignment]  # until OPENED was acted on
    done = False
    started = False
    rejected = False  # before the application saw it
    plain = True  # the response needs no header and no encoding of its own
    receiver: Receiver | None = None
    partial: bytearray | None = None
    deadline: float | None = None
    on_cancelled: Callable[[], None] | None = None
    _compressing = False
    _metadata: tuple[Header, ...] = ()
    _unconfirmed: int | None = None  # while paused: request bytes that the client does not know to be taken

    def reply(self, message: bytes) -> None:
        """Answer a unary call.  Ignored when the call is over: the client has gone."""
        if self.done:
            return
        connection = self.connection
        length = len(message)
        if not self.plain:
            self.send(message)
            self.finish()
            return
        if length < SMALL_MESSAGE_BYTES:
            prefix = _PREFIXES[length]
        elif problem := self._unfit(length):
            self.fail(Code.RESOURCE_EXHAUSTED, problem)
            return
        else:
            prefix = message_prefix(length)
        self.done = True
        connection.in_progress -= 1
        if not connection.has_output:
            connection.has_output = True
            connection.wake()
        connection.http2.respond(self, _OK, prefix, message)

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        """As `reply`, with a large message in pieces: none is copied before the client may have it."""
        length = sum(map(len, parts))
        if self.done:
            return
        if not self.plain or length <= TURN_BYTES_MAX:
            self.reply(b"".join(parts))
        elif problem := self._unfit(length):
            self.fail(Code.RESOURCE_EXHAUSTED, problem)
        else:
            self.done = True
            self.connection.in_progress -= 1
            self.connection.touch()
            prefix = message_prefix(length)
            self.connection.http2.respond_in_parts(self, _OK, prefix, *parts)

    def _unfit(self, length: int) -> str | None:
        """Why a large answer may not be sent: for itself, or on top of what the client did not read."""
        if length > SENT_MESSAGE_BYTES_MAX:
            return f"grpc: trying to send message larger than max ({length} vs. {SENT_MESSAGE_BYTES_MAX})"
        return UNREAD if self.connection.overloaded() else None

    def set_metadata(self, metadata: Iterable[Header]) -> None:
        """
        Give the response headers of the application's own, before its first message.

        Args:
            metadata: Names in lower case; a value whose name ends with ``-bin`` may be any bytes.

        Raises:
            ValueError: A name or value that gRPC does not allow, or too many of them, or too late.
        """
        if self.started:
            raise ValueError("the response has begun")
        self._metadata = checked_metadata(metadata)
        self.plain = False

    def compress(self) -> None:
        """Gzip those messages of a response that get smaller.  Ignored once the response has begun."""
        if not self.started:
            self.plain = False
            self._compressing = True

    def send(self, message: bytes) -> int:
        """
        Send one message of a response stream.

        Returns:
            Bytes that wait for the client to open its window; `Receiver.writable` tells when they went.
        """
        if self.done:
            return 0
        if len(message) > SENT_MESSAGE_BYTES_MAX and (problem := self._unfit(len(message))):
            self.break_off(Code.RESOURCE_EXHAUSTED, problem)
            return 0
        flag = b"\0"
        if self._compressing and (smaller := gzip_if_smaller(message)) is not None:
            flag, message = b"\1", smaller
        return self.send_prefixed(flag + len(message).to_bytes(4, "big") + message)

    def send_prefixed(self, messages: bytes) -> int:
        """As `send`, for any number of messages, each with its `message_prefix`; they go as they are."""
        if self.done:
            return 0
        self.connection.touch()
        http2 = self.connection.http2
        if not self.started:
            self.started = True
            http2.send_headers(self, _OK.head if self.plain else encode(self._head()))
        return http2.send_data(self, messages)

    def _head(self) -> list[Header]:
        coding = [(b"grpc-encoding", GZIP)] if self._compressing else []
        return [*_HEAD, *coding, *self._metadata]

    def finish(self, trailers: Iterable[Header] = ()) -> None:
        """
        End a response stream with status OK.

        Raises:
            ValueError: As for `set_metadata`.
        """
        if not self.done:
            self._end([(b"grpc-status", b"0"), *checked_metadata(trailers)], b"200")

    def fail(
        self, code: Code, message: str, http_status: bytes = b"200", trailers: Iterable[Header] = ()
    ) -> None:
        """
        End the call with a status that is not OK.

        Raises:
            ValueError: As for `set_metadata`.
        """
        if not self.done:
            status = [(b"grpc-status", b"%d" % code), (b"grpc-message", percent_encoded(message))]
            self._end([*status, *checked_metadata(trailers)], http_status)

    def refuse(self, refusal: Refusal) -> None:
        """Answer a request that cannot be served."""
        if refusal.code is Code.UNIMPLEMENTED and self.request.encoding not in (b"identity", GZIP):
            self._metadata = (ACCEPTED_ENCODINGS,)
        self.fail(*refusal)

    def _end(self, trailers: list[Header], http_status: bytes) -> None:
        self.done = True
        self.connection.touch()
        http2 = self.connection.http2
        if self.started:
            http2.send_trailers(self, encode(trailers))
        else:
            head = [(b":status", http_status), (b"content-type", b"application/grpc")]
            http2.send_headers(self, encode([*head, *self._metadata, *trailers]), end=True)
        self.connection.forget(self)

    def pause(self) -> None:
        """Let the client send only what its window still allows; what arrives is handed on all the same."""
        if self._unconfirmed is None:
            self._unconfirmed = 0

    def resume(self) -> None:
        """End `pause`."""
        length, self._unconfirmed = self._unconfirmed, None
        if length and not self.done:
            self.connection.http2.consumed(self, length)
            self.connection.touch()

    def taken(self, length: int) -> None:
        """So many bytes of the request were handed on."""
        if self._unconfirmed is None:
            self.connection.http2.consumed(self, length)
        else:
            self._unconfirmed += length

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

    def reject(self, code: Code, message: str) -> None:
        """`break_off` for what is wrong with a request message."""
        self.rejected = True
        self.break_off(code, message)

    def _tell_cancelled(self) -> None:
        if self.receiver is not None:
            self.receiver.cancelled()
        elif self.on_cancelled is not None:
            self.on_cancelled()
