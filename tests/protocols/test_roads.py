"""http2: whatever comes, however it is cut, and whichever road it takes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import (
    START,
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
from tests.protocols.http2case import ENDED, OK, Told
from twistedetcd.protocols.framing import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADER_BLOCK_BYTES_MAX,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    REMEMBERED_BYTES_MAX,
    WINDOW_MAX,
    frame,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection

several = settings(max_examples=100, deadline=None)


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
            self.assertLessEqual(server._requests._block_bytes, REMEMBERED_BYTES_MAX)
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
