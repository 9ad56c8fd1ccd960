"""Drives what watches have left to deliver, between reactor turns."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twistedetcd.errors import StoppedError
from twistedetcd.interfaces import IWatchable
from twistedetcd.server.slices import Slices


class WatchDriver:
    """
    Does the work of watches, one slice a turn, as long as there is some.

    Args:
        clock: Calls back in the next turn.
        watches: Whose work it is.
        failed: Called when the history cannot be read; the member must stop.
    """

    def __init__(self, clock: IReactorTime, watches: IWatchable, failed: Callable[[Failure], None]) -> None:
        self._slices = Slices(clock)
        self._watches = watches
        self._failed = failed
        self._working = False

    def wake(self) -> None:
        """There is work."""
        if not self._working:
            self._working = True
            self._slices.run(self._watches.work()).addCallbacks(self._done, self._broke_off)

    def _done(self, _: None) -> None:
        self._working = False

    def _broke_off(self, failure: Failure) -> None:
        if not failure.check(StoppedError):
            self._failed(failure)

    def stop(self) -> None:
        """Give up what is not delivered; clients ask for it again, elsewhere or later."""
        self._slices.stop()
