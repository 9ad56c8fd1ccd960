"""
The Protocol and Factory of a listening port.

One port serves gRPC over HTTP/2 with prior knowledge and HTTP/1.1: the first bytes decide.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.protocols import grpc
from twistedetcd.protocols.connection import GRPCProtocol
from twistedetcd.protocols.framing import PREFACE, WAITING_BYTES_MAX
from twistedetcd.protocols.keepalive import KeepalivePolicy
from twistedetcd.protocols.turn import Turn

SNIFF_SECONDS = 10.0  # how long a client may take to say which protocol it speaks
TLS_HANDSHAKE = b"\x16"  # what a client begins with that expects TLS, and nobody else
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nThis is an https request to an http port.\n"
DEADLINE_CHECK_SECONDS = 0.1
UNREAD_BYTES_MAX = 512 << 20  # responses unread, over all connections: above it each may have
UNREAD_BYTES_FEW = 1 << 20  # this many
TCP_KEEPALIVE_SECONDS = 30  # of silence, and between the probes that follow it


@implementer(IHalfCloseableProtocol)
class ClientPortProtocol(Protocol):
    """A fresh connection, until its first bytes tell whether it is HTTP/2 or HTTP/1.1."""

    transport: Any

    def __init__(self, factory: ClientPortFactory) -> None:
        self._factory = factory
        self._address: IAddress | None = None
        self._first = b""
        self._inner: IProtocol | None = None
        self._patience: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._factory.open_connections += 1
        if ITCPTransport.providedBy(self.transport):
            _keep_alive(self.transport)
        self._patience = self._factory.clock.callLater(SNIFF_SECONDS, self.transport.abortConnection)
        self._factory.undecided[self] = None

    def dataReceived(self, data: bytes) -> None:
        self._first += data
        if self._first.startswith(PREFACE):
            self._become(GRPCProtocol(self._factory))
        elif self._first.startswith(TLS_HANDSHAKE):
            self.dataReceived = _ignore  # type: ignore[method-assign]
            self.transport.write(NOT_TLS)
            self.transport.loseConnection()
        elif not PREFACE.startswith(self._first):
            if self._factory.http is None:
                self.transport.abortConnection()
                return
            inner = self._factory.http.buildProtocol(self.transport.getPeer())
            assert inner is not None, "the HTTP factory builds a protocol for every address"
            self._become(inner)

    def _become(self, inner: IProtocol) -> None:
        self._forget()
        self._inner = inner
        self.dataReceived = inner.dataReceived  # type: ignore[method-assign]
        inner.makeConnection(self.transport)
        inner.dataReceived(self._first)
        self._first = b""

    def _forget(self) -> None:
        self._factory.undecided.pop(self, None)
        if self._patience is not None and self._patience.active():
            self._patience.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.open_connections -= 1
        self._forget()
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def readConnectionLost(self) -> None:
        """The client will send no more.  HTTP/1.1 may still answer; for the others that is the end."""
        inner = IHalfCloseableProtocol(self._inner, None)
        if inner is None:
            self.transport.connectionLost(Failure(ConnectionDone()))
        else:
            inner.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Never: we close both sides at once."""


def _ignore(data: bytes) -> None:
    """What comes after the end was said."""


def _keep_alive(transport: Any) -> None:
    """A host that is gone is noticed after some minutes, not after the system's two hours."""
    transport.setTcpKeepAlive(True)
    while hasattr(transport, "transport"):  # of a wrapper, such as TLS
        transport = transport.transport
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            option = getattr(socket, name)
            transport.getHandle().setsockopt(socket.IPPROTO_TCP, option, TCP_KEEPALIVE_SECONDS)


class ClientPortFactory(Factory):
    """
    What all connections of one listening port share.

    Args:
        clock: For deadlines.
        turn: Collects the work of a reactor turn.
        methods: The gRPC methods, by path.
        http: Builds the protocols of HTTP/1.1 connections, a `twisted.web.server.Site` for instance; without
            it nothing but gRPC is served.
        message_bytes_max: Largest gRPC request message.
        max_concurrent_streams: Per connection; announced when given.
        terms: As for `twistedetcd.protocols.grpc.Connection`.
        connections_max: Of both protocols; further ones are closed at once.
        keepalive: How long gRPC connections live.

    Attributes:
        open_connections: How many there are.
        connections_made: How many gRPC connections there have been.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        turn: Turn,
        methods: Mapping[bytes, grpc.Method],
        http: IProtocolFactory | None = None,
        message_bytes_max: int = grpc.MESSAGE_BYTES_MAX,
        max_concurrent_streams: int | None = None,
        terms: Callable[[grpc.Request], Any] | None = None,
        connections_max: int | None = None,
        keepalive: KeepalivePolicy | None = None,
    ) -> None:
        self.clock = clock
        self.turn = turn
        self.methods = methods
        self.http = http
        self.message_bytes_max = message_bytes_max
        self.max_concurrent_streams = max_concurrent_streams
        self.terms = terms
        self.connections_max = connections_max
        self.keepalive = keepalive or KeepalivePolicy()
        self.open_connections = 0
        self.connections_made = 0
        self._listening = False
        self._full = False
        self.connections: dict[GRPCProtocol, None] = {}
        self.undecided: dict[ClientPortProtocol, None] = {}
        self._check: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        full = self.connections_max is not None and self.open_connections >= self.connections_max
        if full and not self._full:
            self._log.warn("{max} connections are open: others are refused", max=self.connections_max)
        self._full = full
        return None if full else ClientPortProtocol(self)

    def doStart(self) -> None:
        super().doStart()
        self._listening = True
        if self._check is None:
            self._check = self.clock.callLater(DEADLINE_CHECK_SECONDS, self._expire)
        if self.http is not None:
            self.http.doStart()

    def doStop(self) -> None:
        super().doStop()
        if self.numPorts == 0:
            self._listening = False
            self._stop_checking()
        if self.http is not None:
            self.http.doStop()

    def connection_made(self, connection: GRPCProtocol) -> None:
        """A gRPC connection began."""
        self.connections[connection] = None
        self.connections_made += 1

    def connection_lost(self, connection: GRPCProtocol) -> None:
        """It is over."""
        self.connections.pop(connection, None)
        self._stop_checking()

    def _stop_checking(self) -> None:
        """Deadlines count also while connections are drained, when nobody listens any more."""
        if not self._listening and not self.connections and self._check is not None:
            self._check.cancel()
            self._check = None

    def _expire(self) -> None:
        self._check = self.clock.callLater(DEADLINE_CHECK_SECONDS, self._expire)
        now = self.clock.seconds()
        unread = sum([connection.grpc.unread_bytes() for connection in self.connections])
        unread_bytes_max = WAITING_BYTES_MAX if unread <= UNREAD_BYTES_MAX else UNREAD_BYTES_FEW
        for connection in list(self.connections):
            connection.grpc.unread_bytes_max = unread_bytes_max
            connection.expire(now)

    def drain(self) -> None:
        """Let each gRPC connection finish its calls; hang up on those that have said nothing yet."""
        for connection in list(self.connections):
            connection.drain()
        for fresh in list(self.undecided):
            fresh.transport.loseConnection()
