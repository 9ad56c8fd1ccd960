"""TLS before any factory, for a port: who fails the handshake is told, and not again and again."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from twistedetcd.protocols.complaints import Complaints
from twistedetcd.protocols.refusals import Handshaking, refusal


class SecureFactory(TLSMemoryBIOFactory):
    """
    Puts TLS before the protocols of another factory.

    Args:
        creator: Makes `Handshaking` connections, as `ServerTLS` does.
        wrapped: The other factory.
        refused: Called with the client's host and the reason, a sentence without a stop, when a handshake
            did not end well.
        clock: The reactor's.
    """

    def __init__(
        self,
        creator: IOpenSSLServerConnectionCreator,
        wrapped: IProtocolFactory,
        refused: Callable[[str, str], None],
        clock: IReactorTime,
    ) -> None:
        super().__init__(creator, False, wrapped, clock)
        self.protocol = _SecureProtocol
        self._refused = refused
        self._complaints = Complaints(clock)

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> TLSMemoryBIOProtocol | None:
        protocol = super().buildProtocol(addr)
        # The other factory may refuse, and its wrapper does not ask.
        return None if protocol.wrappedProtocol is None else protocol

    def refused(self, host: str, reason: str) -> None:
        """A handshake did not end well."""
        if self._complaints.is_new(host, reason):
            self._refused(host, reason)


class _SecureProtocol(BufferingTLSTransport):
    factory: SecureFactory

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        connection = self.getHandle()
        super().connectionLost(reason)
        if isinstance(connection, Handshaking) and not connection.completed:
            peer = self.getPeer()
            self.factory.refused(getattr(peer, "host", str(peer)), connection.refused or refusal(reason))
