"""What to log of others' faults: each once, and again only after a while, however often it is repeated."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

AGAIN_SECONDS = 600.0
"""The same fault of the same party is worth another line after so long."""
REMEMBERED_MAX = 256
"""So many faults are remembered; of more, the oldest is forgotten."""


class Complaints:
    """
    Remembers what was logged.

    Args:
        clock: For how long.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}

    def is_new(self, who: str, what: str) -> bool:
        """Whether to log it; asked once for each time that it happens."""
        now = self._clock.seconds()
        last = self._logged.pop((who, what), None)
        if last is not None and now - last < AGAIN_SECONDS:
            self._logged[who, what] = last
            return False
        self._logged[who, what] = now
        if len(self._logged) > REMEMBERED_MAX:
            del self._logged[next(iter(self._logged))]
        return True

    def forget(self, who: str) -> bool:
        """All is well with it: whatever happens next is new.  True if there was something."""
        found = [key for key in self._logged if key[0] == who]
        for key in found:
            del self._logged[key]
        return bool(found)
