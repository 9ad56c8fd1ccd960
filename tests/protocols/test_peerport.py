"""Who knocks at a peer port, and what becomes of it: members, strangers, and those who mean ill."""

from __future__ import annotations

import struct
from itertools import pairwise
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.memorynet import MemoryNetwork
from twistedetcd.errors import Code, EtcdError
from twistedetcd.protocols.dialing import AGAIN_SECONDS_MAX
from twistedetcd.protocols.frames import HELLO_BYTES_MAX, PROTOCOL, Frames, Hello, Kind, Lane, frame
from twistedetcd.protocols.peer import GREETING_SECONDS, SILENCE_SECONDS
from twistedetcd.protocols.peerport import CONNECTIONS_MAX
from twistedetcd.protocols.peers import PeerTransport
from twistedetcd.protocols.questions import ANSWER_BYTES_MAX, QUESTION_BYTES_MAX
from twistedetcd.raft.types import ConfState, Message, MessageType, Snapshot
from twistedetcd.testing.clock import SimulatedClock
from twistedetcd.testing.receiver import GivenImage, RecordingReceiver
from twistedetcd.wire import encode_message

CLUSTER, OURS, THEIRS, OTHER = 0xC1, 0x1111, 0x2222, 0x3333
FRAME_BYTES_MAX = 16 << 20
NUMBER = struct.Struct(">Q")
MESSAGE = Message(MessageType.HEARTBEAT, OURS, THEIRS, 3)


class Stranger(Protocol):
    """Somebody at the other end, who says what the test wants."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Failure | None = None
        self._frames = Frames(FRAME_BYTES_MAX)
        self.frames: list[tuple[Kind, bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.received[0] == 0:
            self.frames += self._frames.receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason

    def kinds(self) -> list[Kind]:
        return [kind for kind, _ in self.frames if kind is not Kind.PING]


class PeerPortCase(SynchronousTestCase):
    """One member's transport, and whoever the test brings."""

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.network = MemoryNetwork(self.clock)
        self.transport = self.make(OURS)
        self.receiver = RecordingReceiver(OURS, CLUSTER)
        self.transport.http = Factory.forProtocol(_Echo)
        self.transport.start(self.receiver)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def tearDown(self) -> None:
        self.transport.stop()
        self.clock.advance(60.0)
        self.assertEqual([], self.clock.getDelayedCalls())

    def make(self, member: int) -> PeerTransport:
        return PeerTransport(self.clock, self.network.at(member), lambda: 0.0, "3.6.14", FRAME_BYTES_MAX)

    def warnings(self) -> list[str]:
        return [formatEvent(event) for event in self.logged if event["log_level"] >= LogLevel.warn]

    def knock(self, data: bytes = b"", who: int = THEIRS, seconds: float = 0.1) -> Stranger:
        """Somebody connects, and says something."""
        stranger = Stranger()
        factory = Factory.forProtocol(lambda: stranger)
        self.network.connect(who, OURS, factory).addErrback(lambda failure: None)
        if data:
            stranger.transport.write(data)
        self.clock.advance(seconds)
        return stranger

    def hello(self, **fields: Any) -> bytes:
        hello = Hello(CLUSTER, THEIRS, OURS, Lane.URGENT, "3.6.14")._replace(**fields)
        return frame(Kind.HELLO, hello.encode())

    def member(self, **fields: Any) -> Stranger:
        """A member that was let in."""
        stranger = self.knock(self.hello(**fields))
        self.assertEqual([Kind.WELCOME], stranger.kinds())
        return stranger

    def say(self, stranger: Stranger, data: bytes) -> None:
        stranger.transport.write(data)
        self.clock.advance(0.1)


class _Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"you said " + data)


class GreetingTests(PeerPortCase):
    """Who is let in."""

    def test_member(self) -> None:
        """A member of the cluster is told who we are, and heard."""
        stranger = self.member()
        welcome = Hello.decode(stranger.frames[0][1])
        self.assertEqual(Hello(CLUSTER, OURS, THEIRS, Lane.URGENT, "3.6.14"), welcome)
        self.say(stranger, frame(Kind.MESSAGE, encode_message(MESSAGE)))
        self.assertEqual([MESSAGE], self.receiver.messages)
        self.assertEqual([], self.warnings())

    def test_http(self) -> None:
        """Whoever speaks HTTP is left to that."""
        stranger = self.knock(b"GET")
        self.assertEqual(b"you said GET", stranger.received)
        self.say(stranger, b" /")
        self.assertEqual(b"you said GETyou said  /", stranger.received)

    def test_kf_10_refused(self) -> None:
        """Who is not to be talked to, or wants somebody else, is told why; it is logged once."""
        self.receiver.removed_members.add(OTHER)
        for fields, word, text in (
            ({"cluster": 0xC2}, "cluster", "cluster ID mismatch: c2 meets c1"),
            ({"to": OTHER}, "member", "member 3333 was wanted, and this is 1111"),
            ({"sender": OURS}, "member", "it says that it is 1111 itself"),
            ({"sender": OTHER}, "removed", "the member has been permanently removed from the cluster"),
            ({"protocol": PROTOCOL + 1}, "protocol", "it speaks version 2 of this protocol, not 1"),
        ):
            self.logged.clear()
            for _ in range(3):
                stranger = self.knock(self.hello(**fields) + frame(Kind.MESSAGE, encode_message(MESSAGE)))
                self.assertEqual([(Kind.REFUSED, f"{word} {text}".encode())], stranger.frames)
                self.assertIsNotNone(stranger.ended)
            self.assertEqual(
                [f"rejected connection on peer endpoint from {THEIRS:x}: {text}"], self.warnings()
            )
        self.assertEqual([], self.receiver.messages)

    def test_nonsense(self) -> None:
        """What is no greeting ends the connection, and is logged with the reason."""
        for data, why in (
            (b"\x16\x03\x01\x02\x00", "it speaks TLS, which is not spoken here"),
            ((HELLO_BYTES_MAX + 1).to_bytes(4, "big") + b"\0", "a frame of 4097 bytes"),
            (frame(Kind.MESSAGE, encode_message(MESSAGE)), "it begins with a frame of kind MESSAGE"),
            (frame(Kind.HELLO, b"{}"), "what it says of itself cannot be read"),
            (b"\0\0\0\x01\xff", "a frame of kind 255"),
        ):
            self.logged.clear()
            stranger = self.knock(data)
            self.assertIsNotNone(stranger.ended, why)
            [warning] = self.warnings()
            self.assertIn(why, warning)
        self.assertEqual([], self.receiver.messages)

    def test_slow(self) -> None:
        """Whoever takes too long to say who it is is hung up on, also one who says it byte by byte."""
        silent, slow, greeting = self.knock(), self.knock(), self.hello()
        for number in range(int(GREETING_SECONDS / 0.1) + 5):
            self.say(slow, greeting[number : number + 1])
        self.assertIsNotNone(silent.ended)
        self.assertIsNotNone(slow.ended)

    def test_flood(self) -> None:
        """As many connections as there may be keep no member away, and are not kept for its sake."""
        member = self.member()
        crowd = [self.knock(b"GET", OTHER, 0.001) for _ in range(CONNECTIONS_MAX - 1)]
        self.assertIsNone(crowd[0].ended)
        another = self.member(lane=Lane.BULK)
        self.assertIsNotNone(crowd[0].ended)
        self.assertIsNone(crowd[1].ended)
        self.assertEqual((None, None), (member.ended, another.ended))

    def test_again(self) -> None:
        """A member that dials anew has forgotten the connection of before."""
        first, second = self.member(), self.member()
        self.assertIsNotNone(first.ended)
        self.assertIsNone(second.ended)
        self.assertEqual([], self.warnings())


class TalkTests(PeerPortCase):
    """What a member may say, once it was let in."""

    def test_makes_no_sense(self) -> None:
        """A frame that makes no sense ends its connection; the others go on."""
        good = self.member(lane=Lane.BULK)
        for data, why in (
            (frame(Kind.MESSAGE, b"\xff\xff"), "a message that cannot be read"),
            (frame(Kind.HELLO, b""), "a frame of kind HELLO, which has no place here"),
            (frame(Kind.PIECE, b"x"), "a frame of kind PIECE, which has no place here"),
            (frame(Kind.PONG, b"x"), "a sign of life of another length than ours"),
            (frame(Kind.ASK, bytes(8)), "a frame of kind ASK with 8 bytes"),
            (frame(Kind.ASK, bytes(QUESTION_BYTES_MAX + 1)), "a question of 65537 bytes"),
            (frame(Kind.ASK, bytes(8) + b"\x01\xff"), "a question whose kind is no text"),
            (frame(Kind.ANSWER, bytes(7)), "a frame of kind ANSWER with 7 bytes"),
            ((FRAME_BYTES_MAX + 1).to_bytes(4, "big") + b"\5", f"a frame of {FRAME_BYTES_MAX + 1} bytes"),
        ):
            self.logged.clear()
            stranger = self.member()
            self.say(stranger, data)
            self.assertIsNotNone(stranger.ended, why)
            [warning] = self.warnings()
            self.assertIn(why, warning)
        self.say(good, frame(Kind.MESSAGE, encode_message(MESSAGE)))
        self.assertEqual([MESSAGE], self.receiver.messages)

    def test_answers_nobody_waits_for(self) -> None:
        """An answer to no question, or from somebody who was not asked, is dropped."""
        self.transport.add_peer(OTHER, ("http://nowhere/9999",))
        asked = self.transport.ask(OTHER, "word", b"", 1.0)
        stranger = self.member()
        for number in (1, 99):
            self.say(stranger, frame(Kind.ANSWER, NUMBER.pack(number), b"mine"))
        self.assertNoResult(asked)
        self.assertIsNone(stranger.ended)
        self.clock.advance(2.0)
        self.failureResultOf(asked, EtcdError)

    def test_too_long_an_answer(self) -> None:
        """An answer that is too long is not sent: the asker is told."""
        self.receiver.answers = lambda sender, kind, body: _answer(bytes(ANSWER_BYTES_MAX + 1))
        stranger = self.member()
        self.say(stranger, frame(Kind.ASK, NUMBER.pack(1), b"\4word"))
        [(kind, body)] = stranger.frames[1:]
        self.assertEqual((Kind.NO_ANSWER, Code.UNKNOWN), (kind, body[8]))
        self.assertIn(b"8388609 bytes", body)

    def test_signs_of_life(self) -> None:
        """Whoever gives none for some seconds is hung up on; one who does stays."""
        silent, alive = self.member(lane=Lane.BULK), self.member()
        for _ in range(int(SILENCE_SECONDS) + 3):
            self.say(alive, frame(Kind.PING, bytes(8)))
            self.clock.advance(0.9)
        self.assertIsNotNone(silent.ended)
        self.assertIsNone(alive.ended)
        self.assertIn((Kind.PONG, bytes(8)), alive.frames)


def _answer(body: bytes) -> Deferred[bytes]:
    done: Deferred[bytes] = Deferred()
    done.callback(body)
    return done


class ImageTests(PeerPortCase):
    """A store that comes."""

    def setUp(self) -> None:
        super().setUp()
        snapshot = Snapshot(7, 3, ConfState(voters=(OURS, THEIRS)))
        self.begin = frame(
            Kind.IMAGE, encode_message(Message(MessageType.SNAP, OURS, THEIRS, 3, snapshot=snapshot))
        )

    def test_not_what_was_sent(self) -> None:
        """One whose length or checksum is another one is not taken."""
        for end in (struct.pack(">QI", 3, 0), struct.pack(">QI", 4, 0x364B3FB7), b"short"):
            stranger = self.member(lane=Lane.IMAGE)
            self.say(stranger, self.begin + frame(Kind.PIECE, b"abc") + frame(Kind.IMAGE_END, end))
            self.assertIsNotNone(stranger.ended)
            self.assertEqual(["abort"], self.receiver.sinks[-1].ends)
        self.assertEqual([], self.receiver.messages)

    def test_out_of_order(self) -> None:
        """Pieces of nothing, and a second image on the same connection, end it."""
        for data in (frame(Kind.PIECE, b"x"), self.begin * 2, frame(Kind.ASK, bytes(20))):
            stranger = self.member(lane=Lane.IMAGE)
            self.say(stranger, data)
            self.assertIsNotNone(stranger.ended)
        self.assertEqual([["abort"]], [sink.ends for sink in self.receiver.sinks])

    def test_begun_anew(self) -> None:
        """A peer that begins anew has given up the image of before."""
        first = self.member(lane=Lane.IMAGE)
        self.say(first, self.begin + frame(Kind.PIECE, b"x"))
        second = self.member(lane=Lane.IMAGE)
        self.say(second, self.begin)
        self.assertEqual([["abort"], []], [sink.ends for sink in self.receiver.sinks])
        self.assertIsNotNone(first.ended)

    def test_announced_badly(self) -> None:
        """An announcement that cannot be read ends it."""
        stranger = self.member(lane=Lane.IMAGE)
        self.say(stranger, frame(Kind.IMAGE, b"\xff"))
        self.assertIsNotNone(stranger.ended)
        self.assertEqual([], self.receiver.sinks)


class DialingTests(PeerPortCase):
    """How a peer is reached."""

    def listener(self, member: int) -> list[Stranger]:
        """A stranger listens, in a member's place."""
        accepted: list[Stranger] = []

        def build() -> Stranger:
            accepted.append(Stranger())
            return accepted[-1]

        self.network.listen(member, Factory.forProtocol(build))
        return accepted

    def test_again_and_again(self) -> None:
        """One that is not there is dialed again, less and less often, and that is logged once."""
        dialed: list[float] = []
        place = self.network.at(OURS)
        endpoint = place.endpoint
        self.patch(
            self.transport._network,
            "endpoint",
            lambda url: (dialed.append(self.clock.seconds()), endpoint(url))[1],
        )
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        self.clock.advance(10.0)
        times = sorted(set(dialed))
        pauses = [round(later - earlier, 3) for earlier, later in pairwise(times)]
        self.assertEqual([0.05, 0.1, 0.2, 0.4, 0.5, 0.5], pauses[:6])
        self.assertLessEqual(max(pauses), AGAIN_SECONDS_MAX)
        self.assertEqual(1, len(self.warnings()), self.warnings())

    def test_image_for_nobody_there(self) -> None:
        """An image for a peer that cannot be dialed is not delivered; the next one is tried all the same."""
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        message = Message(MessageType.SNAP, THEIRS, OURS, 3, snapshot=Snapshot(7, 3))
        self.transport.send_snapshot(message, GivenImage([b"x"]))
        self.clock.advance(0.1)
        accepted = self.listener(THEIRS)
        self.transport.send_snapshot(message, GivenImage([b"x"]))
        self.clock.advance(0.1)
        hellos = [Hello.decode(body) for one in accepted for kind, body in one.frames if kind is Kind.HELLO]
        self.assertIn(Lane.IMAGE, {hello.lane for hello in hellos})
        self.assertEqual([(THEIRS, False)], self.receiver.reports)

    def test_other_urls(self) -> None:
        """Of several URLs that of a peer which answers is found."""
        accepted = self.listener(THEIRS)
        self.transport.add_peer(THEIRS, ("http://x/9999", "http://x/2222"))
        self.clock.advance(1.0)
        self.assertEqual(2, len(accepted))

    def test_comes_back(self) -> None:
        """When a peer dials us it is dialed at once, however long there was still to wait."""
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        self.clock.advance(9.0)
        accepted = self.listener(THEIRS)
        self.knock(self.hello())
        self.assertEqual(2, len(accepted))

    def test_somebody_else(self) -> None:
        """Whoever answers in a peer's place, and is not that, gets nothing."""
        for answer, why in (
            (frame(Kind.WELCOME, Hello(CLUSTER, OTHER, OURS, Lane.URGENT, "").encode()), "it is 3333"),
            (frame(Kind.WELCOME, Hello(0xC2, THEIRS, OURS, Lane.URGENT, "").encode()), "cluster ID mismatch"),
            (frame(Kind.MESSAGE, encode_message(MESSAGE)), "it answers with a frame of kind MESSAGE"),
            (frame(Kind.REFUSED, b"cluster another cluster"), "another cluster"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of 1213486160 bytes"),
        ):
            self.logged.clear()
            accepted = self.listener(THEIRS)
            self.transport.add_peer(THEIRS, ("http://x/2222",))
            self.transport.send([MESSAGE._replace(to=THEIRS, sender=OURS)])
            self.clock.advance(0.05)
            for one in list(accepted):
                self.say(one, answer)
            self.assertTrue(any(why in one for one in self.warnings()), (why, self.warnings()))
            self.assertEqual({Kind.HELLO}, {kind for one in accepted for kind in one.kinds()})
            self.transport.remove_peer(THEIRS)
            self.network.stop_listening(THEIRS)
        self.assertEqual([], self.receiver.messages)

    def test_told_that_we_are_removed(self) -> None:
        """A refusal that says so is believed."""
        accepted = self.listener(THEIRS)
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        self.clock.advance(0.05)
        self.say(accepted[0], frame(Kind.REFUSED, b"removed you were removed"))
        self.assertEqual(1, self.receiver.removals)

    def test_no_answer(self) -> None:
        """One that takes our call and says nothing is given up in time, and tried again."""
        accepted = self.listener(THEIRS)
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        self.clock.advance(GREETING_SECONDS + 1.0)
        self.assertEqual(4, len(accepted))
        self.assertIsNotNone(accepted[0].ended)

    def test_round_trip(self) -> None:
        """It is known how long the way there and back takes."""
        accepted = self.listener(THEIRS)
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        self.clock.advance(0.05)
        welcome = frame(Kind.WELCOME, Hello(CLUSTER, THEIRS, OURS, Lane.URGENT, "").encode())
        self.say(accepted[0], welcome)
        self.clock.advance(1.0)
        [ping] = [body for kind, body in accepted[0].frames if kind is Kind.PING]
        self.clock.advance(0.2)
        self.say(accepted[0], frame(Kind.PONG, ping))
        statistics = self.transport.statistics()[THEIRS]
        self.assertTrue(0.2 < statistics.round_trip_seconds < 0.4, statistics)
        counts = dict(statistics.round_trips)
        self.assertEqual((0, 1, 1), (counts[0.2048], counts[0.4096], counts[inf]))

    def test_counted(self) -> None:
        """What is sent to a peer and comes from it is counted, and what is dropped."""
        accepted = self.listener(THEIRS)
        self.transport.add_peer(THEIRS, ("http://x/2222",))
        self.clock.advance(0.05)
        self.assertFalse(self.transport.statistics()[THEIRS].active)
        for one in accepted:
            self.say(one, frame(Kind.WELCOME, Hello(CLUSTER, THEIRS, OURS, Lane.URGENT, "").encode()))
        self.transport.send([MESSAGE._replace(to=THEIRS, sender=OURS)])
        sent = len(frame(Kind.MESSAGE, encode_message(MESSAGE._replace(to=THEIRS, sender=OURS))))
        self.say(accepted[0], frame(Kind.PONG, bytes(8)))
        statistics = self.transport.statistics()[THEIRS]
        self.assertEqual(
            (True, sent, 0), (statistics.active, statistics.sent_bytes, statistics.sent_failures)
        )
        self.assertGreaterEqual(statistics.received_bytes, len(frame(Kind.PONG, bytes(8))))
        self.network.stop_listening(THEIRS)
        self.network.resets = True
        self.network.cut(OURS, THEIRS)
        self.clock.advance(3.0)
        self.transport.send([MESSAGE._replace(to=THEIRS, sender=OURS)])
        statistics = self.transport.statistics()[THEIRS]
        self.assertEqual((False, 1), (statistics.active, statistics.sent_failures))
