"""
tcppeers: ``--peer-transport tcp``, `twistedetcd.protocols.peers` on a reactor's sockets.

Yours to change: how long an attempt to connect may take.
Never: what is said on a connection.
Imports config, protocols and what is below.  Imported by service and the plugins.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from twistedetcd.config import ETCD_VERSION, Config
from twistedetcd.errors import MemberError
from twistedetcd.interfaces import IPeerTransportFactory, PluginOption
from twistedetcd.listening import listen, secured
from twistedetcd.protocols.giving import GivingWay, keep_on
from twistedetcd.protocols.peers import PeerTransport
from twistedetcd.protocols.tls import ClientTLS, TLSFileError, TLSOptions
from twistedetcd.security import peer_options

DIAL_SECONDS = 2.0
"""An attempt to connect takes no longer."""
FRAME_BYTES_MAX = 16 << 20
"""The longest frame of a peer, unless ``--max-request-bytes`` allows for longer requests."""
LISTEN_BACKLOG = 128


class TCPNetwork:
    """
    What a member dials and listens with; see `twistedetcd.protocols.peers.Network`.

    Args:
        config: The member's.
        reactor: Whose sockets.
    """

    _log = Logger()

    def __init__(self, config: Config, reactor: Any) -> None:
        self._config = config
        self._reactor = reactor
        self._tls = peer_options(config)
        self._dialing = ClientTLS(self._tls or TLSOptions(cert_file="", key_file=""))

    @property
    def uses_tls(self) -> bool:
        """Whether by TLS; then what is written leaves in the reactor's next turn."""
        return self._tls is not None

    def listen(self, factory: IProtocolFactory) -> Sequence[IListeningPort]:
        """
        Listen on all peer URLs.

        Raises:
            MemberError: One of them cannot be had, or the files of TLS cannot be used; then none is kept.
        """
        if self._tls is not None:
            try:
                self._dialing.load()
            except TLSFileError as error:
                raise MemberError(str(error)) from error
        secure = secured(self._reactor, factory, self._tls, self._refused)
        return listen(self._reactor, self._config.peer_addresses, factory, secure, LISTEN_BACKLOG)

    def _refused(self, host: str, reason: str) -> None:
        self._log.warn("rejected connection on peer endpoint from {who}: {reason}", who=host, reason=reason)

    def endpoint(self, url: str) -> IStreamClientEndpoint:
        """Where a peer URL leads."""
        split = urlsplit(url)
        host = split.hostname or ""
        endpoint = self._plain(host, split.port or 0)
        if split.scheme == "https":
            return IStreamClientEndpoint(wrapClientTLS(self._dialing.creator(host), endpoint))
        return endpoint

    def _plain(self, host: str, port: int) -> IStreamClientEndpoint:
        """
        The way to a host.

        To an address it is the direct one: looking for others that a name may have takes 0.3 s more until a
        refused connection is known to be one.
        """
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port, DIAL_SECONDS)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port, DIAL_SECONDS)
        return HostnameEndpoint(self._reactor, host, port, timeout=DIAL_SECONDS)


@implementer(IPlugin, IPeerTransportFactory)
class TCPPeersFactory:
    """``--peer-transport tcp``."""

    name = "tcp"
    help = "TCP, secured by TLS where a URL is https."
    options: ClassVar[dict[str, PluginOption]] = {}

    def open(self, config: Any, reactor: Any, **options: Any) -> PeerTransport:
        """See `IPeerTransportFactory.open`."""
        network = TCPNetwork(config, reactor)
        return PeerTransport(
            reactor,
            network,
            random.random,
            ETCD_VERSION,
            max(FRAME_BYTES_MAX, 4 * config.max_request_bytes),
            keep_on if network.uses_tls else GivingWay(),
        )
