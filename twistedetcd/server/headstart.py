"""
A member that has just started waits less for a leader: if there is one, it would have been heard of by now.

As upstream's ``adjustTicks``: once more than one other member is heard, all but two ticks of the first wait
are left out.  A member that hears nobody, or only one, could not tell a leader's silence from its own.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

LOOK_SECONDS = 0.05
"""How often it is looked for others,"""
LOOK_SECONDS_MAX = 5.0
"""and for how long."""


class HeadStart:
    """
    Looks until others are heard, or a leader is known.

    Args:
        clock: For looking again.
        heard: How many others are heard.
        led: Whether a leader is known.
        hasten: Leaves a part of the wait out.
    """

    def __init__(
        self,
        clock: IReactorTime,
        heard: Callable[[], int],
        led: Callable[[], bool],
        hasten: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._heard = heard
        self._led = led
        self._hasten = hasten
        self._until = 0.0
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """The member has started."""
        self._until = self._clock.seconds() + LOOK_SECONDS_MAX
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """The member stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._led() or self._clock.seconds() > self._until:
            return
        if self._heard() > 1:
            self._hasten()
        else:
            self._timer = self._clock.callLater(LOOK_SECONDS, self._look)
