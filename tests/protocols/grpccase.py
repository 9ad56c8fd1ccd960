"""What tests of gRPC share: a server without a socket, and a client by hand."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import (
    START,
    Response,
    Responses,
    data,
    headers,
    request,
)
from twistedetcd.errors import Code
from twistedetcd.protocols.framing import FRAME_BYTES_MAX
from twistedetcd.protocols.grpc import Call, Connection, Method
from twistedetcd.protocols.hpack import Header

ECHO, WAIT, STREAM, REFUSE = (b"/test.Echo/" + name for name in (b"Unary", b"Wait", b"Stream", b"Refuse"))
LIMIT = 2097152


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.told: list[bytes | str] = []
        self.on_message: Callable[[bytes], object] = lambda body: None

    def message_received(self, message: bytes) -> None:
        self.told.append(message)
        self.on_message(message)

    def half_closed(self) -> None:
        self.told.append("half closed")

    def cancelled(self) -> None:
        self.told.append("cancelled")

    def writable(self) -> None:
        self.told.append("writable")


def gzipped(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(body) + packer.flush()


class Case(SynchronousTestCase):
    """A connection that serves an echo, a call that waits, a stream, and a stream that is refused."""

    def setUp(self) -> None:
        self.waiting: list[tuple[Call, bytes]] = []
        self.receivers: list[Recorder] = []
        self.responses = Responses()
        self.wakes = 0
        self.server = self.connection()
        self.say(START)

    def connection(self, methods: dict[bytes, Method] | None = None, **options: Any) -> Any:
        return Connection(
            methods
            or {
                ECHO: Method(unary=lambda call, body: call.reply(body)),
                WAIT: Method(unary=lambda call, body: self.waiting.append((call, body))),
                STREAM: Method(stream=self.record),
                REFUSE: Method(stream=self.refuse),
            },
            self.wake,
            message_bytes_max=LIMIT,
            **options,
        )

    def wake(self) -> None:
        self.wakes += 1

    def record(self, call: Call) -> Recorder:
        self.receivers.append(Recorder(call))
        return self.receivers[-1]

    def refuse(self, call: Call) -> Recorder:
        call.fail(Code.UNAVAILABLE, "not now")
        return self.record(call)

    def say(self, *parts: bytes, now: float = 0.0) -> int:
        served: int = self.server.receive(b"".join(parts), now)
        self.responses.take(b"".join(self.server.taken()))
        while self.server.http2.ready:  # the turns after this one
            self.server.release()
            self.responses.take(b"".join(self.server.taken()))
        return served

    def send_body(self, stream: int, body: bytes, end: bool = True) -> None:
        for at in range(0, len(body), FRAME_BYTES_MAX):
            last = at + FRAME_BYTES_MAX >= len(body)
            self.say(data(stream, body[at : at + FRAME_BYTES_MAX], end and last))

    def call(self, *parts: bytes, path: bytes = ECHO, more: tuple[Header, ...] = ()) -> Response:
        """A call on stream 1 with these DATA frames."""
        self.say(headers(1, request(path, *more)))
        for number, part in enumerate(parts, 1):
            self.say(data(1, part, end=number == len(parts)))
        return self.responses[1]

    def assert_status(self, code: Code, text: str, response: Response) -> None:
        self.assertEqual((code, text), response.status)
        self.assertTrue(response.ended)

    def assert_quiet(self) -> None:
        """Nothing is kept of the calls."""
        self.assertEqual({}, self.server.http2.streams)
        self.assertEqual(
            (0, 0, 0), (self.server.streaming, self.server._partial_bytes, self.server.in_progress)
        )
