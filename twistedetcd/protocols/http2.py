"""
The server's side of HTTP/2 (RFC 9113) as a state machine: bytes in, events out, bytes out.

`ServerConnection.receive` turns what the peer sent into events; what is to be written collects in ``out``.
No socket and no clock in sight.  Most requests come as one HEADERS and one DATA frame in one piece, and
most of their header blocks were seen before: that road is short, everything else may take its time.
"""

from __future__ import annotations

from twistedetcd.protocols.control import Control
from twistedetcd.protocols.fields import trailers_problem
from twistedetcd.protocols.floods import EMPTY_FRAMES, IDLE_FRAMES, PRIORITIES, RESETS
from twistedetcd.protocols.framing import (
    CONNECTION_WINDOW,
    CONTINUATION,
    CONTINUATIONS_MAX,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADER_BLOCK_BYTES_MAX,
    HEADER_LIST_BYTES_MAX,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    SETTING,
    SETTINGS,
    STREAM_WINDOW,
    STREAMS_MAX,
    UNFINISHED_SECONDS_MAX,
    WINDOW_UPDATE,
    ConnectionFaultError,
    ErrorCode,
    Event,
    EventKind,
    Stream,
    StreamFaultError,
    frame,
    unpack_header,
    unpadded,
)
from twistedetcd.protocols.keepalive import PingStrikes
from twistedetcd.protocols.requests import Interpret, InterpretVarying, RequestReader

# Plain names: an attribute of an enumeration costs a look-up on the hot path.
_OPENED, _WHOLE, _DATA, _ENDED, _RESET, _, _TERMINATED = EventKind


class ServerConnection(Control):
    """
    One connection.

    Args:
        interpret: Called with the header list of a request (valid by RFC 9113, 8.3) once for each distinct
            list; what it returns is the ``request`` of each stream that uses it, so it must be immutable.
        stream_class: A subclass of `Stream` to make.
        max_concurrent_streams: Announced when given; more are refused.
        varying: The name of a field that differs from call to call, and is kept from `interpret`, ...
        interpret_varying: ... for what this makes of its value is ``varied`` of the stream.
        pings: Judges the client's pings, if anybody shall.
    """

    def __init__(
        self,
        interpret: Interpret,
        stream_class: type[Stream] = Stream,
        max_concurrent_streams: int | None = None,
        varying: bytes = b"",
        interpret_varying: InterpretVarying | None = None,
        pings: PingStrikes | None = None,
    ) -> None:
        super().__init__(
            STREAMS_MAX if max_concurrent_streams is None else min(STREAMS_MAX, max_concurrent_streams), pings
        )
        self._stream_class = stream_class
        self._requests = RequestReader(interpret, varying, interpret_varying)
        self._buffer = b""
        self._preface_due = True
        self._block: tuple[int, int, list[bytes]] | None = None  # stream id, flags, parts: HEADERS not ended
        self._block_bytes = 0
        self._unfinished_since: float | None = None
        self._received = 0  # bytes of DATA since our last WINDOW_UPDATE for the connection
        settings = [(4, STREAM_WINDOW), (6, HEADER_LIST_BYTES_MAX)]
        if max_concurrent_streams is not None:
            settings.append((3, max_concurrent_streams))
        self.out.append(frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in settings)))
        self.out.append(frame(WINDOW_UPDATE, 0, 0, (CONNECTION_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big")))

    # What the peer sent.

    def receive(self, data: bytes, now: float = 0.0) -> list[Event]:
        """
        Take in the next bytes, cut anywhere, at a time in seconds.

        A fault of the peer never raises: it is reported as RESET or TERMINATED, after the events that came
        before it.  All frames are read before the first event is acted on, so a stream may be over by then.
        """
        events: list[Event] = []
        if self.closed:
            return events
        self._now = now
        try:
            self._receive(self._buffer + data if self._buffer else data, events)
        except ConnectionFaultError as fault:
            self._fault(fault, events)
        return events

    def _fault(self, fault: ConnectionFaultError, events: list[Event]) -> None:
        events += [(_RESET, stream, fault.code) for stream in self.streams.values()]
        self.terminate(fault)
        events.append((_TERMINATED, None, fault))

    def expire(self, now: float, reading: bool) -> list[Event]:
        """
        End the connection if the client has taken too long over a frame, a header block or its SETTINGS.

        Args:
            now: Seconds, as for `receive`.
            reading: Whether the client is being read; while it is not, its time does not run.
        """
        events: list[Event] = []
        if not (self._buffer or self._block or self._settings_due) or not reading or self.closed:
            self._unfinished_since = None
        elif self._unfinished_since is None:
            self._unfinished_since = now
        elif now - self._unfinished_since > UNFINISHED_SECONDS_MAX:
            what = "SETTINGS" if self._settings_due else "header block" if self._block else "frame"
            self._fault(ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, f"{what} not finished"), events)
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
        requests = self._requests
        remembered, extras, read = requests.by_block, requests.extras, requests.read
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
            # The short roads, for most frames there are: a request's headers or its body, whole in one frame.
            if kind == DATA and flags == END_STREAM:
                stream = streams.get(stream_id)
                if (
                    stream is not None
                    and not stream.begun
                    and not stream.remote_closed
                    and (stream.due is None or stream.due == length)
                    and self._block is None
                ):
                    stream.remote_closed = True
                    self._received += length
                    events.append((_WHOLE, stream, data[start:stop]))
                    at = stop
                    continue
            try:
                if (
                    kind == HEADERS
                    and flags == END_HEADERS
                    and stream_id & 1
                    and self._last_id < stream_id < 1 << 31
                    and self._block is None
                    and len(streams) < self._streams_allowed
                    and not self._settings_due
                ):
                    self._last_id = stream_id
                    block = data[start:stop]
                    request = remembered.get(block)
                    if request is None:
                        request, extra = read(stream_id, block)
                    else:
                        extra = extras.get(block) if extras else None
                    stream = self._stream_class(stream_id, request, self._peer_initial_window, False)
                    if extra is not None:
                        stream.due, stream.varied = extra
                    streams[stream_id] = stream
                    events.append((_OPENED, stream, None))
                else:
                    self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:stop], events)
            except StreamFaultError as fault:
                self._fail_stream(fault, events)
            at = stop
        if at and self._block is None:
            self._unfinished_since = None
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
        if kind <= CONTINUATION:
            _FRAMES[kind](self, flags, stream_id, payload, events)
        else:  # RFC 9113, 5.5: unknown types are ignored
            self._allowances.spend(IDLE_FRAMES, self._now)

    def _on_data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        length = len(payload)
        self._check_begun(stream_id, "DATA")
        self._received += length
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id in self._given_up:  # the peer may not have known yet (RFC 9113, 5.1)
                if not length:
                    self._allowances.spend(EMPTY_FRAMES, self._now)
                return
            raise StreamFaultError(stream_id, ErrorCode.STREAM_CLOSED, "DATA on a closed stream")
        if stream.remote_closed:
            raise StreamFaultError(stream_id, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        stream.begun = True
        stream.receive_window -= length
        if stream.receive_window < 0:
            raise StreamFaultError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")
        data = unpadded(payload) if flags & PADDED else payload
        if length != len(data):
            self.consumed(stream, length - len(data))
        ended = bool(flags & END_STREAM)
        if not data and not ended:
            self._allowances.spend(EMPTY_FRAMES, self._now)
        if stream.due is not None:
            stream.due -= len(data)
            self._check_length(stream, ended)
        if data:
            events.append((_DATA, stream, data))
        if ended:
            stream.remote_closed = True
            events.append((_ENDED, stream, None))

    @staticmethod
    def _check_length(stream: Stream, ended: bool) -> None:
        """A body is as long as its content-length says (RFC 9113, 8.1.1)."""
        if stream.due is not None and (stream.due < 0 or (ended and stream.due)):
            raise StreamFaultError(stream.id, ErrorCode.PROTOCOL_ERROR, "body not as long as content-length")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id & 1 == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            self._check_dependency(stream_id, payload)
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
        request, extra = self._requests.request(stream_id, block)
        if len(self.streams) >= self._streams_allowed:
            raise StreamFaultError(stream_id, ErrorCode.REFUSED_STREAM, "no more streams")
        stream = self._stream_class(stream_id, request, self._peer_initial_window, ended)
        if extra is not None:
            stream.due, stream.varied = extra
            self._check_length(stream, ended)
        self.streams[stream_id] = stream
        events.append((_OPENED, stream, None))
        if ended:
            events.append((_ENDED, stream, None))

    def _trailers(
        self, stream_id: int, stream: Stream | None, block: bytes, ended: bool, events: list[Event]
    ) -> None:
        headers = self._requests.read_trailers(stream_id, block)
        if stream is None:
            # Trailers of a stream that we ended may be on their way, but no request (RFC 9113, 5.1.1).
            if any(name[:1] == b":" for name, _ in headers):
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} is not new")
            if stream_id not in self._given_up:
                raise ConnectionFaultError(ErrorCode.STREAM_CLOSED, f"HEADERS on closed stream {stream_id}")
            return
        if stream.remote_closed:
            raise StreamFaultError(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        problem = trailers_problem(headers)
        if problem or not ended:
            raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, problem or "HEADERS inside a request")
        self._check_length(stream, ended)
        stream.remote_closed = True
        events.append((_ENDED, stream, None))

    def _on_priority(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            self._check_begun(stream_id, "PRIORITY of a wrong size")  # an idle stream cannot be reset (6.4)
            raise StreamFaultError(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY size")
        self._check_dependency(stream_id, payload)
        self._allowances.spend(PRIORITIES, self._now)

    @staticmethod
    def _check_dependency(stream_id: int, priority: bytes) -> None:
        """Priorities mean nothing to us; yet this one is an error (RFC 7540, 5.3.1)."""
        if int.from_bytes(priority[:4], "big") & 0x7FFFFFFF == stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} depends on itself")

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM size")
        self._check_begun(stream_id, "RST_STREAM")
        stream = self._drop(stream_id)
        if stream is not None:
            if not stream.answered:
                self._allowances.spend(RESETS, self._now)
            events.append((_RESET, stream, int.from_bytes(payload, "big")))

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    # What we say of our own accord.

    def consumed(self, stream: Stream, length: int) -> None:
        """The layer above is done with ``length`` bytes of a stream's body: the peer may send more."""
        stream.unconsumed += length
        if stream.unconsumed >= STREAM_WINDOW // 2 and not stream.remote_closed and stream.id in self.streams:
            stream.receive_window += stream.unconsumed
            self.out.append(frame(WINDOW_UPDATE, 0, stream.id, stream.unconsumed.to_bytes(4, "big")))
            stream.unconsumed = 0

    def terminate(self, fault: ConnectionFaultError) -> None:
        """Queue GOAWAY with the reason; all streams are gone."""
        super().terminate(fault)
        self._buffer = b""
        self._block = None


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
