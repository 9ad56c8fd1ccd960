"""
The way to the other members over TCP, secured or not.

To each peer there are two connections that we dial and hold: heartbeats, votes and questions have one, all
else has the other, so that no append holds a heartbeat up.  A store has a third one to itself.
What a peer says comes on the connections that it dials.  To a member that nobody told us of, which happens to
who joins, an answer goes back on those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.errors import MemberRemovedError, TimeoutError
from twistedetcd.interfaces import (
    IHTTPCarrier,
    IImage,
    IPeerObservatory,
    IPeerTransport,
    IRaftReceiver,
    PeerStatistics,
)
from twistedetcd.protocols.complaints import Complaints
from twistedetcd.protocols.dialing import Line
from twistedetcd.protocols.frames import FrameError, Hello, Kind, Lane, frame
from twistedetcd.protocols.giving import GiveWay, keep_on
from twistedetcd.protocols.imaging import IncomingImage, OutgoingImage
from twistedetcd.protocols.known import Peer
from twistedetcd.protocols.peer import Owner, PeerConnection, Refused
from twistedetcd.protocols.peerport import PeerPortFactory
from twistedetcd.protocols.questions import Questions
from twistedetcd.raft.types import URGENT, Message, MessageType
from twistedetcd.wire import decode_message, encode_entry_fields, encode_message

REMOVED = "removed"
"""The word of a refusal that says: you are no member any more."""
_USUAL = frozenset({"again", "stopped", "silence"})
"""Words for what is nobody's fault."""
_STOPPED = Refused("stopped", "this member stops")


class Network(Protocol):
    """What a transport dials and listens with."""

    def listen(self, factory: IProtocolFactory) -> Sequence[IListeningPort]:
        """
        Listen on all peer URLs of this member.

        Raises:
            MemberError: That is not possible.
        """

    def endpoint(self, url: str) -> IStreamClientEndpoint:
        """Where a peer URL leads; an attempt to connect must end by itself."""


@implementer(IPeerTransport, IHTTPCarrier, IPeerObservatory)
class PeerTransport(Owner):
    """
    One member's.

    Args:
        clock: For everything that takes time.
        network: What it dials and listens with.
        jitter: A `random.random`.
        server: The version of this server, for others' logs.
        frame_bytes_max: The longest frame that is taken.
        give_way: Lets a leader go on, with what this member has acknowledged; only for a network that sends
            what is written at once.

    Attributes:
        http: Builds the protocols for whoever speaks HTTP/1.1 to a peer URL; set before `start`, if at all.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        network: Network,
        jitter: Callable[[], float],
        server: str,
        frame_bytes_max: int,
        give_way: GiveWay = keep_on,
    ) -> None:
        self.http: IProtocolFactory | None = None
        self._clock = clock
        self._network = network
        self._jitter = jitter
        self._server = server
        self._frame_bytes_max = frame_bytes_max
        self._give_way = give_way
        self._complaints = Complaints(clock)
        self._receiver: IRaftReceiver | None = None
        self._peers: dict[int, Peer] = {}
        self._known: dict[int, tuple[str, ...]] = {}  # before it is started
        self._removed: set[int] = set()
        self._accepted: dict[tuple[int, Lane], PeerConnection] = {}
        self._outgoing: dict[int, OutgoingImage] = {}
        self._incoming: dict[int, IncomingImage] = {}
        self._ports: Sequence[IListeningPort] = ()
        self._port: PeerPortFactory | None = None
        self._later: set[IDelayedCall] = set()

    # Life.

    def start(self, receiver: IRaftReceiver) -> None:
        """
        See `IPeerTransport.start`.

        Raises:
            MemberError: It cannot listen.
        """
        self._receiver = receiver
        self._questions = Questions(self._clock, receiver)
        self._port = PeerPortFactory(self._clock, self, self.http, self._complaints)
        self._ports = self._network.listen(self._port)
        known, self._known = self._known, {}
        for member, urls in known.items():
            self.add_peer(member, urls)

    def stop(self) -> Deferred[Any]:
        """See `IPeerTransport.stop`."""
        if self._receiver is None:
            return succeed(None)
        self._receiver = None
        for call in self._later:
            call.cancel()
        self._later.clear()
        peers, self._peers = self._peers, {}
        outgoing = list(self._outgoing.values())
        for image in outgoing:
            image.end(False, _STOPPED.text)
        self._questions.stop()
        assert self._port is not None, "it was started"
        ports, self._ports = self._ports, ()
        left: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in ports]
        left += [self._port.end(), *(image.when_lost() for image in outgoing)]
        left += [line.stop() for peer in peers.values() for line in peer.all_lines]
        return DeferredList(left)

    # Peers.

    def add_peer(self, member: int, urls: Sequence[str]) -> None:
        """See `IPeerTransport.add_peer`."""
        if self._receiver is None:
            self._known[member] = tuple(urls)
            return
        self._removed.discard(member)
        peer = self._peers.get(member)
        if peer is not None and peer.urls == tuple(urls):
            return
        owner = _Dialed(self, member)
        lines = [
            Line(
                self._clock,
                self._jitter,
                self._network.endpoint,
                tuple(urls),
                self._hello(member, lane),
                self._frame_bytes_max,
                owner,
            )
            for lane in (Lane.URGENT, Lane.BULK)
        ]
        if peer is None:
            self._peers[member] = Peer(member, tuple(urls), lines)
        else:
            peer.move(tuple(urls), lines)
        for line in lines:
            line.dial()

    def remove_peer(self, member: int) -> None:
        """See `IPeerTransport.remove_peer`; who dials us is for the receiver to refuse."""
        self._known.pop(member, None)
        self._removed.add(member)
        peer = self._peers.pop(member, None)
        if peer is not None:
            peer.stop()
        why = Refused("stopped", "it is no peer any more")
        if member in self._outgoing:
            self._outgoing[member].end(False, why.text)
        if member in self._incoming:
            self._incoming[member].hang_up(why)

    def active_since(self, member: int) -> float | None:
        """See `IPeerTransport.active_since`."""
        peer = self._peers.get(member)
        return None if peer is None else peer.active_since(self._clock.seconds())

    def statistics(self) -> Mapping[int, PeerStatistics]:
        """See `IPeerObservatory.statistics`."""
        return {member: peer.statistics() for member, peer in self._peers.items()}

    # What is sent.

    def send(self, messages: Sequence[Message]) -> None:
        """See `IPeerTransport.send`."""
        if self._receiver is None:
            return
        batches: dict[tuple[int, Lane], list[bytes]] = {}
        encoded: dict[tuple[int, int, int], list[bytes]] = {}
        acknowledges = False
        for message in messages:
            assert message.type is not MessageType.SNAP, "a snapshot goes with its image"
            lane = Lane.URGENT if message.type in URGENT else Lane.BULK
            fields = None
            if message.type is MessageType.APP and message.entries:
                # Logs that agree on an entry agree on all before it: these are encoded once for everybody.
                last = message.entries[-1]
                run = message.index, last.index, last.term
                fields = encoded.get(run)
                if fields is None:
                    fields = encoded[run] = encode_entry_fields(message.entries)
            acknowledges |= message.type is MessageType.APP_RESP
            data = frame(Kind.MESSAGE, encode_message(message, fields))
            batches.setdefault((message.to, lane), []).append(data)
        for (member, lane), frames in batches.items():
            self._send(member, lane, frames)
        if acknowledges:
            self._give_way()

    def _send(self, member: int, lane: Lane, frames: Sequence[bytes]) -> None:
        peer = self._peers.get(member)
        if peer is None:
            accepted = self._accepted.get((member, lane))
            if accepted is not None and member not in self._removed:
                accepted.send(frames)
        elif not peer.send(lane, frames):
            self._lost(peer)

    def _lost(self, peer: Peer) -> None:
        """Report that something for it was lost, now and then."""
        if peer.to_be_reported(self._clock.seconds()):
            self._call_later(self._report, peer.member)

    def _report(self, member: int) -> None:
        if self._receiver is not None:
            self._receiver.unreachable(member)

    def _call_later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Receivers are not called from within a call of theirs."""

        def call() -> None:
            self._later.discard(later)
            function(*arguments)

        later = self._clock.callLater(0, call)
        self._later.add(later)

    def ask(self, member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        """See `IPeerTransport.ask`."""
        if self._receiver is None:
            return fail(TimeoutError())
        return self._questions.ask(
            member, kind, body, timeout_seconds, lambda data: self._send(member, Lane.URGENT, [data])
        )

    def send_snapshot(self, message: Message, image: IImage) -> None:
        """See `IPeerTransport.send_snapshot`."""
        if self._receiver is None:
            image.close()
            return
        member = message.to
        peer = self._peers.get(member)
        if peer is None or member in self._outgoing:
            image.close()
            self._call_later(self._receiver.snapshot_sent, member, False)
            return
        self._outgoing[member] = outgoing = OutgoingImage(
            self._clock,
            self._network.endpoint(peer.lines[Lane.BULK].url),
            self._hello(member, Lane.IMAGE),
            self._frame_bytes_max,
            message,
            image,
            self.check_greeting,
            self._sent,
        )
        outgoing.start()

    def _sent(self, outgoing: OutgoingImage, delivered: bool, why: str) -> None:
        self._outgoing.pop(outgoing.member, None)
        if self._receiver is not None:
            if not delivered and self._complaints.is_new(f"{outgoing.member:x}", f"image: {why}"):
                self._log.warn(
                    "A snapshot did not reach member {peer:x}: {reason}", peer=outgoing.member, reason=why
                )
            self._call_later(self._receiver.snapshot_sent, outgoing.member, delivered)

    # Who there is at the other end.

    def _hello(self, to: int, lane: Lane) -> Hello:
        assert self._receiver is not None, "not started"
        return Hello(self._receiver.cluster_id, self._receiver.member_id, to, lane, self._server)

    def check_greeting(self, connection: PeerConnection, theirs: Hello) -> None:
        """
        Whether it may be whom it says, or the peer that we have dialed.

        Raises:
            Refused: It may not.
        """
        if self._receiver is None:
            raise _STOPPED
        ours = self._receiver.cluster_id, self._receiver.member_id
        if theirs.cluster != ours[0]:
            raise Refused("cluster", f"cluster ID mismatch: {theirs.cluster:x} meets {ours[0]:x}")
        if theirs.to != ours[1]:
            raise Refused("member", f"member {theirs.to:x} was wanted, and this is {ours[1]:x}")
        if theirs.sender == ours[1]:
            raise Refused("member", f"it says that it is {ours[1]:x} itself")

    def accepted(self) -> PeerConnection:
        """A member has dialed; see `twistedetcd.protocols.peerport.Host`."""
        return PeerConnection(self, self._clock, self._frame_bytes_max)

    # What connections that were accepted tell; see `twistedetcd.protocols.peer.Owner`.

    def greet(self, connection: PeerConnection, theirs: Hello) -> Hello:
        self.check_greeting(connection, theirs)
        assert self._receiver is not None, "just checked"
        try:
            self._receiver.admit(theirs.sender)
        except MemberRemovedError as error:
            raise Refused(REMOVED, error.message) from error
        return self._hello(theirs.sender, theirs.lane)

    def opened(self, connection: PeerConnection) -> None:
        theirs = connection.theirs
        assert theirs is not None and self._receiver is not None, "greeted"
        member, lane = theirs.sender, theirs.lane
        if lane is Lane.IMAGE:
            before = self._incoming.get(member)
            if before is not None:
                before.hang_up(Refused("again", "the peer begins anew"))
            connection.owner = incoming = IncomingImage(self._receiver, member, self._complaints, self._came)
            incoming.opened(connection)
            self._incoming[member] = incoming
            return
        earlier = self._accepted.get((member, lane))
        self._accepted[member, lane] = connection
        if earlier is not None:
            earlier.hang_up(Refused("again", "the peer has dialed anew"))
        peer = self._peers.get(member)
        if peer is not None:
            for line in peer.all_lines:
                line.dial()  # it is there: do not wait longer

    def _came(self, incoming: IncomingImage) -> None:
        if self._incoming.get(incoming.member) is incoming:
            del self._incoming[incoming.member]

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        if kind is Kind.MESSAGE:
            try:
                receiver.receive(decode_message(body))
            except ValueError as error:
                raise FrameError(f"a message that cannot be read: {error}") from error
            except MemberRemovedError:
                connection.send([frame(Kind.REMOVED)])
        elif kind in (Kind.ASK, Kind.ANSWER, Kind.NO_ANSWER):
            self._questions.taken(connection, kind, body)
        elif kind is Kind.PING:
            self._check(connection, receiver)
        elif kind is Kind.REMOVED:
            receiver.removed()
        else:
            raise FrameError(f"a frame of kind {kind.name}, which has no place here")

    def _check(self, connection: PeerConnection, receiver: IRaftReceiver) -> None:
        """It may have been removed since it said who it is."""
        assert connection.theirs is not None, "it said who it is"
        try:
            receiver.admit(connection.theirs.sender)
        except MemberRemovedError:
            connection.send([frame(Kind.REMOVED)])

    def heard(self, connection: PeerConnection, received_bytes: int) -> None:
        if self._receiver is not None:
            self._receiver.received()
        assert connection.theirs is not None, "it said who it is"
        peer = self._peers.get(connection.theirs.sender)
        if peer is not None:
            peer.heard(self._clock.seconds(), received_bytes)

    def lost(self, connection: PeerConnection, why: Refused | Failure) -> None:
        theirs = connection.theirs
        if theirs is not None and self._accepted.get((theirs.sender, theirs.lane)) is connection:
            del self._accepted[theirs.sender, theirs.lane]
        if isinstance(why, Refused) and why.word not in _USUAL and self._port is not None:
            self._port.refused(connection.transport.getPeer(), why.text)

    # What the lines tell, by way of `_Dialed`.

    def line_lost(self, member: int, line: Line, why: Refused | Failure, dropped: bool) -> None:
        """A line is gone, or could not be made."""
        peer = self._peers.get(member)
        if peer is None or self._receiver is None:
            return
        peer.disconnected(line)
        if dropped:
            self._lost(peer)
        text = why.text if isinstance(why, Refused) else why.getErrorMessage()
        if self._complaints.is_new(f"{member:x}", text):
            self._log.warn(
                "Member {peer:x} is not reached at {url}: {reason}", peer=member, url=line.url, reason=text
            )
        if isinstance(why, Refused) and why.word == REMOVED:
            self._receiver.removed()

    def line_made(self, member: int, line: Line) -> None:
        """A line is there."""
        peer = self._peers.get(member)
        if peer is not None:
            peer.connected(line)
        if self._complaints.forget(f"{member:x}"):
            self._log.info("Member {peer:x} is reached", peer=member)

    def measured(self, member: int, seconds: float) -> None:
        """How long it took to a peer and back."""
        peer = self._peers.get(member)
        if peer is not None:
            peer.measured(seconds)


class _Dialed:
    """Whose the lines to one peer are; see `twistedetcd.protocols.dialing.Owner`."""

    def __init__(self, transport: PeerTransport, member: int) -> None:
        self._transport = transport
        self._member = member

    def greet(self, connection: PeerConnection, theirs: Hello) -> None:
        self._transport.check_greeting(connection, theirs)
        if theirs.sender != self._member:
            raise Refused("member", f"member {self._member:x} was wanted, and it is {theirs.sender:x}")

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        self._transport.taken(connection, kind, body)

    def heard(self, connection: PeerConnection, received_bytes: int) -> None:
        self._transport.heard(connection, received_bytes)

    def round_trip(self, connection: PeerConnection, seconds: float) -> None:
        self._transport.measured(self._member, seconds)

    def connected(self, line: Line) -> None:
        self._transport.line_made(self._member, line)

    def disconnected(self, line: Line, why: Refused | Failure, dropped: bool) -> None:
        self._transport.line_lost(self._member, line, why, dropped)
