"""
A network in memory that loses, delays, repeats and reorders what it carries, and falls apart, from a seed.

It carries packets of plain bytes, so members never share an object.  Each direction between two members has
its own faults.  A scripted scene may hold single packets and let them go when it likes.  The ends of it are
`twistedetcd.testing.peers.SimulatedTransport`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from twistedetcd.raft.types import MessageType
from twistedetcd.testing.clock import SimulatedClock, Timers, soon
from twistedetcd.testing.packets import Lane, Packet
from twistedetcd.testing.peers import SimulatedTransport

PACKETS_MAX = 4096
"""Packets under way in one lane, beyond which more are lost."""

BYTES_MAX = 32 * 1024 * 1024
"""Their bytes, likewise."""

NOTICE_SECONDS = 0.2
"""After so long a sender hears that something was lost."""

REORDER_SECONDS = 0.05
"""How long a packet that is overtaken may be late."""

RESENT_SECONDS = 0.2
"""What a loss costs where packets are sent again until they arrive: in a `Lane.STREAM`."""

_REPEATABLE_NEVER = frozenset({MessageType.PROP, MessageType.READ_INDEX, MessageType.TRANSFER_LEADER})


@dataclass(frozen=True, slots=True)
class Faults:
    """
    How well one direction works.

    Attributes:
        latency_seconds: The shortest and the longest time on the way.
        drop: The chance that a packet is lost.
        duplicate: The chance that a raft message arrives twice, if raft can bear that.
        reorder: The chance that a packet is overtaken by later ones.
        bytes_per_second: How much goes through a lane.
    """

    latency_seconds: tuple[float, float] = (0.0003, 0.002)
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    bytes_per_second: float = 100e6


class End(Protocol):
    """A member's end of the network."""

    clock: Timers

    def arrived(self, packet: Packet) -> None:
        """A packet is there; called on the member's own clock."""

    def lost(self, member: int) -> None:
        """A packet to a member did not arrive; called on the member's own clock."""


class Hold:
    """Packets that are kept until somebody lets them go."""

    def __init__(self, network: SimulatedNetwork, wanted: Callable[[Packet], bool]) -> None:
        self._network = network
        self.wanted = wanted
        self.held: list[Packet] = []

    def release(self, count: int | None = None) -> None:
        """Let the first so many, or all, go on; what comes later is held all the same."""
        count = len(self.held) if count is None else count
        released, self.held = self.held[:count], self.held[count:]
        for packet in released:
            self._network.carry(packet)

    def drop(self) -> None:
        """What is held never arrives."""
        self.held.clear()

    def end(self) -> None:
        """Hold nothing any more; what was held goes on."""
        self._network.holds.remove(self)
        self.release()


class _Flight:
    """What is under way in one lane of one direction."""

    __slots__ = ("bytes", "last_arrival", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self.last_arrival = 0.0


class SimulatedNetwork:
    """
    The network.

    Args:
        clock: True time.
        random: Decides what is lost, and how long all else takes.

    Attributes:
        faults: Of every direction that has none of its own.
        holds: Who holds packets; the first that wants one has it.
        arrived: How many packets of each kind have arrived.
        look: Called with each packet that is sent, and what becomes of it: for a transcript.
    """

    def __init__(self, clock: SimulatedClock, random: Random) -> None:
        self.clock = clock
        self.faults = Faults()
        self.holds: list[Hold] = []
        self.look: Callable[[Packet, str], None] | None = None
        self.arrived = Counter[str]()
        self._random = random
        self._ends: dict[int, End] = {}
        self._own: dict[tuple[int, int], Faults] = {}
        self._cut: set[tuple[int, int]] = set()
        self._flights: dict[tuple[int, int, Lane], _Flight] = {}

    def transport(self, member: int, clock: Timers | None = None) -> SimulatedTransport:
        """
        A member's way to the others, for one life of it.

        Args:
            member: Whose.
            clock: The member's own, on which it is called; true time if not given.
        """
        return SimulatedTransport(self, member, self.clock if clock is None else clock)

    def attach(self, member: int, end: End) -> None:
        """A member listens."""
        self._ends[member] = end

    def detach(self, member: int, end: End) -> None:
        """It listens no more: what is on its way to it is lost, and so is what waits there."""
        if self._ends.get(member) is end:
            del self._ends[member]
            for sender, to, lane in list(self._flights):
                if member in (sender, to):
                    del self._flights[sender, to, lane]

    # What goes wrong.

    def set_faults(self, sender: int, to: int, faults: Faults) -> None:
        """How well one direction works."""
        self._own[sender, to] = faults

    def cut(self, sender: int, to: int) -> None:
        """Nothing arrives in one direction."""
        self._cut.add((sender, to))

    def partition(self, inside: Iterable[int], outside: Iterable[int], ways: str = "both") -> None:
        """
        Some do not reach the others.

        Args:
            inside: Some.
            outside: The others.
            ways: ``both``, or only what goes ``in`` or ``out`` is lost.
        """
        outside = list(outside)
        for one in inside:
            for other in outside:
                if ways != "in":
                    self.cut(one, other)
                if ways != "out":
                    self.cut(other, one)

    def heal(self) -> None:
        """Every direction works, with the common faults; what is held stays so."""
        self._cut.clear()
        self._own.clear()

    def hold(self, wanted: Callable[[Packet], bool]) -> Hold:
        """Hold the packets that are wanted, from now on."""
        hold = Hold(self, wanted)
        self.holds.append(hold)
        return hold

    # What is carried.

    def send(self, packet: Packet) -> bool:
        """Take a packet; false if there is no room for it."""
        for hold in self.holds:
            if hold.wanted(packet):
                hold.held.append(packet)
                self._tell(packet, "held")
                return True
        return self.carry(packet)

    def carry(self, packet: Packet) -> bool:
        """As `send`, but nobody may hold it."""
        key = packet[:3]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
        if flight.packets >= PACKETS_MAX or flight.bytes + len(packet.body) > BYTES_MAX:
            self._tell(packet, "no room")
            return False
        random, faults = self._random, self._own.get(packet[:2], self.faults)
        late = 0.0
        if packet[:2] in self._cut or (faults.drop and random.random() < faults.drop):
            if packet[:2] in self._cut or packet.lane != Lane.STREAM:
                self._lose(packet)
                return True
            late = RESENT_SECONDS
        self._launch(packet, flight, faults, late)
        if faults.duplicate and random.random() < faults.duplicate and _bears_repetition(packet):
            self._launch(packet, flight, faults, random.random())
        return True

    def _launch(self, packet: Packet, flight: _Flight, faults: Faults, late: float) -> None:
        random = self._random
        least, most = faults.latency_seconds
        now = self.clock.seconds()
        arrival = now + least + (most - least) * random.random() + late
        if faults.reorder and packet.lane != Lane.STREAM and random.random() < faults.reorder:
            arrival += REORDER_SECONDS * random.random()
        else:
            arrival = max(arrival, flight.last_arrival) + len(packet.body) / faults.bytes_per_second
            flight.last_arrival = arrival
        flight.packets += 1
        flight.bytes += len(packet.body)
        self._tell(packet, "sent")
        self.clock.callLater(max(0.0, arrival - now), self._arrive, packet, flight)

    def _arrive(self, packet: Packet, flight: _Flight) -> None:
        end = self._ends.get(packet.to)
        if end is None or packet[:2] in self._cut or self._flights.get(packet[:3]) is not flight:
            flight.packets -= 1
            flight.bytes -= len(packet.body)
            self._lose(packet)
            return
        # A member that is paused takes it later; until then it has its place in the lane.
        soon(end.clock, self._take, end, packet, flight)

    def _take(self, end: End, packet: Packet, flight: _Flight) -> None:
        flight.packets -= 1
        flight.bytes -= len(packet.body)
        self.arrived[packet.kind] += 1
        end.arrived(packet)

    def _lose(self, packet: Packet) -> None:
        self._tell(packet, "lost")
        self.clock.callLater(NOTICE_SECONDS, self._notice, packet.sender, packet.to)

    def _notice(self, sender: int, to: int) -> None:
        end = self._ends.get(sender)
        if end is not None:
            soon(end.clock, end.lost, to)

    def _tell(self, packet: Packet, what: str) -> None:
        if self.look is not None:
            self.look(packet, what)


def _bears_repetition(packet: Packet) -> bool:
    """Whether raft takes no harm: it would propose a forwarded proposal, or confirm a read, once more."""
    message = packet.message
    return message is not None and message.type not in _REPEATABLE_NEVER
