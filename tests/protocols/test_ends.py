"""connection: how it ends, by whose doing ever."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.protocols.client import data, headers, message, request, reset
from tests.protocols.portcase import BUG, STREAM, WAIT, Case
from twistedetcd.errors import Code
from twistedetcd.protocols import connection
from twistedetcd.protocols.control import DRAIN_PING
from twistedetcd.protocols.framing import ACK, GOAWAY, PING, frame
from twistedetcd.protocols.port import (
    DEADLINE_CHECK_SECONDS,
)


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
