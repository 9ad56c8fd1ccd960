"""
The Protocols and Factories around the state machines: they move bytes, and know nothing of their meaning.

One port serves gRPC over HTTP/2 with prior knowledge and HTTP/1.1: the first bytes decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.protocols import grpc
from twistedetcd.protocols.framing import PREFACE, WAITING_BYTES_MAX
from twistedetcd.protocols.turn import Turn

QUEUED_BYTES_MAX = 1 << 20  # output that the client does not read: above it we do not read either
CALLS_MAX = 1000  # unary calls in progress on one connection: the same
SNIFF_SECONDS = 10.0  # how long a client may take to say which protocol it speaks
DEADLINE_CHECK_SECONDS = 0.1
UNREAD_BYTES_MAX = 512 << 20  # responses unread, over all connections: above it each may have
UNREAD_BYTES_FEW = 1 << 20  # this many


@implementer(IPushProducer)
class GRPCProtocol(Protocol):
    """
    One client over HTTP/2.

    It is its transport's producer: output the transport will not take waits here, and while too much of it
    waits, or too many calls are in progress, nothing is read.  A TCP transport that has nothing of ours left
    is written to directly, which saves a turn of the reactor and three system calls a write.
    """

    _log = Logger()
    transport: Any  # a TCP or TLS transport: also an IConsumer and an IPushProducer

    def __init__(self, factory: ClientPortFactory) -> None:
        self._turn = factory.turn
        self._seconds = factory.clock.seconds
        self._factory = factory
        self.grpc = grpc.Connection(
            factory.methods,
            self._has_output,
            factory.message_bytes_max,
            factory.max_concurrent_streams,
            factory.terms,
            self._call_failed,
        )
        self._blocked = False
        self._waiting: list[bytes | memoryview] = []
        self._waiting_bytes = 0
        self._reading = True
        self._closing = False
        self._write: Callable[[bytes], None]

    def connectionMade(self) -> None:
        self._write = self._write_now if isinstance(self.transport, TCPConnection) else self._write_through
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # each write is all that a turn has to say
        self.transport.registerProducer(self, True)
        self._factory.connections[self] = None
        self._turn.write(self)

    def dataReceived(self, data: bytes) -> None:
        calls = 0
        self._turn.receiving()
        try:
            calls = self.grpc.receive(data, self._seconds())
        except Exception:
            self._broken("A stream's handler failed; its connection is closed")
        else:
            if self.grpc.busier_than(CALLS_MAX):
                self._pause_reading()
        self._turn.received(self, calls)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.connections.pop(self, None)
        self._turn.forget(self)
        self._write = _discard
        self._closing = True
        self._waiting.clear()
        try:
            self.grpc.lost()
        except Exception:
            self._log.failure("A call could not be cancelled")

    def _call_failed(self) -> None:
        self._log.failure("A unary call's handler failed")

    def _broken(self, what: str) -> None:
        """A handler's own bug: the connection's state can no longer be trusted."""
        self._log.failure(what)
        self._write = _discard
        self._closing = True
        self.transport.abortConnection()

    def expire(self, now: float) -> None:
        """End the calls whose deadline has passed."""
        try:
            self.grpc.expire(now)
        except Exception:
            self._broken("A call that ran out of time made a handler fail; its connection is closed")

    def _has_output(self) -> None:
        self._turn.write(self)

    def flush(self) -> None:
        """Write what the turn made."""
        out = self.grpc.taken()
        if self._blocked:
            length = sum(map(len, out))
            self._waiting += out
            self._waiting_bytes += length
            self.grpc.held_bytes += length
            if self._waiting_bytes > QUEUED_BYTES_MAX:
                self._pause_reading()
                self.grpc.hold()
        elif out:
            self._write(b"".join(out))
            if self.grpc.http2.congested and not self._blocked:
                self._release()
            if not self._reading:
                self._resume_reading()
        if self.grpc.http2.closed or (self.grpc.http2.draining and not self.grpc.http2.streams):
            self._close()

    def _close(self) -> None:
        """Hang up once all that is held was sent."""
        if not self._closing:
            self._closing = True
            self.transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _write_now(self, data: bytes) -> None:
        sent, rest = 0, memoryview(data)
        while rest:  # the transport takes so much at a time, the socket perhaps more
            taken = self.transport.writeSomeData(rest)
            if not isinstance(taken, int) or not taken:
                break  # full; or lost, which the transport finds out and says as always
            sent += taken
            rest = rest[taken:]
        if rest:
            self.transport.write(data[sent:] if sent else data)
            # The transport shall tell when it has sent the last byte, however few there are.
            self._blocked = self.transport.producerPaused = True
            self.grpc.held_bytes = len(rest)

    def _write_through(self, data: bytes) -> None:
        self.transport.write(data)
        if self._blocked:
            self.grpc.held_bytes = len(data)  # or a little less

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self.grpc.held_bytes = 0
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            self._write(b"".join(waiting))
        self._release()
        if not self._reading:
            self._resume_reading()

    def _release(self) -> None:
        """Let streams go on: the transport took what they sent."""
        try:
            self.grpc.release()
        except Exception:
            self._broken("A stream that can send again made a handler fail; its connection is closed")

    def stopProducing(self) -> None:
        """The transport is closing; `connectionLost` follows."""

    def _pause_reading(self) -> None:
        if self._reading and not self._closing:
            self._reading = False
            self.transport.pauseProducing()

    def _resume_reading(self) -> None:
        if (
            self._waiting_bytes <= QUEUED_BYTES_MAX
            and not self._closing
            and not self.grpc.busier_than(CALLS_MAX)
        ):
            self._reading = True
            self.transport.resumeProducing()

    def drain(self) -> None:
        """Take no new calls, and hang up when those in progress are answered."""
        self.grpc.http2.drain()
        self.grpc.touch()


def _discard(data: bytes) -> None:
    """Write to a connection that is gone."""


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
            self.transport.setTcpKeepAlive(True)
        self._patience = self._factory.clock.callLater(SNIFF_SECONDS, self.transport.abortConnection)
        self._factory.undecided[self] = None

    def dataReceived(self, data: bytes) -> None:
        self._first += data
        if self._first.startswith(PREFACE):
            self._become(GRPCProtocol(self._factory))
        elif not PREFACE.startswith(self._first):
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


class ClientPortFactory(Factory):
    """
    What all connections of one listening port share.

    Args:
        clock: For deadlines.
        turn: Collects the work of a reactor turn.
        methods: The gRPC methods, by path.
        http: Builds the protocols of HTTP/1.1 connections, a `twisted.web.server.Site` for instance.
        message_bytes_max: Largest gRPC request message.
        max_concurrent_streams: Per connection; announced when given.
        terms: As for `twistedetcd.protocols.grpc.Connection`.
        connections_max: Of both protocols; further ones are closed at once.

    Attributes:
        open_connections: How many there are.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        turn: Turn,
        methods: Mapping[bytes, grpc.Method],
        http: IProtocolFactory,
        message_bytes_max: int = grpc.MESSAGE_BYTES_MAX,
        max_concurrent_streams: int | None = None,
        terms: Callable[[grpc.Request], Any] | None = None,
        connections_max: int | None = None,
    ) -> None:
        self.clock = clock
        self.turn = turn
        self.methods = methods
        self.http = http
        self.message_bytes_max = message_bytes_max
        self.max_concurrent_streams = max_concurrent_streams
        self.terms = terms
        self.connections_max = connections_max
        self.open_connections = 0
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
        if self._check is None:
            self._check = self.clock.callLater(DEADLINE_CHECK_SECONDS, self._expire)
        self.http.doStart()

    def doStop(self) -> None:
        super().doStop()
        if self._check is not None:
            self._check.cancel()
            self._check = None
        self.http.doStop()

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
