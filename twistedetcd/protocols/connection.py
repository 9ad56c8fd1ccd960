"""The Protocol around the state machines: it moves bytes, and knows nothing of their meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.protocols import grpc
from twistedetcd.protocols.keepalive import Lifetime, PingStrikes, Verdict
from twistedetcd.protocols.writing import write_now

if TYPE_CHECKING:
    from twistedetcd.protocols.port import ClientPortFactory

QUEUED_BYTES_MAX = 1 << 20  # output that the client does not read: above it we do not read either
CALLS_MAX = 1000  # unary calls in progress on one connection: the same
DRAIN_PING_SECONDS_MAX = 1.0  # for a client to answer before its connection takes no more calls


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
            PingStrikes(factory.keepalive.ping_min_seconds),
        )
        self._lifetime = Lifetime(factory.keepalive, self._seconds(), factory.connections_made)
        self._drain_begun: float | None = None
        self._blocked = False
        self._waiting: list[bytes | memoryview] = []
        self._waiting_bytes = 0
        self._reading = True
        self._closing = False
        self._write: Callable[[bytes], bool]  # whether all of it has left

    def connectionMade(self) -> None:
        self._write = self._write_now if isinstance(self.transport, TCPConnection) else self._write_through
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # each write is all that a turn has to say
        self.transport.registerProducer(self, True)
        self._factory.connection_made(self)
        self._turn.write(self)

    def dataReceived(self, data: bytes) -> None:
        calls = 0
        self._turn.receiving()
        now = self._lifetime.heard_at = self._seconds()
        try:
            calls = self.grpc.receive(data, now)
        except Exception:
            self._broken("A stream's handler failed; its connection is closed")
        else:
            if self.grpc.in_progress > CALLS_MAX:
                self._pause_reading()
        self._turn.received(self, calls)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.connection_lost(self)
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
        """End the calls whose deadline has passed, and the connection if its time has come."""
        try:
            self.grpc.expire(now, self._reading)
        except Exception:
            self._broken("A call that ran out of time made a handler fail; its connection is closed")
            return
        if self._drain_begun is not None and now - self._drain_begun > DRAIN_PING_SECONDS_MAX:
            self.grpc.finish_draining()
        if not self._reading and not self._blocked:
            self._lifetime.heard_at = now  # it is our own doing that we hear nothing
        verdict = self._lifetime.check(now, bool(self.grpc.http2.streams))
        if verdict is Verdict.PING:
            self.grpc.ping()
        elif verdict is Verdict.DRAIN:
            self.drain()
        elif verdict is Verdict.ABORT:
            self.transport.abortConnection()

    def _has_output(self) -> None:
        self._turn.write(self)

    def flush(self) -> bool:
        """Write what the turn made; see `twistedetcd.protocols.turn.Flushable.flush`."""
        left = False
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
            left = self._write(b"".join(out))
            if not self._reading:
                self._resume_reading()
            if self.grpc.http2.ready and not self._blocked:
                self._go_on()
        if self.grpc.http2.closed or (self.grpc.http2.draining and not self.grpc.http2.streams):
            self._close()
        return left

    def _close(self) -> None:
        """Hang up once all that is held was sent."""
        if not self._closing:
            self._closing = True
            self.transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _write_now(self, data: bytes) -> bool:
        held = write_now(self.transport, data)
        if held:
            self._blocked = True
            self.grpc.held_bytes = held
        return not held

    def _write_through(self, data: bytes) -> bool:
        self.transport.write(data)
        if self._blocked:
            self.grpc.held_bytes = len(data)  # or a little less
        return False  # it leaves in the reactor's next turn

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self._lifetime.heard_at = self._seconds()  # somebody took what we sent
        self.grpc.held_bytes = 0
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            self._write(b"".join(waiting))
        if self._go_on() and not self._reading:
            self._resume_reading()

    def _go_on(self) -> bool:
        """Let what waits for the transport go on, in the next turn; false if that broke the connection."""
        try:
            self.grpc.release()
        except Exception:
            self._broken("A stream that can send again made a handler fail; its connection is closed")
            return False
        return True

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
            and self.grpc.in_progress <= CALLS_MAX
        ):
            self._reading = True
            self.transport.resumeProducing()

    def drain(self) -> None:
        """Tell the client to make no new calls; hang up when those in progress are answered."""
        if self._drain_begun is None:
            self._drain_begun = self._seconds()
            self.grpc.drain()


def _discard(data: bytes) -> bool:
    """Write to a connection that is gone."""
    return False
