"""A client's half of HTTP/2, by hand: just enough to say anything, right or wrong, to a server under test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import hpack

from twistedetcd.protocols.framing import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    EventKind,
    frame,
    unpack_header,
)
from twistedetcd.protocols.hpack import Header, encode

START = PREFACE + frame(SETTINGS, 0, 0)


class Frame(NamedTuple):
    """One frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frames(data: bytes) -> list[Frame]:
    """Cut the server's bytes into frames; there must be nothing left over."""
    found, at = [], 0
    while at < len(data):
        high, low, kind, flags, stream = unpack_header(data, at)
        end = at + 9 + (high << 8 | low)
        assert end <= len(data), "the server sent half a frame"
        found.append(Frame(kind, flags, stream, data[at + 9 : end]))
        at = end
    return found


def request(path: bytes = b"/test.Echo/Unary", *more: Header) -> list[Header]:
    """The header list of a gRPC request."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]


def headers(stream: int, fields: list[Header], end: bool = False) -> bytes:
    """HEADERS whose block leaves the table alone."""
    return frame(HEADERS, END_HEADERS | end, stream, encode(fields))


def split_headers(stream: int, fields: list[Header], cuts: int) -> bytes:
    """HEADERS and as many CONTINUATION frames."""
    block = encode(fields)
    size = len(block) // (cuts + 1) + 1
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    sent = frame(HEADERS, 0, stream, parts[0])
    for part in parts[1:-1]:
        sent += frame(CONTINUATION, 0, stream, part)
    return sent + frame(CONTINUATION, END_HEADERS, stream, parts[-1])


def data(stream: int, body: bytes, end: bool = True) -> bytes:
    """One DATA frame."""
    return frame(DATA, END_STREAM if end else 0, stream, body)


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in pairs))


def window(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: int = 8) -> bytes:
    """An RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def message(body: bytes, flag: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return bytes([flag]) + len(body).to_bytes(4, "big") + body


def told(events: Iterable[tuple[EventKind, Any, Any]]) -> list[tuple[str, int | None, Any]]:
    """Events as plain values."""
    return [
        (kind.name, stream and stream.id, getattr(argument, "code", argument))
        for kind, stream, argument in events
    ]


class Response:
    """What came back on one stream."""

    def __init__(self) -> None:
        self.headers: list[dict[bytes, bytes]] = []
        self.body = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def messages(self) -> list[bytes]:
        """The gRPC messages in the body."""
        found, at = [], 0
        while at < len(self.body):
            end = at + 5 + int.from_bytes(self.body[at + 1 : at + 5], "big")
            found.append(self.body[at + 5 : end])
            at = end
        return found

    @property
    def status(self) -> tuple[int, str]:
        """The gRPC status: code, and message as it is on the wire."""
        last = self.headers[-1]
        return int(last[b"grpc-status"]), last.get(b"grpc-message", b"").decode()


class Responses(dict[int, Response]):
    """What came back, by stream.  Keeps the compression state of the connection."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = hpack.Decoder()
        self.others: list[Frame] = []

    def __missing__(self, stream: int) -> Response:
        response = self[stream] = Response()
        return response

    def take(self, sent: bytes) -> Responses:
        """Take in what the server sent."""
        for item in frames(sent):
            if item.kind == HEADERS:
                assert not self[item.stream].ended and item.flags & END_HEADERS
                self[item.stream].headers.append(dict(self._decoder.decode(item.payload, raw=True)))
            elif item.kind == DATA:
                assert not self[item.stream].ended and self[item.stream].headers
                self[item.stream].body += item.payload
            elif item.kind == RST_STREAM:
                self[item.stream].reset = int.from_bytes(item.payload, "big")
            else:
                self.others.append(item)
                continue
            if item.kind != RST_STREAM and item.flags & END_STREAM:
                self[item.stream].ended = True
        return self
