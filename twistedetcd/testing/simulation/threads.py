"""The threads of a simulated machine: what they do takes as long as its disk says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.testing.clock import MachineClock

WAKE_SECONDS = 0.0002
"""A thread begins within this time."""


class SimulatedThreads:
    """
    A pool of threads: an `twistedetcd.interfaces.RunInThread`.

    A work is done at one moment, and its result is told after the time that the disk took for it: what a
    crash in between leaves is then on the disk, but nobody knows.

    Args:
        clock: The machine's.
        files: The machine's disk.
        random: When a thread wakes up.
        count: How many threads.
    """

    def __init__(self, clock: MachineClock, files: SimulatedFiles, random: Random, count: int) -> None:
        self._clock = clock
        self._files = files
        self._random = random
        self._idle = count
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._waiting.append((work, done))
        self._begin()
        return done

    def _begin(self) -> None:
        if self._idle and self._waiting:
            self._idle -= 1
            work, done = self._waiting.popleft()
            self._clock.callLater(self._random.random() * WAKE_SECONDS, self._do, work, done)

    def _do(self, work: Callable[[], Any], done: Deferred[Any]) -> None:
        before = self._files.busy_seconds
        try:
            result = work()
        except Exception:
            result = Failure()
        self._clock.callLater(self._files.busy_seconds - before, self._done, result, done)

    def _done(self, result: Any, done: Deferred[Any]) -> None:
        self._idle += 1
        self._begin()
        done.callback(result)  # a failure makes it fail
