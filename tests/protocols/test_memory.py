"""requests: header blocks that are remembered, and how long that is right."""

from __future__ import annotations

from typing import Any

import hpack

from tests.protocols.client import (
    START,
    headers,
    request,
)
from tests.protocols.http2case import Case
from twistedetcd.protocols.framing import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    REMEMBERED_BLOCKS_MAX,
    REMEMBERED_BYTES_MAX,
    ErrorCode,
    frame,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection


class MemoryTests(Case):
    """Header blocks seen before are not decoded again, while that is right."""

    def remembered(self) -> dict[bytes, Any]:
        memory: dict[bytes, Any] = self.server._requests.by_block
        self.assertEqual(sum(map(len, memory)), self.server._requests._block_bytes)
        self.assertLessEqual(len(memory), REMEMBERED_BLOCKS_MAX)
        self.assertLessEqual(self.server._requests._block_bytes, REMEMBERED_BYTES_MAX)
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


class VaryingTests(Case):
    """A field that differs from call to call is kept apart, so that the rest is the same request."""

    def setUp(self) -> None:
        self.asked: list[Any] = []
        self.server: Any = ServerConnection(self.interpret, varying=b"t", interpret_varying=int)
        self.say(START)
        self.out()

    def interpret(self, fields: list[Any]) -> tuple[Any, ...]:
        self.asked.append(fields)
        return tuple(fields)

    def varied(self, stream: int, *more: tuple[bytes, bytes], block: bytes | None = None) -> Any:
        """What became of the field, in a request with these fields."""
        if block is None:
            block = encode(request(b"/", *more))
        self.say(frame(HEADERS, END_HEADERS, stream, block))
        return self.server.streams[stream].varied

    def test_interpreted_once(self) -> None:
        """However it is written and whatever its value, the other fields are interpreted once."""
        encoder = hpack.Encoder()
        for number in range(50):
            fields = request(b"/", (b"t", b"%d" % number), (b"after", b"x"))
            block = encoder.encode(fields) if number % 3 else encode(fields)
            self.assertEqual(number, self.varied(2 * number + 1, block=block))
        self.assertEqual([request(b"/", (b"after", b"x"))], self.asked)
        self.assertIs(self.server.streams[1].request, self.server.streams[99].request)

    def test_remembered_with_its_value(self) -> None:
        """The same octets again have the same value; a request without it has none."""
        for stream, more in ((1, [(b"t", b"7")]), (3, [(b"t", b"7")]), (5, []), (7, [(b"t", b"8")])):
            self.assertEqual(int(more[0][1]) if more else None, self.varied(stream, *more))

    def test_alternating(self) -> None:
        """Two kinds of requests in turn are told apart, and neither is interpreted again."""
        for number in range(20):
            fields = (b"kind", b"%d" % (number % 2)), (b"t", b"%d" % number)
            self.varied(2 * number + 1, *fields)
            request_made = self.server.streams[2 * number + 1].request
            self.assertEqual((b"kind", b"%d" % (number % 2)), request_made[-1])
        self.assertEqual(2, len(self.asked))

    def test_still_malformed(self) -> None:
        """It is held to the rules that hold for every field: its place, and what its value is made of."""
        first, *rest = request()
        self.assert_reset(1, ErrorCode.PROTOCOL_ERROR, headers(1, [(b"t", b"1"), first, *rest]))
        self.assert_reset(3, ErrorCode.PROTOCOL_ERROR, headers(3, request(b"/", (b"t", b"1\n"))))
        self.assert_reset(5, ErrorCode.PROTOCOL_ERROR, headers(5, [(b"t", b"1")]))
        self.assertEqual(1, self.varied(7, (b"t", b"1")))
