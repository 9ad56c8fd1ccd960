"""connection and turn: which protocol it is, when it is written to, and when it is not read."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection as TCPConnection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.protocols.client import START, Responses, data, headers, message, request, reset, window
from tests.protocols.client import settings as setting
from twistedetcd.errors import Code
from twistedetcd.protocols import connection, grpc, port
from twistedetcd.protocols.control import DRAIN_PING
from twistedetcd.protocols.framing import ACK, GOAWAY, PING, PREFACE, WINDOW_MAX, frame
from twistedetcd.protocols.grpc import Call, Method
from twistedetcd.protocols.port import (
    DEADLINE_CHECK_SECONDS,
    SNIFF_SECONDS,
    ClientPortFactory,
    ClientPortProtocol,
)
from twistedetcd.protocols.turn import Turn

ECHO, WAIT, STREAM, BUG = (b"/test.Echo/" + name for name in (b"Unary", b"Wait", b"Stream", b"Bug"))


class Transport(StringTransport):
    """Counts writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += bool(data)
        super().write(data)


class Plain(Protocol):
    """Stands for HTTP/1.1."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost += 1


class Plains(Factory):
    """Remembers what it built."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Plain] = []

    def buildProtocol(self, addr: Any) -> Plain:
        self.built.append(Plain())
        return self.built[-1]


class Listener:
    """A receiver that can be told to fail."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.told: list[str] = []
        self.fails = False

    def note(self, what: str) -> None:
        self.told.append(what)
        if self.fails:
            raise ZeroDivisionError(what)

    def message_received(self, message: bytes) -> None:
        self.note("message")

    def half_closed(self) -> None:
        self.note("half closed")

    def cancelled(self) -> None:
        self.note("cancelled")

    def writable(self) -> None:
        self.note("writable")


class Case(SynchronousTestCase):
    """A port with an echo, a call that waits, a stream, and a bug."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.turn = Turn(self.clock)
        self.plains = Plains()
        self.waiting: list[Call] = []
        self.listeners: list[Listener] = []
        self.factory = ClientPortFactory(
            self.clock,
            self.turn,
            {
                ECHO: Method(unary=lambda call, body: call.reply(body)),
                WAIT: Method(unary=lambda call, body: self.waiting.append(call)),
                STREAM: Method(stream=self.listen),
                BUG: Method(unary=self.fail_badly),
            },
            self.plains,
        )
        self.factory.doStart()
        self.addCleanup(self.factory.doStop)

    def listen(self, call: Call) -> Listener:
        self.listeners.append(Listener(call))
        return self.listeners[-1]

    @staticmethod
    def fail_badly(call: Call, body: bytes) -> None:
        raise ZeroDivisionError

    def connect(self, first: bytes = START) -> tuple[Any, Transport]:
        """A new connection, its greeting written and the transport empty."""
        transport = Transport()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        if first:
            protocol.dataReceived(first)
            self.end_turn()
            transport.clear()
            transport.writes = 0
        return protocol, transport

    def end_turn(self) -> None:
        self.clock.advance(0)

    def answers(self, transport: StringTransport) -> Responses:
        return Responses().take(transport.value())

    def errors(self, count: int = 1) -> None:
        self.assertEqual(count, len(self.flushLoggedErrors(ZeroDivisionError)))

    @staticmethod
    def call(stream: int, path: bytes = ECHO) -> bytes:
        return headers(stream, request(path)) + data(stream, message(b"%d" % stream))


class SniffTests(Case):
    """The first bytes decide."""

    def test_http2_byte_by_byte(self) -> None:
        """The whole preface makes it HTTP/2, however it comes; nothing is written before."""
        protocol, transport = self.connect(b"")
        for octet in PREFACE[:-1]:
            protocol.dataReceived(bytes([octet]))
        self.end_turn()
        self.assertEqual(
            (0, {}, [protocol]), (transport.writes, self.factory.connections, list(self.factory.undecided))
        )
        protocol.dataReceived(PREFACE[-1:])
        for octet in START[len(PREFACE) :] + self.call(1):
            protocol.dataReceived(bytes([octet]))
        self.end_turn()
        self.assertEqual([b"1"], self.answers(transport)[1].messages)
        self.assertEqual((1, {}), (len(self.factory.connections), self.factory.undecided))

    def test_http1_byte_by_byte(self) -> None:
        """The first byte that is not the preface's makes it HTTP/1.1, which gets all that came."""
        for line in (b"POST / HTTP/1.1\r\n\r\n", b"PRI * HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x03"):
            protocol, _ = self.connect(b"")
            for octet in line:
                protocol.dataReceived(bytes([octet]))
            self.assertEqual(line, self.plains.built[-1].received)
        self.assertEqual(4, len(self.plains.built))

    def test_patience(self) -> None:
        """A client that does not say what it speaks is hung up on; one that did is not."""
        slow, slow_transport = self.connect(b"")
        slow.dataReceived(PREFACE[:10])
        _, quick_transport = self.connect(START)
        self.clock.advance(SNIFF_SECONDS - 0.01)
        self.assertFalse(slow_transport.disconnected)
        self.clock.advance(0.02)
        self.assertTrue(slow_transport.disconnected)
        self.assertFalse(quick_transport.disconnecting)

    def test_loss(self) -> None:
        """A connection lost at any time leaves nothing in the factory, and no timer."""
        for first in (b"", b"PRI", START, b"GET /"):
            protocol, _ = self.connect(first)
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(({}, {}), (self.factory.undecided, self.factory.connections))
        self.assertEqual(1, self.plains.built[0].lost)
        self.end_turn()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))


class TurnTests(Case):
    """One write a connection and turn; a lone call does not wait."""

    def test_lone_call(self) -> None:
        """A call that comes alone, from the connection that brought the last one too, is answered at once."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.call(1))
        self.assertEqual(0, transport.writes)
        self.end_turn()
        for stream in (3, 5):
            protocol.dataReceived(self.call(stream))
            self.assertEqual((stream + 1) // 2, transport.writes)
        self.assertEqual([], [call for call in self.clock.getDelayedCalls() if call.getTime() == 0])

    def test_second_call_waits(self) -> None:
        """Calls from several connections wait for the turn to end, and share it."""
        (first, one), (second, two) = self.connect(), self.connect()
        for stream in (1, 3):
            first.dataReceived(self.call(stream))
            second.dataReceived(self.call(stream))
            self.assertEqual((stream // 2, stream // 2), (one.writes, two.writes))
            self.end_turn()
        self.assertEqual((2, 2), (one.writes, two.writes))
        self.assertEqual([1, 3], list(self.answers(one)))

    def test_busy_turns(self) -> None:
        """Several calls from one connection wait for the turn to end, and so does a call behind them."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.call(1) + self.call(3))
        protocol.dataReceived(self.call(5))
        self.assertEqual(0, transport.writes)
        self.end_turn()
        self.assertEqual(1, transport.writes)
        protocol.dataReceived(self.call(7))
        self.assertEqual(2, transport.writes)

    def test_polls(self) -> None:
        """After a lone call the reactor is kept awake for so many turns, and each such call begins anew."""
        calls: list[float] = []

        class Counting(MemoryReactorClock):
            def callLater(self, when: float, what: Any, *args: Any, **kwargs: Any) -> Any:
                calls.append(when)
                return super().callLater(when, what, *args, **kwargs)

        clock = Counting()
        turn = Turn(clock, polls=5)
        for _ in range(4):
            turn.receiving()
            turn.received(self, 1)
        self.assertEqual([0], calls)  # the first is not known to be alone; the others share one chain
        clock.advance(0)
        self.assertEqual([0] * 5, calls)
        self.assertEqual([], clock.getDelayedCalls())

    def test_work_for_the_next_turn(self) -> None:
        """Work that comes up while a turn is ended gets a turn of its own."""
        done: list[int] = []

        def work() -> None:
            done.append(len(self.clock.getDelayedCalls()))
            if len(done) < 3:
                self.turn.wake()

        self.turn.before_writing(work)
        self.turn.flush()
        self.assertEqual(1, len(done))
        self.end_turn()
        self.end_turn()
        self.assertEqual(3, len(done))

    def test_work_comes_first(self) -> None:
        """What is to be done before writing is done, and what it answers is in the same write."""
        protocol, transport = self.connect()
        work = [0]

        def answer() -> None:
            work[0] += 1
            while self.waiting:
                self.waiting.pop().reply(b"done")

        self.turn.before_writing(answer)
        protocol.dataReceived(self.call(1, WAIT) + self.call(3, WAIT) + self.call(5))
        self.end_turn()
        self.assertEqual((1, 1), (transport.writes, work[0]))
        self.assertEqual({1, 3, 5}, set(self.answers(transport)))

    def test_written_before_the_work_is_over(self) -> None:
        """Work that has answered everybody may have that written at once; nothing is written twice."""
        protocol, transport = self.connect()
        seen = []

        def answer() -> None:
            while self.waiting:
                self.waiting.pop().reply(b"done")
            self.turn.write_out()
            seen.append(transport.writes)

        self.turn.before_writing(answer)
        protocol.dataReceived(self.call(1, WAIT) + self.call(3, WAIT))
        self.turn.wake()
        self.end_turn()
        self.assertEqual(([1], 1), (seen, transport.writes))

    def test_later_answers(self) -> None:
        """Answers that come in a later turn wake their connection once."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.call(1, WAIT) + self.call(3, WAIT))
        self.end_turn()
        for call in self.waiting:
            call.reply(b"late")
        self.assertEqual(0, transport.writes)
        self.end_turn()
        self.assertEqual(1, transport.writes)

    def test_one_failure_keeps_nobody_waiting(self) -> None:
        """A connection that cannot be written to does not keep the others' answers."""
        (broken, bad), (fine, good) = self.connect(), self.connect()
        broken.dataReceived(self.call(1) + self.call(3))
        fine.dataReceived(self.call(1))
        self.patch(bad, "write", lambda data: 1 // 0)
        [inner] = [inner for inner in self.factory.connections if inner.transport is bad]
        inner._write = bad.write
        self.end_turn()
        self.errors()
        self.assertEqual([b"1"], self.answers(good)[1].messages)


class PressureTests(Case):
    """A client that makes work without taking answers is not read."""

    def test_calls_in_progress(self) -> None:
        """More calls than CALLS_MAX pause reading; it goes on when answers went out."""
        self.patch(connection, "CALLS_MAX", 3)
        protocol, transport = self.connect()
        protocol.dataReceived(b"".join(self.call(stream, WAIT) for stream in (1, 3, 5)))
        self.assertEqual("producing", transport.producerState)
        protocol.dataReceived(self.call(7, WAIT) + headers(9, request(STREAM)))
        self.end_turn()
        self.assertEqual("paused", transport.producerState)
        self.waiting.pop().reply(b"")
        self.end_turn()
        self.assertEqual("producing", transport.producerState)

    def test_calls_that_end_otherwise(self) -> None:
        """Reading goes on too when calls ran out of time."""
        self.patch(connection, "CALLS_MAX", 1)
        protocol, transport = self.connect()
        for stream in (1, 3):
            protocol.dataReceived(
                headers(stream, request(WAIT, (b"grpc-timeout", b"1S"))) + data(stream, message(b""))
            )
        self.assertEqual("paused", transport.producerState)
        self.clock.advance(1.0 + DEADLINE_CHECK_SECONDS)
        self.end_turn()
        self.assertEqual("producing", transport.producerState)

    def test_streams_are_no_load(self) -> None:
        """Streams last as long as the client likes, and pause nothing."""
        self.patch(connection, "CALLS_MAX", 2)
        protocol, transport = self.connect()
        protocol.dataReceived(b"".join(headers(stream, request(STREAM)) for stream in range(1, 21, 2)))
        self.assertEqual("producing", transport.producerState)

    def test_requests_to_come(self) -> None:
        """Requests whose bodies are still to come pause nothing: they would never come."""
        self.patch(connection, "CALLS_MAX", 2)
        protocol, transport = self.connect()
        protocol.dataReceived(b"".join(headers(stream, request(WAIT)) for stream in range(1, 21, 2)))
        self.assertEqual("producing", transport.producerState)
        protocol.dataReceived(b"".join(data(stream, message(b"")) for stream in range(1, 21, 2)))
        self.assertEqual("paused", transport.producerState)

    def test_answers_that_wait_for_a_window(self) -> None:
        """Answers that wait for WINDOW_UPDATE pause nothing: it would never be read."""
        self.patch(connection, "CALLS_MAX", 2)
        protocol, transport = self.connect()
        protocol.dataReceived(setting((4, 1)) + b"".join(self.call(stream) for stream in range(1, 21, 2)))
        self.end_turn()
        self.assertEqual("producing", transport.producerState)
        protocol.dataReceived(setting((4, 100)))
        self.end_turn()
        self.assertEqual(10, sum(answer.ended for answer in self.answers(transport).values()))

    def test_blocked_transport(self) -> None:
        """A blocked transport is not written to; what waits goes out in one write when it is free."""
        protocol, transport = self.connect()
        producer: Any = transport.producer
        producer.pauseProducing()
        for stream in (1, 3, 5):
            protocol.dataReceived(self.call(stream))
            self.end_turn()
        self.assertEqual(0, transport.writes)
        producer.resumeProducing()
        self.assertEqual(1, transport.writes)
        self.assertEqual([1, 3, 5], list(self.answers(transport)))
        self.assertEqual(([], 0), (producer._waiting, producer._waiting_bytes))

    def test_queued_bytes(self) -> None:
        """Too much output that is not taken pauses reading until the transport took it."""
        self.patch(connection, "QUEUED_BYTES_MAX", 100)
        protocol, transport = self.connect()
        producer: Any = transport.producer
        producer.pauseProducing()
        protocol.dataReceived(self.call(1))
        self.end_turn()
        self.assertEqual("producing", transport.producerState)
        protocol.dataReceived(self.call(3))
        self.end_turn()
        self.assertEqual("paused", transport.producerState)
        producer.resumeProducing()
        self.assertEqual("producing", transport.producerState)

    def test_streams_wait_for_the_transport(self) -> None:
        """A stream is told how much waits also when it waits for the transport, and when it is writable."""
        self.patch(connection, "QUEUED_BYTES_MAX", 1000)
        protocol, transport = self.connect()
        producer: Any = transport.producer
        protocol.dataReceived(
            setting((4, WINDOW_MAX)) + window(0, WINDOW_MAX - 65535) + headers(1, request(STREAM))
        )
        self.end_turn()
        producer.pauseProducing()
        [listener] = self.listeners
        self.assertEqual(0, listener.call.send(bytes(2000)))
        self.end_turn()
        self.assertEqual(3005, listener.call.send(bytes(3000)))
        self.end_turn()
        producer.resumeProducing()
        self.assertEqual(["writable"], listener.told)
        self.end_turn()
        self.assertEqual([bytes(2000), bytes(3000)], self.answers(transport)[1].messages)


class UnreadTests(Case):
    """Responses that nobody reads are not kept without bound."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(grpc, "WAITING_BYTES_MAX", 100_000)
        self.patch(port, "WAITING_BYTES_MAX", 100_000)

    def windows_open(self) -> tuple[Any, Transport, Any]:
        """A connection whose client takes anything, by its windows."""
        protocol, transport = self.connect(START + setting((4, WINDOW_MAX)) + window(0, WINDOW_MAX - 65535))
        [*_, producer] = self.factory.connections
        return protocol, transport, producer

    def reply(self, length: int) -> None:
        """Answer the oldest waiting call, and end the turn."""
        self.waiting.pop(0).reply(bytes(length))
        self.end_turn()

    def test_blocked(self) -> None:
        """What a blocked transport does not take counts, and counts no more when it did."""
        protocol, transport, producer = self.windows_open()
        protocol.dataReceived(b"".join(self.call(stream, WAIT) for stream in range(1, 13, 2)))
        self.end_turn()
        producer.pauseProducing()
        for _ in range(3):
            self.reply(60_000)
        self.reply(1)
        producer.resumeProducing()
        self.reply(60_000)
        codes = [answer.status[0] for answer in self.answers(transport).values()]
        self.assertEqual([0, 0, Code.RESOURCE_EXHAUSTED, 0, 0], codes)
        self.assertEqual(0, producer.grpc.unread_bytes())

    def test_transport_that_blocks_later(self) -> None:
        """A transport that is not TCP says during the write that it has enough: that counts too."""
        protocol, transport, producer = self.windows_open()
        protocol.dataReceived(b"".join(self.call(stream, WAIT) for stream in (1, 3)))
        self.end_turn()

        def write(data: bytes) -> None:
            producer.pauseProducing()

        self.patch(transport, "write", write)
        self.reply(200_000)
        self.assertLess(200_000, producer.grpc.unread_bytes())
        producer.resumeProducing()
        self.assertEqual(0, producer.grpc.unread_bytes())

    def test_over_all_connections(self) -> None:
        """When many connections have much unread, each may have little; others are served."""
        self.patch(port, "UNREAD_BYTES_MAX", 150_000)
        self.patch(port, "UNREAD_BYTES_FEW", 10_000)
        opened = [self.windows_open() for _ in range(3)]
        for protocol, _, producer in opened:
            producer.pauseProducing()
            protocol.dataReceived(self.call(1, WAIT) + self.call(3, WAIT))
        self.end_turn()
        first, second, third = self.waiting[::2]
        for call in (first, second):
            call.reply(bytes(80_000))
        self.end_turn()
        self.clock.advance(DEADLINE_CHECK_SECONDS)
        third.reply(bytes(80_000))
        self.waiting[1].reply(bytes(5_000))
        self.end_turn()
        for _, _, producer in opened:
            producer.resumeProducing()
        codes = [[answer.status[0] for answer in self.answers(item[1]).values()] for item in opened]
        self.assertEqual([[0, Code.RESOURCE_EXHAUSTED], [0], [0]], codes)
        self.clock.advance(DEADLINE_CHECK_SECONDS)
        self.assertEqual(100_000, opened[0][2].grpc.unread_bytes_max)


class PortTests(Case):
    """What the port does with connections of any kind."""

    def test_connections_max(self) -> None:
        """More connections than that are closed at once, with one line; each that goes makes room."""
        self.factory.connections_max = 3
        opened = [self.connect(first)[0] for first in (b"", START, b"GET /")]
        with capturedLogs() as events:
            self.assertEqual([None, None], [self.factory.buildProtocol(None) for _ in range(2)])
        self.assertEqual(1, len(list(events)))
        for protocol in opened:
            protocol.connectionLost(Failure(ConnectionDone()))
            self.connect()
            self.assertIsNone(self.factory.buildProtocol(None))
        self.assertEqual(3, self.factory.open_connections)

    def test_no_limit(self) -> None:
        """Without one all are taken."""
        for _ in range(10):
            self.connect()
        self.assertEqual(10, self.factory.open_connections)


class EndTests(Case):
    """How connections end."""

    def test_lost(self) -> None:
        """A lost connection cancels its calls; what they answer goes nowhere."""
        protocol, transport = self.connect()
        told: list[int] = []
        protocol.dataReceived(self.call(1, WAIT) + self.call(3) + headers(5, request(STREAM)))
        self.waiting[0].on_cancelled = lambda: told.append(1)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(([1], ["cancelled"]), (told, self.listeners[0].told))
        self.waiting[0].reply(b"late")
        self.end_turn()
        self.assertEqual((0, {}), (transport.writes, self.factory.connections))

    def test_lost_with_a_bug(self) -> None:
        """A receiver that fails on being cancelled keeps the others from nothing."""
        protocol, _ = self.connect()
        protocol.dataReceived(headers(1, request(STREAM)) + headers(3, request(STREAM)))
        self.listeners[0].fails = True
        protocol.connectionLost(Failure(ConnectionDone()))
        self.errors()
        self.assertEqual(["cancelled"], self.listeners[1].told)

    def test_handler_bug(self) -> None:
        """A unary handler that fails costs its call; the others of the connection go on."""
        protocol, transport = self.connect()
        split = headers(5, request(BUG)) + data(5, message(b""), end=False) + data(5, b"")
        protocol.dataReceived(self.call(1, WAIT) + self.call(3, BUG) + split + self.call(7))
        self.end_turn()
        self.errors(2)
        self.waiting[0].reply(b"fine")
        self.end_turn()
        answers = self.answers(transport)
        self.assertEqual([(Code.INTERNAL, "internal error")] * 2, [answers[3].status, answers[5].status])
        self.assertEqual(([b"fine"], [b"7"]), (answers[1].messages, answers[7].messages))
        self.assertFalse(transport.disconnecting or transport.disconnected)

    def test_receiver_bug(self) -> None:
        """A stream that fails costs its connection, and no other; calls of both are told."""
        (broken, bad), (fine, good) = self.connect(), self.connect()
        broken.dataReceived(headers(1, request(STREAM)) + headers(3, request(STREAM)))
        fine.dataReceived(self.call(1, WAIT))
        self.listeners[1].fails = True
        unheard = headers(5, request(STREAM)) + self.call(7)
        broken.dataReceived(data(3, message(b""), end=False) + unheard)
        self.errors()
        self.listeners[1].fails = False
        self.assertTrue(bad.disconnected)
        broken.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(["cancelled"], self.listeners[0].told)
        self.waiting[0].reply(b"fine")
        self.end_turn()
        self.assertEqual((False, [b"fine"]), (good.disconnecting, self.answers(good)[1].messages))

    def test_deadline_bug(self) -> None:
        """A receiver that fails when its time is up costs its connection; the others' calls end in time."""
        (broken, bad), (fine, good) = self.connect(), self.connect()
        timed = headers(1, request(STREAM, (b"grpc-timeout", b"1S")))
        broken.dataReceived(timed)
        fine.dataReceived(timed)
        self.listeners[0].fails = True
        self.clock.advance(1.0 + DEADLINE_CHECK_SECONDS)
        self.end_turn()
        self.errors()
        self.assertEqual((True, False), (bad.disconnected, good.disconnecting))
        self.assertEqual(Code.DEADLINE_EXCEEDED, self.answers(good)[1].status[0])

    def test_writable_bug(self) -> None:
        """A receiver that fails when it can send again costs its connection."""
        self.patch(connection, "QUEUED_BYTES_MAX", 10)
        protocol, transport = self.connect()
        protocol.dataReceived(headers(1, request(STREAM)))
        producer: Any = transport.producer
        producer.pauseProducing()
        [listener] = self.listeners
        for _ in range(2):
            listener.call.send(bytes(100))
            self.end_turn()
        listener.fails = True
        producer.resumeProducing()
        self.errors()
        self.assertTrue(transport.disconnected)

    def test_fault(self) -> None:
        """A fault of the client is answered with GOAWAY; then the connection is closed, once."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.call(1, WAIT) + frame(PING, 0, 1, bytes(8)))
        self.end_turn()
        self.assertEqual(GOAWAY, self.answers(transport).others[-1].kind)
        self.assertEqual(
            (True, False, None), (transport.disconnecting, transport.disconnected, transport.producer)
        )
        self.waiting[0].reply(b"late")
        protocol.dataReceived(b"more")
        self.end_turn()
        self.assertEqual(1, transport.writes)

    def test_fault_on_a_blocked_transport(self) -> None:
        """What waited is written before a connection is closed."""
        protocol, transport = self.connect()
        producer: Any = transport.producer
        producer.pauseProducing()
        protocol.dataReceived(self.call(1))
        protocol.dataReceived(frame(PING, 0, 1, bytes(8)))
        self.end_turn()
        answers = self.answers(transport)
        self.assertEqual(([b"1"], GOAWAY), (answers[1].messages, answers.others[-1].kind))
        self.assertTrue(transport.disconnecting)

    def test_drain(self) -> None:
        """
        Draining says GOAWAY with the largest id and asks with a PING; calls on their way are served.

        The answer brings the GOAWAY with the last id.  New calls are refused then, those in progress finish,
        and the connection is closed.
        """
        (busy, one), (quiet, idle), (_, fresh) = self.connect(), self.connect(), self.connect(b"")
        busy.dataReceived(self.call(1, WAIT))
        self.end_turn()
        self.factory.drain()
        self.factory.drain()
        self.end_turn()
        self.assertEqual((False, False, True), tuple(t.disconnecting for t in (one, idle, fresh)))
        goaway, ping = self.answers(idle).others
        self.assertEqual((GOAWAY, (2**31 - 1).to_bytes(4, "big") + bytes(4)), (goaway.kind, goaway.payload))
        self.assertEqual((PING, 0), (ping.kind, ping.flags))
        answer = frame(PING, ACK, 0, ping.payload)
        busy.dataReceived(self.call(3))
        quiet.dataReceived(answer)
        busy.dataReceived(answer + self.call(5))
        self.end_turn()
        self.assertEqual((False, True), (one.disconnecting, idle.disconnecting))
        self.waiting[0].reply(b"last")
        self.end_turn()
        answers = self.answers(one)
        self.assertEqual(([b"last"], [b"3"], 7), (answers[1].messages, answers[3].messages, answers[5].reset))
        self.assertEqual(b"\0\0\0\x03", answers.others[-1].payload[:4])
        self.assertTrue(one.disconnecting)

    def test_drain_without_an_answer(self) -> None:
        """A client that does not answer the PING is not waited for."""
        _, transport = self.connect()
        self.factory.drain()
        self.end_turn()
        self.clock.pump([DEADLINE_CHECK_SECONDS] * 9)
        self.assertFalse(transport.disconnecting)
        self.clock.pump([DEADLINE_CHECK_SECONDS] * 4)
        self.assertTrue(transport.disconnecting)

    def test_deadlines_while_draining(self) -> None:
        """Calls run out of time also when the port is closed already, and then the clock is left alone."""
        protocol, transport = self.connect()
        protocol.dataReceived(headers(1, request(WAIT, (b"grpc-timeout", b"3S"))) + data(1, message(b"")))
        self.factory.doStop()
        self.addCleanup(self.factory.doStart)
        self.factory.drain()
        self.clock.pump([DEADLINE_CHECK_SECONDS] * 32)
        self.assertEqual(4, self.answers(transport)[1].status[0])
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_drain_ends_with_a_reset(self) -> None:
        """A drained connection is closed also when the client gives its last call up."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.call(1, WAIT))
        self.factory.drain()
        protocol.dataReceived(frame(PING, ACK, 0, DRAIN_PING))
        self.end_turn()
        self.assertFalse(transport.disconnecting)
        protocol.dataReceived(reset(1))
        self.end_turn()
        self.assertTrue(transport.disconnecting)

    def test_drain_on_a_blocked_transport(self) -> None:
        """The last answers are not lost when the transport was blocked while they came."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.call(1, WAIT))
        self.end_turn()
        producer: Any = transport.producer
        producer.pauseProducing()
        self.factory.drain()
        protocol.dataReceived(frame(PING, ACK, 0, DRAIN_PING))
        self.end_turn()
        self.waiting[0].reply(b"last")
        self.end_turn()
        self.assertEqual([b"last"], self.answers(transport)[1].messages)
        self.assertTrue(transport.disconnecting)


class Socket:
    """A socket that takes so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = b""
        self.options: list[tuple[int, int, object]] = []

    def send(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.EWOULDBLOCK, "full")
        taken = bytes(data)[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def setsockopt(self, level: int, name: int, value: object) -> None:
        self.options.append((level, name, value))

    def fileno(self) -> int:
        return 99

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Plain):
    """Stands for HTTP/1.1 that can go on answering."""

    closed = 0

    def readConnectionLost(self) -> None:
        self.closed += 1

    def writeConnectionLost(self) -> None:
        raise NotImplementedError


class TCPTests(Case):
    """A TCP transport with nothing of ours left is written to directly."""

    def connect_tcp(self, room: int = 1 << 30) -> tuple[Any, Any, Socket]:
        sock = Socket(room)
        protocol = ClientPortProtocol(self.factory)
        transport: Any = TCPConnection(sock, protocol, self.clock)  # type: ignore[arg-type]
        transport.connected = True
        transport.getPeer = lambda: None
        protocol.makeConnection(transport)
        protocol.dataReceived(START)
        self.end_turn()
        return protocol, transport, sock

    def test_direct(self) -> None:
        """The answer is on the socket when dataReceived returns."""
        protocol, transport, sock = self.connect_tcp()
        protocol.dataReceived(self.call(1))
        self.end_turn()
        self.assertEqual([b"1"], Responses().take(sock.sent)[1].messages)
        self.assertNotIn(transport, self.clock.getWriters())

    def test_keep_alive(self) -> None:
        """A client that vanished without a word is found out."""
        _, _, sock = self.connect_tcp()
        self.assertIn((socket.SOL_SOCKET, socket.SO_KEEPALIVE, True), sock.options)

    def test_half_close(self) -> None:
        """A client that closes its side is gone, but for HTTP/1.1, which may go on answering."""
        for first in (START, b"PRI", b"GET /"):
            protocol, transport, _ = self.connect_tcp()
            if first != START:
                transport.connectionLost(Failure(ConnectionDone()))
                protocol = ClientPortProtocol(self.factory)
                transport.protocol, transport.connected, transport.disconnected = protocol, True, False
                transport.socket, transport.fileno = Socket(0), lambda: 99
                protocol.makeConnection(transport)
                protocol.dataReceived(first)
            transport.readConnectionLost(Failure(ConnectionDone()))
            self.assertFalse(transport.connected)
        self.assertEqual(
            (1, 0, {}, {}),
            (
                self.plains.built[0].lost,
                self.factory.open_connections,
                self.factory.connections,
                self.factory.undecided,
            ),
        )

    def test_half_close_goes_on(self) -> None:
        """What can live with it is told."""
        inner = HalfCloseable()
        self.patch(self.plains, "buildProtocol", lambda address: inner)
        protocol, transport = self.connect(b"GET /")
        protocol.readConnectionLost()
        self.assertEqual((1, 0, False), (inner.closed, inner.lost, transport.disconnecting))

    def test_what_the_socket_does_not_take(self) -> None:
        """It counts as unread, to the byte."""
        protocol, transport, sock = self.connect_tcp()
        [connection] = self.factory.connections
        sock.room = 10
        protocol.dataReceived(self.call(1))
        self.end_turn()
        unread = connection.grpc.unread_bytes()
        self.assertLess(0, unread)
        sock.room, sock.sent = 1 << 20, b""
        transport.doWrite()
        self.assertEqual((unread, 0), (len(sock.sent), connection.grpc.unread_bytes()))

    def test_partial(self) -> None:
        """What the socket does not take is sent when it can, in order, before what came later."""
        protocol, transport, sock = self.connect_tcp()
        sock.room = 10
        protocol.dataReceived(self.call(1))
        self.end_turn()
        protocol.dataReceived(self.call(3))
        self.end_turn()
        for room in (5, 0, 20, 1, 1 << 20, 1 << 20):
            sock.room = room
            if transport in self.clock.getWriters():
                transport.doWrite()
        answers = Responses().take(sock.sent)
        self.assertEqual(([b"1"], [b"3"]), (answers[1].messages, answers[3].messages))
        self.assertNotIn(transport, self.clock.getWriters())

    def test_lost_before_the_turn_ends(self) -> None:
        """A connection lost with output not written yet keeps nobody else from theirs."""
        (first, transport, _), (second, _, sock) = self.connect_tcp(), self.connect_tcp()
        first.dataReceived(self.call(1) + self.call(3))
        second.dataReceived(self.call(1))
        transport.connectionLost(Failure(ConnectionDone()))
        self.end_turn()
        self.assertEqual([b"1"], Responses().take(sock.sent)[1].messages)
        self.assertEqual([], self.flushLoggedErrors())

    def test_close_after_a_partial_write(self) -> None:
        """GOAWAY is sent whole before the connection is closed."""
        protocol, transport, sock = self.connect_tcp()
        sock.room = 10
        protocol.dataReceived(self.call(1) + frame(PING, 0, 1, bytes(8)))
        self.end_turn()
        sock.room = 1 << 20
        self.assertIsInstance(transport.doWrite(), ConnectionDone)
        self.assertEqual(GOAWAY, Responses().take(sock.sent).others[-1].kind)
