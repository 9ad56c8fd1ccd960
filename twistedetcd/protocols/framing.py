"""
What both sides of an HTTP/2 connection agree on (RFC 9113): frames, codes, limits, the rules for headers.
"""

from __future__ import annotations

import re
from collections import deque
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Any

from twistedetcd.protocols.hpack import Header

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

FRAME_BYTES_MAX = 16384  # SETTINGS_MAX_FRAME_SIZE, left at its default in both directions
STREAM_WINDOW = 1 << 20  # bytes a peer may send on a stream before we took them
CONNECTION_WINDOW = 1 << 24  # the same for all streams of a connection
HEADER_LIST_BYTES_MAX = 65536
HEADER_BLOCK_BYTES_MAX = 65536  # encoded, over all CONTINUATION frames
CONTINUATIONS_MAX = 16
REMEMBERED_BLOCKS_MAX = 256
REMEMBERED_BYTES_MAX = 65536
CONTROL_REPLIES_MAX = 1000  # PING and SETTINGS answers that the peer has not taken
STREAMS_MAX = 100_000  # on one connection, also when no limit was announced
WAITING_BYTES_MAX = 64 * 1024 * 1024  # responses that wait for a window: above it new streams are refused
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

    def __init__(self, stream_id: int, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.stream_id, self.code = stream_id, code


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
        remote_closed: The request is complete.
        queue: What waits for a window; ``None`` when nothing does.
    """

    # Most streams never change these: an attribute of the class costs nothing to set up.
    begun = False
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


_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)

# Visible ASCII without capitals and without the colon.
_NAME = re.compile(rb"[!-9;-@\[-~]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\n\r\0]")


def request_problem(headers: list[Header]) -> str | None:
    """What RFC 9113, 8.2 and 8.3 forbid in a request, or ``None``."""
    return _request_names_problem(tuple([name for name, _ in headers])) or _values_problem(headers)


def trailers_problem(headers: list[Header]) -> str | None:
    """What RFC 9113, 8.1 and 8.2 forbid after a body, or ``None``."""
    for name, _ in headers:
        problem = "pseudo-header in trailers" if name[:1] == b":" else _name_problem(name)
        if problem:
            return problem
    return _values_problem(headers)


@lru_cache(maxsize=256)  # a client that changes a value on every call still sends the same names
def _request_names_problem(names: tuple[bytes, ...]) -> str | None:
    seen = set()
    regular = False
    for name in names:
        if name[:1] == b":":
            if regular or name in seen or name not in _PSEUDO:
                return "misplaced, repeated or unknown pseudo-header"
            seen.add(name)
        else:
            regular = True
            problem = _name_problem(name)
            if problem:
                return problem
    if not {b":method", b":scheme", b":path"} <= seen:
        return "missing pseudo-header"
    return None


def _name_problem(name: bytes) -> str | None:
    if name in _CONNECTION_SPECIFIC:
        return "connection-specific header"
    return None if _NAME.fullmatch(name) else "malformed header name"


def _values_problem(headers: list[Header]) -> str | None:
    if _FORBIDDEN_IN_VALUE.search(b"".join([value for _, value in headers])):
        return "malformed header value"
    fields = dict(headers)
    if fields.get(b":path", b"/") == b"":
        return "empty path"
    if fields.get(b"te", b"trailers") != b"trailers":
        return "connection-specific header"
    return None
