"""
What both sides of an HTTP/2 connection agree on (RFC 9113): frames, codes, limits.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from struct import Struct
from typing import Any

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

FRAME_BYTES_MAX = 16384  # SETTINGS_MAX_FRAME_SIZE, left at its default in both directions
STREAM_WINDOW = 1 << 20  # bytes a peer may send on a stream before we took them
CONNECTION_WINDOW = 1 << 24  # the same for all streams of a connection
HEADER_LIST_BYTES_MAX = 65536
HEADER_BLOCK_BYTES_MAX = 65536  # encoded, over all CONTINUATION frames
CONTINUATIONS_MAX = 16
REMEMBERED_BLOCKS_MAX = 256
REMEMBERED_BYTES_MAX = 65536
REMEMBERED_FIELDS_MAX = 64  # of a block that is remembered: one octet may stand for a field
UNFINISHED_SECONDS_MAX = 30.0  # for one frame, one header block, or the client's first SETTINGS
CONTROL_REPLIES_MAX = 1000  # PING and SETTINGS answers that the peer has not taken
STREAMS_MAX = 100_000  # on one connection, also when no limit was announced
WAITING_BYTES_MAX = 48 * 1024 * 1024  # responses that wait for a window: above it new streams are refused
QUEUE_OVERHEAD_BYTES = 1024  # what a stream that waits costs beside its bytes
DEFAULT_WINDOW = 65535
TABLE_BYTES = 4096  # SETTINGS_HEADER_TABLE_SIZE, left at its default by us
WINDOW_MAX = 2**31 - 1
TABULATED = 1024  # response sizes whose frame header is kept ready

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

_HEADER = Struct(">HBBBL")  # length's upper 16 bits, its lower 8, type, flags, stream id
unpack_header = _HEADER.unpack_from
pack_header = _HEADER.pack
SETTING = Struct(">HL")


class ErrorCode(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class ConnectionFaultError(Exception):
    """The peer broke a rule of the connection; its code goes into GOAWAY."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{reason} ({code.name})")
        self.code = code
        self.reason = reason


class StreamFaultError(Exception):
    """The peer broke a rule of one stream; the others go on."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str, cost: int = 1) -> None:
        super().__init__(reason)
        self.stream_id, self.code = stream_id, code
        self.cost = cost  # of `twistedetcd.protocols.floods.FAULTS`


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    length = len(payload)
    return pack_header(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


class EventKind(IntEnum):
    """
    What a `receive` may report.  An event is a tuple of kind, stream and argument.

    A stream is OPENED; then its body comes WHOLE, or as any number of DATA and ENDED.  When the connection
    ends by a fault, every stream is RESET first.  WRITABLE for
    the connection's window comes last: it sums up what the whole piece opened.
    """

    OPENED = 0  # a new stream; argument: None
    WHOLE = 1  # the request is complete, and came in one frame; argument: the body
    DATA = 2  # part of a body; argument: the bytes, to be given back with `consumed`
    ENDED = 3  # the request is complete; argument: None
    RESET = 4  # the peer gave the stream up, or broke its rules; argument: the error code
    WRITABLE = 5  # what waited on a stream went out; argument: None
    TERMINATED = 6  # the connection is over, GOAWAY is queued; stream: None; argument: ConnectionFaultError


Event = tuple[EventKind, Any, Any]


class SendQueue:
    """
    What waits on a stream for a window: never empty, but for the moment it is made.

    Attributes:
        parts: Pieces of the body, in order.
        bytes: How much of them is left.
        trailers: The header block that ends the response, if it is known.
    """

    __slots__ = ("_at", "bytes", "parts", "trailers")

    def __init__(self) -> None:
        self.parts: deque[bytes] = deque()
        self.bytes = 0
        self.trailers: bytes | None = None
        self._at = 0  # how much of the first part went out

    def take(self, room: int) -> bytes:
        """The next bytes, at most ``room`` and of one part."""
        first = self.parts[0]
        piece = first[self._at : self._at + room]
        self._at += len(piece)
        self.bytes -= len(piece)
        if self._at == len(first):
            self.parts.popleft()
            self._at = 0
        return piece


class Stream:
    """
    One request and its response.  The layer above may subclass it to keep its own state beside ours.

    Attributes:
        id: The stream's number.
        request: What ``interpret`` made of the header list.
        send_window: Bytes the peer will still take; may be negative after a SETTINGS.
        begun: Part of the body came already.
        varied: What ``interpret_varying`` made of the field that varies, if it came.
        due: Bytes of the body still to come, if content-length tells.
        remote_closed: The request is complete.
        answered: Part of the response went out.
        queue: What waits for a window; ``None`` when nothing does.
    """

    # Most streams never change these: an attribute of the class costs nothing to set up.
    begun = False
    due: int | None = None
    varied: Any = None
    answered = False
    receive_window = STREAM_WINDOW
    unconsumed = 0
    queue: SendQueue | None = None

    def __init__(self, stream_id: int, request: Any, send_window: int, remote_closed: bool) -> None:
        self.id = stream_id
        self.request = request
        self.send_window = send_window
        self.remote_closed = remote_closed


class WholeResponse:
    """The constant parts of a response whose head and trailers never change, cut for `respond`."""

    def __init__(self, head: bytes, trailers: bytes) -> None:
        self.head = head
        self.trailers = trailers
        self.start = frame(HEADERS, END_HEADERS, 0, head)[:5]
        self.trailers_start = frame(HEADERS, END_HEADERS | END_STREAM, 0, trailers)[:5]
        self.head_and_data = [self.data_follows(length) for length in range(TABULATED)]

    def data_follows(self, length: int) -> bytes:
        """The head, then the first five octets of a DATA frame's header."""
        return self.head + pack_header(length >> 8, length & 0xFF, DATA, 0, 0)[:5]


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
