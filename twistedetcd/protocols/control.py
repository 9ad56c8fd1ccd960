"""
The frames that are about the connection, not about a request: settings, pings, windows, and its end.
"""

from __future__ import annotations

from twistedetcd.protocols.floods import (
    FAULTS,
    IDLE_FRAMES,
    REFUSALS,
    SETTINGS_FRAMES,
    TINY_UPDATE_BYTES,
    TINY_UPDATES,
    WINDOW_UPDATES_FREE,
    Allowances,
)
from twistedetcd.protocols.framing import (
    ACK,
    CONTROL_REPLIES_MAX,
    DEFAULT_WINDOW,
    FRAME_BYTES_MAX,
    GOAWAY,
    PING,
    RST_STREAM,
    SETTING,
    SETTINGS,
    TABLE_BYTES,
    WINDOW_MAX,
    ConnectionFaultError,
    ErrorCode,
    Event,
    EventKind,
    StreamFaultError,
    frame,
)
from twistedetcd.protocols.keepalive import PingStrikes
from twistedetcd.protocols.sending import Sender

DRAIN_PING = b"draining"
KEEPALIVE_PING = b"anybody?"
STREAMS_GIVEN_UP_MAX = 4096  # remembered, for what the peer sent before it knew


class Control(Sender):
    """
    The control frames of one connection.

    Args:
        streams_max: As for `Sender`.
        pings: Judges the peer's pings, if anybody shall.
    """

    def __init__(self, streams_max: int, pings: PingStrikes | None) -> None:
        super().__init__(streams_max)
        self.closed = False
        """After a fault; nothing more is read."""
        self._now = 0.0
        self._settings_due = True
        self._last_id = 0
        self._peer_initial_window = DEFAULT_WINDOW
        self._peer_table_bytes = TABLE_BYTES
        self._window_opened = False
        self._control_replies = 0
        self._allowances = Allowances()
        self._pings = pings
        self._pings_unanswered = 0  # our own
        self._window_updates = 0
        self._window_granted = DEFAULT_WINDOW  # by the peer, for the connection, since it began
        self._ends_at = WINDOW_MAX  # the last stream that our GOAWAY leaves; must not rise (RFC 9113, 6.8)
        self._given_up: dict[int, None] = {}  # streams that we ended before the peer did, the last of them

    # What the peer sent.

    def _check_begun(self, stream_id: int, what: str) -> None:
        """Idle streams take nothing but HEADERS and PRIORITY (RFC 9113, 5.1); the even ones stay idle."""
        if stream_id > self._last_id or stream_id & 1 == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, f"{what} on idle stream {stream_id}")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS size")
        if flags & ACK:
            if self._settings_due:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is an answer")
            self._allowances.spend(IDLE_FRAMES, self._now)
            return
        self._settings_due = False
        self._allowances.spend(SETTINGS_FRAMES, self._now)
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
                if stream.queue is not None and stream.send_window > 0:
                    self._ready[stream.id] = stream
        self.out.append(frame(SETTINGS, ACK, 0))
        self._count_control_reply()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "PING size")
        if flags & ACK:
            if not self._pings_unanswered:
                self._allowances.spend(IDLE_FRAMES, self._now)
                return
            self._pings_unanswered -= 1
            if payload == DRAIN_PING:
                self.finish_draining()
            return
        if self._pings is not None:
            answered, self.answered = self.answered, False
            self._pings.pinged(self._now, bool(self.streams), answered)
        self.out.append(frame(PING, ACK, 0, payload))
        self._count_control_reply()

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY size")
        self._allowances.spend(IDLE_FRAMES, self._now)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE size")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        self._window_updates += 1
        if self._window_updates > WINDOW_UPDATES_FREE:
            sent = self._window_granted - self.send_window
            if self._window_updates - WINDOW_UPDATES_FREE > sent // 2:
                raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "too many WINDOW_UPDATE frames")
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            if increment < TINY_UPDATE_BYTES and self.waiting_bytes:
                self._allowances.spend(TINY_UPDATES, self._now)
            self.send_window += increment
            self._window_granted += increment
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
        if increment < TINY_UPDATE_BYTES and stream.queue is not None:
            self._allowances.spend(TINY_UPDATES, self._now)
        stream.send_window += increment
        if stream.send_window > WINDOW_MAX:
            raise StreamFaultError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
        self._resume(stream, events)

    # What we answer.

    def _count_control_reply(self) -> None:
        """Replies that a peer asks for and does not read would grow without bound (CVE-2019-9512, -9515)."""
        self._control_replies += 1
        if self._control_replies > CONTROL_REPLIES_MAX:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames unread")

    def _fail_stream(self, fault: StreamFaultError, events: list[Event]) -> None:
        limit = REFUSALS if fault.code is ErrorCode.REFUSED_STREAM else FAULTS
        self._allowances.spend(limit, self._now, fault.cost)
        self.out.append(frame(RST_STREAM, 0, fault.stream_id, int(fault.code).to_bytes(4, "big")))
        self._count_control_reply()
        stream = self._drop(fault.stream_id)
        if stream is not None:
            events.append((EventKind.RESET, stream, fault.code))
        if fault.code is not ErrorCode.STREAM_CLOSED:  # that one the peer had ended before
            self._gave_up(fault.stream_id)

    def _gave_up(self, stream_id: int) -> None:
        self._given_up[stream_id] = None
        if len(self._given_up) > STREAMS_GIVEN_UP_MAX:
            del self._given_up[next(iter(self._given_up))]

    def written(self) -> None:
        """The owner took ``out``, to hand it to the transport: what was in it counts anew."""
        self._control_replies = 0
        self.out_bytes = 0

    # What we say of our own accord.

    def ping(self, payload: bytes = KEEPALIVE_PING) -> None:
        """Ask for a sign of life."""
        if not self.closed:
            self._pings_unanswered += 1
            self.out.append(frame(PING, 0, 0, payload))

    def drain(self) -> None:
        """
        Announce the end.

        Requests on their way are still taken: only when a PING has come back does the peer know, and
        `finish_draining` follows.
        """
        if not self.closed and not self.drain_begun:
            self.drain_begun = True
            self.out.append(_goaway(WINDOW_MAX, ErrorCode.NO_ERROR))
            self.ping(DRAIN_PING)

    def finish_draining(self) -> None:
        """The end: streams in progress complete, new ones are refused.  Without `drain` it comes at once."""
        if not self.closed and not self.draining:
            self.drain_begun = self.draining = True
            self._streams_allowed = 0
            self._ends_at = self._last_id
            self.out.append(_goaway(self._ends_at, ErrorCode.NO_ERROR))

    def terminate(self, fault: ConnectionFaultError) -> None:
        """Queue GOAWAY with the reason; all streams are gone."""
        self.closed = True
        self.streams.clear()
        self._ready.clear()
        self.out.append(_goaway(min(self._last_id, self._ends_at), fault.code, fault.reason.encode()))


def _goaway(last_id: int, code: ErrorCode, reason: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last_id.to_bytes(4, "big") + int(code).to_bytes(4, "big") + reason)
