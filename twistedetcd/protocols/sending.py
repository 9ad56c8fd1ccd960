"""
The sending half of an HTTP/2 connection: responses out, as fast as the peer's windows allow.

Most responses fit the windows and one DATA frame, and leave as constant parts around the body.  What does not
fit waits on its stream; how much waits is counted, and above a limit new streams are refused: the peer must
still be read, since its WINDOW_UPDATE is what lets the rest go.
"""

from __future__ import annotations

from typing import Any

from twistedetcd.protocols.framing import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    FRAME_BYTES_MAX,
    HEADERS,
    QUEUE_OVERHEAD_BYTES,
    RST_STREAM,
    TABULATED,
    WAITING_BYTES_MAX,
    ErrorCode,
    Event,
    EventKind,
    SendQueue,
    Stream,
    WholeResponse,
    frame,
    pack_header,
)

TURN_BYTES_MAX = 1 << 20
"""Of bodies in ``out``; what is beyond goes in later turns, and others get theirs meanwhile."""
_TABLE_SIZE_ZERO = b"\x20"  # RFC 7541, 6.3


class Sender:
    """
    What a connection sends, and its streams.

    A stream that is not in ``streams`` any more is over: sending on it does nothing.

    Args:
        streams_max: New streams are refused while there are so many.
    """

    def __init__(self, streams_max: int) -> None:
        self.streams: dict[int, Any] = {}
        """Streams whose response is not complete, oldest first."""
        self.out: list[bytes | memoryview] = []
        """Bytes to be written, in order; the owner empties it."""
        self.out_bytes = 0
        """Body bytes in ``out``, without those of small responses."""
        self.drain_begun = False
        """The peer was told that the end is near."""
        self.draining = False
        """No new stream begins any more."""
        self.answered = False
        """HEADERS or DATA went out since somebody set this to false."""
        self._ready: dict[int, Any] = {}  # streams that wait for the connection only, in order
        self.send_window = DEFAULT_WINDOW
        self.waiting_bytes = 0
        """Response bytes that wait for a window, and an overhead for each stream they wait on."""
        self._streams_max = streams_max
        self._streams_allowed = streams_max  # 0 while no new stream may begin
        self._held = False
        self._table_update_due = False

    def send_headers(self, stream: Stream, block: bytes, end: bool = False) -> None:
        """Send a header block of at most one frame; with ``end`` it is the response's last."""
        if stream.id not in self.streams:
            return
        if self._table_update_due:
            # The peer shrank a table that we never use, and wants to see that we know (RFC 9113, 4.3.1).
            self._table_update_due = False
            block = _TABLE_SIZE_ZERO + block
        self.answered = stream.answered = True
        self.out.append(frame(HEADERS, END_HEADERS | end, stream.id, block))
        if end:
            self._drop(stream.id)
            self._stop_peer(stream)

    def send_data(self, stream: Stream, *parts: bytes) -> int:
        """
        Send a part of the body, in one piece or several, as windows allow, keeping the rest.

        Returns:
            How many bytes of this stream now wait for the peer.
        """
        if stream.id not in self.streams:
            return 0
        queue = stream.queue
        if queue is None and len(parts) == 1:
            size = len(parts[0])
            room = min(FRAME_BYTES_MAX, stream.send_window, self.send_window)
            if 0 < size <= room and not self._held and self.out_bytes < TURN_BYTES_MAX:
                # As a small message of a stream that lasts does: it need not be queued.
                stream.send_window -= size
                self.send_window -= size
                self.out_bytes += size
                self.answered = True
                self.out.append(frame(DATA, 0, stream.id, parts[0]))
                return 0
        for part in parts:
            if part:
                if queue is None:
                    queue = stream.queue = SendQueue()
                    self._count_waiting(QUEUE_OVERHEAD_BYTES)
                queue.parts.append(part)
                queue.bytes += len(part)
                self._count_waiting(len(part))
        return self._pump(stream, queue) if queue is not None else 0

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """End the response, once all of its body went out."""
        if stream.queue is None:
            self.send_headers(stream, block, end=True)
        else:
            stream.queue.trailers = block

    def respond(self, stream: Stream, response: WholeResponse, prefix: bytes, body: bytes) -> None:
        """
        Send a whole response: head, ``prefix`` and ``body`` as its data, trailers.

        In the common case, room in both windows and one DATA frame, nothing is copied here.
        """
        length = len(prefix) + len(body)
        if (
            length > stream.send_window
            or length > self.send_window
            or stream.queue is not None
            or self._table_update_due
            or self._held
            or length > TURN_BYTES_MAX
        ):
            self.respond_in_parts(stream, response, prefix, body)
            return
        if self.streams.pop(stream.id, None) is None:
            return
        self.answered = True
        self.send_window -= length
        stream_id = stream.id.to_bytes(4, "big")
        if length <= FRAME_BYTES_MAX:
            if length < TABULATED:
                head_and_data = response.head_and_data[length]
            else:
                head_and_data = response.data_follows(length)
                self.out_bytes += length
            self.out += (
                response.start,
                stream_id,
                head_and_data,
                stream_id,
                prefix,
                body,
                response.trailers_start,
                stream_id,
                response.trailers,
            )
        else:
            self._large(stream_id, response, prefix, body)
        if not stream.remote_closed:
            self._stop_peer(stream)

    def respond_in_parts(self, stream: Stream, response: WholeResponse, *parts: bytes) -> None:
        """As `respond`, with the data in pieces, none of which is copied before its turn comes."""
        self.send_headers(stream, response.head)
        self.send_data(stream, *parts)
        self.send_trailers(stream, response.trailers)

    def _large(self, stream_id: bytes, response: WholeResponse, prefix: bytes, body: bytes) -> None:
        """A body of many frames, all of which may go now; its pieces are copied when they are joined."""
        first = FRAME_BYTES_MAX - len(prefix)
        view = memoryview(body)
        self.out_bytes += len(body)
        self.out += (response.start, stream_id, response.data_follows(FRAME_BYTES_MAX))
        self.out += (stream_id, prefix, view[:first])
        for at in range(first, len(body), FRAME_BYTES_MAX):
            piece = view[at : at + FRAME_BYTES_MAX]
            self.out += (pack_header(len(piece) >> 8, len(piece) & 0xFF, DATA, 0, 0)[:5], stream_id, piece)
        self.out += (response.trailers_start, stream_id, response.trailers)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Give a stream up."""
        if self._drop(stream.id) is not None:
            self.out.append(frame(RST_STREAM, 0, stream.id, int(code).to_bytes(4, "big")))
            self._gave_up(stream.id)

    def hold(self) -> None:
        """Keep the bodies that `send_data` is given: what went out already is not being taken."""
        self._held = True

    def release(self) -> list[Event]:
        """Go on after `hold`, or after a turn's share; reports the streams that became WRITABLE."""
        events: list[Event] = []
        self._held = False
        self._resume_all(events)
        return events

    def _pump(self, stream: Stream, queue: SendQueue) -> int:
        """Send what waits on a stream as far as the windows allow; returns the bytes left."""
        while queue.parts:
            room = min(FRAME_BYTES_MAX, stream.send_window, self.send_window)
            if room <= 0 or self._held or self.out_bytes >= TURN_BYTES_MAX:
                if stream.send_window > 0:
                    self._ready[stream.id] = stream
                else:
                    self._ready.pop(stream.id, None)
                return queue.bytes
            piece = queue.take(room)
            stream.send_window -= len(piece)
            self.send_window -= len(piece)
            self._count_waiting(-len(piece))
            self.out_bytes += len(piece)
            self.answered = True
            self.out.append(frame(DATA, 0, stream.id, piece))
        stream.queue = None
        self._ready.pop(stream.id, None)
        self._count_waiting(-QUEUE_OVERHEAD_BYTES)
        if queue.trailers is not None:
            self.send_headers(stream, queue.trailers, end=True)
        return 0

    def _resume(self, stream: Stream, events: list[Event]) -> None:
        """A window opened."""
        queue = stream.queue
        if queue is not None and not self._pump(stream, queue) and stream.id in self.streams:
            events.append((EventKind.WRITABLE, stream, None))

    def _resume_all(self, events: list[Event]) -> None:
        for stream in list(self._ready.values()):
            if self.send_window <= 0 or self.out_bytes >= TURN_BYTES_MAX:
                break
            self._resume(stream, events)

    @property
    def ready(self) -> bool:
        """Whether a stream could send more, as far as the peer is concerned."""
        return bool(self._ready) and self.send_window > 0

    def _drop(self, stream_id: int) -> Any:
        """Forget a stream and what waits on it; returns it, or ``None`` if there is none."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None and stream.queue is not None:
            self._count_waiting(-stream.queue.bytes - QUEUE_OVERHEAD_BYTES)
            stream.queue = None
            self._ready.pop(stream_id, None)
        return stream

    def _gave_up(self, stream_id: int) -> None:
        """A stream ended here while the peer may still be sending on it."""
        raise NotImplementedError

    def _stop_peer(self, stream: Stream) -> None:
        """Our side is complete.  A peer still sending is told that nobody listens (RFC 9113, 8.1)."""
        if not stream.remote_closed:
            self.out.append(frame(RST_STREAM, 0, stream.id, int(ErrorCode.NO_ERROR).to_bytes(4, "big")))
            self._gave_up(stream.id)

    def _count_waiting(self, change: int) -> None:
        self.waiting_bytes += change
        refusing = self.draining or self.waiting_bytes > WAITING_BYTES_MAX
        self._streams_allowed = 0 if refusing else self._streams_max
