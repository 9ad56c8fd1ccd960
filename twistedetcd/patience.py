"""Whether to wait for something where all else waits too, by how long it took of late."""

from __future__ import annotations

from math import inf

TIMES = 8
"""So many times count, the last one most: one that takes eight times the limit is enough."""


class Patience:
    """
    What is waited for as long as it does not take too long on average.

    It reads no clock: whoever asks says what time it is, in seconds of a clock of theirs.

    Args:
        limit_seconds: What is too long.
        pause_seconds: For how long it is lost then.
        lost_until: Until when it is lost from the start.

    Attributes:
        lost_until: When to wait for it again.
    """

    __slots__ = ("_average_seconds", "_limit_seconds", "_pause_seconds", "lost_until")

    def __init__(self, limit_seconds: float, pause_seconds: float, lost_until: float = -inf) -> None:
        self._limit_seconds = limit_seconds
        self._pause_seconds = pause_seconds
        self._average_seconds = 0.0
        self.lost_until = lost_until

    def took(self, seconds: float, now: float) -> None:
        """It took so long, wherever it was waited for."""
        self._average_seconds += (seconds - self._average_seconds) / TIMES
        if self._average_seconds > self._limit_seconds:
            self._average_seconds = 0.0  # a new chance after the pause, whatever it was that took so long
            self.lost_until = max(self.lost_until, now + self._pause_seconds)
