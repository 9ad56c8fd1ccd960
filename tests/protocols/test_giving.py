"""Who gives way, when, and until when not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.memorynet import MemoryNetwork
from tests.protocols.test_peers import FRAME_BYTES_MAX
from twistedetcd.patience import TIMES
from twistedetcd.protocols.giving import LONG_PAUSE_SECONDS, LONG_SECONDS, GivingWay
from twistedetcd.protocols.peers import PeerTransport
from twistedetcd.protocols.turn import Turn
from twistedetcd.raft.types import Entry, Message, MessageType
from twistedetcd.testing.clock import SimulatedClock
from twistedetcd.testing.receiver import RecordingReceiver


class GivingWayTests(SynchronousTestCase):
    """Others get the processor, unless they keep it."""

    def setUp(self) -> None:
        self.now, self.takes, self.times = 100.0, 0.0, 0
        self.give_way = GivingWay(lambda: self.now, self.others)

    def others(self) -> None:
        self.now += self.takes
        self.times += 1

    def given(self, seconds: float) -> bool:
        before, self.takes = self.times, seconds
        self.give_way()
        return self.times > before

    def test_short(self) -> None:
        """Who goes on and sleeps soon is given way each time."""
        self.assertTrue(all(self.given(0.9 * LONG_SECONDS) for _ in range(1000)))

    def test_long(self) -> None:
        """Who has work of his own is not, for a while; then it is tried again."""
        self.assertTrue(self.given((TIMES + 1) * LONG_SECONDS))
        until = self.now + LONG_PAUSE_SECONDS
        self.assertFalse(self.given(0.0))
        self.now = until
        self.assertTrue(self.given(0.0))

    def test_real(self) -> None:
        """Of itself it lets the processes of this machine run."""
        GivingWay()()


class AnswerTests(SynchronousTestCase):
    """A turn's work that answered the only one who waits gives way before it goes on."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.turn = Turn(SimulatedClock(), give_way=lambda: self.events.append("way"))

    def work(self, *holders: Holder) -> list[str]:
        """What happens in a turn whose work wants these to be written to, and then goes on."""

        def answer() -> None:
            for holder in holders:
                self.turn.write(holder)
            self.turn.write_out()
            self.events.append("on")

        self.turn.before_writing(answer)
        self.turn.flush()
        return self.events

    def test_one(self) -> None:
        """It does once the answer has left."""
        self.assertEqual(["written", "way", "on"], self.work(Holder(self.events, left=True)))

    def test_not_left(self) -> None:
        """It does not while the answer waits for the reactor."""
        self.assertEqual(["written", "on"], self.work(Holder(self.events, left=False)))

    def test_many(self) -> None:
        """It does not for many, of whom some run anyway."""
        holders = [Holder(self.events, left=True) for _ in range(2)]
        self.assertEqual(["written", "written", "on"], self.work(*holders))

    def test_nobody(self) -> None:
        """It does not when nobody was answered."""
        self.assertEqual(["on"], self.work())

    def test_end(self) -> None:
        """The end of the turn is none: there is nothing to go on with."""
        self.turn.write(Holder(self.events, left=True))
        self.turn.flush()
        self.assertEqual(["written"], self.events)


class Holder:
    """A connection that has something to write."""

    def __init__(self, events: list[str], *, left: bool) -> None:
        self.events, self.left = events, left

    def flush(self) -> bool:
        self.events.append("written")
        return self.left


class AcknowledgementTests(SynchronousTestCase):
    """A member that has acknowledged entries gives way, for its leader waits for that."""

    def test_acknowledged(self) -> None:
        """It does after it has sent that, and after nothing else; a leader's appends go on at once."""
        clock = SimulatedClock()
        network = MemoryNetwork(clock)
        at_two = RecordingReceiver(2, 9)
        sent: list[Message] = []
        ways: list[int] = []

        def give_way() -> None:
            ways.append(len(sent))

        one, two = [
            PeerTransport(clock, network.at(member), lambda: 0.5, "3.6.0", FRAME_BYTES_MAX, give_way)
            for member in (1, 2)
        ]
        one.add_peer(2, ["http://member/2"])
        two.add_peer(1, ["http://member/1"])
        one.start(RecordingReceiver(1, 9))
        two.start(at_two)
        clock.advance(1.0)
        for message in (
            Message(MessageType.APP, 2, 1, 3, 2, 7, (Entry(3, 8, b"x"),), 7),
            Message(MessageType.HEARTBEAT, 2, 1, 3),
            Message(MessageType.APP_RESP, 2, 1, 3, 0, 8),
        ):
            sent.append(message)
            one.send([message])
        self.assertEqual([3], ways)
        clock.advance(1.0)
        self.assertEqual(sorted(sent), sorted(at_two.messages))
        for transport in (one, two):
            transport.stop()
        clock.advance(60.0)
