"""What listens on peer URLs: other members, and, in HTTP/1.1, whoever wants to know who they are."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.protocols.complaints import Complaints
from twistedetcd.protocols.peer import GREETING_SECONDS, PeerConnection

CONNECTIONS_MAX = 256
"""At the same time; for a further one, the oldest is closed that is no member's."""
_HANDSHAKE = 0x16  # of TLS
_log = Logger()


class Host(Protocol):
    """Whose port it is."""

    def accepted(self) -> PeerConnection:
        """A member has dialed: the protocol for it."""


class PeerPortProtocol(TwistedProtocol):
    """A fresh connection, until its first byte tells whether it is a member's."""

    transport: Any

    def __init__(self, factory: PeerPortFactory) -> None:
        self._factory = factory
        self._inner: IProtocol | None = None
        self._patience: IDelayedCall | None = None

    @property
    def is_member(self) -> bool:
        """Whether a member is at the other end, as far as anybody knows."""
        return isinstance(self._inner, PeerConnection) and self._inner.open

    def connectionMade(self) -> None:
        self._factory.connections[self] = None
        self._patience = self._factory.clock.callLater(GREETING_SECONDS, self._give_up)

    def dataReceived(self, data: bytes) -> None:
        factory = self._factory
        if data[0] == 0:
            inner: IProtocol | None = factory.host.accepted()
        elif data[0] != _HANDSHAKE and factory.http is not None:
            inner = factory.http.buildProtocol(self.transport.getPeer())
        else:
            self.refused("it speaks TLS, which is not spoken here" if data[0] == _HANDSHAKE else "nonsense")
            self.transport.abortConnection()
            return
        assert inner is not None, "a protocol is built for every address"
        self._forget()
        self._inner = inner
        self.dataReceived = inner.dataReceived  # type: ignore[method-assign]
        inner.makeConnection(self.transport)
        inner.dataReceived(data)

    def _give_up(self) -> None:
        self.refused(f"it said nothing for {GREETING_SECONDS:g} s")
        self.transport.abortConnection()

    def _forget(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.lost(self)
        self._forget()
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def refused(self, why: str) -> None:
        """Log it, unless it was."""
        self._factory.refused(self.transport.getPeer(), why)


class PeerPortFactory(Factory):
    """
    What the connections of a port share.

    Args:
        clock: For patience.
        host: Takes the members' connections.
        http: Builds the protocols of HTTP/1.1; without it there is none.
        complaints: What was logged.

    Attributes:
        connections: Those that are open.
    """

    noisy = False

    def __init__(
        self, clock: IReactorTime, host: Host, http: IProtocolFactory | None, complaints: Complaints
    ) -> None:
        self.clock = clock
        self.host = host
        self.http = http
        self.connections: dict[PeerPortProtocol, None] = {}
        self._complaints = complaints
        self._ended: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> PeerPortProtocol | None:
        if len(self.connections) >= CONNECTIONS_MAX:
            self.refused(addr, f"{CONNECTIONS_MAX} connections are open already")
            oldest = next((one for one in self.connections if not one.is_member), None)
            if oldest is None:
                return None
            # A flood keeps no member away: that takes less time to say who it is than to fill all places.
            self.lost(oldest)
            oldest.transport.abortConnection()
        return PeerPortProtocol(self)

    def lost(self, connection: PeerPortProtocol) -> None:
        """One is over."""
        self.connections.pop(connection, None)
        if self._ended is not None and not self.connections:
            ended, self._ended = self._ended, None
            ended.callback(None)

    def end(self) -> Deferred[None]:
        """Hang up on all; fires once none is left."""
        if not self.connections:
            return succeed(None)
        self._ended = ended = Deferred[None]()
        for connection in list(self.connections):
            connection.transport.abortConnection()
        return ended

    def refused(self, address: IAddress | None, why: str) -> None:
        """Log that somebody was refused, once."""
        who = str(getattr(address, "host", address))  # the port is another one each time
        if self._complaints.is_new(who, why):
            _log.warn("rejected connection on peer endpoint from {who}: {reason}", who=who, reason=why)
