"""
peertransports: the way to the other members, found by name; and the one that leads to nobody.

Yours to change: how a refusal is worded.
Never: a socket; a transport that has some is a plugin of its own.
Imports interfaces and errors.  Imported by assembly and service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from twistedetcd.errors import TimeoutError
from twistedetcd.interfaces import IImage, IPeerTransport, IPeerTransportFactory, IRaftReceiver, PluginOption
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

    def open(self, host: Any, **options: Any) -> NoPeers:
        """See `IPeerTransportFactory.open`."""
        return NoPeers()
