"""
peertransports: the way to the other members, found by name; and the one that leads to nobody.

Yours to change: how a refusal is worded.
Never: a socket; a transport that has some is a plugin of its own.
Imports config, plugins and what is below.  Imported by assembly and service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from twistedetcd.config import Config
from twistedetcd.errors import ConfigError, TimeoutError
from twistedetcd.interfaces import IImage, IPeerTransport, IPeerTransportFactory, IRaftReceiver, PluginOption
from twistedetcd.plugins import chosen
from twistedetcd.raft.types import Message

NOBODY = "none"


@implementer(IPeerTransport)
class NoPeers:
    """For a member that stays alone: nobody can be reached."""

    def start(self, receiver: IRaftReceiver) -> None:
        """There is nothing to start."""

    def stop(self) -> Deferred[None]:
        """Nothing is left."""
        return succeed(None)

    def add_peer(self, member: int, urls: Sequence[str]) -> None:
        """It will not be reached."""

    def remove_peer(self, member: int) -> None:
        """It was not reached."""

    def send(self, messages: Sequence[Message]) -> None:
        """They are lost."""

    def send_snapshot(self, message: Message, image: IImage) -> None:
        """It is lost; nobody who is alone sends one."""
        image.close()

    def ask(self, member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        """Nobody answers."""
        return fail(TimeoutError())

    def active_since(self, member: int) -> float | None:
        """Nobody is heard."""
        return None


@implementer(IPlugin, IPeerTransportFactory)
class NoPeersFactory:
    """``--peer-transport none``."""

    name = NOBODY
    help = "None: the member stays alone."
    options: ClassVar[dict[str, PluginOption]] = {}

    def open(self, config: Any, reactor: Any, **options: Any) -> NoPeers:
        """See `IPeerTransportFactory.open`."""
        return NoPeers()


def open_transport(config: Config, reactor: Any) -> IPeerTransport:
    """
    Make the transport that a member is to have.

    Raises:
        ConfigError: There is no such transport, or not such an option; or the member is one of several, and
            the transport leads to nobody.
    """
    factory, options = chosen(
        IPeerTransportFactory, "--peer-transport", "peer transport", config.peer_transport
    )
    if factory.name == NOBODY and (
        len(config.initial_cluster) > 1 or config.initial_cluster_state == "existing"
    ):
        raise ConfigError(
            f"this member is to be one of several, but --peer-transport={NOBODY} leads to none of the others"
        )
    return IPeerTransport(factory.open(config, reactor, **options))
