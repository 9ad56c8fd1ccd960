"""The simulated network: a transport like any other, and faults on demand."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.types import Message, MessageType
from twistedetcd.testing.clock import MachineClock, SimulatedClock
from twistedetcd.testing.network import PACKETS_MAX, Faults, SimulatedNetwork
from twistedetcd.testing.packets import Packet
from twistedetcd.testing.peers import SimulatedTransport
from twistedetcd.testing.peertransport import ONE, TWO, PeerTransportKit
from twistedetcd.testing.receiver import RecordingReceiver


class SimulatedTransportTests(PeerTransportKit, SynchronousTestCase):
    """It keeps the contract as long as nothing is wrong with the network."""

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.network = SimulatedNetwork(self.clock, Random(1))
        self.clocks: dict[int, MachineClock] = {}
        super().setUp()

    def tearDown(self) -> None:
        super().tearDown()
        self.clock.advance(60.0)
        self.assertEqual([], self.clock.getDelayedCalls())

    def make(self, member: int) -> SimulatedTransport:
        self.clocks[member] = MachineClock(self.clock)
        return self.network.transport(member, self.clocks[member])

    def urls(self, member: int) -> Sequence[str]:
        return (f"simulated://{member:x}",)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def disconnect(self, one: int, other: int) -> None:
        self.network.partition([one], [other])

    def reconnect(self, one: int, other: int) -> None:
        self.network.heal()

    def stall(self, member: int) -> None:
        self.clocks[member].pause()

    def go_on(self, member: int) -> None:
        self.clocks[member].resume()


class FaultTests(SynchronousTestCase):
    """What may happen to a message."""

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.network = SimulatedNetwork(self.clock, Random(1))
        self.receivers = {member: RecordingReceiver() for member in (ONE, TWO)}
        self.transports = {member: self.network.transport(member) for member in (ONE, TWO)}
        for member, transport in self.transports.items():
            transport.add_peer(ONE if member == TWO else TWO, ())
            transport.start(self.receivers[member])

    def send(self, count: int = 100, sender: int = ONE, kind: MessageType = MessageType.APP_RESP) -> None:
        to = ONE if sender == TWO else TWO
        self.transports[sender].send([Message(kind, to, sender, index=number) for number in range(count)])

    def arrived(self, member: int = TWO) -> list[int]:
        return [message.index for message in self.receivers[member].messages]

    def test_drop(self) -> None:
        """Some are lost; the sender hears, not for each of them, that somebody is unreachable."""
        self.network.faults = Faults(drop=0.3)
        self.send()
        self.clock.advance(1.0)
        self.assertTrue(50 < len(self.arrived()) < 90, self.arrived())
        self.assertEqual(sorted(self.arrived()), self.arrived())
        self.assertEqual([TWO], self.receivers[ONE].lost)

    def test_duplicate(self) -> None:
        """Some come twice, but never what raft would do twice."""
        self.network.faults = Faults(duplicate=0.3)
        self.send()
        self.send(kind=MessageType.PROP, sender=TWO)
        self.clock.advance(2.0)
        self.assertTrue(110 < len(self.arrived()) < 150)
        self.assertEqual(list(range(100)), sorted(set(self.arrived())))
        self.assertEqual(list(range(100)), self.arrived(ONE))

    def test_reorder(self) -> None:
        """Some are overtaken, and none is lost."""
        self.network.faults = Faults(reorder=0.3)
        self.send()
        self.clock.advance(1.0)
        self.assertNotEqual(list(range(100)), self.arrived())
        self.assertEqual(list(range(100)), sorted(self.arrived()))

    def test_delay(self) -> None:
        """One direction may be slow while the other is not."""
        self.network.set_faults(ONE, TWO, Faults(latency_seconds=(2.0, 3.0)))
        self.send(1)
        self.send(1, sender=TWO)
        self.clock.advance(1.0)
        self.assertEqual(([], [0]), (self.arrived(TWO), self.arrived(ONE)))
        self.clock.advance(2.0)
        self.assertEqual([0], self.arrived(TWO))

    def test_one_way(self) -> None:
        """A partition may be in one direction only, and what is on the way then is lost as well."""
        self.send(1)
        self.network.partition([ONE], [TWO], "out")
        self.send(1, sender=TWO)
        self.clock.advance(1.0)
        self.assertEqual(([], [0]), (self.arrived(TWO), self.arrived(ONE)))
        self.network.heal()
        self.send(1)
        self.clock.advance(1.0)
        self.assertEqual([0], self.arrived(TWO))

    def test_hold(self) -> None:
        """A scene holds what it likes, and lets it go in its own time."""

        def wanted(packet: Packet) -> bool:
            return packet.message is not None and packet.message.index > 1

        hold = self.network.hold(wanted)
        self.send(5)
        self.clock.advance(1.0)
        self.assertEqual([0, 1], self.arrived())
        hold.release(1)
        self.clock.advance(1.0)
        self.assertEqual([0, 1, 2], self.arrived())
        hold.held.pop()
        hold.end()
        self.send(5)
        self.clock.advance(1.0)
        self.assertEqual([0, 1, 2, 3, 0, 1, 2, 3, 4], self.arrived())

    def test_crash(self) -> None:
        """What is on its way to a member that dies does not reach its next life."""
        self.send(5)
        self.network.detach(TWO, self.transports[TWO])
        again = self.network.transport(TWO)
        again.start(self.receivers[TWO])
        self.clock.advance(1.0)
        self.assertEqual([], self.arrived())
        self.send(5)
        self.clock.advance(1.0)
        self.assertEqual(5, len(self.arrived()))

    def test_paused(self) -> None:
        """A member that is paused takes its messages when it goes on, as many as there is room for."""
        clock = MachineClock(self.clock)
        self.network.detach(TWO, self.transports[TWO])
        self.network.transport(TWO, clock).start(self.receivers[TWO])
        clock.pause()
        self.send(PACKETS_MAX + 10)
        self.clock.advance(5.0)
        self.assertEqual([], self.arrived())
        clock.resume()
        self.clock.advance(1.0)
        self.assertEqual(list(range(PACKETS_MAX)), self.arrived())

    def test_same_seed(self) -> None:
        """The same seed loses the same."""
        runs = []
        for _ in range(2):
            self.setUp()
            self.network.faults = Faults(drop=0.2, duplicate=0.2, reorder=0.2)
            self.send()
            self.clock.advance(2.0)
            runs.append(self.arrived())
        self.assertEqual(*runs)
