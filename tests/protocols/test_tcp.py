"""connection: a transport that is a TCP connection is written to directly."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.tcp import Connection as TCPConnection
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.protocols.client import START, Responses
from tests.protocols.portcase import Case, Plain
from twistedetcd.protocols.framing import GOAWAY, PING, frame
from twistedetcd.protocols.port import TCP_KEEPALIVE_SECONDS, ClientPortProtocol


class Socket:
    """A socket that takes so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = b""
        self.options: list[tuple[int, int, object]] = []

    def send(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.EWOULDBLOCK, "full")
        taken = bytes(data)[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def setsockopt(self, level: int, name: int, value: object) -> None:
        self.options.append((level, name, value))

    def fileno(self) -> int:
        return 99

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Plain):
    """Stands for HTTP/1.1 that can go on answering."""

    closed = 0

    def readConnectionLost(self) -> None:
        self.closed += 1

    def writeConnectionLost(self) -> None:
        raise NotImplementedError


class TCPTests(Case):
    """A TCP transport with nothing of ours left is written to directly."""

    def connect_tcp(self, room: int = 1 << 30) -> tuple[Any, Any, Socket]:
        sock = Socket(room)
        protocol = ClientPortProtocol(self.factory)
        transport: Any = TCPConnection(sock, protocol, self.clock)  # type: ignore[arg-type]
        transport.connected = True
        transport.getPeer = lambda: None
        protocol.makeConnection(transport)
        protocol.dataReceived(START)
        self.end_turn()
        return protocol, transport, sock

    def test_direct(self) -> None:
        """The answer is on the socket when dataReceived returns."""
        protocol, transport, sock = self.connect_tcp()
        protocol.dataReceived(self.call(1))
        self.end_turn()
        self.assertEqual([b"1"], Responses().take(sock.sent)[1].messages)
        self.assertNotIn(transport, self.clock.getWriters())

    def test_left(self) -> None:
        """It says whether all has left: only by the socket, and only if that takes it."""
        (direct, _, _), (full, _, sock) = self.connect_tcp(), self.connect_tcp()
        through, _ = self.connect()
        sock.room = 5
        left = []
        direct, full, through = [protocol._inner for protocol in (direct, full, through)]
        for protocol in (direct, full, through):
            protocol.grpc.receive(self.call(1), 0.0)
            left.append(protocol.flush())
        self.assertEqual([True, False, False], left)
        self.assertFalse(direct.flush(), "there was nothing")
        direct.grpc.receive(self.call(3), 0.0)
        direct.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(direct.flush())

    def test_keep_alive(self) -> None:
        """A client that vanished without a word is found out, in minutes where the system allows that."""
        _, _, sock = self.connect_tcp()
        self.assertIn((socket.SOL_SOCKET, socket.SO_KEEPALIVE, True), sock.options)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if hasattr(socket, name):
                option = (socket.IPPROTO_TCP, getattr(socket, name), TCP_KEEPALIVE_SECONDS)
                self.assertIn(option, sock.options)

    def test_keep_alive_behind_a_wrapper(self) -> None:
        """The socket is found also below what TLS puts in between."""
        sock = Socket(1 << 30)
        wrapper: Any = WrappingFactory(self.factory).buildProtocol(None)
        transport: Any = TCPConnection(sock, wrapper, self.clock)  # type: ignore[arg-type]
        transport.getPeer = lambda: None
        wrapper.getHandle = lambda: None
        wrapper.makeConnection(transport)
        self.assertIn((socket.SOL_SOCKET, socket.SO_KEEPALIVE, True), sock.options)
        wrapper.connectionLost(Failure(ConnectionDone()))

    def test_half_close(self) -> None:
        """A client that closes its side is gone, but for HTTP/1.1, which may go on answering."""
        for first in (START, b"PRI", b"GET /"):
            protocol, transport, _ = self.connect_tcp()
            if first != START:
                transport.connectionLost(Failure(ConnectionDone()))
                protocol = ClientPortProtocol(self.factory)
                transport.protocol, transport.connected, transport.disconnected = protocol, True, False
                transport.socket, transport.fileno = Socket(0), lambda: 99
                protocol.makeConnection(transport)
                protocol.dataReceived(first)
            transport.readConnectionLost(Failure(ConnectionDone()))
            self.assertFalse(transport.connected)
        self.assertEqual(
            (1, 0, {}, {}),
            (
                self.plains.built[0].lost,
                self.factory.open_connections,
                self.factory.connections,
                self.factory.undecided,
            ),
        )

    def test_half_close_goes_on(self) -> None:
        """What can live with it is told."""
        inner = HalfCloseable()
        self.patch(self.plains, "buildProtocol", lambda address: inner)
        protocol, transport = self.connect(b"GET /")
        protocol.readConnectionLost()
        self.assertEqual((1, 0, False), (inner.closed, inner.lost, transport.disconnecting))

    def test_what_the_socket_does_not_take(self) -> None:
        """It counts as unread, to the byte."""
        protocol, transport, sock = self.connect_tcp()
        [connection] = self.factory.connections
        sock.room = 10
        protocol.dataReceived(self.call(1))
        self.end_turn()
        unread = connection.grpc.unread_bytes()
        self.assertLess(0, unread)
        sock.room, sock.sent = 1 << 20, b""
        transport.doWrite()
        self.assertEqual((unread, 0), (len(sock.sent), connection.grpc.unread_bytes()))

    def test_partial(self) -> None:
        """What the socket does not take is sent when it can, in order, before what came later."""
        protocol, transport, sock = self.connect_tcp()
        sock.room = 10
        protocol.dataReceived(self.call(1))
        self.end_turn()
        protocol.dataReceived(self.call(3))
        self.end_turn()
        for room in (5, 0, 20, 1, 1 << 20, 1 << 20):
            sock.room = room
            if transport in self.clock.getWriters():
                transport.doWrite()
        answers = Responses().take(sock.sent)
        self.assertEqual(([b"1"], [b"3"]), (answers[1].messages, answers[3].messages))
        self.assertNotIn(transport, self.clock.getWriters())

    def test_lost_before_the_turn_ends(self) -> None:
        """A connection lost with output not written yet keeps nobody else from theirs."""
        (first, transport, _), (second, _, sock) = self.connect_tcp(), self.connect_tcp()
        first.dataReceived(self.call(1) + self.call(3))
        second.dataReceived(self.call(1))
        transport.connectionLost(Failure(ConnectionDone()))
        self.end_turn()
        self.assertEqual([b"1"], Responses().take(sock.sent)[1].messages)
        self.assertEqual([], self.flushLoggedErrors())

    def test_close_after_a_partial_write(self) -> None:
        """GOAWAY is sent whole before the connection is closed."""
        protocol, transport, sock = self.connect_tcp()
        sock.room = 10
        protocol.dataReceived(self.call(1) + frame(PING, 0, 1, bytes(8)))
        self.end_turn()
        sock.room = 1 << 20
        self.assertIsInstance(transport.doWrite(), ConnectionDone)
        self.assertEqual(GOAWAY, Responses().take(sock.sent).others[-1].kind)
