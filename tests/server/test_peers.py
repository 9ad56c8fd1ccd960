"""What goes to the other members and comes from them, and what a leader is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import (
    BackendError,
    BadAnswerError,
    EtcdError,
    LeaseNotFoundError,
    MemberRemovedError,
    NoLeaderError,
    NotPrimaryError,
    StoppedError,
    TimeoutError,
    TooManyRequestsError,
    UnsupportedError,
)
from twistedetcd.interfaces import IImage, IPeerTransport, IRaftReceiver
from twistedetcd.mvcc.pending import Pending
from twistedetcd.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChange,
    ConfChangeType,
    Entry,
    Message,
    MessageType,
    Snapshot,
)
from twistedetcd.server import peers as module
from twistedetcd.server.peers import AGAIN_SECONDS_MAX, CATCH_UP_SECONDS, Peers

SELF, ONE, TWO = 1, 2, 3
CLUSTER = 0xC1
TIMEOUT_SECONDS = 7.0


@implementer(IPeerTransport)
class SpyTransport:
    """A transport that notes what it is told; a test answers what is asked."""

    def __init__(self) -> None:
        self.receiver: Any = None
        self.known: dict[int, tuple[str, ...]] = {}
        self.sent: list[Message] = []
        self.snapshots: list[tuple[Message, Any]] = []
        self.asked: list[tuple[int, str, bytes, float, Deferred[bytes]]] = []
        self.stopped = False

    def start(self, receiver: Any) -> None:
        self.receiver = receiver

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)

    def add_peer(self, member: int, urls: Sequence[str]) -> None:
        self.known[member] = tuple(urls)

    def remove_peer(self, member: int) -> None:
        del self.known[member]

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages

    def send_snapshot(self, message: Message, image: Any) -> None:
        self.snapshots.append((message, image))

    def ask(self, member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        self.asked.append((member, kind, body, timeout_seconds, Deferred()))
        return self.asked[-1][-1]

    def active_since(self, member: int) -> float | None:
        return None


class SpyDriver:
    """Raft, as the peers see it."""

    def __init__(self) -> None:
        self.stepped: list[Message] = []
        self.lost: list[int] = []
        self.snapshots: list[tuple[int, bool]] = []

    def step(self, message: Message) -> None:
        self.stepped.append(message)

    def report_unreachable(self, member: int) -> None:
        self.lost.append(member)

    def report_snapshot(self, member: int, *, delivered: bool) -> None:
        self.snapshots.append((member, delivered))


@implementer(IImage)
class FakeImage:
    """An image that knows whether it was closed."""

    size_bytes = 0

    def __init__(self) -> None:
        self.closed = 0

    def chunks(self) -> Any:
        return iter(())

    def close(self) -> None:
        self.closed += 1


class FakeExchange:
    """Images when a test says so."""

    def __init__(self) -> None:
        self.images: list[Deferred[Any]] = []
        self.sinks: list[Any] = []

    def image(self) -> Deferred[Any]:
        self.images.append(Deferred())
        return self.images[-1]

    def sink(self, message: Message, arrived: Any) -> Any:
        self.sinks.append((message, arrived))
        return self.sinks[-1]


class PeersCase(SynchronousTestCase):
    """A member of three."""

    def setUp(self) -> None:
        self.clock, self.transport, self.driver = Clock(), SpyTransport(), SpyDriver()
        self.exchange = FakeExchange()
        self.cluster = Cluster(Pending(MemoryBackend()))
        for number in (SELF, ONE, TWO):
            self.change(ConfChangeType.ADD_NODE, Member(number, (f"http://{number}:2380",)))
        self.lead = 0
        self.woken: list[None] = []
        self.removed: list[None] = []
        self.peers = Peers(
            self.clock,
            self.transport,
            SELF,
            CLUSTER,
            self.cluster,
            lambda: self.woken.append(None),
            lambda: self.woken.append(None),
            lambda: self.lead,
            lambda: self.removed.append(None),
            lambda entry: entry.data != b"bad",
            TIMEOUT_SECONDS,
        )
        self.peers.start(self.driver, self.exchange)

    def change(self, kind: ConfChangeType, member: Member) -> None:
        context = b"" if kind == ConfChangeType.REMOVE_NODE else member.to_context()
        self.assertIsNone(self.cluster.apply(ConfChange(0, kind, member.id, context)))


class TalkTests(PeersCase):
    """Messages."""

    def test_contract(self) -> None:
        """It is what a transport talks to."""
        verifyObject(IRaftReceiver, self.peers)
        self.assertIs(self.peers, self.transport.receiver)

    def test_who_is_known(self) -> None:
        """The transport knows the others and their addresses, and hears of every change."""
        self.assertEqual({ONE: ("http://2:2380",), TWO: ("http://3:2380",)}, self.transport.known)
        self.change(ConfChangeType.UPDATE_NODE, Member(ONE, ("http://two:2380",)))
        self.change(ConfChangeType.REMOVE_NODE, Member(TWO, ()))
        self.peers.members_changed()
        self.assertEqual({ONE: ("http://two:2380",)}, self.transport.known)

    def test_not_to_who_was_removed(self) -> None:
        """Nothing is sent to who was removed; who is not known may be a member that this one has missed."""
        self.change(ConfChangeType.REMOVE_NODE, Member(TWO, ()))
        self.peers.members_changed()
        messages = [Message(MessageType.HEARTBEAT_RESP, to=to, sender=SELF, term=1) for to in (ONE, 9, TWO)]
        self.peers.send(messages)
        self.assertEqual([ONE, 9], [message.to for message in self.transport.sent])

    def test_received(self) -> None:
        """A message for this member goes to raft, and is acted upon in this turn."""
        message = Message(MessageType.HEARTBEAT, to=SELF, sender=ONE, term=1)
        self.peers.receive(message)
        self.assertEqual(([message], 0), (self.driver.stepped, len(self.woken)))
        self.peers.received()
        self.peers.received()
        self.assertEqual(1, len(self.woken), "once, when all that came was told")
        self.peers.unreachable(ONE)
        self.assertEqual([ONE], self.driver.lost)

    def test_kf_10_for_another(self) -> None:
        """A message for another member, as to one that was at this address before, is dropped."""
        self.peers.receive(Message(MessageType.HEARTBEAT, to=9, sender=ONE, term=1))
        self.assertEqual([], self.driver.stepped)

    def test_what_no_member_sends(self) -> None:
        """A snapshot without its image, and what only a member's own threads say, is dropped."""
        snapshot = Message(MessageType.SNAP, to=SELF, sender=ONE, term=2, snapshot=Snapshot(5, 1))
        self.peers.receive(snapshot)
        for thread in (APPEND_THREAD, APPLY_THREAD):
            self.peers.receive(Message(MessageType.STORAGE_APPLY_RESP, to=SELF, sender=thread, index=99))
        self.assertEqual([], self.driver.stepped)

    def test_vetted(self) -> None:
        """What others want in the log is looked at: the rest of a message is taken."""
        good, bad = Entry(0, 0, b"good"), Entry(0, 0, b"bad")
        for entries, taken in (((bad,), []), ((good, bad, good), [(good, good)])):
            self.driver.stepped.clear()
            self.peers.receive(Message(MessageType.PROP, to=SELF, sender=ONE, entries=entries))
            self.assertEqual(taken, [message.entries for message in self.driver.stepped])

    def test_removed(self) -> None:
        """Who was removed is not listened to, and told so; told so itself, a member stops."""
        self.change(ConfChangeType.REMOVE_NODE, Member(TWO, ()))
        message = Message(MessageType.VOTE, to=SELF, sender=TWO, term=9)
        self.assertRaises(MemberRemovedError, self.peers.receive, message)
        snapshot = message._replace(type=MessageType.SNAP, snapshot=Snapshot(5, 1))
        self.assertRaises(MemberRemovedError, self.peers.receive_snapshot, snapshot)
        self.assertEqual([], self.driver.stepped)
        self.peers.removed()
        self.assertEqual(1, len(self.removed))

    def test_stopped(self) -> None:
        """A member that stops hears nothing any more."""
        self.successResultOf(self.peers.stop())
        self.assertTrue(self.transport.stopped)
        self.peers.receive(Message(MessageType.HEARTBEAT, to=SELF, sender=ONE, term=1))
        self.peers.unreachable(ONE)
        self.peers.removed()
        self.assertEqual(([], [], []), (self.driver.stepped, self.driver.lost, self.removed))
        snapshot = Message(MessageType.SNAP, to=SELF, sender=ONE, term=1, snapshot=Snapshot(5, 1))
        self.assertRaises(StoppedError, self.peers.receive_snapshot, snapshot)


class SnapshotTests(PeersCase):
    """Whole stores."""

    message = Message(MessageType.SNAP, to=ONE, sender=SELF, term=2, snapshot=Snapshot(5, 1))

    def test_sent(self) -> None:
        """Raft only announces one: what is sent is the store as it is, and what came of it is reported."""
        heartbeat = Message(MessageType.HEARTBEAT, to=TWO, sender=SELF, term=2)
        self.peers.send([self.message, heartbeat])
        self.assertEqual(([heartbeat], []), (self.transport.sent, self.transport.snapshots))
        image = FakeImage()
        self.exchange.images[0].callback((Snapshot(8, 2), image))
        self.assertEqual([(self.message._replace(snapshot=Snapshot(8, 2)), image)], self.transport.snapshots)
        self.assertTrue(self.peers.shipping)
        self.peers.snapshot_sent(ONE, True)
        self.assertEqual([(ONE, True)], self.driver.snapshots)

    def test_shipping(self) -> None:
        """For a while after a snapshot has arrived the member will ask for what comes after it."""
        self.assertFalse(self.peers.shipping)
        self.peers.send([self.message])
        self.assertTrue(self.peers.shipping)
        self.exchange.images[0].callback((Snapshot(8, 2), FakeImage()))
        self.clock.advance(1000.0)
        self.assertTrue(self.peers.shipping)
        self.peers.snapshot_sent(ONE, True)
        self.clock.advance(CATCH_UP_SECONDS - 1.0)
        self.assertTrue(self.peers.shipping)
        self.clock.advance(1.0)
        self.assertFalse(self.peers.shipping)

    def test_no_image(self) -> None:
        """One that cannot be made counts as not delivered."""
        self.peers.send([self.message])
        self.exchange.images[0].errback(BackendError("no"))
        self.assertEqual([(ONE, False)], self.driver.snapshots)

    def test_gone_meanwhile(self) -> None:
        """One for somebody who was removed while it was made is closed."""
        self.peers.send([self.message])
        self.change(ConfChangeType.REMOVE_NODE, Member(ONE, ()))
        self.peers.members_changed()
        image = FakeImage()
        self.exchange.images[0].callback((Snapshot(8, 2), image))
        self.assertEqual(([], 1), (self.transport.snapshots, image.closed))
        self.assertEqual([(ONE, False)], self.driver.snapshots)

    def test_not_too_many(self) -> None:
        """Beyond the limit raft hears that one was not delivered, later, and tries again."""
        self.patch(module, "SNAPSHOTS_MAX", 2)
        self.peers.send([self.message] * 3)
        self.assertEqual(2, len(self.exchange.images))
        for waiting in self.exchange.images:
            waiting.callback((Snapshot(8, 2), FakeImage()))
        self.peers.snapshot_sent(ONE, True)
        self.peers.send([self.message])
        self.assertEqual(3, len(self.exchange.images))
        self.clock.advance(0)
        self.assertEqual([(ONE, True), (ONE, False)], self.driver.snapshots)

    def test_again_and_again(self) -> None:
        """To a member that does not take one the next goes out later and later, until it has taken one."""
        pauses: list[float] = []
        for _ in range(6):
            begun, sent = self.clock.seconds(), len(self.exchange.images)
            while len(self.exchange.images) == sent:
                self.peers.send([self.message])
                self.clock.advance(0.125)
            pauses.append(self.clock.seconds() - begun)
            self.exchange.images[-1].callback((Snapshot(8, 2), FakeImage()))
            self.peers.snapshot_sent(ONE, False)
        self.assertEqual([0.125, 0.625, 1.125, 2.125, 4.125, 5.125], pauses)
        self.clock.advance(AGAIN_SECONDS_MAX)
        self.peers.send([self.message])
        self.exchange.images[-1].callback((Snapshot(8, 2), FakeImage()))
        self.peers.snapshot_sent(ONE, True)
        self.peers.send([self.message])
        self.assertEqual(8, len(self.exchange.images))

    def test_refused_ones_do_not_count(self) -> None:
        """A snapshot that is not even begun is not one that has ended."""
        self.patch(module, "SNAPSHOTS_MAX", 1)
        for _ in range(3):
            self.peers.send([self.message])
            self.clock.advance(0)
        self.assertEqual(1, len(self.exchange.images))
        self.assertEqual([(ONE, False)] * 2, self.driver.snapshots)

    def test_taken_in(self) -> None:
        """One that comes goes to the exchange; raft hears of it once it is durable."""
        message = self.message._replace(to=SELF, sender=ONE)
        self.assertIs(self.peers.receive_snapshot(message), self.exchange.sinks[0])
        self.assertEqual([], self.driver.stepped)
        self.exchange.sinks[0][1](message)
        self.assertEqual([message], self.driver.stepped)


class QuestionTests(PeersCase):
    """What members ask each other."""

    def test_answers(self) -> None:
        """An answer, a refusal, and a question that this version does not know."""
        self.peers.answers["echo"] = succeed
        self.assertEqual(b"a", self.successResultOf(self.peers.answer(ONE, "echo", b"a")))
        self.assertEqual(b"b", self.successResultOf(self.peers.ask(SELF, "echo", b"b", 1.0)))

        def refusing(body: bytes) -> Deferred[bytes]:
            raise LeaseNotFoundError

        self.peers.answers["no"] = refusing
        self.failureResultOf(self.peers.answer(ONE, "no", b""), LeaseNotFoundError)
        self.failureResultOf(self.peers.answer(ONE, "what", b""), UnsupportedError)
        self.peers.stop()
        self.failureResultOf(self.peers.answer(ONE, "echo", b""), StoppedError)

    def test_leader(self) -> None:
        """Whoever leads is asked, once somebody does."""
        answer = self.peers.ask_leader("lease", b"7")
        self.clock.pump([0.1] * 5)
        self.assertEqual([], self.transport.asked)
        self.lead = TWO
        self.clock.advance(0.1)
        [(member, kind, body, _, asked)] = self.transport.asked
        self.assertEqual((TWO, "lease", b"7"), (member, kind, body))
        asked.callback(b"60")
        self.assertEqual(b"60", self.successResultOf(answer))

    def test_asked_again(self) -> None:
        """Who was asked may not lead any more, or not answer: the next one is asked; a refusal is final."""
        self.lead = ONE
        answer = self.peers.ask_leader("lease", b"7")
        for number, error in enumerate((NoLeaderError(), NotPrimaryError(), TimeoutError(), StoppedError())):
            self.transport.asked[number][-1].errback(error)
            self.assertNoResult(answer)
            self.lead = TWO
            self.clock.advance(0.1)
        self.assertEqual([ONE, TWO, TWO, TWO, TWO], [asked[0] for asked in self.transport.asked])
        self.transport.asked[-1][-1].errback(LeaseNotFoundError())
        self.failureResultOf(answer, LeaseNotFoundError)

    def test_errors_by_their_text(self) -> None:
        """Over a network only code and text of a refusal come: they decide."""
        self.lead = ONE
        answer = self.peers.ask_leader("lease", b"7")
        self.transport.asked[0][-1].errback(EtcdError(NoLeaderError.message))
        self.clock.advance(0.1)
        self.assertEqual(2, len(self.transport.asked))
        self.transport.asked[1][-1].callback(b"")
        self.successResultOf(answer)

    def test_ask_once(self) -> None:
        """What must not be done twice is not asked again when it may have been done."""
        self.lead = ONE
        answer = self.peers.ask_leader("promote", b"7", ask_once=True)
        self.assertEqual(TIMEOUT_SECONDS, self.transport.asked[0][3])
        self.transport.asked[0][-1].errback(TimeoutError())
        self.failureResultOf(answer, TimeoutError)

    def test_in_time(self) -> None:
        """It ends when a request may wait no longer, with the last reason."""
        answer = self.peers.ask_leader("lease", b"7")
        self.clock.pump([0.1] * 80)
        self.failureResultOf(answer, NoLeaderError)

    def test_leader_lost(self) -> None:
        """When in the end nobody leads, that is the reason, whatever came before."""
        self.lead = ONE
        answer = self.peers.ask_leader("lease", b"7")
        self.transport.asked[0][-1].errback(TimeoutError())
        self.lead = 0
        self.clock.pump([0.1] * 80)
        self.failureResultOf(answer, NoLeaderError)

    def test_numbers(self) -> None:
        """A number has eight bytes; anything else is not understood."""
        self.assertEqual(258, module.read_number(b"\0\0\0\0\0\0\1\2"))
        for data in (b"", b"\1", bytes(7), bytes(9), bytes(1 << 20)):
            self.assertRaises(BadAnswerError, module.read_number, data)

    def test_not_too_many(self) -> None:
        """So many questions may wait."""
        self.patch(module, "QUESTIONS_MAX", 2)
        waiting = [self.peers.ask_leader("lease", b"7") for _ in range(2)]
        self.failureResultOf(self.peers.ask_leader("lease", b"7"), TooManyRequestsError)
        self.peers.stop()
        self.clock.advance(0.1)
        for answer in waiting:
            self.failureResultOf(answer, StoppedError)

    def test_ourselves(self) -> None:
        """A leader answers itself."""
        self.lead = SELF
        self.peers.answers["lease"] = lambda body: fail(LeaseNotFoundError())
        self.failureResultOf(self.peers.ask_leader("lease", b"7"), LeaseNotFoundError)
        self.assertEqual([], self.transport.asked)
