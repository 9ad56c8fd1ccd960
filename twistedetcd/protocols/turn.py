"""
What one reactor turn brought is done once, at its end.

Requests that arrive in a turn are proposed together and their answers written together: one log write, one
sync, one ``transport.write`` a connection.  A request that comes alone does not wait for the turn to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedetcd.protocols.giving import GiveWay, keep_on


class Flushable(Protocol):
    """Something that holds output."""

    def flush(self) -> bool:
        """Write what is held; whether all of it has left, so that whoever waits for it may go on."""


class Turn:
    """
    The end of the current reactor turn.

    Args:
        clock: Calls back in the next turn.
        polls: After a call that came alone and was answered at once, how many turns to look for the next one
            without sleeping.  Whoever waits for each answer asks again soon, and to be woken takes longer
            than to answer.  While a call waits for others, they may need the processor.
        give_way: Lets who was answered, alone, go on before work that nobody waits for.  (To many it makes
            no difference: some run anyway.)
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, polls: int = 0, give_way: GiveWay = keep_on) -> None:
        self._clock = clock
        self._polls = polls
        self._give_way = give_way
        self._polls_left = 0
        self._work: list[Callable[[], None]] = []
        self._holding: list[Flushable] = []
        self._wanted = False  # there is work to do before writing
        self._gathering = False  # in the middle of reading or flushing: what to do is decided after it
        self._scheduled = False
        self._wrote = False  # since a call came alone
        self._last: object = None  # who brought the last call
        self._calls = self._crowd = 0  # handed on since the last flush, and before that since the one before

    def before_writing(self, work: Callable[[], None]) -> None:
        """Call ``work`` at the end of each turn, before what it made is written.  It must not raise."""
        self._work.append(work)

    def wake(self) -> None:
        """There is work: make sure that this turn's end is not forgotten."""
        self._wanted = True
        if not self._gathering:
            self._schedule()

    def hurry(self) -> None:
        """
        There is work that others wait for, and all of it is here.

        It is done at once, unless this turn has an end to come anyway, or the last one served many calls:
        then many may share the cost again.
        """
        self._wanted = True
        if self._gathering:
            return
        if self._scheduled or self._crowd > 1:
            self._schedule()
        else:
            self.flush()

    def write(self, holder: Flushable) -> None:
        """``holder`` has output, to be flushed once at the end of the turn."""
        self._holding.append(holder)
        if not self._gathering:
            self._schedule()

    def receiving(self) -> None:
        """A connection begins to hand on what it read; `received` follows."""
        self._gathering = True

    def received(self, who: object, calls: int) -> None:
        """
        A connection has handed on all that it read.

        Flush at once when this brought one call, and the last call before it came from the same connection:
        then somebody waits for it, and nobody else would share the cost.  (A connection is read once a turn.)

        Args:
            who: The connection.
            calls: How many calls it handed on.
        """
        self._gathering = False
        self._calls += calls
        if calls:
            alone = calls == 1 and who is self._last and not self._scheduled
            self._last = who
            if alone:
                self._wrote = False
                self.flush()
                if self._polls and self._wrote:
                    if not self._polls_left:
                        self._clock.callLater(0, self._poll)
                    self._polls_left = self._polls
                return
        if self._wanted or self._holding:
            self._schedule()

    def forget(self, who: object) -> None:
        """A connection is gone."""
        if self._last is who:
            self._last = None

    def flush(self) -> None:
        """Do the work and write the output now."""
        self._gathering = True
        self._wanted = False
        self._crowd, self._calls = self._calls, 0
        for work in self._work:
            work()
        self._write_held()
        self._gathering = False
        if self._wanted or self._holding:
            self._schedule()

    def write_out(self) -> None:
        """Write what is held now; for work that has answered everybody and has still more to do."""
        alone = len(self._holding) == 1
        if self._write_held() and alone:
            self._give_way()

    def _write_held(self) -> bool:
        """Write what is held; whether the last of it has left."""
        left = False
        holding, self._holding = self._holding, []
        self._wrote |= bool(holding)
        for holder in holding:
            try:
                left = holder.flush()
            except Exception:
                # The others' answers are in their hands only, and nobody would ask again.
                self._log.failure("A connection could not be written to")
        return left

    def _poll(self) -> None:
        """Something to do in the next turn keeps the reactor from sleeping in this one."""
        self._polls_left -= 1
        if self._polls_left:
            self._clock.callLater(0, self._poll)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._end)

    def _end(self) -> None:
        self._scheduled = False
        self.flush()
