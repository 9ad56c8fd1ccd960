"""What happened in a simulation, line by line."""

from __future__ import annotations

from collections import deque

from twistedetcd.testing.clock import SimulatedClock

LINES_MAX = 200_000
"""So many of the last lines are kept."""


class Transcript:
    """
    The lines of one run, the newest of them.

    A run without one is the same run, only faster.

    Args:
        clock: True time, which each line begins with.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self.lines: deque[str] = deque(maxlen=LINES_MAX)

    def note(self, who: str, text: str) -> None:
        """Something happened."""
        self.lines.append(f"{self._clock.seconds():11.6f} {who:>4} {text}")

    def tail(self, count: int) -> str:
        """The last lines."""
        return "\n".join(list(self.lines)[-count:])
