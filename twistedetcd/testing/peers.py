"""A member's end of the simulated network: an `IPeerTransport` that needs no socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.errors import Code, EtcdError, MemberRemovedError, TimeoutError
from twistedetcd.interfaces import IImage, IPeerTransport, IRaftReceiver
from twistedetcd.raft.types import URGENT, Message, MessageType
from twistedetcd.testing.images import IncomingImages, OutgoingImages
from twistedetcd.testing.packets import Lane, Packet
from twistedetcd.wire import decode_message, encode_message

if TYPE_CHECKING:
    from twistedetcd.testing.clock import Timers
    from twistedetcd.testing.network import SimulatedNetwork

ASKS_MAX = 1000
"""Questions that wait for an answer, beyond which more are not asked."""

STRANGERS_MAX = 100
"""Members that speak to us and were never added: so many may be answered."""

PROBE_SECONDS = 1.0
"""How often each peer is told that we are here."""

HEARD_SECONDS = 3.5
"""A peer that says nothing for so long is not heard any more."""

REPORT_SECONDS = 1.0
"""A peer is reported unreachable no more often."""


@implementer(IPeerTransport)
class SimulatedTransport:
    """
    One life of a member's end; made by `SimulatedNetwork.transport`.

    Args:
        network: What carries its packets.
        member: Whose it is.
        clock: The member's own.
    """

    _log = Logger()

    def __init__(self, network: SimulatedNetwork, member: int, clock: Timers) -> None:
        self.network = network
        self.member = member
        self.clock = clock
        self.peers: dict[int, tuple[str, ...]] = {}
        self._receiver: IRaftReceiver | None = None
        self._asked = 0
        self._asks: dict[int, tuple[Deferred[bytes], IDelayedCall]] = {}
        self._strangers: dict[int, None] = {}
        self._heard: dict[int, tuple[float, float]] = {}
        self._reported: dict[int, float] = {}
        self._probe: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._receiver is not None

    def start(self, receiver: IRaftReceiver) -> None:
        """See `IPeerTransport.start`."""
        self._receiver = receiver
        self._outgoing = OutgoingImages(self, receiver)
        self._incoming = IncomingImages(self, receiver)
        self.network.attach(self.member, self)
        self._probe_peers()

    def stop(self) -> Deferred[None]:
        """See `IPeerTransport.stop`."""
        if self._receiver is not None:
            self._receiver = None
            self.network.detach(self.member, self)
            if self._probe is not None:
                self._probe.cancel()
            asks, self._asks = self._asks, {}
            for answer, timeout in asks.values():
                timeout.cancel()
                answer.errback(TimeoutError())
            self._outgoing.stop()
            self._incoming.stop()
        return succeed(None)

    def add_peer(self, member: int, urls: Sequence[str]) -> None:
        """See `IPeerTransport.add_peer`."""
        self.peers[member] = tuple(urls)
        self._strangers.pop(member, None)

    def remove_peer(self, member: int) -> None:
        """See `IPeerTransport.remove_peer`; what it says is for the receiver to refuse."""
        self.peers.pop(member, None)
        self._strangers.pop(member, None)
        self._heard.pop(member, None)
        if self.running:
            self._outgoing.abort(member)
            self._incoming.abort(member)

    def send(self, messages: Sequence[Message]) -> None:
        """See `IPeerTransport.send`."""
        for message in messages:
            assert message.type is not MessageType.SNAP, "a snapshot goes with its image"
            if message.to in self.peers or message.to in self._strangers:
                lane = Lane.URGENT if message.type in URGENT else Lane.BULK
                self.post(message.to, lane, "message", encode_message(message))

    def send_snapshot(self, message: Message, image: IImage) -> None:
        """See `IPeerTransport.send_snapshot`."""
        if self._receiver is None:
            image.close()
        else:
            self._outgoing.send(message, image)

    def ask(self, member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        """See `IPeerTransport.ask`."""
        if self._receiver is None or len(self._asks) >= ASKS_MAX:
            return fail(TimeoutError())
        self._asked += 1
        answer: Deferred[bytes] = Deferred()
        self._asks[self._asked] = (answer, self.clock.callLater(timeout_seconds, self._late, self._asked))
        if member in self.peers:
            self.post(member, Lane.URGENT, f"ask {kind}", body, self._asked)
        return answer

    def active_since(self, member: int) -> float | None:
        """See `IPeerTransport.active_since`."""
        since, last = self._heard.get(member, (0.0, -HEARD_SECONDS))
        return since if self.clock.seconds() - last < HEARD_SECONDS else None

    # Packets.

    def post(
        self, member: int, lane: Lane, kind: str, body: bytes = b"", number: int = 0, part: int = 0
    ) -> None:
        """Send a packet; if there is no room, it is reported."""
        if self._receiver is None:
            return
        packet = Packet(self.member, member, lane, kind, body, number, part, self._receiver.cluster_id)
        if not self.network.send(packet):
            self.clock.callLater(0, self.lost, member)

    def lost(self, member: int) -> None:
        """Something that we sent did not arrive."""
        now = self.clock.seconds()
        if self._receiver is None or member not in self.peers:
            return
        if now - self._reported.get(member, -REPORT_SECONDS) >= REPORT_SECONDS:
            self._reported[member] = now
            self._receiver.unreachable(member)

    def arrived(self, packet: Packet) -> None:
        """A packet is there."""
        receiver, sender, kind = self._receiver, packet.sender, packet.kind
        if receiver is None or packet.cluster != receiver.cluster_id:
            return
        now = self.clock.seconds()
        since, last = self._heard.get(sender, (now, now))
        if sender not in self.peers:
            self._remember(sender)
        else:
            self._heard[sender] = (since if now - last < HEARD_SECONDS else now, now)
        if kind == "message":
            try:
                receiver.receive(decode_message(packet.body))
            except MemberRemovedError:
                self.post(sender, Lane.URGENT, "removed")
            receiver.received()
        elif kind == "removed":
            receiver.removed()
        elif kind.startswith("ask "):
            asked = maybeDeferred(receiver.answer, sender, kind[4:], packet.body)
            asked.addCallbacks(self._answer, self._refuse, (packet,), {}, (packet,), {})
        elif kind.startswith("answer"):
            self._answered(packet)
        elif kind == "probe":
            self._admit(sender)
        elif not self._incoming.arrived(packet):
            self._outgoing.arrived(packet)

    def _admit(self, sender: int) -> None:
        """Somebody shows that it is there: it may have been away while it was removed."""
        assert self._receiver is not None, "it runs"
        try:
            self._receiver.admit(sender)
        except MemberRemovedError:
            self.post(sender, Lane.URGENT, "removed")

    def _remember(self, stranger: int) -> None:
        """Somebody may be answered, though he was never added."""
        self._strangers[stranger] = None
        if len(self._strangers) > STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]

    def _probe_peers(self) -> None:
        self._probe = self.clock.callLater(PROBE_SECONDS, self._probe_peers)
        for member in self.peers:
            self.post(member, Lane.URGENT, "probe")

    # Questions.

    def _answer(self, body: bytes, packet: Packet) -> None:
        self.post(packet.sender, packet.lane, "answer", body, packet.number)

    def _refuse(self, failure: Failure, packet: Packet) -> None:
        error = failure.value
        if isinstance(error, EtcdError):
            code, text = error.code, error.message
        else:
            self._log.failure("A question of {peer:x} could not be answered", failure, peer=packet.sender)
            code, text = Code.INTERNAL, "internal error"
        self.post(packet.sender, packet.lane, f"answer {int(code)}", text.encode(), packet.number)

    def _answered(self, packet: Packet) -> None:
        answer, timeout = self._asks.pop(packet.number, (None, None))
        if answer is None or timeout is None:
            return  # too late, or a second time
        timeout.cancel()
        _, _, code = packet.kind.partition(" ")
        if code:
            error = EtcdError(packet.body.decode())
            error.code = Code(int(code))
            answer.errback(error)
        else:
            answer.callback(packet.body)

    def _late(self, number: int) -> None:
        answer, _ = self._asks.pop(number)
        answer.errback(TimeoutError())
