"""
The server's side of HTTP/2 (RFC 9113) as a state machine: bytes in, events out, bytes out.

`ServerConnection.receive` turns what the peer sent into events; what is to be written collects in ``out``.
No socket and no clock in sight.  Most requests come as one HEADERS and one DATA frame in one piece, and
most of their header blocks were seen before: that road is short, everything else may take its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twistedetcd.protocols.framing import (
    ACK,
    CONNECTION_WINDOW,
    CONTINUATION,
    CONTINUATIONS_MAX,
    CONTROL_REPLIES_MAX,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    GOAWAY,
    HEADER_BLOCK_BYTES_MAX,
    HEADER_LIST_BYTES_MAX,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    REMEMBERED_BLOCKS_MAX,
    REMEMBERED_BYTES_MAX,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STREAM_WINDOW,
    STREAMS_MAX,
    TABLE_BYTES,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ConnectionFaultError,
    ErrorCode,
    Event,
    EventKind,
    Stream,
    StreamFaultError,
    frame,
    request_problem,
    trailers_problem,
    unpack_header,
    unpadded,
)
from twistedetcd.protocols.hpack import Decoder, Header, HeaderBlockError, HeaderListTooLargeError
from twistedetcd.protocols.sending import Sender

# Plain names: an attribute of an enumeration costs a look-up on the hot path.
_OPENED, _WHOLE, _DATA, _ENDED, _RESET, _, _TERMINATED = EventKind


class ServerConnection(Sender):
    """
    One connection.

    Args:
        interpret: Called with the header list of a request (valid by RFC 9113, 8.3) once for each distinct
            header block; what it returns is the ``request`` of each stream that uses the block, so it
            must be immutable.
        stream_class: A subclass of `Stream` to make.
        max_concurrent_streams: Announced when given; more are refused.
    """

    def __init__(
        self,
        interpret: Callable[[list[Header]], Any],
        stream_class: type[Stream] = Stream,
        max_concurrent_streams: int | None = None,
    ) -> None:
        super().__init__(
            STREAMS_MAX if max_concurrent_streams is None else min(STREAMS_MAX, max_concurrent_streams)
        )
        self._interpret = interpret
        self._stream_class = stream_class
        self.closed = False
        """After a fault; nothing more is read."""
        self._decoder = Decoder(list_bytes_max=HEADER_LIST_BYTES_MAX)
        self._remembered: dict[bytes, Any] = {}
        self._remembered_bytes = 0
        self._buffer = b""
        self._preface_due = True
        self._settings_due = True
        self._last_id = 0
        self._block: tuple[int, int, list[bytes]] | None = None  # stream id, flags, parts: HEADERS not ended
        self._block_bytes = 0
        self._peer_initial_window = DEFAULT_WINDOW
        self._peer_table_bytes = TABLE_BYTES
        self._window_opened = False
        self._received = 0  # bytes of DATA since our last WINDOW_UPDATE for the connection
        self._control_replies = 0
        settings = [(4, STREAM_WINDOW), (6, HEADER_LIST_BYTES_MAX)]
        if max_concurrent_streams is not None:
            settings.append((3, max_concurrent_streams))
        self.out.append(frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in settings)))
        self.out.append(frame(WINDOW_UPDATE, 0, 0, (CONNECTION_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big")))

    # What the peer sent.

    def receive(self, data: bytes) -> list[Event]:
        """
        Take in the next bytes, cut anywhere.

        A fault of the peer never raises: it is reported as RESET or TERMINATED, after the events that came
        before it.  All frames are read before the first event is acted on, so a stream may be over by then.
        """
        events: list[Event] = []
        if self.closed:
            return events
        try:
            self._receive(self._buffer + data if self._buffer else data, events)
        except ConnectionFaultError as fault:
            events += [(_RESET, stream, fault.code) for stream in self.streams.values()]
            self.terminate(fault)
            events.append((_TERMINATED, None, fault))
        return events

    def _receive(self, data: bytes, events: list[Event]) -> None:
        at, end = 0, len(data)
        if self._preface_due:
            if not data.startswith(PREFACE[:end]):
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 preface")
            if end < len(PREFACE):
                self._buffer = data
                return
            at = len(PREFACE)
            self._preface_due = False
        remembered = self._remembered
        streams = self.streams
        while end - at >= 9:
            high, low, kind, flags, stream_id = unpack_header(data, at)
            length = high << 8 | low
            if length > FRAME_BYTES_MAX:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            start = at + 9
            stop = start + length
            if stop > end:
                break
            # The short roads, for most frames there are: a header block seen before, a body in one frame.
            if kind == DATA and flags == END_STREAM:
                stream = streams.get(stream_id)
                if (
                    stream is not None
                    and not stream.begun
                    and not stream.remote_closed
                    and self._block is None
                ):
                    stream.remote_closed = True
                    self._received += length
                    events.append((_WHOLE, stream, data[start:stop]))
                    at = stop
                    continue
            elif (
                kind == HEADERS
                and flags == END_HEADERS
                and stream_id & 1
                and self._last_id < stream_id < 1 << 31
            ):
                request = remembered.get(data[start:stop])
                if request is not None and self._block is None and len(streams) < self._streams_allowed:
                    self._last_id = stream_id
                    stream = self._stream_class(stream_id, request, self._peer_initial_window, False)
                    streams[stream_id] = stream
                    events.append((_OPENED, stream, None))
                    at = stop
                    continue
            try:
                self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:stop], events)
            except StreamFaultError as fault:
                self._fail_stream(fault, events)
            at = stop
        self._buffer = data[at:]
        if self._window_opened:
            self._window_opened = False
            self._resume_all(events)
        if self._received > CONNECTION_WINDOW // 2:
            if self._received > CONNECTION_WINDOW:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
            self.out.append(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if self._settings_due and kind != SETTINGS:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._block is not None and (kind != CONTINUATION or self._block[0] != stream_id):
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if kind <= CONTINUATION:  # RFC 9113, 5.5: unknown types are ignored
            _FRAMES[kind](self, flags, stream_id, payload, events)

    def _fail_stream(self, fault: StreamFaultError, events: list[Event]) -> None:
        self.out.append(frame(RST_STREAM, 0, fault.stream_id, int(fault.code).to_bytes(4, "big")))
        self._count_control_reply()
        stream = self._drop(fault.stream_id)
        if stream is not None:
            events.append((_RESET, stream, fault.code))

    def _check_begun(self, stream_id: int, what: str) -> None:
        """Idle streams take nothing but HEADERS and PRIORITY (RFC 9113, 5.1); the even ones stay idle."""
        if stream_id > self._last_id or stream_id & 1 == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"{what} on idle stream {stream_id}")

    def _on_data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        length = len(payload)
        self._check_begun(stream_id, "DATA")
        self._received += length
        stream = self.streams.get(stream_id)
        if stream is None:
            return  # answered or reset by us; the peer may not know yet (RFC 9113, 5.1)
        if stream.remote_closed:
            raise StreamFaultError(stream_id, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        stream.begun = True
        stream.receive_window -= length
        if stream.receive_window < 0:
            raise StreamFaultError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")
        data = unpadded(payload) if flags & PADDED else payload
        if length != len(data):
            self.consumed(stream, length - len(data))
        if data:
            events.append((_DATA, stream, data))
        if flags & END_STREAM:
            stream.remote_closed = True
            events.append((_ENDED, stream, None))

    def _on_headers(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id & 1 == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            payload = payload[5:]
        self._block_bytes = len(payload)
        if flags & END_HEADERS:
            self._headers_ended(stream_id, flags, payload, events)
        else:
            self._block = (stream_id, flags, [payload])

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if self._block is None:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        stream_id, first_flags, parts = self._block
        parts.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > HEADER_BLOCK_BYTES_MAX or len(parts) > CONTINUATIONS_MAX:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & END_HEADERS:
            self._block = None
            self._headers_ended(stream_id, first_flags, b"".join(parts), events)

    def _headers_ended(self, stream_id: int, flags: int, block: bytes, events: list[Event]) -> None:
        ended = bool(flags & END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is not None or stream_id <= self._last_id:
            self._trailers(stream_id, stream, block, ended, events)
            return
        self._last_id = stream_id
        request = self._request(stream_id, block)
        if len(self.streams) >= self._streams_allowed:
            raise StreamFaultError(stream_id, ErrorCode.REFUSED_STREAM, "no more streams")
        stream = self._stream_class(stream_id, request, self._peer_initial_window, ended)
        self.streams[stream_id] = stream
        events.append((_OPENED, stream, None))
        if ended:
            events.append((_ENDED, stream, None))

    def _request(self, stream_id: int, block: bytes) -> Any:
        request = self._remembered.get(block)
        if request is not None:
            return request
        headers = self._decode(stream_id, block)
        problem = request_problem(headers)
        if problem:
            raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, problem)
        request = self._interpret(headers)
        if not self._decoder.touched:
            self._remembered_bytes += len(block)
            if (
                len(self._remembered) == REMEMBERED_BLOCKS_MAX
                or self._remembered_bytes > REMEMBERED_BYTES_MAX
            ):
                self._remembered.clear()  # full of blocks that did not come again
                self._remembered_bytes = len(block)
            self._remembered[block] = request
        return request

    def _decode(self, stream_id: int, block: bytes) -> list[Header]:
        try:
            return self._decoder.decode(block)
        except HeaderBlockError as error:
            raise ConnectionFaultError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        except HeaderListTooLargeError as error:
            raise StreamFaultError(stream_id, ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        finally:
            if self._decoder.touched:  # the same bytes would now mean something else
                self._remembered.clear()
                self._remembered_bytes = 0

    def _trailers(
        self, stream_id: int, stream: Stream | None, block: bytes, ended: bool, events: list[Event]
    ) -> None:
        headers = self._decode(stream_id, block)  # whatever becomes of the stream, the table must follow
        if stream is None:
            # Trailers of a stream that we ended may be on their way, but no request (RFC 9113, 5.1.1).
            if any(name[:1] == b":" for name, _ in headers):
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} is not new")
            return
        if stream.remote_closed:
            raise StreamFaultError(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        problem = trailers_problem(headers)
        if problem or not ended:
            raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, problem or "HEADERS inside a request")
        stream.remote_closed = True
        events.append((_ENDED, stream, None))

    def _on_priority(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamFaultError(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY size")

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM size")
        self._check_begun(stream_id, "RST_STREAM")
        stream = self._drop(stream_id)
        if stream is not None:
            events.append((_RESET, stream, int.from_bytes(payload, "big")))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS size")
        if flags & ACK:
            if self._settings_due:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is an answer")
            return
        self._settings_due = False
        initial_window = self._peer_initial_window
        for name, value in SETTING.iter_unpack(payload):
            if name == 4:  # INITIAL_WINDOW_SIZE, also for streams already open (RFC 9113, 6.9.2)
                if value > WINDOW_MAX:
                    raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
                initial_window = value
            elif name == 1:  # HEADER_TABLE_SIZE
                self._table_update_due |= value < self._peer_table_bytes
                self._peer_table_bytes = value
            elif name == 5 and not FRAME_BYTES_MAX <= value < 1 << 24:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE")
            elif name == 2 and value > 1:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH")
        change = initial_window - self._peer_initial_window
        if change:
            self._peer_initial_window = initial_window
            self._window_opened = True
            for stream in self.streams.values():
                stream.send_window += change
                if stream.send_window > WINDOW_MAX:
                    raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
        self.out.append(frame(SETTINGS, ACK, 0))
        self._count_control_reply()

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "PING size")
        if not flags & ACK:
            self.out.append(frame(PING, ACK, 0, payload))
            self._count_control_reply()

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY size")

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE size")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self.send_window += increment
            if self.send_window > WINDOW_MAX:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflow")
            self._window_opened = True
            return
        self._check_begun(stream_id, "WINDOW_UPDATE")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if increment == 0:
            raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.send_window += increment
        if stream.send_window > WINDOW_MAX:
            raise StreamFaultError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
        self._resume(stream, events)

    def _count_control_reply(self) -> None:
        """Replies that a peer asks for and does not read would grow without bound (CVE-2019-9512, -9515)."""
        self._control_replies += 1
        if self._control_replies > CONTROL_REPLIES_MAX:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames unread")

    # What we say of our own accord.

    def written(self) -> None:
        """The owner took ``out``, to hand it to the transport: what was in it counts anew."""
        self._control_replies = 0
        self.out_bytes = 0

    def consumed(self, stream: Stream, length: int) -> None:
        """The layer above is done with ``length`` bytes of a stream's body: the peer may send more."""
        stream.unconsumed += length
        if stream.unconsumed >= STREAM_WINDOW // 2 and not stream.remote_closed and stream.id in self.streams:
            stream.receive_window += stream.unconsumed
            self.out.append(frame(WINDOW_UPDATE, 0, stream.id, stream.unconsumed.to_bytes(4, "big")))
            stream.unconsumed = 0

    def drain(self) -> None:
        """Announce the end: streams in progress complete, new ones are refused."""
        if self.draining or self.closed:
            return
        self.draining = True
        self._streams_allowed = 0
        self.out.append(
            frame(GOAWAY, 0, 0, self._last_id.to_bytes(4, "big") + int(ErrorCode.NO_ERROR).to_bytes(4, "big"))
        )

    def terminate(self, fault: ConnectionFaultError) -> None:
        """Queue GOAWAY with the reason; all streams are gone."""
        self.closed = True
        self._buffer = b""
        self.streams.clear()
        payload = self._last_id.to_bytes(4, "big") + int(fault.code).to_bytes(4, "big")
        self.out.append(frame(GOAWAY, 0, 0, payload + fault.reason.encode()))


_FRAMES = (
    ServerConnection._on_data,
    ServerConnection._on_headers,
    ServerConnection._on_priority,
    ServerConnection._on_rst_stream,
    ServerConnection._on_settings,
    ServerConnection._on_push_promise,
    ServerConnection._on_ping,
    ServerConnection._on_goaway,
    ServerConnection._on_window_update,
    ServerConnection._on_continuation,
)
