"""
Services of one's own: functions and async generators on messages become the methods of a port.

`unary` and `streaming` are for convenience; etcd's own methods, which cannot afford a Deferred a call, are
plain `Method`\\ s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.protocols.grpc import Call, Code, Method
from twistedetcd.protocols.hpack import Header

REQUESTS_QUEUED_MAX = 16  # messages that a handler has not taken; then the client's window is left to close
ANSWER_BYTES_QUEUED_MAX = 65536  # a handler waits while more than this waits for the client

Parse = Callable[[bytes], Any]
Serialize = Callable[[Any], bytes]
_log = Logger()


class StatusError(Exception):
    """
    What a handler raises to end its call with a status of its choice.

    Args:
        code: The status.
        message: Told to the client.
        trailers: Metadata that goes with it.
    """

    def __init__(self, code: Code, message: str, trailers: Iterable[Header] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.trailers = code, message, tuple(trailers)


def serialized(message: Any) -> bytes:
    """A protobuf message as bytes."""
    encoded: bytes = message.SerializeToString()
    return encoded


def unary(parse: Parse, handle: Callable[[Any, Call], Any], serialize: Serialize = serialized) -> Method:
    """
    A method with one request and one answer.

    Args:
        parse: A request from its bytes, such as ``HelloRequest.FromString``.
        handle: Takes the request and the `Call`; returns the answer, a Deferred or a coroutine of it.  It is
            cancelled when the client gives up or its deadline passes.
        serialize: Bytes from an answer.
    """

    def begin(call: Call, raw: bytes) -> None:
        try:
            request = parse(raw)
        except Exception as error:  # whatever the message format raises
            call.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")
            return
        answering = maybeDeferred(handle, request, call)
        call.on_cancelled = answering.cancel
        answering.addCallback(lambda answer: call.reply(serialize(answer)))
        answering.addErrback(_end, call)

    return Method(unary=begin)


def streaming(
    parse: Parse,
    handle: Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]],
    serialize: Serialize = serialized,
) -> Method:
    """
    A method with any number of requests, of answers, or of both.

    Args:
        parse: As for `unary`.
        handle: Takes an iterator over the requests, and the `Call`; yields the answers.  It is not resumed
            while the client does not read, and the client cannot send much more than it takes.
        serialize: As for `unary`.
    """
    return Method(stream=lambda call: _Conversation(call, parse, handle, serialize))


class _Conversation:
    """The `Receiver` of a streaming call: an iterator for the handler, a pump for what it yields."""

    def __init__(
        self,
        call: Call,
        parse: Parse,
        handle: Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]],
        serialize: Serialize,
    ) -> None:
        self._call, self._parse, self._serialize = call, parse, serialize
        self._requests: deque[bytes] = deque()
        self._complete = False
        self._request_wanted: Deferred[None] | None = None
        self._room_wanted: Deferred[None] | None = None
        self._talking = Deferred.fromCoroutine(self._talk(handle))
        self._talking.addErrback(_end, call)

    def message_received(self, message: bytes) -> None:
        self._requests.append(message)
        if len(self._requests) >= REQUESTS_QUEUED_MAX:
            self._call.pause()
        self._wake_reader()

    def half_closed(self) -> None:
        self._complete = True
        self._wake_reader()

    def cancelled(self) -> None:
        self._requests.clear()
        self._talking.cancel()

    def writable(self) -> None:
        wanted, self._room_wanted = self._room_wanted, None
        if wanted is not None:
            wanted.callback(None)

    def _wake_reader(self) -> None:
        wanted, self._request_wanted = self._request_wanted, None
        if wanted is not None:
            wanted.callback(None)

    async def _each_request(self) -> AsyncIterator[Any]:
        while self._requests or not self._complete:
            if not self._requests:
                self._call.resume()
                self._request_wanted = Deferred()
                await self._request_wanted
                continue
            raw = self._requests.popleft()
            try:
                request = self._parse(raw)
            except Exception as error:
                raise StatusError(Code.INTERNAL, f"grpc: error unmarshalling request: {error}") from error
            yield request

    async def _talk(self, handle: Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]]) -> None:
        answers: Any = handle(self._each_request(), self._call)
        async with aclosing(answers):
            async for answer in answers:
                if self._call.send(self._serialize(answer)) > ANSWER_BYTES_QUEUED_MAX:
                    self._room_wanted = Deferred()
                    await self._room_wanted
        self._call.finish()


def _end(failure: Failure, call: Call) -> None:
    """A handler raised."""
    error = failure.value
    if isinstance(error, StatusError):
        call.fail(error.code, error.message, trailers=error.trailers)
    elif call.done and failure.check(CancelledError):
        pass  # the client has gone, and the handler stopped, as it was told to
    else:
        _log.failure("A call's handler failed", failure)
        call.fail(Code.UNKNOWN, "internal error")
