"""
The conformance kit of `IPeerTransport`: a transport that passes it can carry a cluster.

Mix it into a trial test case, and say how to make a member's transport and what may happen to the network::

    from twisted.trial.unittest import SynchronousTestCase
    from twistedetcd.testing.peertransport import PeerTransportKit

    class MyTransportTests(PeerTransportKit, SynchronousTestCase):
        def make(self, member): ...
        def urls(self, member): ...
        def advance(self, seconds): ...
        def disconnect(self, one, other): ...
        def reconnect(self, one, other): ...
        def stall(self, member): ...
        def go_on(self, member): ...

The kit never waits: it calls `PeerTransportKit.advance`, in which a transport over simulated connections lets
its clock go on and moves the bytes that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface.verify import verifyObject

from twistedetcd.errors import Code, EtcdError, MemberError, MemberRemovedError, TimeoutError
from twistedetcd.interfaces import IImage, IImageSink, IPeerTransport, IRaftReceiver
from twistedetcd.raft.types import ConfState, Entry, Message, MessageType, Snapshot
from twistedetcd.testing.receiver import GivenImage, RecordingReceiver, RecordingSink

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Case
else:
    _Case = object  # so that trial does not take the kit itself for a test case

ONE, TWO, THREE = 0x1111, 0xFFFF_FFFF_FFFF_2222, 0x3333
CLUSTER = 0xFFFF_0000_FFFF_0001
STEP_SECONDS = 0.05
"""How far the kit lets time go on at once."""
PATIENCE_SECONDS = 60.0
"""How long it waits for what must come about."""
FLOOD = 10_000
"""More messages than a transport may keep, each with `FLOOD_BYTES`."""
FLOOD_BYTES = 4096


class PeerTransportKit(_Case):
    """
    Tests of a transport; see the module's text.

    Attributes:
        one, two: Two members' transports, started, each other's peers, who hear each other.
        at_one, at_two: Whom they call.
    """

    def setUp(self) -> None:
        self.later: list[Callable[[], None]] = []
        self.one, self.two = self.make(ONE), self.make(TWO)
        self.at_one, self.at_two = RecordingReceiver(ONE, CLUSTER), RecordingReceiver(TWO, CLUSTER)
        self.one.add_peer(TWO, self.urls(TWO))
        self.two.add_peer(ONE, self.urls(ONE))
        self.one.start(self.at_one)
        self.two.start(self.at_two)
        # Until then messages may be lost.
        self.until(lambda: None not in (self.one.active_since(TWO), self.two.active_since(ONE)))

    def tearDown(self) -> None:
        for transport in (self.one, self.two):
            self.wait_for(transport.stop())

    # What a subclass says.

    def make(self, member: int) -> IPeerTransport:
        """The transport of a member, not started."""
        raise NotImplementedError

    def urls(self, member: int) -> Sequence[str]:
        """Where it is, or will be, found."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let time go on, and all that happens in it."""
        raise NotImplementedError

    def disconnect(self, one: int, other: int) -> None:
        """Break what connects two members, until `reconnect`."""
        raise NotImplementedError

    def reconnect(self, one: int, other: int) -> None:
        """They can be connected again."""
        raise NotImplementedError

    def stall(self, member: int) -> None:
        """A member takes nothing in, and its connections stay, until `go_on`."""
        raise NotImplementedError

    def go_on(self, member: int) -> None:
        """It does again."""
        raise NotImplementedError

    # Tools.

    def until(self, so: Callable[[], object], what: str = "") -> None:
        """Let time go on until it is so."""
        passed = 0.0
        while not so():
            if passed > PATIENCE_SECONDS:
                self.fail(f"did not come about: {what or so}")
            self.advance(STEP_SECONDS)
            passed += STEP_SECONDS

    def wait_for(self, done: Deferred[Any]) -> Any:
        """What a Deferred brings; its exception, if it fails."""
        results: list[Any] = []
        done.addBoth(results.append)
        self.until(lambda: results, "a Deferred")
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]

    def append(self, number: int, size: int = 100) -> Message:
        """A message that can be told from others."""
        entries = (Entry(3, number, bytes(size)), Entry(3, number + 1, b"x", 1))
        return Message(MessageType.APP, TWO, ONE, 3, 2, number - 1, entries, number)

    def snapshot(self) -> Message:
        """The message of a snapshot."""
        snapshot = Snapshot(7, 3, ConfState(voters=(ONE, TWO)))
        return Message(MessageType.SNAP, TWO, ONE, 3, snapshot=snapshot)

    def send_snapshot(self, pieces: Sequence[bytes], half_way: Callable[[], object] = int) -> GivenImage:
        """Begin to send a snapshot from one to two."""
        image = GivenImage(pieces, half_way)
        self.one.send_snapshot(self.snapshot(), image)
        return image

    def not_delivered(self, image: GivenImage) -> None:
        """It is reported so, once, and the image is closed, once."""
        self.until(lambda: self.at_one.reports, "a report")
        self.advance(1.0)
        self.assertEqual([(TWO, False)], self.at_one.reports)
        self.assertEqual(1, image.closed)

    # Messages.

    def test_contract(self) -> None:
        """It does what the contract lists."""
        verifyObject(IPeerTransport, self.one)
        verifyObject(IRaftReceiver, self.at_one)
        verifyObject(IImage, GivenImage([]))
        verifyObject(IImageSink, RecordingSink(self.at_one, self.snapshot()))

    def test_order(self) -> None:
        """Messages arrive as they were, once, in their order."""
        sent = [self.append(number) for number in range(1, 200)]
        for start in range(0, len(sent), 10):
            self.one.send(sent[start : start + 10])
        self.until(lambda: len(self.at_two.messages) >= len(sent))
        self.advance(1.0)
        self.assertEqual(sent, self.at_two.messages)
        self.assertTrue(0 < self.at_two.batches <= len(sent))
        self.assertEqual([], self.at_one.lost)

    def test_every_field_travels(self) -> None:
        """Nothing of a message is lost, and nothing of it is shared."""
        sent = Message(
            MessageType.READ_INDEX_RESP, TWO, ONE, 9, 8, 7, (Entry(1, 2, b"x"),), 6, None, True, 5, b"c", 4
        )
        self.one.send([sent])
        self.until(lambda: self.at_two.messages)
        self.assertEqual([sent], self.at_two.messages)
        self.assertIsNot(sent.entries[0], self.at_two.messages[0].entries[0])

    def test_never_from_within(self) -> None:
        """A receiver is not called before the caller of the transport has returned."""
        self.one.send([self.append(1)])
        self.assertEqual([], self.at_two.messages)
        self.send_snapshot([b"x"])
        self.assertEqual([], self.at_two.sinks)
        asked = self.one.ask(TWO, "word", b"", 5.0)
        self.assertNoResult(asked)
        self.wait_for(asked)

    def test_heartbeats_overtake(self) -> None:
        """Heartbeats and votes do not wait for the appends before them."""
        self.stall(TWO)
        self.one.send([self.append(number, 100_000) for number in range(1, 40)])
        urgent = [
            Message(kind, TWO, ONE, 3)
            for kind in (MessageType.HEARTBEAT, MessageType.VOTE, MessageType.PRE_VOTE_RESP)
        ]
        self.one.send(urgent)
        self.go_on(TWO)
        self.until(lambda: len(self.at_two.messages) == 42)
        types = [message.type for message in self.at_two.messages]
        last = max(types.index(message.type) for message in urgent)
        self.assertIn(MessageType.APP, types[last:])

    def test_bounded(self) -> None:
        """What a peer does not take is not kept for ever: it is dropped, and the peer is unreachable."""
        self.stall(TWO)
        message = self.append(1, FLOOD_BYTES)
        for _ in range(FLOOD // 100):
            self.one.send([message] * 100)
            self.advance(0.001)
        self.until(lambda: TWO in self.at_one.lost)
        self.go_on(TWO)
        self.advance(5.0)
        self.assertLess(len(self.at_two.messages), FLOOD)
        before = len(self.at_two.messages)
        self.one.send([self.append(2)])
        self.until(lambda: len(self.at_two.messages) > before)

    def test_unreachable(self) -> None:
        """A peer that is cut off is reported, and heard of again later."""
        self.disconnect(ONE, TWO)
        self.one.send([self.append(1)])
        self.until(lambda: self.at_one.lost)
        self.assertEqual(TWO, self.at_one.lost[0])
        self.reconnect(ONE, TWO)
        self.advance(5.0)
        arrived = self.at_two.messages

        def send_again() -> bool:
            self.one.send([self.append(2)])
            return bool(arrived)

        self.until(send_again)
        self.assertEqual([2], sorted({message.entries[0].index for message in arrived}))

    def test_strangers(self) -> None:
        """What is for nobody we know goes nowhere, and does no harm."""
        self.one.send([self.append(1)._replace(to=0x9999), self.append(2)])
        self.until(lambda: self.at_two.messages)
        self.assertEqual([self.append(2)], self.at_two.messages)

    # Peers.

    def test_removed(self) -> None:
        """A peer that was removed gets nothing, until it is a peer again."""
        self.one.remove_peer(TWO)
        self.one.send([self.append(1)])
        self.advance(2.0)
        self.assertEqual([], self.at_two.messages)
        self.assertIsNone(self.one.active_since(TWO))
        self.one.add_peer(TWO, self.urls(TWO))

        def send_again() -> bool:
            self.one.send([self.append(2)])
            return bool(self.at_two.messages)

        self.until(send_again)
        self.assertEqual(self.append(2), self.at_two.messages[0])

    def test_sender_was_removed(self) -> None:
        """Whoever is no member any more is told so when it says something."""

        def refuse(message: Message) -> None:
            raise MemberRemovedError

        self.at_two.on_message = refuse
        self.two.remove_peer(ONE)
        self.one.send([self.append(1)])
        self.until(lambda: self.at_one.removals)
        self.assertEqual(0, self.at_two.removals)

    def test_removed_while_away(self) -> None:
        """Whoever was removed hears of it as soon as it is there, though it says nothing."""
        removed = self.make(THREE)
        self.addCleanup(lambda: self.wait_for(removed.stop()))
        at_three = RecordingReceiver(THREE, CLUSTER)
        self.at_one.removed_members.add(THREE)
        removed.add_peer(ONE, self.urls(ONE))
        removed.start(at_three)
        self.until(lambda: at_three.removals)
        self.assertEqual((0, 0), (self.at_one.removals, self.at_two.removals))

    def test_other_clusters(self) -> None:
        """A member of another cluster is not heard, and hears nothing."""
        other = self.make(THREE)
        self.addCleanup(lambda: self.wait_for(other.stop()))
        at_three = RecordingReceiver(THREE, CLUSTER + 1)
        self.one.add_peer(THREE, self.urls(THREE))
        other.add_peer(ONE, self.urls(ONE))
        other.start(at_three)
        for _ in range(20):
            self.one.send([self.append(1)._replace(to=THREE)])
            other.send([Message(MessageType.APP_RESP, ONE, THREE, 3)])
            self.advance(0.5)
        self.assertEqual(([], []), (at_three.messages, self.at_one.messages))
        self.assertIsNone(self.one.active_since(THREE))

    def test_answer_to_a_stranger(self) -> None:
        """Whoever spoke can be answered, though it was never added: so it is with one who joins."""
        joining = self.make(THREE)
        self.addCleanup(lambda: self.wait_for(joining.stop()))
        at_three = RecordingReceiver(THREE, CLUSTER)
        answer = Message(MessageType.APP_RESP, ONE, THREE, 3)
        at_three.on_message = lambda message: self.later.append(lambda: joining.send([answer]))
        joining.start(at_three)
        self.one.add_peer(THREE, self.urls(THREE))

        def answered() -> bool:
            self.one.send([self.append(1)._replace(to=THREE)])
            while self.later:
                self.later.pop()()
            return answer in self.at_one.messages

        self.until(answered)

    def test_added_twice(self) -> None:
        """To say again where a peer is changes nothing."""
        self.one.add_peer(TWO, self.urls(TWO))
        self.one.send([self.append(1)])
        self.until(lambda: self.at_two.messages)
        self.advance(1.0)
        self.assertEqual([self.append(1)], self.at_two.messages)

    def test_moves(self) -> None:
        """A peer that is to be elsewhere is reached where it is as long as it is there, and stays heard."""
        since = self.one.active_since(TWO)
        self.one.add_peer(TWO, self.urls(0x9999))
        self.one.send([self.append(1)])
        self.until(lambda: self.at_two.messages)
        self.advance(5.0)
        self.one.send([self.append(2)])
        self.until(lambda: len(self.at_two.messages) == 2)
        self.assertEqual(since, self.one.active_since(TWO))
        self.one.add_peer(TWO, self.urls(TWO))
        self.advance(2.0)
        self.one.send([self.append(3)])
        self.until(lambda: len(self.at_two.messages) == 3)
        self.assertEqual(since, self.one.active_since(TWO))

    def test_active_since(self) -> None:
        """It is known since when a peer is heard, and whether it still is."""
        self.assertIsNone(self.one.active_since(0x9999))
        self.until(lambda: self.one.active_since(TWO) is not None)
        since = self.one.active_since(TWO)
        self.advance(10.0)
        self.assertEqual(since, self.one.active_since(TWO))
        self.disconnect(ONE, TWO)
        self.until(lambda: self.one.active_since(TWO) is None)
        self.reconnect(ONE, TWO)
        self.until(lambda: self.one.active_since(TWO) is not None)
        again = self.one.active_since(TWO)
        assert since is not None and again is not None
        self.assertGreater(again, since)

    # Questions.

    def test_answered(self) -> None:
        """A question reaches the other end, and its answer comes back; each its own."""
        self.at_two.answers = lambda sender, kind, body: succeed(b"%x %s " % (sender, kind.encode()) + body)
        first, second = self.one.ask(TWO, "a", b"x", 5.0), self.one.ask(TWO, "b", b"\0" * 10, 5.0)
        self.assertEqual(b"1111 b " + b"\0" * 10, self.wait_for(second))
        self.assertEqual(b"1111 a x", self.wait_for(first))

    def test_answered_later(self) -> None:
        """An answer may take its time; others need not wait for it."""
        late: Deferred[bytes] = Deferred()
        self.at_two.answers = lambda sender, kind, body: late if kind == "slow" else succeed(b"")
        slow = self.one.ask(TWO, "slow", b"", 50.0)
        self.wait_for(self.one.ask(TWO, "fast", b"", 5.0))
        self.assertNoResult(slow)
        late.callback(b"at last")
        self.assertEqual(b"at last", self.wait_for(slow))

    def test_refused(self) -> None:
        """A refusal comes back with its code and text, whether it comes at once or later."""
        error = EtcdError("etcdserver: no")
        error.code = Code.NOT_FOUND
        later: Deferred[bytes] = Deferred()

        def refuse(sender: int, kind: str, body: bytes) -> Deferred[bytes]:
            if kind == "now":
                raise error
            return later

        self.at_two.answers = refuse
        now, then = self.one.ask(TWO, "now", b"", 5.0), self.one.ask(TWO, "later", b"", 5.0)
        later.errback(error)
        for asked in (now, then):
            raised = self.assertRaises(EtcdError, self.wait_for, asked)
            self.assertEqual((Code.NOT_FOUND, "etcdserver: no"), (raised.code, raised.message))

    def test_no_answer(self) -> None:
        """Whoever gets no answer is told so in time; one that comes later is nobody's."""
        late: Deferred[bytes] = Deferred()
        self.at_two.answers = lambda sender, kind, body: late
        asked = self.one.ask(TWO, "word", b"", 2.0)
        self.advance(1.0)
        self.assertNoResult(asked)
        self.assertRaises(TimeoutError, self.wait_for, asked)
        late.callback(b"late")
        self.advance(1.0)
        self.disconnect(ONE, TWO)
        self.assertRaises(TimeoutError, self.wait_for, self.one.ask(TWO, "word", b"", 2.0))
        self.assertRaises(TimeoutError, self.wait_for, self.one.ask(0x9999, "word", b"", 2.0))

    # Snapshots.

    def test_snapshot(self) -> None:
        """An image arrives with its message, whole; then the sender hears of it, once."""
        pieces = [bytes([number]) * 10_000 for number in range(30)]
        image = self.send_snapshot(pieces)
        self.until(lambda: self.at_one.reports)
        self.advance(1.0)
        [sink] = self.at_two.sinks
        self.assertEqual((self.snapshot(), b"".join(pieces)), (sink.message, sink.data))
        self.assertEqual(["finish"], sink.ends)
        self.assertEqual([(TWO, True)], self.at_one.reports)
        self.assertEqual(1, image.closed)
        self.assertEqual([], self.at_two.messages)

    def test_snapshot_is_durable_when_delivered(self) -> None:
        """It is not delivered before the other end says that it has it."""
        done = self.at_two.finished = Deferred()
        self.send_snapshot([b"x"])
        self.until(lambda: self.at_two.sinks and self.at_two.sinks[0].ends)
        self.advance(1.0)
        self.assertEqual([], self.at_one.reports)
        done.callback(None)
        self.until(lambda: self.at_one.reports)
        self.assertEqual([(TWO, True)], self.at_one.reports)

    def test_messages_pass_a_snapshot(self) -> None:
        """What raft says meanwhile does not wait for the image to end."""
        ended: list[list[str]] = []
        self.at_two.on_message = lambda message: ended.append(list(self.at_two.sinks[0].ends))
        self.send_snapshot([bytes(1000)] * 200, lambda: self.one.send([self.append(1)]))
        self.until(lambda: self.at_one.reports)
        self.assertEqual([[]], ended)

    def test_snapshot_refused(self) -> None:
        """One that is not wanted is not delivered."""
        for refusal in (EtcdError("no"), OSError(28, "full")):
            self.at_two.refusal = refusal
            self.not_delivered(self.send_snapshot([b"x"]))
            self.at_one.reports.clear()

    def test_snapshot_of_no_use(self) -> None:
        """One that the other end cannot use is not delivered, and it is not told again."""
        self.at_two.write_error = MemberError("damaged")
        self.not_delivered(self.send_snapshot([b"x"] * 100))
        self.assertEqual([], self.at_two.sinks[0].ends)

    def test_snapshot_not_finished(self) -> None:
        """Nor is one that the other end could not make durable."""
        failing = self.at_two.finished = Deferred()
        image = self.send_snapshot([b"x"] * 10)
        self.until(lambda: self.at_two.sinks and self.at_two.sinks[0].ends)
        failing.errback(OSError(28, "full"))
        self.not_delivered(image)
        self.assertEqual(["finish"], self.at_two.sinks[0].ends)

    def test_snapshot_that_cannot_be_read(self) -> None:
        """An image that breaks off is given up at both ends."""
        self.not_delivered(self.send_snapshot([b"x"] * 10, self._break_off))
        self.until(lambda: self.at_two.sinks[0].ends)
        self.assertEqual(["abort"], self.at_two.sinks[0].ends)

    def _break_off(self) -> None:
        raise OSError(5, "cannot be read")

    def test_snapshot_cut_off(self) -> None:
        """When the network breaks, both ends give up; the next one is another."""
        image = self.send_snapshot([bytes(1000)] * 200, lambda: self.disconnect(ONE, TWO))
        self.not_delivered(image)
        self.until(lambda: self.at_two.sinks[0].ends)
        self.assertEqual(["abort"], self.at_two.sinks[0].ends)
        self.reconnect(ONE, TWO)
        self.until(lambda: self.one.active_since(TWO) is not None)
        self.send_snapshot([b"again"])
        self.until(lambda: len(self.at_one.reports) == 2)
        self.assertEqual([(TWO, False), (TWO, True)], self.at_one.reports)
        self.assertEqual(b"again", self.at_two.sinks[1].data)

    def test_snapshot_for_nobody_there(self) -> None:
        """One for a peer that cannot be reached at all is not delivered either."""
        self.disconnect(ONE, TWO)
        self.not_delivered(self.send_snapshot([b"x"]))

    def test_snapshot_for_a_stranger(self) -> None:
        """One for nobody we know is not delivered either."""
        image = GivenImage([b"x"])
        self.one.send_snapshot(self.snapshot()._replace(to=0x9999), image)
        self.until(lambda: self.at_one.reports)
        self.assertEqual(([(0x9999, False)], 1), (self.at_one.reports, image.closed))

    # The end.

    def test_stop(self) -> None:
        """Stopped, it owes nobody anything: questions fail, images are closed, nothing arrives."""
        self.at_two.answers = lambda sender, kind, body: Deferred()
        self.at_two.finished = Deferred()
        asked = self.one.ask(TWO, "word", b"", 1000.0)
        image = self.send_snapshot([b"x"])
        self.until(lambda: self.at_two.sinks and self.at_two.sinks[0].ends)
        self.wait_for(self.one.stop())
        self.failureResultOf(asked, EtcdError)
        self.two.send([self.append(1)._replace(to=ONE, sender=TWO)])
        self.one.send([self.append(1)])
        self.advance(2.0)
        self.assertEqual(([], []), (self.at_one.messages, self.at_two.messages))
        self.assertEqual(1, image.closed)
        self.wait_for(self.one.stop())
