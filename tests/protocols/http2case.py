"""What tests of an HTTP/2 connection share: one that is set up, and two ways for it to go wrong."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import (
    START,
    Frame,
    frames,
    headers,
    request,
    told,
)
from twistedetcd.protocols.framing import (
    GOAWAY,
    RST_STREAM,
    ErrorCode,
    WholeResponse,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection

OK = WholeResponse(encode([(b":status", b"200")]), encode([(b"grpc-status", b"0")]))
OPENED, ENDED = "OPENED", "ENDED"
Told = list[tuple[str, int | None, Any]]


class Case(SynchronousTestCase):
    """A connection past its preface, whose own greeting was taken."""

    def setUp(self) -> None:
        self.server: Any = ServerConnection(tuple)
        self.server.receive(START)
        self.out()

    def out(self) -> list[Frame]:
        """What the server sent since the last time, as the transport would take it."""
        sent = b"".join(self.server.out)
        self.server.out.clear()
        self.server.written()
        return frames(sent)

    def say(self, *parts: bytes) -> Told:
        """Say something in one piece."""
        return told(self.server.receive(b"".join(parts)))

    def open(self, stream: int = 1, ended: bool = True) -> Any:
        """A request, complete unless told otherwise."""
        self.server.receive(headers(stream, request(), end=ended))
        return self.server.streams[stream]

    def assert_dead(self, code: ErrorCode, *parts: bytes) -> None:
        """The parts end the connection, with this code."""
        events = self.say(*parts)
        self.assertEqual(("TERMINATED", None, code), events[-1])
        last = self.out()[-1]
        self.assertEqual((GOAWAY, 0), (last.kind, last.stream))
        self.assertEqual(code, int.from_bytes(last.payload[4:8], "big"))
        self.assertTrue(self.server.closed)
        self.assertEqual({}, self.server.streams)
        self.assertEqual([], self.say(START))

    def assert_reset(self, stream: int, code: ErrorCode, *parts: bytes) -> Told:
        """The parts end one stream, with this code, and not the connection."""
        events = self.say(*parts)
        self.assertIn(Frame(RST_STREAM, 0, stream, int(code).to_bytes(4, "big")), self.out())
        self.assertNotIn(stream, self.server.streams)
        self.assertFalse(self.server.closed)
        return events
