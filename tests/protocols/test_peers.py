"""The peer transport over TCP, on connections in memory: the contract's kit, and what is its own."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.memorynet import MemoryNetwork
from twistedetcd.protocols.peers import PeerTransport
from twistedetcd.testing.clock import SimulatedClock
from twistedetcd.testing.peertransport import PeerTransportKit

FRAME_BYTES_MAX = 16 << 20


class PeerTransportTests(PeerTransportKit, SynchronousTestCase):
    """It keeps the contract; what is cut off is not told so, and has to find out."""

    resets = False

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.network = MemoryNetwork(self.clock)
        self.network.resets = self.resets
        super().setUp()

    def tearDown(self) -> None:
        super().tearDown()
        self.clock.advance(60.0)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.network.ends)

    def make(self, member: int) -> PeerTransport:
        return PeerTransport(self.clock, self.network.at(member), lambda: 0.5, "3.6.0", FRAME_BYTES_MAX)

    def urls(self, member: int) -> Sequence[str]:
        return (f"http://member/{member:x}",)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def disconnect(self, one: int, other: int) -> None:
        self.network.cut(one, other)

    def reconnect(self, one: int, other: int) -> None:
        self.network.mend(one, other)

    def stall(self, member: int) -> None:
        self.network.stall(member)

    def go_on(self, member: int) -> None:
        self.network.go_on(member)


class ResetTests(PeerTransportTests):
    """It keeps the contract also where connections break audibly."""

    resets = True
