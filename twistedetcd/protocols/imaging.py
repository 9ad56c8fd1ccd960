"""
Images of stores on their way to another member, each on a connection of its own.

The message that announces it, its pieces, then its length and checksum; the other end says when it is durable
there.  One that breaks off is begun anew by raft, from the first byte: the store is another one by then.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from google_crc32c import extend
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.errors import EtcdError, MemberError
from twistedetcd.interfaces import IImage, IImageSink, IRaftReceiver
from twistedetcd.protocols.complaints import Complaints
from twistedetcd.protocols.frames import FrameError, Hello, Kind, frame
from twistedetcd.protocols.peer import Owner, PeerConnection, Refused
from twistedetcd.raft.types import Message
from twistedetcd.wire import decode_message, encode_message

PIECE_BYTES = 64 * 1024
"""Pieces are put together until they are at least so long: what is sent in a reactor turn."""
PIECE_SECONDS = 0.01
"""But no longer than this is spent on that."""
FINISH_SECONDS_MAX = 900.0
"""The other end reads a whole image before it takes it, and shows that it lives meanwhile."""

_END = struct.Struct(">QI")
_log = Logger()


class OutgoingImage(Owner):
    """
    One that is sent.

    Args:
        clock: For turns of the reactor.
        endpoint: Where the peer is.
        ours: What to say of ourselves.
        frame_bytes_max: The longest frame.
        message: Announces it.
        image: The store.
        greet: As `twistedetcd.protocols.peer.Owner.greet`.
        over: Called once with whether it arrived, and, if it did not, why.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        ours: Hello,
        frame_bytes_max: int,
        message: Message,
        image: IImage,
        greet: Callable[[PeerConnection, Hello], None],
        over: Callable[[OutgoingImage, bool, str], None],
    ) -> None:
        self.member = message.to
        self._clock = clock
        self._message = message
        self._image = image
        self._greet = greet
        self._over: Callable[[OutgoingImage, bool, str], None] | None = over
        self._chunks: Iterator[bytes] = iter(())
        self._sent_bytes = self._checksum = 0
        self._next: IDelayedCall | None = None
        self._connection = connection = PeerConnection(self, clock, frame_bytes_max, ours)
        self._factory = Factory.forProtocol(lambda: connection)
        self._factory.noisy = False
        self._endpoint = endpoint
        self._dialing: Deferred[Any] | None = None

    def start(self) -> None:
        """Dial; it may be over when this returns."""
        # An endpoint may fail at once.
        self._dialing = dialing = self._endpoint.connect(self._factory)
        dialing.addCallbacks(self._made, self._not_made)

    def _made(self, _: object) -> None:
        self._dialing = None
        if self._over is None:
            self._connection.hang_up(Refused("stopped", "not needed any more"))

    def _not_made(self, failure: Failure) -> None:
        self._dialing = None
        self.end(False, failure.getErrorMessage())

    def greet(self, connection: PeerConnection, theirs: Hello) -> None:
        self._greet(connection, theirs)

    def opened(self, connection: PeerConnection) -> None:
        connection.send([frame(Kind.IMAGE, encode_message(self._message))])
        try:
            self._chunks = self._image.chunks()
        except (EtcdError, MemberError, OSError) as error:
            self.end(False, str(error))
        else:
            self._go_on()

    def ready(self, connection: PeerConnection) -> None:
        self._go_on()

    def _go_on(self) -> None:
        if self._next is None and self._over is not None:
            self._next = self._clock.callLater(0, self._send)

    def _send(self) -> None:
        """One turn's worth, if the other end takes it."""
        self._next = None
        if self._connection.blocked:
            return
        until, parts, size = self._clock.seconds() + PIECE_SECONDS, list[bytes](), 0
        while size < PIECE_BYTES and self._clock.seconds() <= until:
            try:
                part = next(self._chunks, None)
            except (EtcdError, MemberError, OSError) as error:
                self.end(False, f"it cannot be read: {error}", in_order=True)
                return
            if part is None:
                break
            parts.append(part)
            size += len(part)
            self._checksum = extend(self._checksum, part)
        else:
            part = b""
        if parts:
            self._sent_bytes += size
            self._connection.send([frame(Kind.PIECE, *parts)])
        if part is None:
            self._connection.send([frame(Kind.IMAGE_END, _END.pack(self._sent_bytes, self._checksum))])
            self._next = self._clock.callLater(FINISH_SECONDS_MAX, self._not_finished)
        else:
            self._go_on()

    def _not_finished(self) -> None:
        self._next = None
        self.end(False, f"it was not taken within {FINISH_SECONDS_MAX:g} s")

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        if kind is Kind.TAKEN:
            self.end(True, "")
        elif kind is Kind.NOT_TAKEN:
            self.end(False, body.decode(errors="replace"))
        else:
            raise FrameError(f"a frame of kind {kind.name}, while an image is on its way")

    def lost(self, connection: PeerConnection, why: Refused | Failure) -> None:
        self.end(False, why.text if isinstance(why, Refused) else why.getErrorMessage())

    def end(self, delivered: bool, why: str, in_order: bool = False) -> None:
        """It is over; a second time means nothing.  ``in_order``: after what was sent has arrived."""
        over, self._over = self._over, None
        if over is None:
            return
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._dialing is not None:
            self._dialing.cancel()
        elif not self._connection.over:
            self._connection.hang_up(Refused("stopped", why or "it is over"), in_order)
        self._image.close()
        over(self, delivered, why)

    def when_lost(self) -> Deferred[None]:
        """Fires once nothing of its connection is left."""
        return succeed(None) if self._dialing is not None else self._connection.when_lost()


class IncomingImage(Owner):
    """
    One that is taken in.

    Args:
        receiver: Who takes it.
        member: Whose it is.
        complaints: What was logged.
        over: Called when its connection is gone.
    """

    def __init__(
        self,
        receiver: IRaftReceiver,
        member: int,
        complaints: Complaints,
        over: Callable[[IncomingImage], None],
    ) -> None:
        self._complaints = complaints
        self.member = member
        self._receiver = receiver
        self._gone = over
        self._sink: IImageSink | None = None
        self._connection: PeerConnection | None = None
        self._bytes = self._checksum = 0
        self._finishing = False

    def greet(self, connection: PeerConnection, theirs: Hello) -> Hello | None:
        raise AssertionError("it was greeted before it came here")

    def opened(self, connection: PeerConnection) -> None:
        self._connection = connection

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        if self._finishing or kind is Kind.PING:
            return  # what was on its way before our answer arrived
        if kind is Kind.IMAGE and self._sink is None:
            try:
                self._sink = self._receiver.receive_snapshot(_message(body))
            except (EtcdError, MemberError, OSError) as error:
                self._not_taken(str(error))
        elif self._sink is None or kind not in (Kind.PIECE, Kind.IMAGE_END):
            raise FrameError(f"a frame of kind {kind.name}, where an image is to come")
        elif kind is Kind.PIECE:
            self._piece(self._sink, body)
        else:
            self._end(self._sink, body)

    def _piece(self, sink: IImageSink, body: bytes) -> None:
        self._bytes += len(body)
        self._checksum = extend(self._checksum, body)
        try:
            sink.write(body)
        except (MemberError, OSError) as error:
            self._sink = None  # that was its end
            self._not_taken(str(error))

    def _end(self, sink: IImageSink, body: bytes) -> None:
        if len(body) != _END.size or _END.unpack(body) != (self._bytes, self._checksum):
            raise FrameError("an image that is not what was sent: its length or checksum is another one")
        self._finishing = True
        self._sink = None
        maybeDeferred(sink.finish).addCallbacks(self._finished, self._failed)

    def _finished(self, _: None) -> None:
        self._answer(frame(Kind.TAKEN))

    def _failed(self, failure: Failure) -> None:
        if not failure.check(EtcdError, MemberError, OSError):
            _log.failure("An image could not be taken in", failure)
        self._not_taken(failure.getErrorMessage())

    def _not_taken(self, why: str) -> None:
        if self._complaints.is_new(f"{self.member:x}", why):
            _log.warn(
                "A store that member {peer:x} sends is not taken: {reason}", peer=self.member, reason=why
            )
        self._finishing = True
        self._answer(frame(Kind.NOT_TAKEN, why.encode()))

    def _answer(self, data: bytes) -> None:
        if self._connection is not None and not self._connection.over:
            self._connection.send([data])

    def lost(self, connection: PeerConnection, why: Refused | Failure) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()
        self._gone(self)

    def hang_up(self, why: Refused) -> None:
        """It is not wanted any more; what is whole by now goes on."""
        if self._connection is not None:
            self._connection.hang_up(why)


def _message(body: bytes) -> Message:
    try:
        return decode_message(body)
    except ValueError as error:
        raise FrameError(f"a message that cannot be read: {error}") from error
