"""port: which protocol a client speaks, and how many clients there may be."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.protocols.client import START
from tests.protocols.portcase import Case
from twistedetcd.protocols.framing import PREFACE
from twistedetcd.protocols.port import NOT_TLS, SNIFF_SECONDS


class SniffTests(Case):
    """The first bytes decide."""

    def test_http2_byte_by_byte(self) -> None:
        """The whole preface makes it HTTP/2, however it comes; nothing is written before."""
        protocol, transport = self.connect(b"")
        for octet in PREFACE[:-1]:
            protocol.dataReceived(bytes([octet]))
        self.end_turn()
        self.assertEqual(
            (0, {}, [protocol]), (transport.writes, self.factory.connections, list(self.factory.undecided))
        )
        protocol.dataReceived(PREFACE[-1:])
        for octet in START[len(PREFACE) :] + self.call(1):
            protocol.dataReceived(bytes([octet]))
        self.end_turn()
        self.assertEqual([b"1"], self.answers(transport)[1].messages)
        self.assertEqual((1, {}), (len(self.factory.connections), self.factory.undecided))

    def test_http1_byte_by_byte(self) -> None:
        """The first byte that is not the preface's makes it HTTP/1.1, which gets all that came."""
        for line in (b"POST / HTTP/1.1\r\n\r\n", b"PRI * HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"\x15\x03"):
            protocol, _ = self.connect(b"")
            for octet in line:
                protocol.dataReceived(bytes([octet]))
            self.assertEqual(line, self.plains.built[-1].received)
        self.assertEqual(4, len(self.plains.built))

    def test_tls(self) -> None:
        """A client that begins with TLS is told in plain text, so that it knows, and hung up on."""
        protocol, transport = self.connect(b"")
        for octet in b"\x16\x03\x01\x02\x00\x01\n":
            protocol.dataReceived(bytes([octet]))
        self.assertEqual((NOT_TLS, True), (transport.value(), transport.disconnecting))
        self.assertEqual([], self.plains.built)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual({}, self.factory.undecided)

    def test_patience(self) -> None:
        """A client that does not say what it speaks is hung up on; one that did is not."""
        slow, slow_transport = self.connect(b"")
        slow.dataReceived(PREFACE[:10])
        _, quick_transport = self.connect(START)
        self.clock.advance(SNIFF_SECONDS - 0.01)
        self.assertFalse(slow_transport.disconnected)
        self.clock.advance(0.02)
        self.assertTrue(slow_transport.disconnected)
        self.assertFalse(quick_transport.disconnecting)

    def test_loss(self) -> None:
        """A connection lost at any time leaves nothing in the factory, and no timer."""
        for first in (b"", b"PRI", START, b"GET /"):
            protocol, _ = self.connect(first)
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(({}, {}), (self.factory.undecided, self.factory.connections))
        self.assertEqual(1, self.plains.built[0].lost)
        self.end_turn()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))


class PortTests(Case):
    """What the port does with connections of any kind."""

    def test_connections_max(self) -> None:
        """More connections than that are closed at once, with one line; each that goes makes room."""
        self.factory.connections_max = 3
        opened = [self.connect(first)[0] for first in (b"", START, b"GET /")]
        with capturedLogs() as events:
            self.assertEqual([None, None], [self.factory.buildProtocol(None) for _ in range(2)])
        self.assertEqual(1, len(list(events)))
        for protocol in opened:
            protocol.connectionLost(Failure(ConnectionDone()))
            self.connect()
            self.assertIsNone(self.factory.buildProtocol(None))
        self.assertEqual(3, self.factory.open_connections)

    def test_no_limit(self) -> None:
        """Without one all are taken."""
        for _ in range(10):
            self.connect()
        self.assertEqual(10, self.factory.open_connections)
