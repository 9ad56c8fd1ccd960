"""handshake: two sides of TLS, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface import implementer

from twistedetcd.protocols.handshakes import SecureFactory
from twistedetcd.protocols.refusals import Handshaking, refusal
from twistedetcd.protocols.tls import ClientTLS, ServerTLS


@implementer(IHandshakeListener)
class Side(Protocol):
    """Keeps what comes, and how it ended."""

    def __init__(self) -> None:
        self.received = b""
        self.completed = False
        self.lost: Failure | None = None
        self.refused = ""  # what the transport says in the end

    def handshakeCompleted(self) -> None:
        self.completed = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        self.refused = refusal(self.transport)

    @property
    def connection(self) -> Handshaking:
        """The TLS connection."""
        transport: Any = self.transport
        handle = transport.getHandle()
        assert isinstance(handle, Handshaking)
        return handle

    @property
    def reason(self) -> str:
        """Why it was lost."""
        assert self.lost is not None, "it is not lost"
        return refusal(self.lost)


class Room:
    """Where both sides are; a port that has TLS before it, and what it was told of handshakes."""

    def __init__(self, server: ServerTLS) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, str]] = []
        self._sides: list[Side] = []
        self._factory = Factory.forProtocol(self._side)
        self.port = SecureFactory(
            server,
            self._factory,
            lambda host, reason: self.told.append((host, reason)),
            self.clock,
        )

    def _side(self) -> Side:
        self._sides.append(Side())
        return self._sides[-1]

    @property
    def last(self) -> Side:
        """The side that came last."""
        return self._sides[-1]

    def meet(self, client: ClientTLS, host: str = "localhost") -> tuple[Side, Side]:
        """Have a client dial; returns both sides after all was said, the server's first."""
        return self.meet_creator(client.creator(host))

    def meet_creator(self, creator: IOpenSSLClientConnectionCreator) -> tuple[Side, Side]:
        """Have it dialed with such connections."""
        dialed = TLSMemoryBIOFactory(creator, True, self._factory, self.clock)
        self.plug(dialed.buildProtocol(None))
        client, server = self._sides[-2:]
        return server, client

    def plug(self, dialer: Any) -> IOPump:
        """Have anybody dial."""
        server: Any = self.port.buildProtocol(None)
        pump: IOPump = connect(
            server, FakeTransport(server, True), dialer, FakeTransport(dialer, False), clock=self.clock
        )
        pump.flush(advanceClock=True)
        return pump
