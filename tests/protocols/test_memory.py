"""requests: header blocks that are remembered, and how long that is right."""

from __future__ import annotations

from typing import Any

import hpack

from tests.protocols.client import (
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
