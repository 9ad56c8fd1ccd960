"""RFC 9113, 5: the states of a stream, identifiers, concurrency, and flow control."""

from __future__ import annotations

from tests.protocols.client import START, data, headers, request, reset, window
from tests.protocols.client import settings as setting
from tests.protocols.http2case import ENDED, OK, OPENED, Case
from twistedetcd.protocols.framing import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PRIORITY,
    WINDOW_MAX,
    ErrorCode,
    frame,
)
from twistedetcd.protocols.http2 import ServerConnection

PROTOCOL, CLOSED, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED, ErrorCode.FLOW_CONTROL_ERROR


class IdleTests(Case):
    """5.1, idle: nothing but HEADERS and PRIORITY."""

    def test_data(self) -> None:
        """DATA is PROTOCOL_ERROR of the connection."""
        self.assert_dead(PROTOCOL, data(1, b"x"))

    def test_rst_stream(self) -> None:
        """So is RST_STREAM."""
        self.assert_dead(PROTOCOL, reset(1))

    def test_window_update(self) -> None:
        """So is WINDOW_UPDATE."""
        self.assert_dead(PROTOCOL, window(1, 100))

    def test_continuation(self) -> None:
        """So is CONTINUATION."""
        self.assert_dead(PROTOCOL, frame(CONTINUATION, END_HEADERS, 1))

    def test_even_streams(self) -> None:
        """The streams of a server that does not push are idle for ever."""
        for wrong in (data(2, b"x"), reset(2), window(2, 1)):
            self.setUp()
            self.open(5)
            self.assert_dead(PROTOCOL, wrong)


class HalfClosedTests(Case):
    """5.1, half-closed (remote): WINDOW_UPDATE, PRIORITY and RST_STREAM may come."""

    def test_window_update(self) -> None:
        """It lets the rest of the response go."""
        stream = self.open(1)
        self.say(setting((4, 0)))
        self.server.respond(stream, OK, b"", b"body")
        self.out()
        self.say(window(1, 4))
        self.assertEqual([DATA, HEADERS], [item.kind for item in self.out()])

    def test_priority(self) -> None:
        """It changes nothing."""
        self.open(1)
        self.assertEqual([], self.say(frame(PRIORITY, 0, 1, bytes(5))))

    def test_rst_stream(self) -> None:
        """It ends the stream."""
        self.open(1)
        self.assertEqual([("RESET", 1, 8)], self.say(reset(1)))

    def test_data(self) -> None:
        """DATA is the stream's STREAM_CLOSED."""
        self.open(1)
        self.assert_reset(1, CLOSED, data(1, b"x"))

    def test_headers(self) -> None:
        """So is HEADERS."""
        self.open(1)
        self.assert_reset(1, CLOSED, headers(1, [(b"a", b"b")], end=True))

    def test_continuation(self) -> None:
        """CONTINUATION is PROTOCOL_ERROR of the connection (6.10)."""
        self.open(1)
        self.assert_dead(PROTOCOL, frame(CONTINUATION, END_HEADERS, 1))


class ClosedTests(Case):
    """5.1, closed: it matters who closed it."""

    def close(self, by_reset: bool) -> None:
        stream = self.open(1, ended=not by_reset)
        if by_reset:
            self.say(reset(1))
        else:
            self.server.respond(stream, OK, b"", b"")
        self.out()

    def test_data(self) -> None:
        """DATA on a stream that the client closed is STREAM_CLOSED."""
        for by_reset in (True, False):
            self.setUp()
            self.close(by_reset)
            self.assert_reset(1, CLOSED, data(1, b"x"))

    def test_headers(self) -> None:
        """HEADERS that are no request are STREAM_CLOSED of the connection."""
        for by_reset in (True, False):
            self.setUp()
            self.close(by_reset)
            self.assert_dead(CLOSED, headers(1, [(b"a", b"b")], end=True))

    def test_continuation(self) -> None:
        """CONTINUATION is PROTOCOL_ERROR of the connection."""
        for by_reset in (True, False):
            self.setUp()
            self.close(by_reset)
            self.assert_dead(PROTOCOL, frame(CONTINUATION, END_HEADERS, 1))

    def test_on_their_way(self) -> None:
        """WINDOW_UPDATE, RST_STREAM and PRIORITY may have been on their way."""
        self.close(by_reset=False)
        self.assertEqual([], self.say(window(1, 1), reset(1), frame(PRIORITY, 0, 1, bytes(5))))
        self.assertEqual([], self.out())

    def test_closed_by_us(self) -> None:
        """Whatever was on its way when we closed it is ignored; DATA counts for the connection's window."""
        for close in ("reset", "respond"):
            self.setUp()
            stream = self.open(1, ended=False)
            if close == "reset":
                self.server.reset(stream, ErrorCode.CANCEL)
            else:
                self.server.respond(stream, OK, b"", b"early")
            self.out()
            late = data(1, b"late", end=False), window(1, 1), headers(1, [(b"a", b"b")], end=True), reset(1)
            self.assertEqual([], self.say(*late))
            self.assertEqual(([], 4), (self.out(), self.server._received))


class IdentifierTests(Case):
    """5.1.1: identifiers."""

    def test_even(self) -> None:
        """An even one is PROTOCOL_ERROR."""
        self.assert_dead(PROTOCOL, headers(2, request()))

    def test_smaller_than_before(self) -> None:
        """A request on a smaller one is PROTOCOL_ERROR."""
        self.open(5)
        self.assert_dead(PROTOCOL, headers(3, request()))

    def test_skipped(self) -> None:
        """Identifiers may be skipped; the largest may be used."""
        self.assertEqual(
            [(OPENED, 5, None), (OPENED, WINDOW_MAX, None)],
            self.say(headers(5, request()), headers(WINDOW_MAX, request())),
        )


class ConcurrencyTests(Case):
    """5.1.2: concurrency."""

    def test_above_the_limit(self) -> None:
        """A stream above the announced number is REFUSED_STREAM, and half-closed ones count."""
        self.server = ServerConnection(tuple, max_concurrent_streams=2)
        self.say(START)
        self.open(1, ended=False)
        self.open(3)
        self.assert_reset(5, ErrorCode.REFUSED_STREAM, headers(5, request()))
        self.server.respond(self.server.streams[3], OK, b"", b"")
        self.assertEqual([(OPENED, 7, None)], self.say(headers(7, request())))


class ErrorTests(Case):
    """5.4: errors."""

    def test_5_4_1_goaway_then_closed(self) -> None:
        """An error of the connection is told in GOAWAY, and nothing more is read."""
        self.assert_dead(ErrorCode.FRAME_SIZE_ERROR, frame(PING, 0, 0, bytes(6)))

    def test_5_4_2_others_go_on(self) -> None:
        """An error of a stream leaves the others alone."""
        self.open(1)
        self.open(3, ended=False)
        self.assert_reset(1, PROTOCOL, window(1, 0))
        self.assertEqual([("DATA", 3, b"x"), (ENDED, 3, None)], self.say(data(3, b"x", False), data(3, b"")))


class FlowTests(Case):
    """6.9.1 and 6.9.2: windows."""

    def sent(self) -> int:
        """Octets of DATA that were sent."""
        return sum(len(item.payload) for item in self.out() if item.kind == DATA)

    def test_window_of_one(self) -> None:
        """With a window of one octet one octet is sent."""
        self.say(setting((4, 1)))
        self.server.respond(self.open(1), OK, b"", b"hello")
        self.assertEqual(1, self.sent())

    def test_changed_while_open(self) -> None:
        """INITIAL_WINDOW_SIZE moves the windows of open streams."""
        self.say(setting((4, 0)))
        self.server.respond(self.open(1), OK, b"", b"hello")
        self.assertEqual(0, self.sent())
        self.say(setting((4, 3)))
        self.assertEqual(3, self.sent())

    def test_negative(self) -> None:
        """A window may become negative, and nothing is sent until it is positive again."""
        stream = self.open(1)
        self.say(setting((4, 3)))
        self.server.send_data(stream, b"hello")
        self.assertEqual(3, self.sent())
        self.say(setting((4, 2)))
        self.assertEqual(-1, stream.send_window)
        self.say(window(1, 1))
        self.assertEqual(0, self.sent())
        self.say(window(1, 1))
        self.assertEqual(1, self.sent())

    def test_connection_window_is_not_initial(self) -> None:
        """INITIAL_WINDOW_SIZE does not move the connection's window."""
        before = self.server.send_window
        self.say(setting((4, 1)))
        self.assertEqual(before, self.server.send_window)

    def test_overflow_of_the_connection(self) -> None:
        """A window above 2^31-1 is FLOW_CONTROL_ERROR."""
        self.say(window(0, WINDOW_MAX - self.server.send_window))
        self.assert_dead(FLOW, window(0, 1))

    def test_overflow_of_a_stream(self) -> None:
        """On a stream it is the stream's."""
        stream = self.open(1)
        self.say(window(1, WINDOW_MAX - stream.send_window))
        self.assert_reset(1, FLOW, window(1, 1))

    def test_overflow_by_settings(self) -> None:
        """By INITIAL_WINDOW_SIZE it is the connection's."""
        self.open(1)
        self.say(window(1, 1))
        self.assert_dead(FLOW, setting((4, WINDOW_MAX)))
