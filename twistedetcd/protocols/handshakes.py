"""
TLS before any factory, for a port: who fails the handshake is told, and not again and again.

A client that is refused tries again at once, and for days: each reason is told once for each host, and again
only when some time has passed.
"""

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

from twistedetcd.protocols.refusals import Handshaking, refusal

QUIET_SECONDS = 600.0  # how long the same is not told again
TOLD_MAX = 1000  # what is told in that time: clients that think of ever new reasons fill no log


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
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # when; the oldest first

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> TLSMemoryBIOProtocol | None:
        protocol = super().buildProtocol(addr)
        # The other factory may refuse, and its wrapper does not ask.
        return None if protocol.wrappedProtocol is None else protocol

    def refused(self, host: str, reason: str) -> None:
        """A handshake did not end well."""
        now = self._clock.seconds()
        oldest = next(iter(self._told), None)
        while oldest is not None and now - self._told[oldest] >= QUIET_SECONDS:
            del self._told[oldest]
            oldest = next(iter(self._told), None)
        if (host, reason) in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told[host, reason] = now
        self._refused(host, reason)


class _SecureProtocol(BufferingTLSTransport):
    factory: SecureFactory

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        connection = self.getHandle()
        super().connectionLost(reason)
        if isinstance(connection, Handshaking) and not connection.completed:
            peer = self.getPeer()
            self.factory.refused(getattr(peer, "host", str(peer)), connection.refused or refusal(reason))
