"""
One connection between two members: it moves frames, and notices when the other end is gone.

First either end says who it is; only then is anything else sent.  From then on each end must be heard every
few seconds: whoever dialed asks for a sign of life, and the other end gives it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Protocol

from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.protocols.frames import PROTOCOL, FrameError, Frames, Hello, Kind, frame
from twistedetcd.protocols.refusals import refusal
from twistedetcd.protocols.waiting import Waiting
from twistedetcd.protocols.writing import write_now

GREETING_SECONDS = 5.0
"""How long the other end may take to say who it is, the handshake of TLS included."""
PING_SECONDS = 1.0
SILENCE_SECONDS = 5.0
"""A connection on which nothing is heard for so long is given up, as by etcd's ``--raft-read-timeout``."""
RECEIVE_BYTES = 1 << 17
"""What is read at a time, and a turn: more than what a turn of a busy leader appends."""

_TIME = struct.Struct(">d")


class Refused(Exception):  # noqa: N818  (a refusal is an answer)
    """
    The other end is not whom we want to talk to, or does not want to talk to us.

    Attributes:
        word: Why, for programs.
        text: Why, a sentence.
    """

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word
        self.text = text


class Owner(Protocol):
    """What a connection belongs to.  Whoever derives from it has only to say what it cares about."""

    def greet(self, connection: PeerConnection, theirs: Hello) -> Hello | None:
        """
        The other end said who it is.

        Returns:
            The answer, for a connection that was accepted; ``None`` for one that we dialed.

        Raises:
            Refused: We do not want to talk to it.
        """

    def opened(self, connection: PeerConnection) -> None:
        """Both know who the other is: frames may be sent."""

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        """
        A frame came; a `Kind.PING` was answered by then.

        Raises:
            FrameError: It makes no sense; the connection is given up.
        """

    def heard(self, connection: PeerConnection, received_bytes: int) -> None:
        """So much came."""
        return

    def round_trip(self, connection: PeerConnection, seconds: float) -> None:
        """How long the way there and back takes, as whoever dialed measures it."""
        return

    def ready(self, connection: PeerConnection) -> None:
        """All that was sent is on its way: there is room for more."""
        return

    def lost(self, connection: PeerConnection, why: Refused | Failure) -> None:
        """It is over."""


@implementer(IPushProducer)
class PeerConnection(TwistedProtocol):
    """
    A connection.

    Args:
        owner: Whose.
        clock: For signs of life.
        frame_bytes_max: The longest frame, once both ends know each other.
        ours: What to say of ourselves if we dialed; ``None`` if we did not.

    Attributes:
        owner: Likewise; may be changed when the other end has said who it is.
        theirs: What the other end said of itself.
    """

    transport: Any

    def __init__(
        self, owner: Owner, clock: IReactorTime, frame_bytes_max: int, ours: Hello | None = None
    ) -> None:
        self.owner = owner
        self.theirs: Hello | None = None
        self._clock = clock
        self._frame_bytes_max = frame_bytes_max
        self._ours = ours
        self._frames = Frames()
        self._blocked = self._over = self._direct = False
        self._why: Refused | None = None
        self._waiting = Waiting()
        self._heard_at = 0.0
        self._lost = False
        self._told: list[Deferred[None]] = []

    @property
    def open(self) -> bool:
        """Whether both ends know each other, and nothing has ended it."""
        return self.theirs is not None and not self._over

    @property
    def over(self) -> bool:
        """Whether something has ended it."""
        return self._over

    @property
    def blocked(self) -> bool:
        """Whether the transport takes nothing more for now."""
        return self._blocked

    # What Twisted calls.

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # each write is all that a turn has to say
        self._direct = isinstance(self.transport, TCPConnection)
        if self._direct:
            self.transport.bufferSize = RECEIVE_BYTES
        self._heard_at = self._clock.seconds()
        self._timer = self._clock.callLater(GREETING_SECONDS, self._no_greeting)
        self.transport.registerProducer(self, True)
        if self._ours is not None:
            self._write(frame(Kind.HELLO, self._ours.encode()))

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._heard_at = self._clock.seconds()
        try:
            for kind, body in self._frames.receive(data):
                if self._over:
                    return
                if self.theirs is None:
                    self._greeted(kind, body)
                elif kind is Kind.PING:
                    self.send([frame(Kind.PONG, body)])
                    self.owner.taken(self, kind, body)
                elif kind is Kind.PONG:
                    self._came_back(body)
                else:
                    self.owner.taken(self, kind, body)
        except FrameError as error:
            was_open = self.open  # then what came before it counts
            self.hang_up(Refused("frames", str(error)))
        else:
            was_open = self.open
        if was_open:
            self.owner.heard(self, len(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        self._waiting.take_all()
        self._lost = True
        self.owner.lost(self, self._why or self._failed_handshake(reason) or reason)
        for told in self._told:
            told.callback(None)

    def _failed_handshake(self, reason: Failure) -> Refused | None:
        if reason.check(TLSError) and self.theirs is None:
            return Refused("tls", refusal(reason))
        return None

    # Who the other end is.

    def _greeted(self, kind: Kind, body: bytes) -> None:
        try:
            if self._ours is None:
                if kind is not Kind.HELLO:
                    raise FrameError(f"it begins with a frame of kind {kind.name}")
                answer = self.owner.greet(self, self._understood(body))
                assert answer is not None, "who accepts says who he is"
                self._write(frame(Kind.WELCOME, answer.encode()))
            elif kind is Kind.REFUSED:
                word, _, text = body.decode(errors="replace").partition(" ")
                raise Refused(word, text)
            elif kind is not Kind.WELCOME:
                raise FrameError(f"it answers with a frame of kind {kind.name}")
            else:
                self.owner.greet(self, self._understood(body))
        except Refused as refused:
            if self._ours is None:
                self._write(frame(Kind.REFUSED, f"{refused.word} {refused.text}".encode()))
            self.hang_up(refused, in_order=True)
            return
        self._frames.bytes_max = self._frame_bytes_max
        self._timer.cancel()
        self._timer = self._clock.callLater(PING_SECONDS, self._watch)
        self.owner.opened(self)

    def _understood(self, body: bytes) -> Hello:
        self.theirs = theirs = Hello.decode(body)
        if theirs.protocol != PROTOCOL:
            self.theirs = None
            raise Refused("protocol", f"it speaks version {theirs.protocol} of this protocol, not {PROTOCOL}")
        return theirs

    def _no_greeting(self) -> None:
        self.hang_up(Refused("greeting", f"it did not say who it is within {GREETING_SECONDS:g} s"))
        self.transport.abortConnection()  # also if it does not take our refusal

    def _watch(self) -> None:
        now = self._clock.seconds()
        if self._over:
            self.transport.abortConnection()  # it had time to take what was written before the end
            return
        if now - self._heard_at > SILENCE_SECONDS:
            self.hang_up(Refused("silence", f"it was not heard for {SILENCE_SECONDS:g} s"))
            return
        self._timer = self._clock.callLater(PING_SECONDS, self._watch)
        if self._ours is not None:
            self.send([frame(Kind.PING, _TIME.pack(now))])

    def _came_back(self, body: bytes) -> None:
        if len(body) != _TIME.size:
            raise FrameError("a sign of life of another length than ours")
        self.owner.round_trip(self, max(0.0, self._clock.seconds() - _TIME.unpack(body)[0]))

    # What is sent.

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send frames, in order; false if there was no room for all of them, and the last ones are lost."""
        if self._over:
            return False
        if not self._blocked:
            self._write(b"".join(frames) if len(frames) > 1 else frames[0])
            return True
        return self._waiting.put(frames)

    def _write(self, data: bytes) -> None:
        if self._direct:
            # Nothing of ours waits there: write now, and not in the reactor's next turn.
            if write_now(self.transport, data):
                self._blocked = True
        else:
            self.transport.write(data)

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self._heard_at = self._clock.seconds()  # somebody takes what we send
        while self._waiting and not self._blocked:
            self._write(self._waiting.take())
        if not self._blocked and self.open:
            self.owner.ready(self)

    def stopProducing(self) -> None:
        """The transport is closing; `connectionLost` follows."""

    def when_lost(self) -> Deferred[None]:
        """Fires once nothing of it is left."""
        if self._lost or self.transport is None:  # or it never was
            return succeed(None)
        self._told.append(Deferred())
        return self._told[-1]

    def hang_up(self, why: Refused, in_order: bool = False) -> None:
        """
        End it.

        Args:
            why: What the owner is told.
            in_order: Whether what was written is sent first.
        """
        if not self._over:
            self._over = True
            self._why = why
            if self.transport is None:
                return  # it was never made
            if in_order:
                self.transport.unregisterProducer()
                self.transport.loseConnection()
            else:
                self.transport.abortConnection()
