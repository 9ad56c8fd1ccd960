"""What leaves at once, and what waits."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.protocols.writing import write_now


class Socketlike:
    """A transport whose socket has some room, and takes so much at a time."""

    producerPaused = False

    def __init__(self, room: int, at_once: int) -> None:
        self.room, self.at_once = room, at_once
        self.sent, self.held = b"", b""

    def writeSomeData(self, data: memoryview) -> int | Exception:
        if self.room < 0:
            return OSError("lost")
        count = min(self.room, self.at_once, len(data))
        self.sent += bytes(data[:count])
        self.room -= count
        return count

    def write(self, data: bytes) -> None:
        self.held += data


class WriteNowTests(SynchronousTestCase):
    """A socket takes all that it has room for, in as many pieces as it wants."""

    def test_all(self) -> None:
        """Nothing waits for the next turn while there is room."""
        transport = Socketlike(100, 3)
        self.assertEqual(0, write_now(transport, b"0123456789"))
        self.assertEqual(
            (b"0123456789", b"", False), (transport.sent, transport.held, transport.producerPaused)
        )

    def test_rest(self) -> None:
        """The rest waits, in order, and the transport is to say when it is sent."""
        for room in (0, 4, 9):
            transport = Socketlike(room, 3)
            self.assertEqual(10 - room, write_now(transport, b"0123456789"))
            self.assertEqual((room, b"0123456789"), (len(transport.sent), transport.sent + transport.held))
            self.assertTrue(transport.producerPaused)

    def test_lost(self) -> None:
        """A connection that is lost is told of by the transport, as always."""
        transport = Socketlike(-1, 3)
        self.assertEqual(3, write_now(transport, b"abc"))
        self.assertEqual(b"abc", transport.held)
