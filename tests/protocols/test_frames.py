"""What members say to each other, as bytes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.protocols.frames import (
    HELLO_BYTES_MAX,
    PROTOCOL,
    FrameError,
    Frames,
    Hello,
    Kind,
    Lane,
    frame,
)

IDS = st.integers(1, 2**64 - 1)


class FrameTests(SynchronousTestCase):
    """A length, a kind, a body."""

    @given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300))), st.data())
    def test_in_any_pieces(self, sent: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
        """What was sent arrives, however the bytes are cut."""
        stream = b"".join(frame(kind, body[:7], body[7:]) for kind, body in sent)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
        frames, received = Frames(1000), list[tuple[Kind, bytes]]()
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            received += frames.receive(stream[start:end])
        self.assertEqual(sent, received)

    def test_a_byte_at_a_time(self) -> None:
        """A frame is there with its last byte, and not before."""
        frames, data = Frames(), frame(Kind.MESSAGE, b"abc")
        for number in range(len(data) - 1):
            self.assertEqual([], list(frames.receive(data[number : number + 1])))
        self.assertEqual([(Kind.MESSAGE, b"abc")], list(frames.receive(data[-1:])))

    def test_too_long(self) -> None:
        """A frame that is too long is refused by its head: nothing of it is kept."""
        for length in (0, HELLO_BYTES_MAX + 1, 0xFFFF_FFFF):
            data = length.to_bytes(4, "big") + bytes((Kind.MESSAGE,))
            error = self.assertRaises(FrameError, list, Frames().receive(data))
            self.assertIn(f"a frame of {length} bytes", str(error))
        self.assertEqual([], list(Frames().receive(HELLO_BYTES_MAX.to_bytes(4, "big") + b"\5")))

    def test_before_it(self) -> None:
        """What came before a frame that is refused is received; and a limit counts from when it is set."""
        frames, received = Frames(10), list[Kind]()
        data = frame(Kind.HELLO, b"short") + frame(Kind.MESSAGE, bytes(50)) + frame(Kind.MESSAGE, bytes(200))
        with self.assertRaises(FrameError):
            for kind, _ in frames.receive(data):
                received.append(kind)
                frames.bytes_max = 100
        self.assertEqual([Kind.HELLO, Kind.MESSAGE], received)

    def test_unknown_kind(self) -> None:
        """A kind of a later version ends the connection, and is named."""
        error = self.assertRaises(FrameError, list, Frames().receive(b"\0\0\0\x01\x63"))
        self.assertIn("kind 99", str(error))

    def test_first_byte(self) -> None:
        """Whoever dials begins with a zero byte, unlike HTTP and TLS."""
        hello = Hello(2**64 - 1, 2**64 - 1, 2**64 - 1, Lane.URGENT, "3.6.14")
        self.assertEqual(0, frame(Kind.HELLO, hello.encode())[0])


class HelloTests(SynchronousTestCase):
    """What either end says of itself."""

    @given(IDS, IDS, IDS, st.sampled_from(Lane), st.text(max_size=20))
    def test_back(self, cluster: int, sender: int, to: int, lane: Lane, server: str) -> None:
        """It can be read."""
        hello = Hello(cluster, sender, to, lane, server)
        self.assertEqual(hello, Hello.decode(hello.encode()))

    def test_more(self) -> None:
        """What a later version says besides is passed over; that it speaks another protocol is seen."""
        fields = json.loads(Hello(1, 2, 3, Lane.BULK, "4.0.0").encode())
        later = json.dumps({**fields, "protocol": PROTOCOL + 1, "colour": "blue"}).encode()
        self.assertEqual(Hello(1, 2, 3, Lane.BULK, "4.0.0", PROTOCOL + 1), Hello.decode(later))

    @given(st.binary(max_size=100))
    def test_nonsense(self, data: bytes) -> None:
        """Anything else is refused, and nothing else happens."""
        self.assertRaises(FrameError, Hello.decode, data)

    def test_nearly(self) -> None:
        """One field that is not right makes all of it wrong."""
        fields = json.loads(Hello(1, 2, 3, Lane.BULK, "3.6.14").encode())
        for name, value in (
            ("cluster", "0"),
            ("from", "10000000000000000"),
            ("to", "-1"),
            ("to", 7),
            ("lane", "fast"),
            ("lane", None),
        ):
            self.assertRaises(FrameError, Hello.decode, json.dumps({**fields, name: value}).encode())
        self.assertRaises(FrameError, Hello.decode, b"[" * 4000)
