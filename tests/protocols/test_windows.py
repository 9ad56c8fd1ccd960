"""http2: flow control, in both directions (RFC 9113, 5.2 and 6.9)."""

from __future__ import annotations

from hypothesis import settings

from tests.protocols.client import (
    Frame,
    Responses,
    data,
    headers,
    request,
    reset,
    told,
    window,
)
from tests.protocols.client import settings as setting
from tests.protocols.http2case import ENDED, OK, OPENED, Case
from twistedetcd.protocols.framing import (
    CONNECTION_WINDOW,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADERS,
    STREAM_WINDOW,
    WAITING_BYTES_MAX,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ErrorCode,
)
from twistedetcd.protocols.sending import TURN_BYTES_MAX

several = settings(max_examples=100, deadline=None)


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

    def test_first_come(self) -> None:
        """The connection's window goes to the stream that has waited longest."""
        for stream in (1, 3):
            self.server.send_data(self.open(stream), bytes(50_000))
        self.body()
        self.server.send_data(self.server.streams[1], bytes(10_000))
        self.say(window(0, 12_000))
        self.assertEqual([(3, 12_000)], self.body())
        self.say(window(0, 25_000))
        self.assertEqual([(3, 16_384), (3, 6_081), (1, 2_535)], self.body())

    def test_a_turn_has_its_share(self) -> None:
        """However wide the windows are, a turn sends so much of large bodies and the next one goes on."""
        self.say(setting((4, WINDOW_MAX)), window(0, WINDOW_MAX - DEFAULT_WINDOW))
        parts = [bytes(TURN_BYTES_MAX // 2)] * 5
        stream = self.open(1)
        self.server.respond_in_parts(stream, OK, b"head", *parts)
        sent = []
        for _ in range(3):
            sent.append(sum(length for _, length in self.body()))
            self.server.written()
            self.assertEqual([], told(self.server.release()))
        self.assertEqual(4 + 5 * (TURN_BYTES_MAX // 2), sum(sent))
        self.assertLess(max(sent), TURN_BYTES_MAX + FRAME_BYTES_MAX)
        self.assertFalse(self.server.ready)

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
