"""http2: what a connection does with requests, settings and its own end."""

from __future__ import annotations

import struct

import hpack

from tests.protocols.client import (
    START,
    Frame,
    data,
    headers,
    request,
    reset,
    window,
)
from tests.protocols.client import settings as setting
from tests.protocols.http2case import ENDED, OK, OPENED, Case
from twistedetcd.protocols.framing import (
    ACK,
    CONNECTION_WINDOW,
    CONTINUATION,
    CONTINUATIONS_MAX,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    GOAWAY,
    HEADER_BLOCK_BYTES_MAX,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
    SETTINGS,
    STREAM_WINDOW,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection


class StartTests(Case):
    """Prefaces and SETTINGS (3.4, 6.5)."""

    def setUp(self) -> None:
        self.server = ServerConnection(tuple, max_concurrent_streams=7)

    def test_greeting(self) -> None:
        """Our SETTINGS come first, before the client said anything, then a larger window."""
        first, second = self.out()
        self.assertEqual((SETTINGS, 0, 0), first[:3])
        announced = dict(struct.iter_unpack(">HL", first.payload))
        self.assertEqual({4: STREAM_WINDOW, 6: 65536, 3: 7}, announced)
        self.assertEqual((WINDOW_UPDATE, 0, 0), second[:3])
        self.assertEqual(CONNECTION_WINDOW - DEFAULT_WINDOW, int.from_bytes(second.payload, "big"))

    def test_settings_are_acknowledged(self) -> None:
        """Each SETTINGS gets an empty ACK; an ACK gets nothing."""
        self.out()
        self.say(START, setting((4, 100), (0x99, 1)))
        self.assertEqual([Frame(SETTINGS, ACK, 0, b"")] * 2, self.out())
        self.say(frame(SETTINGS, ACK, 0))
        self.assertEqual([], self.out())

    def test_smaller_header_table(self) -> None:
        """After a smaller HEADER_TABLE_SIZE our next header block says that our table shrank (4.3.1)."""
        for whole in (True, False):
            self.server = ServerConnection(tuple)
            self.say(START, setting((1, 0)), headers(1, request(), True), headers(3, request(), True))
            self.out()
            for stream in list(self.server.streams.values()):
                if whole:
                    self.server.respond(stream, OK, b"", b"body")
                else:
                    self.server.send_headers(stream, OK.trailers, end=True)
            blocks = [item.payload for item in self.out() if item.kind == HEADERS]
            self.assertEqual([b"\x20"] + [b""] * (len(blocks) - 1), [b[: b[:1] == b"\x20"] for b in blocks])
            decoder = hpack.Decoder()
            decoder.max_allowed_table_size = 0
            for block in blocks:
                decoder.decode(block)


class FrameTests(Case):
    """Frames that have their own rules (4, 6)."""

    def test_padded_data(self) -> None:
        """Padding is no part of the body; it may be all there is; yet it is flow-controlled (6.1)."""
        self.open(1, ended=False)
        self.assertEqual([("DATA", 1, b"body")], self.say(frame(DATA, PADDED, 1, b"\x02body\0\0")))
        self.assertEqual([], self.say(frame(DATA, PADDED, 1, b"\x02\0\0")))
        stream = self.server.streams[1]
        self.assertEqual((STREAM_WINDOW - 10, 6), (stream.receive_window, stream.unconsumed))
        self.assertEqual([(ENDED, 1, None)], self.say(frame(DATA, PADDED | END_STREAM, 1, b"\0")))
        self.assertEqual(11, self.server._received)


class HeaderTests(Case):
    """Header blocks, whole and in parts (4.3, 6.10, 8)."""

    def test_end_stream_belongs_to_the_headers_frame(self) -> None:
        """END_STREAM on HEADERS counts when the block is complete; on CONTINUATION it means nothing."""
        block = encode(request())
        self.assertEqual([], self.say(frame(HEADERS, END_STREAM, 1, block[:5])))
        self.assertEqual(
            [(OPENED, 1, None), (ENDED, 1, None)], self.say(frame(CONTINUATION, END_HEADERS, 1, block[5:]))
        )
        events = self.say(
            frame(HEADERS, 0, 3, block[:5]), frame(CONTINUATION, END_HEADERS | END_STREAM, 3, block[5:])
        )
        self.assertEqual([(OPENED, 3, None)], events)

    def test_blocks_are_bounded(self) -> None:
        """Too many CONTINUATION frames, or too many octets in them, end the connection (CVE-2024-27316)."""
        self.assert_dead(
            ErrorCode.ENHANCE_YOUR_CALM,
            frame(HEADERS, 0, 1),
            frame(CONTINUATION, 0, 1) * CONTINUATIONS_MAX,
        )
        self.setUp()
        part = bytes(FRAME_BYTES_MAX)
        count = HEADER_BLOCK_BYTES_MAX // FRAME_BYTES_MAX
        self.assert_dead(
            ErrorCode.ENHANCE_YOUR_CALM, frame(HEADERS, 0, 1, part), frame(CONTINUATION, 0, 1, part) * count
        )

    def test_list_too_large(self) -> None:
        """A header list above the limit costs only its stream; the table has followed."""
        encoder = hpack.Encoder()
        block = encoder.encode([(b"name", b"x" * 3000)])
        block += b"\xbe" * 30
        self.assert_reset(1, ErrorCode.ENHANCE_YOUR_CALM, frame(HEADERS, END_HEADERS, 1, block))
        self.say(frame(HEADERS, END_HEADERS, 3, encode(request()) + b"\xbe"))
        self.assertEqual((b"name", b"x" * 3000), self.server.streams[3].request[-1])

    def test_trailers_move_the_table(self) -> None:
        """What trailers insert is there for the next request, also those of a stream that we ended."""
        encoder = hpack.Encoder()
        self.server.reset(self.open(1, ended=False), ErrorCode.CANCEL)
        self.out()
        self.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, encoder.encode([(b"late", b"one")])))
        self.assertEqual([], self.out())
        self.say(frame(HEADERS, END_HEADERS, 3, encoder.encode([*request(), (b"late", b"one")])))
        self.assertEqual((b"late", b"one"), self.server.streams[3].request[-1])


class StreamTests(Case):
    """The life of a stream (5)."""

    def test_reserved_bit(self) -> None:
        """The highest bit of a stream id is ignored, on each road (4.1)."""
        high = 1 << 31
        self.open(1)
        self.assertEqual(
            [(OPENED, 3, None), ("DATA", 3, b"a"), (ENDED, 3, None), (OPENED, 5, None), ("WHOLE", 5, b"b")],
            self.say(
                headers(high | 3, request()),
                data(high | 3, b"a"),
                headers(high | 5, request(b"/new")),
                data(5, b"b"),
            ),
        )
        self.assertEqual([1, 3, 5], list(self.server.streams))

    def test_frames_on_streams_that_are_over(self) -> None:
        """What was on its way when we ended a stream is ignored, but counted for the connection."""
        self.server.reset(self.open(1, ended=False), ErrorCode.CANCEL)
        self.out()
        self.assertEqual([], self.say(data(1, b"late"), window(1, 5), window(1, 0), reset(1)))
        self.assertEqual(([], 4), (self.out(), self.server._received))

    def test_peer_resets(self) -> None:
        """RST_STREAM is reported with its code; the stream is gone and what waited on it too."""
        stream = self.open(1)
        self.server.send_data(stream, bytes(100_000))
        self.assertEqual([("RESET", 1, 8)], self.say(reset(1)))
        self.assertEqual(({}, 0), (self.server.streams, self.server.waiting_bytes))

    def test_sending_on_a_stream_that_is_over(self) -> None:
        """A request that was reset in the piece that brought it is answered by nothing at all."""
        for send in (
            lambda stream: self.server.respond(stream, OK, b"", b"body"),
            lambda stream: self.server.respond(stream, OK, b"", bytes(100_000)),
            lambda stream: self.server.send_headers(stream, OK.head),
            lambda stream: self.server.send_data(stream, b"data"),
            lambda stream: self.server.send_trailers(stream, OK.trailers),
            lambda stream: self.server.reset(stream, ErrorCode.CANCEL),
            lambda stream: self.server.consumed(stream, STREAM_WINDOW),
        ):
            self.setUp()
            stream = self.open(1, ended=False)
            self.say(reset(1))
            send(stream)
            self.assertEqual([], self.out())
            self.assertEqual(0, self.server.waiting_bytes)

    def test_concurrency(self) -> None:
        """One stream above the announced number is refused; a place is free again once one ended."""
        self.server = ServerConnection(tuple, max_concurrent_streams=2)
        self.say(START)
        for stream in (1, 3):
            self.open(stream)
        for refused in (headers(5, request()), headers(7, request(b"/other"))):
            [stream] = struct.unpack(">L", refused[5:9])
            self.assertEqual([], self.assert_reset(stream, ErrorCode.REFUSED_STREAM, refused))
        self.assertEqual([], self.say(data(5, b"its body")))
        self.say(reset(1))
        self.assertEqual([(OPENED, 9, None)], self.say(headers(9, request())))

    def test_early_response(self) -> None:
        """A response before the end of its request is followed by RST_STREAM NO_ERROR (8.1)."""
        for whole in (True, False):
            self.setUp()
            stream = self.open(1, ended=False)
            if whole:
                self.server.respond(stream, OK, b"", b"x")
            else:
                self.server.send_headers(stream, OK.trailers, end=True)
            self.assertEqual(Frame(RST_STREAM, 0, 1, bytes(4)), self.out()[-1])
            self.assertEqual({}, self.server.streams)

    def test_fault_resets_every_stream(self) -> None:
        """A fault of the connection is reported to each open stream before it is reported itself."""
        self.open(1)
        self.open(3)
        events = self.say(headers(5, request()), frame(PING, 0, 1, bytes(8)))
        code = ErrorCode.PROTOCOL_ERROR
        self.assertEqual(
            [
                (OPENED, 5, None),
                *(("RESET", stream, code) for stream in (1, 3, 5)),
                ("TERMINATED", None, code),
            ],
            events,
        )

    def test_drain(self) -> None:
        """After the second GOAWAY streams in progress go on, new ones are refused."""
        stream = self.open(1)
        self.server.drain()
        self.server.drain()
        first, ping = self.out()
        self.assertEqual((GOAWAY, b"\x7f\xff\xff\xff\0\0\0\0"), (first.kind, first.payload))
        self.say(frame(PING, ACK, 0, ping.payload), frame(PING, ACK, 0, ping.payload))
        [goaway] = self.out()
        self.assertEqual((GOAWAY, b"\0\0\0\x01\0\0\0\0"), (goaway.kind, goaway.payload))
        self.assert_reset(3, ErrorCode.REFUSED_STREAM, headers(3, request()))
        self.assert_reset(5, ErrorCode.REFUSED_STREAM, headers(5, request(b"/new")))
        self.server.respond(stream, OK, b"", b"answer")
        self.assertEqual([HEADERS, DATA, HEADERS], [item.kind for item in self.out()])
        self.say(window(0, 0))
        self.assertEqual(b"\0\0\0\x01", self.out()[-1].payload[:4], "a last id that rose")

    def test_drain_after_a_fault(self) -> None:
        """A connection that ended is not drained."""
        self.assert_dead(ErrorCode.PROTOCOL_ERROR, window(0, 0))
        self.server.drain()
        self.assertEqual([], self.out())
