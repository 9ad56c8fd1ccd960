"""http2: what RFC 9113 asks of a server, and the limits that keep a peer from filling our memory."""

from __future__ import annotations

import struct
from typing import Any

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import (
    START,
    Frame,
    Responses,
    data,
    frames,
    headers,
    request,
    reset,
    split_headers,
    told,
    window,
)
from tests.protocols.client import settings as setting
from twistedetcd.protocols import sending
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
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    REMEMBERED_BLOCKS_MAX,
    REMEMBERED_BYTES_MAX,
    RST_STREAM,
    SETTINGS,
    STREAM_WINDOW,
    WAITING_BYTES_MAX,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ErrorCode,
    WholeResponse,
    frame,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection

OK = WholeResponse(encode([(b":status", b"200")]), encode([(b"grpc-status", b"0")]))
several = settings(max_examples=100, deadline=None)
OPENED, ENDED = "OPENED", "ENDED"
Told = list[tuple[str, int | None, Any]]


class Case(SynchronousTestCase):
    """A connection past its preface, whose own greeting was taken."""

    def setUp(self) -> None:
        self.server: Any = ServerConnection(tuple)
        self.server.receive(START)
        self.out()

    def out(self) -> list[Frame]:
        """What the server sent since the last time, as the transport would take it."""
        sent = b"".join(self.server.out)
        self.server.out.clear()
        self.server.written()
        return frames(sent)

    def say(self, *parts: bytes) -> Told:
        """Say something in one piece."""
        return told(self.server.receive(b"".join(parts)))

    def open(self, stream: int = 1, ended: bool = True) -> Any:
        """A request, complete unless told otherwise."""
        self.server.receive(headers(stream, request(), end=ended))
        return self.server.streams[stream]

    def assert_dead(self, code: ErrorCode, *parts: bytes) -> None:
        """The parts end the connection, with this code."""
        events = self.say(*parts)
        self.assertEqual(("TERMINATED", None, code), events[-1])
        last = self.out()[-1]
        self.assertEqual((GOAWAY, 0), (last.kind, last.stream))
        self.assertEqual(code, int.from_bytes(last.payload[4:8], "big"))
        self.assertTrue(self.server.closed)
        self.assertEqual({}, self.server.streams)
        self.assertEqual([], self.say(START))

    def assert_reset(self, stream: int, code: ErrorCode, *parts: bytes) -> Told:
        """The parts end one stream, with this code, and not the connection."""
        events = self.say(*parts)
        self.assertIn(Frame(RST_STREAM, 0, stream, int(code).to_bytes(4, "big")), self.out())
        self.assertNotIn(stream, self.server.streams)
        self.assertFalse(self.server.closed)
        return events


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

    def test_wrong_preface(self) -> None:
        """The first wrong octet ends it, even when more of the preface is missing."""
        self.assert_dead(ErrorCode.PROTOCOL_ERROR, PREFACE[:5], b"x")

    def test_first_frame_must_be_settings(self) -> None:
        """Anything but SETTINGS of the client's own after the preface is a connection error."""
        for wrong in (headers(1, request()), frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), b"\0" * 9):
            self.server = ServerConnection(tuple)
            self.assert_dead(ErrorCode.PROTOCOL_ERROR, PREFACE, wrong)

    def test_bad_settings(self) -> None:
        """Values out of range, wrong sizes and streams are connection errors."""
        for code, wrong in (
            (ErrorCode.PROTOCOL_ERROR, frame(SETTINGS, 0, 1)),
            (ErrorCode.FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, b"12345")),
            (ErrorCode.FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, bytes(6))),
            (ErrorCode.FLOW_CONTROL_ERROR, setting((4, 1 << 31))),
            (ErrorCode.PROTOCOL_ERROR, setting((5, FRAME_BYTES_MAX - 1))),
            (ErrorCode.PROTOCOL_ERROR, setting((5, 1 << 24))),
            (ErrorCode.PROTOCOL_ERROR, setting((2, 2))),
        ):
            self.server = ServerConnection(tuple)
            self.say(START)
            self.assert_dead(code, wrong)

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


class CutTests(SynchronousTestCase):
    """TCP may cut anywhere."""

    def test_every_cut(self) -> None:
        """The same bytes give the same events and answers however they arrive."""
        script = b"".join(
            (
                START,
                headers(1, request()),
                data(1, b"whole"),
                headers(3, request()),
                data(3, b"part", end=False),
                data(3, b"rest"),
                split_headers(5, request(b"/other"), 3),
                frame(PING, 0, 0, b"01234567"),
                frame(DATA, PADDED | END_STREAM, 5, b"\x03padded\0\0\0"),
                window(0, 5),
                headers(7, request()),
                reset(7),
                frame(0x77, 0, 9, b"unknown"),
                frame(PRIORITY, 0, 11, bytes(5)),
                headers(9, request()),
                data(1, b"again"),
            )
        )
        whole = ServerConnection(tuple)
        expected, sent = told(whole.receive(script)), whole.out
        self.assertEqual(13, len(expected))
        for size in (1, 2, 3, 7, 8, 9, 10, 31):
            server = ServerConnection(tuple)
            events = [
                event
                for at in range(0, len(script), size)
                for event in told(server.receive(script[at : at + size]))
            ]
            self.assertEqual(expected, events)
            self.assertEqual(sent, server.out)
        for cut in range(len(script)):
            server = ServerConnection(tuple)
            self.assertEqual(
                expected, told(server.receive(script[:cut])) + told(server.receive(script[cut:]))
            )


class FrameTests(Case):
    """Frames that have their own rules (4, 6)."""

    def test_ping(self) -> None:
        """A PING comes back with its octets; an ACK does not."""
        self.say(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"87654321"))
        self.assertEqual([Frame(PING, ACK, 0, b"12345678")], self.out())

    def test_connection_errors(self) -> None:
        """Frames of a wrong size, on a wrong stream, or that no client sends."""
        size, protocol = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.PROTOCOL_ERROR
        for code, wrong in (
            (size, frame(PING, 0, 0, b"1234567")),
            (protocol, frame(PING, 0, 1, b"12345678")),
            (size, b"\0\x40\x01" + b"\0" * 6),
            (protocol, frame(GOAWAY, 0, 1, bytes(8))),
            (size, frame(GOAWAY, 0, 0, bytes(7))),
            (protocol, frame(PUSH_PROMISE, 0, 1, bytes(4))),
            (protocol, frame(PRIORITY, 0, 0, bytes(4))),
            (size, frame(RST_STREAM, 0, 1, bytes(3))),
            (protocol, frame(RST_STREAM, 0, 0, bytes(4))),
            (protocol, reset(1)),
            (size, frame(WINDOW_UPDATE, 0, 0, bytes(5))),
            (protocol, window(0, 0)),
            (protocol, window(1, 1)),
            (ErrorCode.FLOW_CONTROL_ERROR, window(0, WINDOW_MAX)),
            (protocol, data(1, b"idle")),
            (protocol, data(0, b"zero")),
            (protocol, headers(5, request()) + data(4, b"even is idle for ever")),
            (protocol, headers(5, request()) + reset(2)),
            (protocol, headers(5, request()) + window(2, 1)),
            (protocol, headers(0, request())),
            (protocol, headers(2, request())),
            (protocol, frame(CONTINUATION, END_HEADERS, 1)),
            (ErrorCode.COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\xbe")),
            (protocol, frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abc")),
            (protocol, frame(HEADERS, END_HEADERS | PADDED, 1, b"")),
            (size, frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"1234")),
            (protocol, headers(1, request()) + frame(DATA, PADDED, 1, b"\x01")),
        ):
            self.setUp()
            self.assert_dead(code, wrong)

    def test_harmless(self) -> None:
        """GOAWAY, PRIORITY, unknown frames and unknown flags change nothing."""
        self.assertEqual(
            [],
            self.say(
                frame(GOAWAY, 0, 0, bytes(8)),
                frame(PRIORITY, 0, 4, bytes(5)),
                frame(0x42, 0xFF, 3, b"?"),
                frame(PING, 0x80 | ACK, 0, bytes(8)),
            ),
        )
        self.assertEqual([], self.out())
        self.assertEqual([(OPENED, 1, None)], self.say(frame(HEADERS, 0xC4 & ~PADDED, 1, encode(request()))))

    def test_priority_size(self) -> None:
        """A PRIORITY of a wrong size is its stream's error only (6.3)."""
        self.open(1)
        self.assert_reset(1, ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY, 0, 1, bytes(6)))

    def test_headers_with_padding_and_priority(self) -> None:
        """Padding and priority are no part of the header block."""
        block = b"\x04" + b"\x80\0\0\0\x10" + encode(request()) + bytes(4)
        self.say(frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, block))
        self.assertEqual(tuple(request()), self.server.streams[1].request)

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

    def test_continuation(self) -> None:
        """A block in parts is one block."""
        self.assertEqual([(OPENED, 1, None)], self.say(split_headers(1, request(), 5)))
        self.assertEqual(tuple(request()), self.server.streams[1].request)

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

    def test_nothing_interrupts_a_block(self) -> None:
        """While a block is open nothing but its own CONTINUATION may come: no short road leads past that."""
        block = encode(request())
        for interruption in (
            data(1, b"a whole body"),
            headers(7, request()),
            frame(PING, 0, 0, bytes(8)),
            frame(CONTINUATION, END_HEADERS, 3, block),
            frame(0x55, 0, 5),
            frame(PRIORITY, 0, 5, bytes(5)),
        ):
            self.setUp()
            self.open(1, ended=False)
            self.assert_dead(ErrorCode.PROTOCOL_ERROR, frame(HEADERS, 0, 5, block[:9]), interruption)

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

    def test_malformed_requests(self) -> None:
        """What 8.2 and 8.3 forbid resets the stream, and the next request is served."""
        good = request()
        for stream, wrong in enumerate(
            (
                good[1:],
                [*good, (b":authority", b"late")],
                [good[0], *good],
                [(b":status", b"200"), *good],
                [*good, (b"connection", b"close")],
                [*good, (b"transfer-encoding", b"chunked")],
                [(name, b"gzip" if name == b"te" else value) for name, value in good],
                [*good, (b"Upper", b"case")],
                [*good, (b"sp ace", b"")],
                [*good, (b"co:lon", b"")],
                [*good, (b"", b"nameless")],
                [*good, (b"name", b"new\nline")],
                [*good, (b"name", b"zero\0")],
                [(b":path", b"a\rb"), good[0], good[1]],
                request(b""),
            )
        ):
            self.assertEqual(
                [],
                self.assert_reset(2 * stream + 1, ErrorCode.PROTOCOL_ERROR, headers(2 * stream + 1, wrong)),
            )
        self.assertEqual([(OPENED, 99, None)], self.say(headers(99, good)))

    def test_list_too_large(self) -> None:
        """A header list above the limit costs only its stream; the table has followed."""
        encoder = hpack.Encoder()
        block = encoder.encode([(b"name", b"x" * 3000)])
        block += b"\xbe" * 30
        self.assert_reset(1, ErrorCode.ENHANCE_YOUR_CALM, frame(HEADERS, END_HEADERS, 1, block))
        self.say(frame(HEADERS, END_HEADERS, 3, encode(request()) + b"\xbe"))
        self.assertEqual((b"name", b"x" * 3000), self.server.streams[3].request[-1])

    def test_trailers(self) -> None:
        """A second HEADERS with END_STREAM completes the request, whatever ordinary fields it has."""
        self.open(1, ended=False)
        self.assertEqual([(ENDED, 1, None)], self.say(headers(1, [(b"checksum", b"1")], end=True)))
        self.assertIn(1, self.server.streams)

    def test_bad_trailers(self) -> None:
        """Trailers must end the stream, come once, and have no pseudo-header."""
        for code, ended, wrong in (
            (ErrorCode.PROTOCOL_ERROR, False, headers(1, [(b"name", b"")])),
            (ErrorCode.PROTOCOL_ERROR, False, headers(1, [(b":path", b"/")], end=True)),
            (ErrorCode.PROTOCOL_ERROR, False, headers(1, [(b"Name", b"")], end=True)),
            (ErrorCode.STREAM_CLOSED, True, headers(1, [(b"name", b"")], end=True)),
        ):
            self.setUp()
            self.open(1, ended)
            self.assertEqual([("RESET", 1, code)], self.assert_reset(1, code, wrong))

    def test_trailers_move_the_table(self) -> None:
        """What trailers insert is there for the next request, also those of a stream that is over."""
        encoder = hpack.Encoder()
        self.open(1, ended=False)
        self.say(reset(1))
        self.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, encoder.encode([(b"late", b"one")])))
        self.assertEqual([], self.out())
        self.say(frame(HEADERS, END_HEADERS, 3, encoder.encode([*request(), (b"late", b"one")])))
        self.assertEqual((b"late", b"one"), self.server.streams[3].request[-1])


class MemoryTests(Case):
    """Header blocks seen before are not decoded again, while that is right."""

    def remembered(self) -> dict[bytes, Any]:
        memory: dict[bytes, Any] = self.server._remembered
        self.assertEqual(sum(map(len, memory)), self.server._remembered_bytes)
        self.assertLessEqual(len(memory), REMEMBERED_BLOCKS_MAX)
        self.assertLessEqual(self.server._remembered_bytes, REMEMBERED_BYTES_MAX)
        return memory

    def test_same_request_object(self) -> None:
        """Streams with the same block share what was made of it."""
        self.assertIs(self.open(1).request, self.open(3).request)
        self.assertEqual(1, len(self.remembered()))

    def test_table_changes_end_it(self) -> None:
        """The same block means something else after an insertion: never the old request."""
        encoder = hpack.Encoder()
        encoder.encode([(b"filler", b"a")])
        base = encode(request())
        self.say(frame(HEADERS, END_HEADERS, 1, base + b"\x40\x01a\x01x"))
        self.assertEqual({}, self.remembered())
        self.say(frame(HEADERS, END_HEADERS, 3, base + b"\xbe"))
        self.assertEqual(1, len(self.remembered()))
        self.say(frame(HEADERS, END_HEADERS, 5, base + b"\x40\x01b\x01y"))
        self.assertEqual({}, self.remembered())
        self.say(frame(HEADERS, END_HEADERS, 7, base + b"\xbe"))
        self.assertEqual(
            [(b"a", b"x"), (b"b", b"y")], [self.server.streams[stream].request[-1] for stream in (3, 7)]
        )

    def test_any_table_change_counts(self) -> None:
        """Resizing counts too, and so do refused requests, oversized ones and trailers."""
        insertion = b"\x40\x01a\x01x"
        for change in (
            frame(HEADERS, END_HEADERS, 5, b"\x20" + encode(request())),
            frame(HEADERS, END_HEADERS, 5, insertion),
            frame(
                HEADERS, END_HEADERS, 5, insertion + b"\x0f\x01\x7f\xe1\x1d" + b"x" * 3936 + b"\xbe" * 2000
            ),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, insertion),
        ):
            self.setUp()
            self.open(1, ended=False)
            self.assertEqual(1, len(self.remembered()))
            self.say(change)
            self.assertFalse(self.server.closed)
            self.assertEqual({}, self.remembered())

    def test_bounded(self) -> None:
        """Blocks that never come again do not fill it up: it is emptied and starts anew."""
        for number in range(REMEMBERED_BLOCKS_MAX * 2 + 10):
            self.say(headers(2 * number + 1, request(b"/%d" % number)))
            self.remembered()
        self.assertIn(encode(request(b"/%d" % number)), self.remembered())
        self.setUp()
        for number in range(50):
            self.say(headers(2 * number + 1, request(b"/%d" % number, (b"large", b"x" * 3000))))
            self.remembered()

    def test_malformed_is_not_remembered(self) -> None:
        """A malformed request stays malformed."""
        for stream in (1, 3):
            self.assert_reset(stream, ErrorCode.PROTOCOL_ERROR, headers(stream, request()[1:]))


class StreamTests(Case):
    """The life of a stream (5)."""

    def test_lower_id(self) -> None:
        """A request on a stream below the last is a connection error, remembered block or not (5.1.1)."""
        self.open(5)
        self.assert_dead(ErrorCode.PROTOCOL_ERROR, headers(3, request(), end=True))

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

    def test_data_after_the_end(self) -> None:
        """DATA after END_STREAM is a stream error STREAM_CLOSED, with or without END_STREAM again."""
        for end in (True, False):
            self.setUp()
            self.open(1)
            events = self.assert_reset(1, ErrorCode.STREAM_CLOSED, data(1, b"more", end))
            self.assertEqual([("RESET", 1, ErrorCode.STREAM_CLOSED)], events)

    def test_frames_on_streams_that_are_over(self) -> None:
        """What was on its way when a stream ended is ignored, but counted for the connection."""
        self.say(headers(1, request()), reset(1))
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
        """After drain() streams in progress go on, new ones are refused; a second drain() says nothing."""
        stream = self.open(1)
        self.server.drain()
        self.server.drain()
        [goaway] = self.out()
        self.assertEqual((GOAWAY, b"\0\0\0\x01\0\0\0\0"), (goaway.kind, goaway.payload))
        self.assert_reset(3, ErrorCode.REFUSED_STREAM, headers(3, request()))
        self.assert_reset(5, ErrorCode.REFUSED_STREAM, headers(5, request(b"/new")))
        self.server.respond(stream, OK, b"", b"answer")
        self.assertEqual([HEADERS, DATA, HEADERS], [item.kind for item in self.out()])

    def test_drain_after_a_fault(self) -> None:
        """A connection that ended is not drained."""
        self.assert_dead(ErrorCode.PROTOCOL_ERROR, window(0, 0))
        self.server.drain()
        self.assertEqual([], self.out())


class ReceivingWindowTests(Case):
    """Flow control of requests (5.2, 6.9)."""

    def test_stream_window(self) -> None:
        """Half a window consumed is given back, in one WINDOW_UPDATE."""
        stream = self.open(1, ended=False)
        part = data(1, bytes(FRAME_BYTES_MAX), end=False)
        self.say(part * (STREAM_WINDOW // FRAME_BYTES_MAX))
        self.assertEqual(0, stream.receive_window)
        self.server.consumed(stream, STREAM_WINDOW // 2 - 1)
        self.assertEqual([], self.out())
        self.server.consumed(stream, 1)
        self.assertEqual([Frame(WINDOW_UPDATE, 0, 1, (STREAM_WINDOW // 2).to_bytes(4, "big"))], self.out())
        self.assertEqual(STREAM_WINDOW // 2, stream.receive_window)

    def test_stream_overrun(self) -> None:
        """One octet too many is a stream error."""
        self.open(1, ended=False)
        self.say(data(1, bytes(FRAME_BYTES_MAX), end=False) * (STREAM_WINDOW // FRAME_BYTES_MAX))
        self.assert_reset(1, ErrorCode.FLOW_CONTROL_ERROR, data(1, b"x"))

    def test_connection_window(self) -> None:
        """Half the connection's window is given back at once, whichever road the bodies took."""
        for end in (True, False):
            self.setUp()
            part = bytes(FRAME_BYTES_MAX)
            count = CONNECTION_WINDOW // 2 // FRAME_BYTES_MAX + 1
            for number in range(count):
                self.say(headers(2 * number + 1, request()), data(2 * number + 1, part, end))
            self.assertEqual(
                [Frame(WINDOW_UPDATE, 0, 0, (count * FRAME_BYTES_MAX).to_bytes(4, "big"))], self.out()
            )

    def test_connection_overrun(self) -> None:
        """More in one piece than the connection's window ends it, whichever road the bodies took."""
        for end in (True, False):
            self.setUp()
            count = CONNECTION_WINDOW // FRAME_BYTES_MAX + 1
            piece = b"".join(
                headers(2 * number + 1, request()) + data(2 * number + 1, bytes(FRAME_BYTES_MAX), end)
                for number in range(count)
            )
            self.assert_dead(ErrorCode.FLOW_CONTROL_ERROR, piece)

    def test_whole_is_the_whole_body(self) -> None:
        """The last frame of a long body is never taken for a whole one, not even with a full window."""
        stream = self.open(1, ended=False)
        for _ in range(STREAM_WINDOW // 2 // FRAME_BYTES_MAX):
            self.say(data(1, bytes(FRAME_BYTES_MAX), end=False))
            self.server.consumed(stream, FRAME_BYTES_MAX)
        self.assertEqual(STREAM_WINDOW, stream.receive_window)
        self.assertEqual([("DATA", 1, b"last"), (ENDED, 1, None)], self.say(data(1, b"last")))


class SendingWindowTests(Case):
    """Flow control of responses (5.2, 6.9)."""

    def body(self) -> list[tuple[int, int]]:
        """Sizes of the DATA frames that were sent, with their streams."""
        return [(item.stream, len(item.payload)) for item in self.out() if item.kind == DATA]

    def test_respond(self) -> None:
        """A response that fits is head, one DATA and trailers, and the stream is over."""
        for size in (0, 1, 1018, 1019, 1024, 5000, FRAME_BYTES_MAX - 5):
            self.setUp()
            self.server.respond(self.open(1), OK, b"12345", bytes(size))
            self.assertEqual(
                [
                    Frame(HEADERS, END_HEADERS, 1, OK.head),
                    Frame(DATA, 0, 1, b"12345" + bytes(size)),
                    Frame(HEADERS, END_HEADERS | END_STREAM, 1, OK.trailers),
                ],
                self.out(),
            )
            self.assertEqual(({}, DEFAULT_WINDOW - 5 - size), (self.server.streams, self.server.send_window))

    def test_respond_in_several_frames(self) -> None:
        """A response above the frame size is cut; trailers come after all of it."""
        self.server.respond(self.open(1), OK, b"12345", bytes(40_000))
        sent = self.out()
        self.assertEqual([HEADERS, DATA, DATA, DATA, HEADERS], [item.kind for item in sent])
        self.assertEqual(40_005, sum(len(item.payload) for item in sent if item.kind == DATA))
        self.assertEqual(0, self.server.waiting_bytes)

    def test_respond_waits_for_windows(self) -> None:
        """What does not fit waits, and goes out when both windows let it, to the last octet."""
        content = bytes(range(256)) * 400
        self.server.respond(self.open(1), OK, b"", content)
        responses = Responses().take(b"".join(self.server.out))
        self.server.out.clear()
        self.assertEqual(DEFAULT_WINDOW, len(responses[1].body))
        self.assertEqual([], self.say(window(1, 100_000)))
        self.assertEqual([], self.out())
        self.assertEqual([], self.say(window(0, 1000)))
        self.assertEqual([], self.say(window(0, 100_000)))
        responses.take(b"".join(self.server.out))
        self.assertEqual((content, True), (responses[1].body, responses[1].ended))
        self.assertEqual(({}, 0), (self.server.streams, self.server.waiting_bytes))

    def test_output_that_is_not_taken(self) -> None:
        """Above a limit streams wait for it, as for a window; others too, until it was taken."""
        self.patch(sending, "OUT_BYTES_MAX", 1000)
        one, two = self.open(1), self.open(3)
        self.server.send_headers(one, OK.head)
        self.server.send_headers(two, OK.head)
        self.assertEqual(0, self.server.send_data(one, bytes(1200)))
        self.assertEqual(300, self.server.send_data(one, bytes(300)))
        self.assertEqual(10, self.server.send_data(two, bytes(10)))
        self.assertEqual([(1, 1200)], self.body())
        self.assertTrue(self.server.congested)
        self.server.written()
        self.assertEqual([one, two], [stream for _, stream, _ in self.server.release()])
        self.assertEqual([(1, 300), (3, 10)], self.body())
        self.assertEqual((False, 0), (self.server.congested, self.server.waiting_bytes))

    def test_writable(self) -> None:
        """send_data() says how much waits; WRITABLE comes once, when nothing does."""
        stream = self.open(1)
        self.server.send_headers(stream, OK.head)
        self.assertEqual(0, self.server.send_data(stream, bytes(60_000)))
        self.assertEqual(14_465, self.server.send_data(stream, bytes(20_000)))
        self.assertEqual(14_475, self.server.send_data(stream, bytes(10)))
        self.assertEqual([], self.say(window(0, 14_474), window(1, 14_475)))
        self.assertEqual([("WRITABLE", 1, None)], self.say(window(0, 10)))
        self.assertEqual([], self.say(window(0, 10), window(1, 10)))
        self.assertEqual(80_010, sum(size for _, size in self.body()))
        self.assertEqual(0, self.server.send_data(stream, b""))

    def test_trailers_wait_for_the_body(self) -> None:
        """Trailers are sent after the last of the body, and then there is no WRITABLE."""
        stream = self.open(1)
        self.server.send_headers(stream, OK.head)
        self.server.send_data(stream, bytes(70_000))
        self.server.send_trailers(stream, OK.trailers)
        self.assertNotIn(Frame(HEADERS, END_HEADERS | END_STREAM, 1, OK.trailers), self.out())
        self.assertEqual([], self.say(window(0, 70_000), window(1, 70_000)))
        self.assertEqual(Frame(HEADERS, END_HEADERS | END_STREAM, 1, OK.trailers), self.out()[-1])

    def test_initial_window(self) -> None:
        """INITIAL_WINDOW_SIZE moves the windows of open streams, below zero if need be (6.9.2)."""
        stream = self.open(1)
        self.server.send_data(stream, bytes(1000))
        self.say(setting((4, 500)))
        self.assertEqual(-500, stream.send_window)
        self.assertEqual(10, self.server.send_data(stream, bytes(10)))
        self.assertEqual(500, self.open(3).send_window)
        self.body()
        self.say(window(1, 500))
        self.assertEqual([], self.body())
        self.assertEqual([("WRITABLE", 1, None)], self.say(setting((4, 520))))
        self.assertEqual([(1, 10)], self.body())

    def test_last_setting_counts(self) -> None:
        """Of several values in one SETTINGS the last is the one."""
        stream = self.open(1)
        self.say(setting((4, 0), (4, WINDOW_MAX), (4, 7)))
        self.assertEqual(7, stream.send_window)

    def test_overflow(self) -> None:
        """A stream's window above 2**31-1 is its error; made so by SETTINGS it is the connection's."""
        self.open(1)
        self.assert_reset(1, ErrorCode.FLOW_CONTROL_ERROR, window(1, WINDOW_MAX))
        self.open(3)
        self.say(window(3, 100))
        self.assert_dead(ErrorCode.FLOW_CONTROL_ERROR, setting((4, WINDOW_MAX)))

    def test_zero_increment(self) -> None:
        """An increment of zero on a stream is a stream error (6.9)."""
        self.open(1)
        self.assert_reset(1, ErrorCode.PROTOCOL_ERROR, window(1, 0))

    def test_oldest_first(self) -> None:
        """The connection's window goes to the oldest stream that waits."""
        for stream in (1, 3):
            self.server.send_data(self.open(stream), bytes(50_000))
        self.body()
        self.server.send_data(self.server.streams[1], bytes(10_000))
        self.say(window(0, 12_000))
        self.assertEqual([(1, 10_000), (3, 2_000)], self.body())

    def test_hold(self) -> None:
        """Held bodies stay here although the windows are open; release() sends and reports them."""
        stream = self.open(1)
        self.server.hold()
        self.assertEqual(100, self.server.send_data(stream, bytes(100)))
        self.say(window(0, 10))
        self.assertEqual([], self.body())
        self.assertEqual([("WRITABLE", 1, None)], told(self.server.release()))
        self.assertEqual([(1, 100)], self.body())
        self.assertEqual([], self.server.release())

    def test_waiting_responses_are_bounded(self) -> None:
        """While too much waits for the peer's windows new streams are refused, and only then."""
        stream = self.open(1)
        self.server.send_data(stream, bytes(WAITING_BYTES_MAX))
        self.assertEqual([(OPENED, 3, None)], self.say(headers(3, request())))
        self.server.send_data(self.server.streams[3], bytes(DEFAULT_WINDOW))
        self.assert_reset(5, ErrorCode.REFUSED_STREAM, headers(5, request()))
        self.say(reset(1))
        self.assertEqual([(OPENED, 7, None)], self.say(headers(7, request())))

    def test_many_small_pieces(self) -> None:
        """Many small pieces behind a closed window cost no more each than few."""
        stream = self.open(1)
        self.say(setting((4, 0)))
        for number in range(20_000):
            self.assertEqual(number + 1, self.server.send_data(stream, b"x"))
        self.out()
        self.assertEqual([("WRITABLE", 1, None)], self.say(window(1, 20_000)))
        self.assertEqual(20_000, sum(size for _, size in self.body()))


class FloodTests(Case):
    """A peer that makes us answer and does not read is told to calm down (10.5)."""

    def test_control_replies(self) -> None:
        """The limit counts PING, SETTINGS and RST_STREAM answers that the transport did not take yet."""
        for flood in (frame(PING, 0, 0, bytes(8)), setting((4, 1)), setting((4, 2)) + setting((4, 1))):
            self.setUp()
            self.assert_dead(ErrorCode.ENHANCE_YOUR_CALM, flood * (CONTROL_REPLIES_MAX + 1))
        self.setUp()
        resets = [headers(2 * number + 1, []) for number in range(CONTROL_REPLIES_MAX + 1)]
        self.assert_dead(ErrorCode.ENHANCE_YOUR_CALM, *resets)

    def test_taken_replies_are_forgiven(self) -> None:
        """Replies that were taken count no more."""
        for _ in range(3):
            self.say(frame(PING, 0, 0, bytes(8)) * CONTROL_REPLIES_MAX)
            self.assertEqual(CONTROL_REPLIES_MAX, len(self.out()))


def connection_state(server: Any) -> tuple[Any, ...]:
    """All that a connection knows, in comparable form."""
    streams = [
        (stream.id, stream.request, stream.remote_closed, stream.receive_window, stream.send_window)
        for stream in server.streams.values()
    ]
    return (
        streams,
        server._last_id,
        server._received,
        server.closed,
        server._block and server._block[::2],
        b"".join(server.out),
    )


class RoadsTests(SynchronousTestCase):
    """The short roads for common frames lead where the long one does."""

    frame_choices = st.one_of(
        st.builds(
            lambda stream, path, end: headers(stream, request(path), end),
            st.integers(0, 15),
            st.sampled_from([b"/a", b"/b"]),
            st.booleans(),
        ),
        st.builds(
            lambda stream, path: headers(1 << 31 | stream, request(path)),
            st.sampled_from([1, 3, 5, 7, 9, 11]),
            st.sampled_from([b"/a", b"/b"]),
        ),
        st.builds(data, st.integers(0, 15), st.sampled_from([b"", b"x", bytes(500)]), st.booleans()),
        st.builds(reset, st.sampled_from([1, 3, 5, 7])),
        st.just(frame(HEADERS, 0, 13, b"")),
        st.just(frame(CONTINUATION, END_HEADERS, 13, encode(request()))),
        st.just(frame(HEADERS, END_HEADERS, 9, b"\x40\x01a\x01b" + encode(request())[::-1])),
    )

    @given(st.lists(frame_choices, max_size=12), st.sampled_from([None, 3]))
    @settings(max_examples=300, deadline=None)
    def test_same_as_the_long_road(self, script: list[bytes], streams_max: int | None) -> None:
        """
        A server whose every frame has an unknown flag, hence no short road, ends up in the same state.

        WHOLE stands for DATA and ENDED, and nothing else differs.
        """
        warm = headers(1, request(b"/a")) + data(1, b"w") + headers(3, request(b"/b")) + reset(3)
        short: Any = ServerConnection(tuple, max_concurrent_streams=streams_max)
        long = ServerConnection(tuple, max_concurrent_streams=streams_max)
        for server in (short, long):
            server.receive(START + warm)
        found: Told = []
        expected: Told = []
        for item in script:
            flagged = item[:4] + bytes([item[4] | 0x40]) + item[5:]
            for kind, stream, argument in told(short.receive(item)):
                if kind == "WHOLE" and stream:
                    found += [("DATA", stream, argument)] if argument else []
                    found.append((ENDED, stream, None))
                    short.streams[stream].receive_window -= len(argument)
                else:
                    found.append((kind, stream, argument))
            expected += told(long.receive(flagged))
        self.assertEqual(expected, found)
        self.assertEqual(connection_state(long), connection_state(short))


class RandomTests(SynchronousTestCase):
    """Nothing that a peer sends makes the connection raise or grow."""

    kinds = st.sampled_from(list(range(11)))
    near_frames = st.builds(
        lambda kind, flags, stream, payload: frame(kind, flags, stream, payload),
        kinds,
        st.integers(0, 255),
        st.sampled_from([0, 1, 1, 2, 3, 5, 7, 1 << 31 | 9, WINDOW_MAX]),
        st.one_of(
            st.binary(max_size=40),
            st.just(encode(request())),
            st.integers(0, WINDOW_MAX).map(lambda n: n.to_bytes(4, "big")),
            st.just(bytes(8)),
        ),
    )

    @given(st.lists(st.one_of(st.binary(max_size=60), near_frames, near_frames), max_size=20))
    @settings(max_examples=300, deadline=None)
    def test_random_bytes(self, pieces: list[bytes]) -> None:
        """Random frames and bytes after a preface never raise, and memory stays within its limits."""
        server: Any = ServerConnection(tuple)
        server.receive(START)
        for piece in pieces:
            for kind, stream, _ in server.receive(piece):
                if kind.name in ("WHOLE", "ENDED") and stream.id in server.streams:
                    server.respond(stream, OK, b"", bytes(5000))
                elif kind.name == "DATA":
                    server.consumed(stream, 1)
            self.assertLessEqual(len(server._buffer), FRAME_BYTES_MAX + 9)
            self.assertLessEqual(server._block_bytes, HEADER_BLOCK_BYTES_MAX)
            self.assertLessEqual(server._remembered_bytes, REMEMBERED_BYTES_MAX)
            self.assertGreaterEqual(server.send_window, 0)
            waiting = sum(
                stream.queue.bytes + 1024 for stream in server.streams.values() if stream.queue is not None
            )
            self.assertEqual(waiting if not server.closed else server.waiting_bytes, server.waiting_bytes)
            frames(b"".join(server.out))

    @given(st.lists(st.tuples(st.integers(1, 60_000), st.integers(1, 60_000)), min_size=1, max_size=6))
    @several
    def test_windows_are_never_overrun(self, steps: list[tuple[int, int]]) -> None:
        """However the windows open, all arrives in order, and never more than they allow."""
        server = ServerConnection(tuple)
        server.receive(START + headers(1, request(), end=True))
        server.out.clear()
        stream = server.streams[1]
        server.send_headers(stream, OK.head)
        expected, allowed, responses = b"", DEFAULT_WINDOW, Responses()
        for number, (size, opened) in enumerate(steps):
            part = bytes([number]) * size
            expected += part
            server.send_data(stream, part)
            responses.take(b"".join(server.out))
            server.out.clear()
            self.assertLessEqual(len(responses[1].body), allowed)
            allowed += opened
            server.receive(window(0, opened) + window(1, opened))
        server.send_trailers(stream, OK.trailers)
        server.receive(window(0, 400_000) + window(1, 400_000))
        responses.take(b"".join(server.out))
        self.assertEqual(expected, responses[1].body)
        self.assertTrue(responses[1].ended)
