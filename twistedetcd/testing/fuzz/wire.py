"""Fuzzers of the wire: header compression, HTTP/2 connections, gRPC messages."""

from __future__ import annotations

import random
import zlib
from typing import Any

import hpack

from twistedetcd.protocols import grpc
from twistedetcd.protocols.framing import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    EventKind,
    WholeResponse,
    frame,
    unpack_header,
)
from twistedetcd.protocols.hpack import Decoder, Header, HeaderBlockError, HeaderListTooLargeError, encode
from twistedetcd.protocols.http2 import ServerConnection
from twistedetcd.testing.fuzz.run import chunks, mutated

LIST_BYTES_MAX = 1 << 20
MESSAGE_BYTES_MAX = 2000
OUT_BYTES_MAX = 1 << 20  # more than any script below can ask for
OK = WholeResponse(encode([(b":status", b"200")]), encode([(b"grpc-status", b"0")]))
REQUEST: list[Header] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/fuzz/Unary"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]
WORDS = [b"", b"a", b"te", b"trailers", b":path", b"/", b"grpc-timeout", b"1S", b"content-length", b"3"]
KINDS = [HEADERS, HEADERS, HEADERS, DATA, DATA, DATA, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE]


def _fields(draw: random.Random) -> list[Header]:
    fields = [
        (draw.choice(WORDS), draw.choice(WORDS) * draw.choice([1, 1, 50])) for _ in range(draw.randint(0, 4))
    ]
    return REQUEST + fields if draw.random() < 0.7 else fields


def header_blocks(draw: random.Random) -> None:
    """
    Our decoder and the hpack library's read the same blocks.

    The same headers come out, or both refuse; but ours alone refuses an integer of more than five octets.
    """
    encoder, ours, theirs = hpack.Encoder(), Decoder(list_bytes_max=LIST_BYTES_MAX), hpack.Decoder()
    theirs.max_header_list_size = LIST_BYTES_MAX
    for _ in range(draw.randint(1, 6)):
        if draw.random() < 0.2:
            encoder.header_table_size = draw.choice([0, 40, 100, 4096])
        block = encoder.encode(_fields(draw), huffman=draw.random() < 0.5)
        if draw.random() < 0.6:
            block = mutated(draw, block)
        elif draw.random() < 0.2:
            block = draw.randbytes(draw.randint(0, 30))
        expected: Any
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except hpack.HPACKError as error:
            expected = error
        found: Any
        try:
            found = ours.decode(block)
        except (HeaderBlockError, HeaderListTooLargeError) as error:
            found = error
        if isinstance(found, Exception):
            known = str(found) == "integer too long"
            assert known or isinstance(expected, Exception), (block, found, expected)
            return  # the state is lost
        assert found == expected, (block, found, expected)


def _frames(draw: random.Random) -> bytes:
    """Frames that are mostly right, on few streams."""
    parts = []
    encoder = hpack.Encoder()
    next_stream = 1
    for _ in range(draw.randint(1, 25)):
        stream = draw.choice([0, 1, 3, 5, 7, next_stream, next_stream, draw.getrandbits(32)])
        ended = draw.random() < 0.5
        kind = draw.choice([*KINDS, draw.randrange(12)])
        if kind == HEADERS:
            fields = _fields(draw)
            block = encode(fields) if draw.random() < 0.5 else encoder.encode(fields)
            next_stream += 2
            cut = draw.randint(0, len(block))
            if draw.random() < 0.2:
                parts.append(frame(HEADERS, END_STREAM * ended, stream, block[:cut]))
                parts.append(frame(CONTINUATION, END_HEADERS, stream, block[cut:]))
            elif draw.random() < 0.2:
                padding = draw.randrange(9)
                payload = bytes([padding]) + draw.randbytes(5) + block + bytes(padding)
                flags = END_HEADERS | END_STREAM * ended | PADDED | PRIORITIZED
                parts.append(frame(HEADERS, flags, stream, payload))
            else:
                parts.append(frame(HEADERS, END_HEADERS | END_STREAM * ended, stream, block))
        elif kind == DATA:
            body = grpc_message(draw)
            parts.append(frame(DATA, END_STREAM * ended, stream, body))
        elif kind == RST_STREAM:
            parts.append(frame(RST_STREAM, 0, stream, draw.randbytes(4)))
        elif kind == SETTINGS:
            value = draw.choice([0, 1, 100, 16384, 65535, draw.getrandbits(32)])
            pair = SETTING.pack(draw.randrange(8), value)
            parts.append(frame(SETTINGS, 0, 0, pair * draw.randint(0, 2)))
        elif kind == PING:
            parts.append(frame(PING, ACK * ended, 0, draw.randbytes(8)))
        elif kind == WINDOW_UPDATE:
            increment = draw.choice([0, 1, 1000, 65535, draw.getrandbits(32)])
            parts.append(frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big")))
        else:
            parts.append(frame(kind, draw.randrange(256), stream, draw.randbytes(draw.randint(0, 20))))
    script = PREFACE + frame(SETTINGS, 0, 0) + b"".join(parts)
    return mutated(draw, script) if draw.random() < 0.5 else script


def _well_formed(out: bytes) -> list[tuple[int, int, int, bytes]]:
    """The frames that a server sent; none is too large, none is cut."""
    found, at = [], 0
    while at < len(out):
        high, low, kind, flags, stream = unpack_header(out, at)
        end = at + 9 + (high << 8 | low)
        assert end - at - 9 <= FRAME_BYTES_MAX, "a frame that is too large"
        assert end <= len(out), "a frame that is cut"
        found.append((kind, flags, stream, out[at + 9 : end]))
        at = end
    return found


def _converse(pieces: list[bytes]) -> tuple[list[Any], bytes]:
    """What a connection reports, and what it says when nothing is answered before the end."""
    server = ServerConnection(tuple)
    told: list[Any] = []
    for piece in pieces:
        for kind, stream, argument in server.receive(piece):
            told.append((kind, stream and stream.id, getattr(argument, "code", argument)))
            assert len(server._buffer) <= FRAME_BYTES_MAX + 9, "a buffer that grows"
    out = b"".join(server.out)
    assert len(out) <= OUT_BYTES_MAX, "an answer out of all proportion"
    _well_formed(out)
    return _joined(told), out


def _joined(told: list[Any]) -> list[Any]:
    """The same events, a WHOLE body taken for DATA and ENDED; WRITABLE depends on what came in one piece."""
    found: list[Any] = []
    for kind, stream, argument in told:
        if kind == EventKind.WHOLE:
            found += [(EventKind.DATA, stream, argument)] if argument else []
            found.append((EventKind.ENDED, stream, None))
        elif kind != EventKind.WRITABLE:
            found.append((kind, stream, argument))
    return found


def connections(draw: random.Random) -> None:
    """
    An HTTP/2 connection takes any bytes without raising; they mean the same however they are cut.

    What it sends are whole frames, a GOAWAY is the last of them, and what it keeps and says is bounded.
    """
    script = _frames(draw)
    whole = _converse([script])
    assert whole == _converse(chunks(draw, script)), "chunks matter"
    responding = ServerConnection(tuple)
    for piece in chunks(draw, script):
        for kind, stream, argument in responding.receive(piece):
            if kind == EventKind.DATA:
                responding.consumed(stream, len(argument))
            elif kind in (EventKind.WHOLE, EventKind.ENDED):
                responding.respond(stream, OK, b"", bytes(draw.choice([0, 10, 70_000])))
    _well_formed(b"".join(responding.out))
    assert responding.waiting_bytes >= 0, "less than nothing waits"


def grpc_message(draw: random.Random) -> bytes:
    """The bytes of a message: right, compressed, cut, too long, or noise."""
    body = draw.randbytes(draw.choice([0, 1, 10, 300, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX + 1]))
    if draw.random() < 0.3:
        body = bytes(draw.choice([10, MESSAGE_BYTES_MAX, 100 * MESSAGE_BYTES_MAX]))
    flag = draw.choice([0, 0, 0, 1, 1, 2])
    if flag == 1 and draw.random() < 0.8:
        body = zlib.compress(body, wbits=31)
    if len(body) > FRAME_BYTES_MAX - 5:
        body = body[: FRAME_BYTES_MAX - 5]
    message = bytes([flag]) + len(body).to_bytes(4, "big") + body
    return mutated(draw, message) if draw.random() < 0.3 else message


class _Echo:
    """A `Receiver` that says everything again."""

    def __init__(self, call: grpc.Call) -> None:
        self._call = call

    def message_received(self, message: bytes) -> None:
        assert len(message) <= MESSAGE_BYTES_MAX, "a message above the limit"
        self._call.send(message)

    def half_closed(self) -> None:
        self._call.finish()

    def cancelled(self) -> None:
        pass

    def writable(self) -> None:
        pass


def _unary(call: grpc.Call, message: bytes) -> None:
    assert len(message) <= MESSAGE_BYTES_MAX, "a message above the limit"
    call.reply(message)


def messages(draw: random.Random) -> None:
    """
    A gRPC server takes any requests without raising, and answers the same however their bytes are cut.

    No message above the limit reaches a handler, and when all is over nothing is kept.
    """
    methods = {
        b"/fuzz/Unary": grpc.Method(unary=_unary),
        b"/fuzz/Stream": grpc.Method(stream=_Echo),
    }
    script = PREFACE + frame(SETTINGS, 0, 0)
    for number in range(draw.randint(1, 6)):
        stream = 2 * number + 1
        coding = [(b"grpc-encoding", draw.choice([b"gzip", b"gzip", b"identity", b"br"]))]
        coding *= draw.randrange(2)
        path = draw.choice([b"/fuzz/Unary", b"/fuzz/Stream", b"/fuzz/Nothing"])
        fields = [*REQUEST[:2], (b":path", path), *REQUEST[3:], *coding]
        if draw.random() < 0.2:
            fields.append((b"grpc-timeout", draw.choice([b"1S", b"", b"99999999H", b"1x", b"123456789S"])))
        script += frame(HEADERS, END_HEADERS, stream, encode(fields))
        body = b"".join(grpc_message(draw) for _ in range(draw.choice([0, 1, 1, 1, 2, 3])))
        pieces = [piece for piece in chunks(draw, body) if piece] or [b""]
        for piece in pieces[:-1]:
            for at in range(0, len(piece), FRAME_BYTES_MAX):
                script += frame(DATA, 0, stream, piece[at : at + FRAME_BYTES_MAX])
        last = pieces[-1]
        if len(last) <= FRAME_BYTES_MAX:
            script += frame(DATA, END_STREAM, stream, last)
    outs = []
    for pieces in ([script], chunks(draw, script)):
        server = grpc.Connection(methods, lambda: None, message_bytes_max=MESSAGE_BYTES_MAX)
        for piece in pieces:
            server.receive(piece, 0.0)
        assert server.in_progress == 0, "a call that nobody answers"
        outs.append(_by_stream(b"".join(server.taken())))
        server.lost()
        assert (server.streaming, server._partial_bytes) == (0, 0), "something was kept"
    assert outs[0] == outs[1], "chunks matter"


def _by_stream(out: bytes) -> dict[int, list[Any]]:
    """
    What was said on each stream.

    The order between streams is free, and so is how bodies are cut.  RST_STREAM behind an early answer comes
    only to a client that had not sent all.
    """
    said: dict[int, list[Any]] = {}
    for kind, flags, stream, payload in _well_formed(out):
        if kind not in (HEADERS, DATA):
            continue
        told = said.setdefault(stream, [])
        if kind == DATA and told and told[-1][0] == DATA:
            told[-1] = (DATA, flags, told[-1][2] + payload)
        else:
            told.append((kind, flags, payload))
    return said
