"""
listening: ports for clients and for other members, with TLS where a URL has it.

Yours to change: how a refusal is worded.
Never: what is spoken on a port.
Imports config and protocols.  Imported by tcppeers and service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from twistedetcd.config import Address
from twistedetcd.errors import MemberError
from twistedetcd.protocols.handshakes import SecureFactory
from twistedetcd.protocols.tls import ServerTLS, TLSFileError, TLSOptions


def secured(
    reactor: Any,
    factory: IProtocolFactory,
    options: TLSOptions | None,
    refused: Callable[[str, str], None],
) -> IProtocolFactory | None:
    """
    Put TLS before a factory.

    Args:
        reactor: For how long a refusal is remembered.
        factory: What is behind it.
        options: How TLS is spoken; ``None``, or one without a certificate, for not at all.
        refused: As for `SecureFactory`.

    Returns:
        The factory to listen with, or ``None``.

    Raises:
        MemberError: The files for it cannot be used.
    """
    if options is None or not options.cert_file:
        return None
    server = ServerTLS(options)
    try:
        server.load()
    except TLSFileError as error:
        raise MemberError(str(error)) from error
    return SecureFactory(server, factory, refused, reactor)


def listen(
    reactor: Any,
    addresses: Sequence[Address],
    factory: IProtocolFactory,
    secure: IProtocolFactory | None,
    backlog: int,
) -> list[IListeningPort]:
    """
    Listen on all of some addresses.

    Args:
        reactor: Whose sockets.
        addresses: Where; localhost is 127.0.0.1.
        factory: For those without TLS.
        secure: For those with it, as `secured` gives it.
        backlog: How many connections may wait to be accepted.

    Raises:
        MemberError: One of them cannot be had; then none is kept.
    """
    ports: list[IListeningPort] = []
    for host, port, tls in addresses:
        interface = "127.0.0.1" if host == "localhost" else host
        try:
            ports.append(reactor.listenTCP(port, secure if tls else factory, backlog, interface))
        except CannotListenError as error:
            for other in ports:
                other.stopListening()
            raise MemberError(f"cannot listen on {host}:{port}: {error.socketError}") from error
    return ports
