"""keepalive: whose pings are too many, who is asked whether he is there, and how long a connection lives."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import data, headers, message, request, window
from tests.protocols.portcase import STREAM, WAIT, Case, Transport
from twistedetcd.protocols.framing import ACK, GOAWAY, PING, ConnectionFaultError, ErrorCode, frame
from twistedetcd.protocols.keepalive import (
    IDLE_PING_SECONDS_MIN,
    KeepalivePolicy,
    Lifetime,
    PingStrikes,
    Verdict,
)
from twistedetcd.protocols.port import DEADLINE_CHECK_SECONDS, ClientPortFactory

ASK = frame(PING, 0, 0, bytes(8))


class PingStrikesTests(SynchronousTestCase):
    """grpc-go's enforcement: two pings that come too early are forgiven, the third is not."""

    def setUp(self) -> None:
        self.pings = PingStrikes(5.0)

    def ping(self, *times: float, has_calls: bool = True, answered: bool = False) -> None:
        for now in times:
            self.pings.pinged(now, has_calls, answered)

    def assert_last_straw(self, now: float, has_calls: bool = True) -> None:
        fault = self.assertRaises(ConnectionFaultError, self.ping, now, has_calls=has_calls)
        self.assertEqual((ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings"), (fault.code, fault.reason))

    def test_too_early(self) -> None:
        """The first ping is never early; three early ones are too many."""
        self.ping(0, 1, 2)
        self.assert_last_straw(3)

    def test_in_time(self) -> None:
        """Pings at the agreed distance may go on for ever."""
        self.ping(*range(0, 1000, 5))

    def test_strikes_are_kept(self) -> None:
        """A ping that is in time does not wipe out the earlier ones."""
        self.ping(0, 1, 2, 10, 20)
        self.assert_last_straw(21)

    def test_answers_forgive(self) -> None:
        """After HEADERS or DATA of ours the count begins again: that is how Go measures the bandwidth."""
        for start in range(0, 100, 3):
            self.ping(start, answered=True)
            self.ping(start + 1, start + 2)

    def test_without_calls(self) -> None:
        """Without a call there is nothing to keep alive: two hours are asked for then."""
        self.ping(0, 10, 20, has_calls=False)
        self.assert_last_straw(30, has_calls=False)
        self.setUp()
        self.ping(*(number * IDLE_PING_SECONDS_MIN for number in range(9)), has_calls=False)


class LifetimeTests(SynchronousTestCase):
    """What is to be done with a connection."""

    def lifetime(self, **options: float) -> Lifetime:
        policy = KeepalivePolicy(**{"interval_seconds": 100.0, "timeout_seconds": 10.0} | options)
        return Lifetime(policy, 0.0)

    def test_silence(self) -> None:
        """After the interval a ping, once; after the timeout the end."""
        life = self.lifetime()
        self.assertIs(Verdict.KEEP, life.check(99.0, True))
        self.assertIs(Verdict.PING, life.check(100.0, True))
        self.assertIs(Verdict.KEEP, life.check(109.0, True))
        self.assertIs(Verdict.ABORT, life.check(110.0, True))

    def test_sign_of_life(self) -> None:
        """Anything that is heard after the ping will do, and the interval begins again."""
        life = self.lifetime()
        life.check(100.0, True)
        life.heard_at = 109.0
        self.assertIs(Verdict.KEEP, life.check(110.0, True))
        self.assertIs(Verdict.KEEP, life.check(208.0, True))
        self.assertIs(Verdict.PING, life.check(209.0, True))

    def test_least_interval(self) -> None:
        """Nobody is asked more than once a second, whatever was configured: grpc-go's rule."""
        life = self.lifetime(interval_seconds=0.01)
        self.assertIs(Verdict.KEEP, life.check(0.5, True))
        self.assertIs(Verdict.PING, life.check(1.0, True))

    def test_idle(self) -> None:
        """A connection without calls for so long is drained, once; calls begin the time anew."""
        life = self.lifetime(idle_seconds=20.0)
        self.assertIs(Verdict.KEEP, life.check(19.0, False))
        self.assertIs(Verdict.KEEP, life.check(25.0, True))
        self.assertIs(Verdict.KEEP, life.check(26.0, False))
        self.assertIs(Verdict.KEEP, life.check(45.0, False))
        self.assertIs(Verdict.DRAIN, life.check(46.0, False))
        self.assertIs(Verdict.KEEP, life.check(99.0, False))

    def test_age(self) -> None:
        """An old connection is drained, and cut off after the grace."""
        life = self.lifetime(age_seconds=50.0, age_grace_seconds=5.0)
        self.assertIs(Verdict.KEEP, life.check(44.9, True))
        self.assertIs(Verdict.DRAIN, life.check(45.0, True))
        self.assertIs(Verdict.KEEP, life.check(49.9, True))
        self.assertIs(Verdict.ABORT, life.check(50.0, True))

    def test_ages_differ(self) -> None:
        """Connections that began together do not all end together, but all within a tenth of the age."""
        ages = []
        for number in range(100):
            life = Lifetime(KeepalivePolicy(age_seconds=1000.0), 0.0, number)
            ages.append(next(age for age in range(2000) if life.check(age, True) is Verdict.DRAIN))
        self.assertTrue(all(900 <= age <= 1100 for age in ages), ages)
        tenths = [sum(20 * part <= age - 900 < 20 * part + 20 for age in ages) for part in range(10)]
        self.assertTrue(all(9 <= count <= 11 for count in tenths), tenths)


class ConnectionTests(Case):
    """The same on a port."""

    policy = KeepalivePolicy(
        ping_min_seconds=5.0, interval_seconds=60.0, timeout_seconds=20.0, idle_seconds=1000.0
    )

    def setUp(self) -> None:
        super().setUp()
        self.factory.keepalive = self.policy

    def wait(self, seconds: float) -> None:
        """Let time pass, in the steps in which deadlines are looked at."""
        self.clock.pump([DEADLINE_CHECK_SECONDS] * round(seconds / DEADLINE_CHECK_SECONDS))

    def asked(self, transport: Transport) -> int:
        """How often the client was pinged since it was last looked at."""
        asked = [item for item in self.answers(transport).others if item[:2] == (PING, 0)]
        transport.clear()
        return len(asked)

    def test_too_many_pings(self) -> None:
        """The client that pings too often reads why, and is hung up on; the others stay."""
        (client, transport), (_, other) = self.connect(), self.connect()
        client.dataReceived(headers(1, request(STREAM)))
        for _ in range(4):
            client.dataReceived(ASK)
            self.wait(1)
        last = self.answers(transport).others[-1]
        self.assertEqual(GOAWAY, last.kind)
        self.assertEqual(b"\0\0\0\x01\0\0\0\x0btoo_many_pings", last.payload)
        self.assertEqual((True, False), (transport.disconnecting, other.disconnecting))

    def test_pings_between_answers(self) -> None:
        """A client that pings with every call is served."""
        client, transport = self.connect()
        for number in range(50):
            client.dataReceived(ASK + self.call(2 * number + 1))
            self.end_turn()
        self.assertFalse(transport.disconnecting)

    def test_half_open(self) -> None:
        """A client that is gone without a word is found out, and its calls are cancelled."""
        client, transport = self.connect()
        client.dataReceived(headers(1, request(STREAM)))
        self.wait(60.5)
        self.assertEqual(1, self.asked(transport))
        self.wait(19)
        self.assertFalse(transport.disconnected)
        self.wait(1)
        self.assertTrue(transport.disconnected)
        client.connectionLost()
        self.assertEqual(["cancelled"], self.listeners[0].told)

    def test_answered(self) -> None:
        """A client that answers is left in peace until the next time."""
        client, transport = self.connect()
        client.dataReceived(headers(1, request(STREAM)))
        for _ in range(3):
            self.wait(60.5)
            self.assertEqual(1, self.asked(transport))
            client.dataReceived(frame(PING, ACK, 0, b"anybody?"))
        self.assertFalse(transport.disconnected)

    def test_client_that_does_not_read(self) -> None:
        """A transport that takes nothing for so long is given up, answers and all."""
        client, transport = self.connect()
        producer: Any = transport.producer
        producer.pauseProducing()
        client.dataReceived(self.call(1))
        self.wait(81)
        self.assertTrue(transport.disconnected)

    def test_slow_reader(self) -> None:
        """One that takes something now and then is not."""
        client, transport = self.connect()
        producer: Any = transport.producer
        for _ in range(5):
            producer.pauseProducing()
            client.dataReceived(window(0, 1))
            self.wait(50)
            producer.resumeProducing()
        self.assertFalse(transport.disconnected)

    def test_not_while_we_are_busy(self) -> None:
        """A client that we do not read because of its own calls is not taken for dead."""
        client, transport = self.connect()
        for number in range(1002):
            client.dataReceived(headers(2 * number + 1, request(WAIT)) + data(2 * number + 1, message(b"")))
        self.assertEqual("paused", transport.producerState)
        self.wait(100)
        self.assertEqual((0, False), (self.asked(transport), transport.disconnected))

    def test_idle(self) -> None:
        """A connection without calls is drained in the end."""
        client, transport = self.connect()
        for _ in range(20):
            self.wait(50)
            client.dataReceived(frame(PING, ACK, 0, b"anybody?"))
        self.wait(3)
        self.assertTrue(transport.disconnecting)

    def test_slow_writer(self) -> None:
        """A client that does not come to the end of a frame is hung up on, and told."""
        client, transport = self.connect()
        client.dataReceived(headers(1, request(WAIT))[:-1])
        self.wait(31)
        self.assertEqual(b"frame not finished", self.answers(transport).others[-1].payload[8:])
        self.assertTrue(transport.disconnecting)

    def test_defaults(self) -> None:
        """Without a policy: five minutes between pings, two hours of silence, twenty seconds: grpc-go's."""
        factory = ClientPortFactory(self.clock, self.turn, {})
        policy = factory.keepalive
        self.assertEqual(
            (300.0, 7200.0, 20.0, None, None, None),
            (
                policy.ping_min_seconds,
                policy.interval_seconds,
                policy.timeout_seconds,
                policy.idle_seconds,
                policy.age_seconds,
                policy.age_grace_seconds,
            ),
        )
