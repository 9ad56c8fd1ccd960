"""
What one reactor turn brought is done once, at its end (design D2).

Requests that arrive in a turn are proposed together and their answers written together: one log write, one
sync, one ``transport.write`` a connection.  A request that comes alone does not wait for the turn to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class Flushable(Protocol):
    """Something that holds output."""

    def flush(self) -> None:
        """Write what is held."""


class Turn:
    """
    The end of the current reactor turn.

    Args:
        clock: Calls back in the next turn.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._work: list[Callable[[], None]] = []
        self._holding: list[Flushable] = []
        self._scheduled = False
        self._calls = 0
        self._calls_before = 0

    def before_writing(self, work: Callable[[], None]) -> None:
        """Call ``work`` at the end of each turn, before what it made is written.  It must not raise."""
        self._work.append(work)

    def wake(self) -> None:
        """Make sure that this turn's end is not forgotten."""
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._end)

    def write(self, holder: Flushable) -> None:
        """``holder`` has output, to be flushed once at the end of the turn."""
        self._holding.append(holder)
        if not self._scheduled:
            self.wake()

    def received(self, calls: int) -> None:
        """
        A connection has handed on all that it read.

        Flush at once when this brought one call, the first of this turn, and the previous turn served at
        most one: somebody waits for it, and nobody else would share the cost.
        """
        self._calls += calls
        if calls == self._calls == 1 and self._calls_before <= 1:
            self.flush()
        if not self._scheduled:
            self.wake()

    def flush(self) -> None:
        """Do the work and write the output now."""
        for work in self._work:
            work()
        holding, self._holding = self._holding, []
        for holder in holding:
            try:
                holder.flush()
            except Exception:
                # The others' answers are in their hands only, and nobody would ask again.
                self._log.failure("A connection could not be written to")

    def _end(self) -> None:
        self._scheduled = False
        self._calls_before, self._calls = self._calls, 0
        self.flush()
