"""handshakes: who fails the handshake of a port is told, and the port goes on."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from tests.protocols.handshake import Room
from tests.protocols.test_tls import TLSCase
from twistedetcd.protocols import complaints
from twistedetcd.protocols.complaints import QUIET_SECONDS
from twistedetcd.protocols.handshakes import SecureFactory
from twistedetcd.protocols.port import SNIFF_SECONDS, ClientPortFactory
from twistedetcd.protocols.turn import Turn

PLAIN_TEXT = "what came was plain text, not TLS"


class Speaker(Protocol):
    """Says something without TLS, and hears what comes back."""

    def __init__(self, says: bytes) -> None:
        self.says = says
        self.is_lost = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self.says)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True


class Wire(StringTransportWithDisconnection):
    """As good as a socket."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """There is nothing to keep alive."""

    def getHandle(self) -> Any:
        return mock.Mock()


class PortTests(TLSCase):
    """What is no handshake ends the connection it came by, and no other."""

    def test_plain_text(self) -> None:
        """HTTP of either version without TLS is told as what it is, and hung up on."""
        for said in (b"GET /health HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\xff" * 20):
            room = Room(self.server())
            good = room.meet(self.client())
            speaker = Speaker(said)
            room.plug(speaker)
            self.assertEqual([PLAIN_TEXT], [reason for _, reason in room.told])
            self.assertTrue(speaker.is_lost)
            self.assert_met(good)

    def test_hung_up(self) -> None:
        """A client that leaves before the end is told, too."""
        room = Room(self.server())
        speaker = Speaker(b"")
        pump = room.plug(speaker)
        transport: Any = speaker.transport
        transport.loseConnection()
        pump.flush()
        [(_, reason)] = room.told
        self.assertRegex(reason, "^the connection was lost before the handshake ended: ")

    def test_full(self) -> None:
        """Where the port takes nobody any more, nobody begins a handshake."""
        room = Room(self.server())
        self.patch(room.port.wrappedFactory, "buildProtocol", lambda address: None)
        self.assertIsNone(room.port.buildProtocol(None))

    def test_given_up(self) -> None:
        """What the port itself breaks off has not ended in time."""
        room = Room(self.server())
        room.plug(Speaker(b""))
        transport: Any = room.last.transport
        transport.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(["the handshake did not end in time"], [reason for _, reason in room.told])


class ClientPortTests(TLSCase):
    """A port for clients gives a handshake no longer than the first words after it."""

    def test_patience(self) -> None:
        """One that is not over by then is hung up on."""
        room = Room(self.server())
        listening = ClientPortFactory(room.clock, Turn(room.clock), {})
        told: list[tuple[str, str]] = []
        port = SecureFactory(self.server(), listening, lambda *said: told.append(said), room.clock)
        protocol = port.buildProtocol(None)
        assert protocol is not None
        transport = Wire()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(b"\x16\x03\x01\x02\x00\x01")
        room.clock.advance(SNIFF_SECONDS - 0.01)
        self.assertTrue(transport.connected)
        room.clock.advance(0.01)
        self.assertFalse(transport.connected)
        self.assertEqual((1, 0), (len(told), listening.open_connections))


class ToldTests(TLSCase):
    """A client that tries again and again fills no log."""

    def setUp(self) -> None:
        super().setUp()
        self.room = Room(self.server())

    def refuse(self, host: str, reason: str) -> None:
        """It happens once more."""
        self.room.port.refused(host, reason)

    def test_once(self) -> None:
        """The same host and reason are told once in a while."""
        for _ in range(2):
            self.refuse("a", "x")
        self.assertEqual([("a", "x")], self.room.told)
        self.room.clock.advance(QUIET_SECONDS - 1)
        self.refuse("a", "x")
        self.room.clock.advance(1)
        self.assertEqual(1, len(self.room.told))
        self.refuse("a", "x")
        self.assertEqual(2, len(self.room.told))

    def test_each(self) -> None:
        """Another host, and another reason, are told for themselves."""
        told = [("a", "x"), ("a", "y"), ("b", "x")]
        for host, reason in told:
            self.refuse(host, reason)
        self.assertEqual(told, self.room.told)

    def test_bounded(self) -> None:
        """Of ever new hosts and reasons no more than so many are told, until time has passed."""
        self.patch(complaints, "TOLD_MAX", 2)
        for host in "abc":
            self.refuse(host, "x")
        self.assertEqual(["a", "b"], [host for host, _ in self.room.told])
        self.room.clock.advance(QUIET_SECONDS)
        self.refuse("c", "x")
        self.assertEqual(["a", "b", "c"], [host for host, _ in self.room.told])
