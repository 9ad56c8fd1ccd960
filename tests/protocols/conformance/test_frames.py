"""RFC 9113, 3 to 6: the preface, and each type of frame."""

from __future__ import annotations

from tests.protocols.client import data, headers, request, reset, window
from tests.protocols.client import settings as setting
from tests.protocols.http2case import ENDED, OPENED, Case
from twistedetcd.protocols.framing import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection

PROTOCOL, SIZE, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR
OVERSIZED = (FRAME_BYTES_MAX + 1).to_bytes(3, "big")


class PrefaceTests(Case):
    """3.4: how a connection begins."""

    def setUp(self) -> None:
        self.server = ServerConnection(tuple)

    def test_server_speaks_first(self) -> None:
        """Our SETTINGS are the first frame, and wait for nothing."""
        self.assertEqual((SETTINGS, 0, 0), self.out()[0][:3])

    def test_preface_and_settings(self) -> None:
        """A preface and SETTINGS are acknowledged."""
        self.out()
        self.assertEqual([], self.say(PREFACE, frame(SETTINGS, 0, 0)))
        self.assertEqual([(SETTINGS, ACK)], [item[:2] for item in self.out()])

    def test_invalid_preface(self) -> None:
        """Anything else is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, b"INVALID CONNECTION PREFACE\r\n\r\n")

    def test_settings_must_follow(self) -> None:
        """The first frame is SETTINGS, and not an answer."""
        for wrong in (frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), headers(1, request())):
            self.setUp()
            self.assert_dead(PROTOCOL, PREFACE, wrong)


class FormatTests(Case):
    """4.1, 4.2 and 5.5: what holds for all frames."""

    def test_4_1_unknown_type(self) -> None:
        """Frames of unknown types are ignored, on any stream."""
        self.assertEqual([], self.say(frame(0x16, 0xFF, 0, b"?"), frame(0xFF, 0, 7, bytes(100))))
        self.assertEqual([], self.out())

    def test_4_1_undefined_flags(self) -> None:
        """Flags that mean nothing for a frame are ignored."""
        self.say(frame(PING, 0x16, 0, bytes(8)))
        self.assertEqual([(PING, ACK)], [item[:2] for item in self.out()])

    def test_4_1_reserved_bit(self) -> None:
        """The bit before the stream id is ignored."""
        self.say(frame(PING, 0, 1 << 31, bytes(8)))
        self.assertEqual([(PING, ACK)], [item[:2] for item in self.out()])

    def test_4_2_largest_frame(self) -> None:
        """A frame of 2^14 octets is taken."""
        self.open(1, ended=False)
        self.say(data(1, bytes(FRAME_BYTES_MAX)))
        self.assertFalse(self.server.closed)

    def test_4_2_larger_frames(self) -> None:
        """One octet more is FRAME_SIZE_ERROR as soon as its header is there, whatever the type."""
        for kind in (DATA, HEADERS, CONTINUATION, 0x42):
            self.setUp()
            self.assert_dead(SIZE, OVERSIZED + bytes([kind, 0, 0, 0, 0, 1]))

    def test_5_5_unknown_type_in_a_header_block(self) -> None:
        """Inside a header block even unknown types are PROTOCOL_ERROR (6.10)."""
        self.assert_dead(PROTOCOL, frame(HEADERS, 0, 1, encode(request())), frame(0x16, 0, 1))


class DataTests(Case):
    """6.1: DATA."""

    def test_whole_and_in_parts(self) -> None:
        """A body comes in one frame or in several, with padding or without."""
        self.say(headers(1, request()), headers(3, request()), headers(5, request()))
        self.assertEqual([("WHOLE", 1, b"one")], self.say(data(1, b"one")))
        self.assertEqual(
            [("DATA", 3, b"a"), ("DATA", 3, b"b"), (ENDED, 3, None)],
            self.say(data(3, b"a", end=False), data(3, b"b")),
        )
        self.assertEqual(
            [("DATA", 5, b"c"), (ENDED, 5, None)],
            self.say(frame(DATA, PADDED | END_STREAM, 5, b"\x02c\0\0")),
        )

    def test_stream_zero(self) -> None:
        """On stream 0 it is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, data(0, b"x"))

    def test_padding_as_long_as_the_payload(self) -> None:
        """Padding that leaves no room for itself is PROTOCOL_ERROR."""
        for payload in (b"", b"\x01", b"\x05abcd"):
            self.setUp()
            self.open(1, ended=False)
            self.assert_dead(PROTOCOL, frame(DATA, PADDED, 1, payload))

    def test_padding_only(self) -> None:
        """A frame may be all padding, which counts for flow control."""
        stream = self.open(1, ended=False)
        before = stream.receive_window
        self.assertEqual([], self.say(frame(DATA, PADDED, 1, b"\x03\0\0\0")))
        self.assertEqual(before - 4, stream.receive_window)


class HeadersTests(Case):
    """6.2: HEADERS."""

    def test_padding_and_priority(self) -> None:
        """Both are cut off."""
        block = b"\x04" + b"\x80\0\0\0\x10" + encode(request()) + bytes(4)
        self.assertEqual(
            [(OPENED, 1, None)], self.say(frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, block))
        )

    def test_stream_zero(self) -> None:
        """On stream 0 it is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, headers(0, request()))

    def test_padding_too_long(self) -> None:
        """Padding beyond the payload is PROTOCOL_ERROR."""
        for payload in (b"", b"\x05abc"):
            self.setUp()
            self.assert_dead(PROTOCOL, frame(HEADERS, END_HEADERS | PADDED, 1, payload))

    def test_priority_cut_short(self) -> None:
        """Less than the five octets of a priority is FRAME_SIZE_ERROR."""
        self.assert_dead(SIZE, frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"1234"))

    def test_interrupted(self) -> None:
        """Nothing but its own CONTINUATION may follow HEADERS without END_HEADERS."""
        block = encode(request())
        for wrong in (
            frame(PRIORITY, 0, 1, bytes(5)),
            headers(3, request()),
            frame(CONTINUATION, END_HEADERS, 3, block),
            data(1, b"x"),
            frame(PING, 0, 0, bytes(8)),
            frame(SETTINGS, 0, 0),
            reset(1),
        ):
            self.setUp()
            self.assert_dead(PROTOCOL, frame(HEADERS, 0, 1, block[:3]), wrong)


class PriorityTests(Case):
    """6.3, and 5.3 of RFC 7540: PRIORITY is read, and means nothing."""

    def test_any_state(self) -> None:
        """It may come for idle, open, half-closed and closed streams."""
        self.open(1)
        self.open(3, ended=False)
        self.say(headers(5, request()), reset(5))
        priority = b"\0\0\0\x09\xff"
        self.assertEqual([], self.say(*(frame(PRIORITY, 0, stream, priority) for stream in (1, 3, 5, 7, 8))))
        self.assertEqual([], self.out())

    def test_exclusive(self) -> None:
        """The exclusive bit is no part of the dependency."""
        self.assertEqual([], self.say(frame(PRIORITY, 0, 3, b"\x80\0\0\x01\x00")))

    def test_does_not_open(self) -> None:
        """A stream below one that only a PRIORITY named may still be opened."""
        self.say(frame(PRIORITY, 0, 7, bytes(5)))
        self.assertEqual([(OPENED, 5, None)], self.say(headers(5, request())))

    def test_stream_zero(self) -> None:
        """On stream 0 it is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, frame(PRIORITY, 0, 0, bytes(5)))

    def test_size(self) -> None:
        """Other than five octets is the stream's FRAME_SIZE_ERROR; an idle one cannot be reset."""
        for size in (4, 6):
            self.setUp()
            self.open(1)
            self.assert_reset(1, SIZE, frame(PRIORITY, 0, 1, bytes(size)))
            self.assert_dead(PROTOCOL, frame(PRIORITY, 0, 9, bytes(size)))

    def test_depends_on_itself(self) -> None:
        """A stream that depends on itself is PROTOCOL_ERROR, in PRIORITY and in HEADERS."""
        for wrong in (
            frame(PRIORITY, 0, 3, b"\0\0\0\x03\0"),
            frame(PRIORITY, 0, 3, b"\x80\0\0\x03\0"),
            frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"\0\0\0\x01\0" + encode(request())),
        ):
            self.setUp()
            self.assert_dead(PROTOCOL, wrong)


class ResetTests(Case):
    """6.4: RST_STREAM."""

    def test_ends_the_stream(self) -> None:
        """It is reported with its code, also one that nobody knows."""
        self.open(1)
        self.assertEqual([("RESET", 1, 0xFF)], self.say(reset(1, 0xFF)))

    def test_stream_zero(self) -> None:
        """On stream 0 it is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, reset(0))

    def test_idle(self) -> None:
        """On an idle stream it is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, reset(1))

    def test_size(self) -> None:
        """Other than four octets is FRAME_SIZE_ERROR."""
        for size in (3, 5):
            self.setUp()
            self.open(1)
            self.assert_dead(SIZE, frame(RST_STREAM, 0, 1, bytes(size)))


class SettingsTests(Case):
    """6.5: SETTINGS."""

    def test_acknowledged(self) -> None:
        """Each is acknowledged, unknown parameters or not (6.5.3)."""
        self.say(setting((4, 1), (0xFF, 7)), frame(SETTINGS, 0, 0))
        self.assertEqual([(SETTINGS, ACK, 0, b"")] * 2, self.out())

    def test_acknowledgement_with_a_payload(self) -> None:
        """It is FRAME_SIZE_ERROR."""
        self.assert_dead(SIZE, frame(SETTINGS, ACK, 0, bytes(6)))

    def test_on_a_stream(self) -> None:
        """It is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, frame(SETTINGS, 0, 1))

    def test_size(self) -> None:
        """Not a multiple of six octets is FRAME_SIZE_ERROR."""
        self.assert_dead(SIZE, frame(SETTINGS, 0, 0, bytes(3)))

    def test_enable_push(self) -> None:
        """ENABLE_PUSH is 0 or 1 (6.5.2)."""
        self.say(setting((2, 0)), setting((2, 1)))
        self.assert_dead(PROTOCOL, setting((2, 2)))

    def test_initial_window_size(self) -> None:
        """INITIAL_WINDOW_SIZE above 2^31-1 is FLOW_CONTROL_ERROR."""
        self.say(setting((4, WINDOW_MAX)))
        self.assert_dead(FLOW, setting((4, WINDOW_MAX + 1)))

    def test_max_frame_size(self) -> None:
        """MAX_FRAME_SIZE is from 2^14 to 2^24-1."""
        self.say(setting((5, 1 << 14)), setting((5, (1 << 24) - 1)))
        for wrong in ((1 << 14) - 1, 1 << 24):
            self.setUp()
            self.assert_dead(PROTOCOL, setting((5, wrong)))

    def test_values_in_order(self) -> None:
        """Of a parameter given twice the last value counts (6.5.3)."""
        stream = self.open(1)
        self.say(setting((4, 100), (4, 1)))
        self.assertEqual(1, stream.send_window)


class PushPromiseTests(Case):
    """6.6 and 8.4: PUSH_PROMISE."""

    def test_from_a_client(self) -> None:
        """It is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + encode(request())))


class PingTests(Case):
    """6.7: PING."""

    def test_answered(self) -> None:
        """It comes back with its octets."""
        self.say(frame(PING, 0, 0, b"octets!!"))
        self.assertEqual([(PING, ACK, 0, b"octets!!")], self.out())

    def test_answer(self) -> None:
        """An answer is not answered."""
        self.say(frame(PING, ACK, 0, bytes(8)))
        self.assertEqual([], self.out())

    def test_on_a_stream(self) -> None:
        """It is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, frame(PING, 0, 1, bytes(8)))

    def test_size(self) -> None:
        """Other than eight octets is FRAME_SIZE_ERROR."""
        for size in (6, 9):
            self.setUp()
            self.assert_dead(SIZE, frame(PING, 0, 0, bytes(size)))


class GoAwayTests(Case):
    """6.8 and 7: GOAWAY."""

    def test_ignored(self) -> None:
        """A client's is read, whatever its code and its text."""
        self.say(frame(GOAWAY, 0, 0, bytes(4) + b"\0\0\0\xff" + b"bye"))
        self.assertEqual([(OPENED, 1, None)], self.say(headers(1, request())))

    def test_on_a_stream(self) -> None:
        """It is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, frame(GOAWAY, 0, 1, bytes(8)))

    def test_size(self) -> None:
        """Less than eight octets is FRAME_SIZE_ERROR."""
        self.assert_dead(SIZE, frame(GOAWAY, 0, 0, bytes(7)))

    def test_last_stream(self) -> None:
        """Ours names the last stream that was begun."""
        self.open(7)
        self.say(window(0, 0))
        self.assertEqual(b"\0\0\0\x07", self.out()[-1].payload[:4])


class WindowUpdateTests(Case):
    """6.9: WINDOW_UPDATE, the frame; the windows are in test_flow."""

    def test_of_zero(self) -> None:
        """An increment of 0 is PROTOCOL_ERROR: of the stream, or of the connection."""
        self.open(1)
        self.assert_reset(1, PROTOCOL, window(1, 0))
        self.assert_dead(PROTOCOL, window(0, 0))

    def test_size(self) -> None:
        """Other than four octets is FRAME_SIZE_ERROR."""
        for size in (3, 5):
            self.setUp()
            self.assert_dead(SIZE, frame(WINDOW_UPDATE, 0, 0, bytes(size)))

    def test_reserved_bit(self) -> None:
        """The highest bit of the increment is ignored."""
        before = self.server.send_window
        self.say(frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\x05"))
        self.assertEqual(before + 5, self.server.send_window)


class ContinuationTests(Case):
    """6.10: CONTINUATION."""

    block = encode(request())

    def test_several(self) -> None:
        """Any number of parts make one block, empty ones too."""
        events = self.say(
            frame(HEADERS, END_STREAM, 1, self.block[:1]),
            frame(CONTINUATION, 0, 1, self.block[1:5]),
            frame(CONTINUATION, 0, 1),
            frame(CONTINUATION, END_HEADERS, 1, self.block[5:]),
        )
        self.assertEqual([(OPENED, 1, None), (ENDED, 1, None)], events)

    def test_stream_zero(self) -> None:
        """On stream 0 it is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, frame(HEADERS, 0, 1), frame(CONTINUATION, END_HEADERS, 0, self.block))

    def test_after_the_end_of_a_block(self) -> None:
        """Behind HEADERS or CONTINUATION with END_HEADERS, or DATA, it is PROTOCOL_ERROR."""
        late = frame(CONTINUATION, END_HEADERS, 1)
        for first in (
            headers(1, request()),
            frame(HEADERS, 0, 1) + frame(CONTINUATION, END_HEADERS, 1, self.block),
            headers(1, request()) + data(1, b"x", end=False),
        ):
            self.setUp()
            self.assert_dead(PROTOCOL, first, late)
