"""Connections in memory, on a clock: ends that take nothing, ways that are cut, buffers that are full."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort, IProtocol, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.testing.clock import SimulatedClock

LATENCY_SECONDS = 0.001
DIAL_SECONDS = 2.0
BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True)
class Address:
    """Where somebody is."""

    host: str
    port: int = 2380


class MemoryNetwork:
    """
    All connections.

    Args:
        clock: Everybody's.

    Attributes:
        resets: Whether a connection over a way that is cut breaks at once; else nothing arrives any more.
        ends: Both ends of each connection.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.resets = False
        self.ends: list[End] = []
        self._listeners: dict[int, Any] = {}
        self._cut: set[frozenset[int]] = set()
        self._stalled: set[int] = set()

    def at(self, member: int) -> Place:
        """A member's own."""
        return Place(self, member)

    def listen(self, member: int, factory: Any) -> IListeningPort:
        self._listeners[member] = factory
        factory.doStart()
        return MemoryPort(self, member)

    def stop_listening(self, member: int) -> None:
        self._listeners.pop(member).doStop()

    def cut(self, one: int, other: int) -> None:
        self._cut.add(frozenset((one, other)))
        for end in list(self.ends):
            if self.resets and self.is_cut(end):
                end.lost(ConnectionAborted())

    def mend(self, one: int, other: int) -> None:
        self._cut.discard(frozenset((one, other)))

    def is_cut(self, end: End) -> bool:
        return frozenset((end.member, end.other_member)) in self._cut

    def stall(self, member: int) -> None:
        self._stalled.add(member)

    def go_on(self, member: int) -> None:
        self._stalled.discard(member)
        for end in self.ends:
            end.move()

    def is_stalled(self, member: int) -> bool:
        return member in self._stalled

    def connect(self, member: int, to: int, factory: Any) -> Deferred[IProtocol]:
        if frozenset((member, to)) in self._cut:
            late: Deferred[IProtocol] = Deferred()
            self.clock.callLater(DIAL_SECONDS, _fail, late)
            return late
        listener = self._listeners.get(to)
        if listener is None:
            return fail(ConnectionRefusedError())
        accepted = listener.buildProtocol(Address(f"{member:x}"))
        ours = factory.buildProtocol(Address(f"{to:x}"))
        one, other = End(self, member, to), End(self, to, member)
        one.other, other.other = other, one
        self.ends += [one, other]
        one.protocol, other.protocol = ours, accepted
        if accepted is None:
            self.clock.callLater(0, one.lost, ConnectionDone())
            other.over = True
        else:
            accepted.makeConnection(other)
        ours.makeConnection(one)
        return succeed(ours)


def _fail(late: Deferred[IProtocol]) -> None:
    if not late.called:
        late.errback(ConnectError(string="timed out"))


@dataclass
class Place:
    """A member's end of the network: a `twistedetcd.protocols.peers.Network`."""

    network: MemoryNetwork
    member: int

    def listen(self, factory: Any) -> list[IListeningPort]:
        return [self.network.listen(self.member, factory)]

    def endpoint(self, url: str) -> MemoryEndpoint:
        return MemoryEndpoint(self.network, self.member, int(url.rpartition("/")[2], 16))


@implementer(IListeningPort)
@dataclass
class MemoryPort:
    network: MemoryNetwork
    member: int

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> Deferred[None]:
        self.network.stop_listening(self.member)
        return succeed(None)

    def getHost(self) -> Address:
        return Address(f"{self.member:x}")


@implementer(IStreamClientEndpoint)
@dataclass
class MemoryEndpoint:
    network: MemoryNetwork
    member: int
    to: int

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        return self.network.connect(self.member, self.to, factory)


@dataclass(eq=False)
class End:
    """One end of a connection: the transport of a protocol."""

    network: MemoryNetwork
    member: int
    other_member: int
    other: End = field(init=False)
    protocol: Any = None
    over: bool = False
    closing: bool = False
    producer: Any = None
    paused: bool = False
    sent: bytearray = field(default_factory=bytearray)
    moving: bool = False
    reading: bool = True

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self.other.move()

    def write(self, data: bytes) -> None:
        if self.over or self.closing:
            return
        self.sent += data
        if self.producer is not None and len(self.sent) > BUFFER_BYTES and not self.paused:
            self.paused = True
            self.producer.pauseProducing()
        self.move()

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def move(self) -> None:
        """What was sent is on its way."""
        if not (self.moving or self.over) and (self.sent or self.closing):
            self.moving = True
            self.network.clock.callLater(LATENCY_SECONDS, self._arrive)

    def _arrive(self) -> None:
        self.moving = False
        stalled = self.network.is_stalled(self.other_member) or not self.other.reading
        if self.over or stalled or self.network.is_cut(self):
            return
        data = bytes(self.sent[:BUFFER_BYTES])
        del self.sent[: len(data)]
        if data and not self.other.over:
            self.other.protocol.dataReceived(data)
        if self.over:
            return
        if not self.sent and self.paused and self.producer is not None:
            self.paused = False
            self.producer.resumeProducing()
        if self.closing and not self.sent:
            self.lost(ConnectionDone())
            return
        self.move()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming, "no other one is known here"
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.closing = True
        self.move()

    def abortConnection(self) -> None:
        self.network.clock.callLater(0, self.lost, ConnectionAborted())

    def lost(self, reason: Exception) -> None:
        for end in (self, self.other):
            cut_off = end is self.other and self.network.is_cut(self) and not self.network.resets
            if not end.over and not cut_off:
                end.over = True
                self.network.ends.remove(end)
                end.protocol.connectionLost(Failure(reason))

    def getPeer(self) -> Address:
        return Address(f"{self.other_member:x}")

    def getHost(self) -> Address:
        return Address(f"{self.member:x}")
