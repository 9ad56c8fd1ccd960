"""What all parts of a simulation share: true time, the network, the seed, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from twistedetcd.testing.clock import SimulatedClock
from twistedetcd.testing.network import SimulatedNetwork
from twistedetcd.testing.simulation.transcript import Transcript

if TYPE_CHECKING:
    from twistedetcd.testing.simulation.life import Life

PROBLEMS_MAX = 20
"""Nobody reads more."""


class World:
    """
    One simulated world.

    Args:
        seed: Decides everything.
        transcript: Whether to write down what happens; it is slower, and changes nothing else.

    Attributes:
        clock: True time.
        network: Between the members.
        transcript: What happened, if it is kept.
        problems: What went wrong that no client can see, as sentences.
        on_assembled: Called with each life that has read its disk, before its member starts.
    """

    def __init__(self, seed: int, transcript: bool = False) -> None:
        self.seed = seed
        self.clock = SimulatedClock()
        self.network = SimulatedNetwork(self.clock, self.random("network"))
        self.transcript = Transcript(self.clock) if transcript else None
        self.problems: list[str] = []
        self.on_assembled: list[Callable[[Life], None]] = []

    def random(self, purpose: str) -> Random:
        """Chance of its own for each purpose, so that more of one does not change all others."""
        return Random(f"{self.seed} {purpose}")

    def assembled(self, life: Life) -> None:
        """A member has read its disk, and is about to start."""
        for look in self.on_assembled:
            look(life)

    def note(self, who: str, text: str) -> None:
        """Write something down."""
        if self.transcript is not None:
            self.transcript.note(who, text)

    def problem(self, who: str, text: str) -> None:
        """Something went wrong that never may."""
        self.note(who, f"PROBLEM: {text}")
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(f"{who}: {text}")
