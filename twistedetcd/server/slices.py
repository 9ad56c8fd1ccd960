"""Slow work that mvcc offers in slices, driven between reactor turns (design D10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator


class Slices:
    """
    Runs generators, one slice at a time, with a pause between slices.

    Args:
        clock: Calls back after the pause.
        pause_seconds: The pause; 0 for the next turn.
    """

    def __init__(self, clock: IReactorTime, pause_seconds: float = 0.0) -> None:
        self._cooperator = Cooperator(
            terminationPredicateFactory=lambda: lambda: True,
            scheduler=lambda slice_: clock.callLater(pause_seconds, slice_),
        )

    def run(self, work: Iterator[Any]) -> Deferred[Any]:
        """
        Run ``work`` to its end.

        Returns:
            Fires with the last item; fails with what ``work`` raises.
        """
        last: list[Any] = [None]

        def remembering() -> Iterator[None]:
            for item in work:
                last[0] = item
                yield

        return self._cooperator.coiterate(remembering()).addCallback(lambda _: last[0])

    def stop(self) -> None:
        """Give up what is not finished."""
        self._cooperator.stop()


class CompactionQueue:
    """
    Compactions that were accepted, done one after the other.

    Args:
        slices: Runs them.
    """

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._queue: deque[Iterator[None]] = deque()
        self._idle: list[Deferred[None]] = []
        self._running = False

    def add(self, revision: int, work: Iterator[None]) -> None:
        """Queue the work of a compaction at ``revision``; revisions only ever rise."""
        self._queue.append(work)
        if not self._running:
            self._next()

    def idle(self) -> Deferred[None]:
        """Fires when everything queued by now is done."""
        if not self._running:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done

    def _next(self, _: object = None) -> None:
        self._running = bool(self._queue)
        if self._running:
            self._slices.run(self._queue.popleft()).addCallback(self._next)
            return
        idle, self._idle = self._idle, []
        for done in idle:
            done.callback(None)
