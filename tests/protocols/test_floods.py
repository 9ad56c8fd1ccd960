"""
floods: what costs us and brings a client nothing has a limit, and whoever exceeds it is told to calm down.

Each attack is named by its CVE where it has one.  The limits are for one connection; what is shown each time
is that the connection ends, and that a little less, or the same more slowly, is served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import START, data, headers, request, reset, window
from tests.protocols.client import settings as setting
from tests.protocols.http2case import OK, OPENED, Case
from twistedetcd.protocols import floods
from twistedetcd.protocols.floods import Allowances, Limit
from twistedetcd.protocols.framing import (
    ACK,
    CONTINUATION,
    CONTINUATIONS_MAX,
    CONTROL_REPLIES_MAX,
    DATA,
    END_HEADERS,
    FRAME_BYTES_MAX,
    GOAWAY,
    HEADER_BLOCK_BYTES_MAX,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    UNFINISHED_SECONDS_MAX,
    ConnectionFaultError,
    ErrorCode,
    frame,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection

CALM = ErrorCode.ENHANCE_YOUR_CALM


class AllowanceTests(SynchronousTestCase):
    """A bucket of tokens."""

    limit = Limit("things", 3, 2.0)

    def spend(self, allowances: Allowances, now: float, cost: int = 1) -> None:
        allowances.spend(self.limit, now, cost)

    def test_burst(self) -> None:
        """It is full at the beginning, and says what there was too much of."""
        allowances = Allowances()
        for _ in range(3):
            self.spend(allowances, 5.0)
        error = self.assertRaises(ConnectionFaultError, self.spend, allowances, 5.0)
        self.assertEqual((CALM, "too many things"), (error.code, error.reason))

    def test_refill(self) -> None:
        """Tokens come back with time, never more than it holds."""
        allowances = Allowances()
        self.spend(allowances, 0.0, 3)
        self.spend(allowances, 0.5)
        self.assertRaises(ConnectionFaultError, self.spend, allowances, 0.9)
        self.spend(allowances, 1000.0, 3)
        self.assertRaises(ConnectionFaultError, self.spend, allowances, 1000.0)

    def test_separate(self) -> None:
        """Each limit has its own bucket."""
        allowances = Allowances()
        self.spend(allowances, 0.0, 3)
        allowances.spend(Limit("others", 1, 1.0), 0.0)


class FloodTests(Case):
    """One attack a test."""

    def flood(self, limit: Limit, piece: Callable[[int], bytes], extra: int = 0) -> None:
        """
        As many pieces as the bucket holds are borne, the next one is not; the same, spread over time, is.

        Args:
            limit: The bucket.
            piece: What costs one token, by its number.
            extra: Tokens that are taken when the last piece has been sent.
        """
        for number in range(limit.burst):
            self.server.receive(piece(number))
            self.out()
        self.assertFalse(self.server.closed)
        self.assert_dead(CALM, piece(limit.burst))
        self.setUp()
        for number in range(limit.burst + 200):
            self.server.receive(piece(number), number / limit.per_second)
            self.out()
        self.assertFalse(self.server.closed)

    def test_rapid_reset(self) -> None:
        """Requests that are taken back before their answer (CVE-2023-44487)."""
        self.flood(
            floods.RESETS, lambda number: headers(2 * number + 1, request(), True) + reset(2 * number + 1)
        )
        self.assertEqual({}, self.server.streams)

    def test_answered_calls_may_be_given_up(self) -> None:
        """A stream that was answered, a watch for instance, may be taken back as often as one likes."""
        for number in range(floods.RESETS.burst + 10):
            stream = self.open(2 * number + 1)
            self.server.send_headers(stream, OK.head)
            self.say(reset(stream.id))
        self.assertFalse(self.server.closed)

    def test_made_you_reset(self) -> None:
        """Requests that make us reset them, by whatever rule they break (CVE-2025-8671)."""
        for wrong in (
            lambda stream: window(stream, 0),
            lambda stream: window(stream, 2**31 - 1),
            lambda stream: data(stream, b"x"),
            lambda stream: headers(stream, [(b"a", b"b")], True),
            lambda stream: frame(PRIORITY, 0, stream, bytes(4)),
        ):
            self.setUp()
            self.flood(
                floods.FAULTS,
                lambda number, wrong=wrong: headers(2 * number + 1, request(), True) + wrong(2 * number + 1),
            )

    def test_malformed_requests(self) -> None:
        """Requests that are malformed."""
        self.flood(floods.FAULTS, lambda number: headers(2 * number + 1, []))

    def test_frames_on_closed_streams(self) -> None:
        """DATA on a stream that the client itself has closed."""
        self.say(headers(1, request()), reset(1))
        for _ in range(floods.FAULTS.burst):
            self.say(data(1, b"x"))
            self.out()
        self.assert_dead(CALM, data(1, b"x"))

    def test_streams_above_the_limit(self) -> None:
        """Requests beyond the announced number; a client that did not know it may have sent many."""

        def one(number: int) -> bytes:
            return headers(2 * number + 3, request(), True)

        self.server = ServerConnection(tuple, max_concurrent_streams=1)
        self.say(START, headers(1, request()))
        for number in range(floods.REFUSALS.burst):
            self.say(one(number))
            self.out()
        self.assert_dead(CALM, one(number + 1))

    def test_continuations(self) -> None:
        """Header blocks of ever more CONTINUATION frames, empty or full (CVE-2024-27316)."""
        self.assert_dead(CALM, frame(HEADERS, 0, 1), frame(CONTINUATION, 0, 1) * CONTINUATIONS_MAX)
        self.setUp()
        part = bytes(FRAME_BYTES_MAX)
        count = HEADER_BLOCK_BYTES_MAX // FRAME_BYTES_MAX
        self.assert_dead(CALM, frame(HEADERS, 0, 1, part), frame(CONTINUATION, 0, 1, part) * count)

    def test_pings_unread(self) -> None:
        """PINGs whose answers are not read (CVE-2019-9512); the rhythm of those that are: see keepalive."""
        self.say(frame(PING, 0, 0, bytes(8)) * CONTROL_REPLIES_MAX)
        self.assert_dead(CALM, frame(PING, 0, 0, bytes(8)))

    def test_taken_replies_are_forgiven(self) -> None:
        """Answers that the transport took count no more."""
        for _ in range(3):
            self.say(frame(PING, 0, 0, bytes(8)) * CONTROL_REPLIES_MAX)
            self.assertEqual(CONTROL_REPLIES_MAX, len(self.out()))

    def test_settings(self) -> None:
        """SETTINGS, each of which may touch every open stream (CVE-2019-9515)."""
        self.setUp()
        used = 1  # by the client's first
        for number in range(floods.SETTINGS_FRAMES.burst - used):
            self.say(setting((4, number)))
            self.out()
        self.assert_dead(CALM, setting((4, 7)))

    def test_empty_frames(self) -> None:
        """DATA that carries nothing and ends nothing, padded or not (CVE-2019-9518)."""
        for empty in (frame(DATA, 0, 1), frame(DATA, PADDED, 1, b"\x03\0\0\0")):
            self.setUp()
            self.open(1, ended=False)
            for _ in range(floods.EMPTY_FRAMES.burst):
                self.say(empty)
            self.assert_dead(CALM, empty)

    def test_empty_frames_on_streams_that_are_over(self) -> None:
        """The same on a stream that we ended, where anything may come."""
        self.server.reset(self.open(1, ended=False), ErrorCode.CANCEL)
        for _ in range(floods.EMPTY_FRAMES.burst):
            self.say(frame(DATA, 0, 1))
        self.assert_dead(CALM, frame(DATA, 0, 1))

    def test_priorities(self) -> None:
        """PRIORITY, for whatever streams (CVE-2019-9513)."""
        self.flood(floods.PRIORITIES, lambda number: frame(PRIORITY, 0, number % 99 + 1, bytes(5)))

    def test_frames_that_say_nothing(self) -> None:
        """Unknown types, GOAWAY, and answers to what was not asked."""
        for idle in (
            frame(0xFA, 0, 0, b"x"),
            frame(GOAWAY, 0, 0, bytes(8)),
            frame(PING, ACK, 0, bytes(8)),
            frame(SETTINGS, ACK, 0),
        ):
            self.setUp()
            self.flood(floods.IDLE_FRAMES, lambda number, idle=idle: idle)

    def test_data_dribble(self) -> None:
        """A window opened an octet at a time, while a body waits for it (CVE-2019-9511)."""
        for stream_id in (0, 1):
            self.setUp()
            self.say(setting((4, 0 if stream_id else 1 << 20)))
            self.server.respond(self.open(1), OK, b"", bytes(100_000))
            self.out()
            for _ in range(floods.TINY_UPDATES.burst):
                self.say(window(stream_id, 1))
            self.assertEqual(floods.TINY_UPDATES.burst, sum(item.kind == DATA for item in self.out()))
            self.assert_dead(CALM, window(stream_id, 1))

    def test_window_updates(self) -> None:
        """Windows opened ever wider while nothing is sent; those that follow what was sent are free."""
        self.open(1)
        for _ in range(floods.WINDOW_UPDATES_FREE):
            self.say(window(1, 1))
        self.assert_dead(CALM, window(0, 1))
        self.setUp()
        for number in range(floods.WINDOW_UPDATES_FREE):
            self.server.respond(self.open(2 * number + 1), OK, b"\0\0\0\0\0", b"")
            self.say(window(0, 5), window(2 * number + 1, 5))
            self.out()
        self.assertFalse(self.server.closed)

    def test_header_lists(self) -> None:
        """Small blocks that stand for large lists (HPACK bombs) cost ten times as much as other faults."""
        self.say(frame(HEADERS, END_HEADERS, 1, encode(request()) + b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968))
        self.out()
        bomb = b"\xbe" * 1000
        count = (floods.FAULTS.burst - 0) // floods.LARGE_LIST_COST
        for number in range(count):
            self.assert_reset(2 * number + 3, CALM, frame(HEADERS, END_HEADERS, 2 * number + 3, bomb))
        self.assert_dead(CALM, frame(HEADERS, END_HEADERS, 2 * count + 3, bomb))

    def test_new_headers_every_time(self) -> None:
        """Headers that never come again are served, and what is remembered of them stays within limits."""
        memory: Any = self.server._requests
        for number in range(600):
            stream = 2 * number + 1
            block = encode(request(b"/%d" % number, (b"large", b"%d" % number * 500)))
            block += b"\x40\x01a\x04%04d" % number
            self.assertEqual([(OPENED, stream, None)], self.say(frame(HEADERS, END_HEADERS, stream, block)))
            self.say(reset(stream))
            self.assertLessEqual(memory._field_bytes, 65536)
            self.assertLessEqual(len(memory._by_fields), 256)

    def test_small_blocks_of_many_fields(self) -> None:
        """A block of few octets that stands for many fields is not remembered."""
        self.say(frame(HEADERS, END_HEADERS, 1, encode(request()) + b"\x40\x01a\x01b"))
        self.say(frame(HEADERS, END_HEADERS, 3, encode(request()) + b"\xbe" * 1000))
        self.assertEqual(1005, len(self.server.streams[3].request))
        self.assertEqual({}, self.server._requests.by_block)


class SlowTests(Case):
    """A client that never comes to an end of what it began (slow loris)."""

    def setUp(self) -> None:
        super().setUp()
        self.open(1, ended=False)

    def later(self, seconds: float, *parts: bytes, reading: bool = True) -> bool:
        """Whether the connection lives, so long after the beginning, before it hears the parts."""
        self.server.expire(seconds, reading)
        if not self.server.closed:
            self.server.receive(b"".join(parts), seconds)
        return not self.server.closed

    def assert_told(self, what: str) -> None:
        goaway = self.out()[-1]
        self.assertEqual((GOAWAY, CALM), (goaway.kind, goaway.payload[7]))
        self.assertEqual(f"{what} not finished".encode(), goaway.payload[8:])

    def test_frame(self) -> None:
        """An octet at a time, for ever."""
        slow = data(1, bytes(100))
        self.later(0.0, slow[:1])
        for number in range(1, int(UNFINISHED_SECONDS_MAX) + 1):
            self.assertTrue(self.later(number, slow[number : number + 1]))
        self.assertFalse(self.later(UNFINISHED_SECONDS_MAX + 2))
        self.assert_told("frame")

    def test_frames_that_end(self) -> None:
        """Each frame has its own time."""
        slow = data(1, bytes(100), end=False)
        for number in range(100):
            self.assertTrue(self.later(20.0 * number, slow[50:] * bool(number) + slow[:50]))

    def test_header_block(self) -> None:
        """A block of CONTINUATION frames, each of which comes in time."""
        self.later(0.0, frame(HEADERS, 0, 3, encode(request())))
        for number in range(1, 5):
            self.assertTrue(self.later(9.0 * number, frame(CONTINUATION, 0, 3)), number)
        self.assertFalse(self.later(45.0))
        self.assert_told("header block")

    def test_settings(self) -> None:
        """A preface that no SETTINGS follow."""
        self.server = ServerConnection(tuple)
        self.later(0.0, START[:30])
        self.later(0.5)
        self.assertTrue(self.later(UNFINISHED_SECONDS_MAX))
        self.assertFalse(self.later(UNFINISHED_SECONDS_MAX + 1))
        self.assert_told("SETTINGS")

    def test_not_while_we_do_not_read(self) -> None:
        """The time does not run while it is we who do not read."""
        self.later(0.0, data(1, b"x")[:5])
        for number in range(100):
            self.assertTrue(self.later(10.0 * number, reading=False))
        self.assertTrue(self.later(1000.0))
        self.assertTrue(self.later(1000.0 + UNFINISHED_SECONDS_MAX))
        self.assertFalse(self.later(1001.0 + UNFINISHED_SECONDS_MAX))
