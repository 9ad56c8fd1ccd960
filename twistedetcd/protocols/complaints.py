"""
What to log of others' faults: each once, and again only after a while, however often it is repeated.

Whoever is refused tries again at once, and for days.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

QUIET_SECONDS = 600.0
"""How long the same fault of the same party is not worth another line."""
TOLD_MAX = 1000
"""Lines in that time: those who think of ever new faults fill no log."""


class Complaints:
    """
    Remembers what was logged.

    Args:
        clock: For how long.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # when; the oldest first

    def is_new(self, who: str, what: str) -> bool:
        """Whether to log it; asked once for each time that it happens."""
        now = self._clock.seconds()
        oldest = next(iter(self._told), None)
        while oldest is not None and now - self._told[oldest] >= QUIET_SECONDS:
            del self._told[oldest]
            oldest = next(iter(self._told), None)
        if (who, what) in self._told or len(self._told) >= TOLD_MAX:
            return False
        self._told[who, what] = now
        return True

    def forget(self, who: str) -> bool:
        """All is well with it: whatever happens next is new.  True if there was something."""
        found = [key for key in self._told if key[0] == who]
        for key in found:
            del self._told[key]
        return bool(found)
