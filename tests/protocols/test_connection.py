"""connection and turn: when a client is written to, and when it is not read."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock

from tests.protocols.client import START, data, headers, message, request, window
from tests.protocols.client import settings as setting
from tests.protocols.portcase import STREAM, WAIT, Case, Transport
from twistedetcd.errors import Code
from twistedetcd.protocols import connection, grpc, port
from twistedetcd.protocols.framing import WINDOW_MAX
from twistedetcd.protocols.port import (
    DEADLINE_CHECK_SECONDS,
)
from twistedetcd.protocols.turn import Turn
from twistedetcd.testing.clock import SimulatedClock as Clock


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
        """After a lone call that was answered the reactor is kept awake; each such call begins anew."""
        calls: list[float] = []

        class Counting(MemoryReactorClock):
            def callLater(self, when: float, what: Any, *args: Any, **kwargs: Any) -> Any:
                calls.append(when)
                return super().callLater(when, what, *args, **kwargs)

        clock = Counting()
        turn = Turn(clock, polls=5)

        def call(*, answered: bool) -> None:
            turn.receiving()
            if answered:
                turn.write(self)
            turn.received(self, 1)

        call(answered=False)
        clock.advance(0)
        calls.clear()
        call(answered=False)
        self.assertEqual([], calls)  # it waits for others, who may need the processor
        call(answered=True)
        call(answered=True)
        self.assertEqual([0], calls)  # they share one chain
        clock.advance(0)
        self.assertEqual([0] * 5, calls)
        self.assertEqual([], clock.getDelayedCalls())

    def flush(self) -> bool:
        """Of a holder that has nothing to write."""
        return False

    def test_hurry(self) -> None:
        """What others wait for is done at once, unless the turn has an end to come, or served many calls."""
        clock, done = Clock(), list[float]()
        turn = Turn(clock)
        turn.before_writing(lambda: done.append(clock.seconds()))
        turn.hurry()
        self.assertEqual(1, len(done))
        turn.wake()
        turn.hurry()
        self.assertEqual(1, len(done))
        clock.advance(0)
        self.assertEqual(2, len(done))
        turn.receiving()
        turn.hurry()
        turn.received(self, 2)
        self.assertEqual(2, len(done))
        clock.advance(0)
        turn.hurry()
        self.assertEqual(3, len(done))
        clock.advance(0)
        turn.hurry()
        self.assertEqual(5, len(done), "the turn before that had no calls")

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
