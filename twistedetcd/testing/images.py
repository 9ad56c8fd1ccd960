"""
A store on its way over the simulated network: piece by piece, each taken before the next one is sent.

Opened with the snapshot's message, then pieces, then the end; each is answered with the number of what is
wanted next.  Either end may refuse at any time; whoever hears nothing for too long gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.errors import EtcdError, MemberError
from twistedetcd.interfaces import IImage, IImageSink, IRaftReceiver
from twistedetcd.raft.types import Message
from twistedetcd.testing.packets import Lane, Packet
from twistedetcd.wire import decode_message, encode_message

if TYPE_CHECKING:
    from twistedetcd.testing.peers import SimulatedTransport

SILENCE_SECONDS = 5.0
"""Whoever hears nothing for so long while an image is on its way gives up."""

FINISH_SECONDS = 30.0
"""How long the other end may take to make a whole image durable."""


class OutgoingImages:
    """
    Images that a member sends: at most one to each peer.

    Args:
        transport: Whose.
        receiver: Who hears how it went.
    """

    def __init__(self, transport: SimulatedTransport, receiver: IRaftReceiver) -> None:
        self._transport = transport
        self._receiver = receiver
        self._sending: dict[int, _Outgoing] = {}
        self._number = 0

    def send(self, message: Message, image: IImage) -> None:
        """Begin to send one; another to the same peer must be over."""
        transport = self._transport
        if message.to in self._sending or message.to not in transport.peers:
            image.close()
            transport.clock.callLater(0, self._tell, message.to, False)
            return
        self._number += 1
        # Numbers of an earlier life must not come again: the other end would take them for a repetition.
        number = (int(transport.clock.seconds() * 1000) << 20) + self._number
        self._sending[message.to] = _Outgoing(transport, message, image, number, self._over)

    def _over(self, outgoing: _Outgoing, delivered: bool) -> None:
        del self._sending[outgoing.member]
        self._transport.clock.callLater(0, self._tell, outgoing.member, delivered)

    def _tell(self, member: int, delivered: bool) -> None:
        if self._transport.running:
            self._receiver.snapshot_sent(member, delivered)

    def arrived(self, packet: Packet) -> None:
        """The other end has something to say."""
        outgoing = self._sending.get(packet.sender)
        if outgoing is not None and outgoing.number == packet.number:
            outgoing.arrived(packet)

    def abort(self, member: int) -> None:
        """A peer is not to be talked to any more."""
        if member in self._sending:
            self._sending[member].end(False)

    def stop(self) -> None:
        """None goes on, and nobody is told."""
        sending, self._sending = self._sending, {}
        for outgoing in sending.values():
            outgoing.let_go()


class _Outgoing:
    """One image that is sent."""

    def __init__(
        self,
        transport: SimulatedTransport,
        message: Message,
        image: IImage,
        number: int,
        over: Callable[[_Outgoing, bool], None],
    ) -> None:
        self.member = message.to
        self.number = number
        self._transport = transport
        self._image = image
        self._chunks: Iterator[bytes] | None = None
        self._over = over
        self._part = 0
        self._silence = transport.clock.callLater(SILENCE_SECONDS, self.end, False)
        transport.post(self.member, Lane.STREAM, "image begins", encode_message(message), number)

    def arrived(self, packet: Packet) -> None:
        """The other end has taken all before this part, or does not want it."""
        if packet.kind == "image refused":
            self.end(False, tell=False)
        elif packet.kind == "image taken":
            self.end(True, tell=False)
        elif packet.kind == "image wanted" and packet.part == self._part + 1:
            self._part = packet.part
            self._next()

    def _next(self) -> None:
        try:
            if self._chunks is None:
                self._chunks = self._image.chunks()
            chunk = next(self._chunks, None)
        except (EtcdError, MemberError, OSError):
            self.end(False)
            return
        if chunk is None:
            self._silence.reset(FINISH_SECONDS)
            self._post("image ends")
        else:
            self._silence.reset(SILENCE_SECONDS)
            self._post("image part", chunk)

    def _post(self, kind: str, body: bytes = b"") -> None:
        self._transport.post(self.member, Lane.STREAM, kind, body, self.number, self._part)

    def end(self, delivered: bool, tell: bool = True) -> None:
        """It is over."""
        if tell:
            self._post("image given up")
        self.let_go()
        self._over(self, delivered)

    def let_go(self) -> None:
        """The image is not needed any more."""
        if self._silence.active():
            self._silence.cancel()
        self._chunks = None
        self._image.close()


class IncomingImages:
    """
    Images that a member is sent: at most one by each peer.

    Args:
        transport: Whose.
        receiver: Who takes them in.
    """

    def __init__(self, transport: SimulatedTransport, receiver: IRaftReceiver) -> None:
        self._transport = transport
        self._receiver = receiver
        self._taking: dict[int, _Incoming] = {}

    def arrived(self, packet: Packet) -> bool:
        """Take in a packet; false if it is not for this side."""
        if packet.kind == "image begins":
            self._begin(packet)
        elif packet.kind in ("image part", "image ends", "image given up"):
            incoming = self._taking.get(packet.sender)
            if incoming is not None and incoming.number == packet.number:
                incoming.arrived(packet)
        else:
            return False
        return True

    def _begin(self, packet: Packet) -> None:
        before = self._taking.get(packet.sender)
        if before is not None:
            before.abort()  # the peer began again: it cannot know of the first any more
        try:
            sink = self._receiver.receive_snapshot(decode_message(packet.body))
        except (EtcdError, MemberError, OSError):
            self._transport.post(packet.sender, Lane.STREAM, "image refused", b"", packet.number)
        else:
            incoming = _Incoming(self._transport, packet, sink, self._over)
            self._taking[packet.sender] = incoming

    def _over(self, incoming: _Incoming) -> None:
        if self._taking.get(incoming.sender) is incoming:
            del self._taking[incoming.sender]

    def abort(self, member: int) -> None:
        """A peer is not to be talked to any more."""
        if member in self._taking:
            self._taking[member].abort()

    def stop(self) -> None:
        """None goes on."""
        for incoming in list(self._taking.values()):
            incoming.abort()


class _Incoming:
    """One image that is taken in."""

    _log = Logger()

    def __init__(
        self,
        transport: SimulatedTransport,
        packet: Packet,
        sink: IImageSink,
        over: Callable[[_Incoming], None],
    ) -> None:
        self.sender = packet.sender
        self.number = packet.number
        self._transport = transport
        self._sink = sink
        self._over = over
        self._part = 0
        self._finishing = False
        self._silence: IDelayedCall = transport.clock.callLater(SILENCE_SECONDS, self.abort)
        self._want_next()

    def _want_next(self) -> None:
        self._part += 1
        self._post("image wanted")

    def _post(self, kind: str) -> None:
        self._transport.post(self.sender, Lane.STREAM, kind, b"", self.number, self._part)

    def arrived(self, packet: Packet) -> None:
        """What comes next, or the end."""
        if packet.kind == "image given up":
            self.abort()
        elif self._finishing or packet.part != self._part:
            return
        elif packet.kind == "image ends":
            self._finishing = True
            self._silence.cancel()
            maybeDeferred(self._sink.finish).addCallbacks(self._finished, self._refused)
        else:
            self._silence.reset(SILENCE_SECONDS)
            try:
                self._sink.write(packet.body)
            except (MemberError, OSError):
                self._refused(Failure())
            else:
                self._want_next()

    def _finished(self, _: None) -> None:
        self._over(self)
        self._post("image taken")

    def _refused(self, failure: Failure) -> None:
        if not failure.check(EtcdError, MemberError, OSError):
            self._log.failure("An image could not be taken in", failure)
        if self._silence.active():
            self._silence.cancel()
        self._over(self)
        self._post("image refused")

    def abort(self) -> None:
        """No more will come.  One that is whole by now goes on."""
        if not self._finishing:
            if self._silence.active():
                self._silence.cancel()
            self._over(self)
            self._sink.abort()
