"""What tests of a connection share: a port on a fake clock, with clients made by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import START, Responses, data, headers, message, request
from twistedetcd.protocols.grpc import Call, Method
from twistedetcd.protocols.port import (
    ClientPortFactory,
)
from twistedetcd.protocols.turn import Turn

ECHO, WAIT, STREAM, BUG = (b"/test.Echo/" + name for name in (b"Unary", b"Wait", b"Stream", b"Bug"))


class Transport(StringTransport):
    """Counts writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += bool(data)
        super().write(data)


class Plain(Protocol):
    """Stands for HTTP/1.1."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost += 1


class Plains(Factory):
    """Remembers what it built."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Plain] = []

    def buildProtocol(self, addr: Any) -> Plain:
        self.built.append(Plain())
        return self.built[-1]


class Listener:
    """A receiver that can be told to fail."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.told: list[str] = []
        self.fails = False

    def note(self, what: str) -> None:
        self.told.append(what)
        if self.fails:
            raise ZeroDivisionError(what)

    def message_received(self, message: bytes) -> None:
        self.note("message")

    def half_closed(self) -> None:
        self.note("half closed")

    def cancelled(self) -> None:
        self.note("cancelled")

    def writable(self) -> None:
        self.note("writable")


class Case(SynchronousTestCase):
    """A port with an echo, a call that waits, a stream, and a bug."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.turn = Turn(self.clock)
        self.plains = Plains()
        self.waiting: list[Call] = []
        self.listeners: list[Listener] = []
        self.factory = ClientPortFactory(
            self.clock,
            self.turn,
            {
                ECHO: Method(unary=lambda call, body: call.reply(body)),
                WAIT: Method(unary=lambda call, body: self.waiting.append(call)),
                STREAM: Method(stream=self.listen),
                BUG: Method(unary=self.fail_badly),
            },
            self.plains,
        )
        self.factory.doStart()
        self.addCleanup(self.factory.doStop)

    def listen(self, call: Call) -> Listener:
        self.listeners.append(Listener(call))
        return self.listeners[-1]

    @staticmethod
    def fail_badly(call: Call, body: bytes) -> None:
        raise ZeroDivisionError

    def connect(self, first: bytes = START) -> tuple[Any, Transport]:
        """A new connection, its greeting written and the transport empty."""
        transport = Transport()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        if first:
            protocol.dataReceived(first)
            self.end_turn()
            transport.clear()
            transport.writes = 0
        return protocol, transport

    def end_turn(self) -> None:
        self.clock.advance(0)

    def answers(self, transport: StringTransport) -> Responses:
        return Responses().take(transport.value())

    def errors(self, count: int = 1) -> None:
        self.assertEqual(count, len(self.flushLoggedErrors(ZeroDivisionError)))

    @staticmethod
    def call(stream: int, path: bytes = ECHO) -> bytes:
        return headers(stream, request(path)) + data(stream, message(b"%d" % stream))
