"""
``python -m twistedetcd.testing.bench.turns FLAGS``: a member as ``twistedetcd`` starts it, its turns timed.

A turn lasts from when the reactor has heard what happened until it asks again: meanwhile nobody else is
served.  Upon SIGUSR2 the longest one since the last time is written, in seconds, to the file that the
variable ``TURNS_FILE`` names.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

FILE_VARIABLE = "TURNS_FILE"


class TimedPoller:
    """
    A reactor's poller, with a clock.

    Attributes:
        longest: Seconds of the longest turn so far.
    """

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._heard = time.perf_counter()
        self.longest = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def poll(self, *arguments: Any) -> Any:
        """Wait for what happens next."""
        self.longest = max(self.longest, time.perf_counter() - self._heard)
        try:
            return self._poller.poll(*arguments)
        finally:
            self._heard = time.perf_counter()


def install() -> None:
    """Time the turns of the process's reactor, which must be the epoll reactor."""
    from twisted.internet import reactor

    owner: Any = reactor
    owner._poller = timed = TimedPoller(owner._poller)
    path = os.environ[FILE_VARIABLE]

    def report(number: int, frame: object) -> None:
        with open(f"{path}.new", "w") as file:
            file.write(repr(timed.longest))
        os.replace(f"{path}.new", path)
        timed.longest = 0.0

    signal.signal(signal.SIGUSR2, report)


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    install()
    sys.argv[1:1] = ["-n", "--pidfile=", "etcd"]
    run()
