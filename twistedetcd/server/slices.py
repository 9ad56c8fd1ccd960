"""Slow work that mvcc offers in slices, driven between reactor turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twistedetcd.errors import EtcdError, StoppedError, TooManyRequestsError
from twistedetcd.interfaces import IKV, Work

HASHES_MAX = 16  # hashes at work, each with a reader of the engine, beyond which more are refused


class Slices:
    """
    Carries out slow work, one slice at a time and taking turns, with a pause between slices.

    Args:
        clock: Calls back after the pause.
        pause_seconds: The pause; 0 for the next turn.
        running_max: How many works take turns; others wait for one of them to end.

    Attributes:
        stopped: Whether nothing runs any more.
    """

    def __init__(self, clock: IReactorTime, pause_seconds: float = 0.0, running_max: int = 4) -> None:
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._running_max = running_max
        self._running: deque[tuple[Work[Any], Deferred[Any]]] = deque()
        self._waiting: deque[tuple[Work[Any], Deferred[Any]]] = deque()
        self._next: IDelayedCall | None = None
        self.stopped = False

    def run(self, work: Work[Any]) -> Deferred[Any]:
        """
        Run ``work`` to its end.

        Returns:
            Fires with its result.  Cancel it to give the work up.

        Raises:
            StoppedError: `stop` came before the end.
            Exception: What ``work`` raises.
        """
        if self.stopped:
            return fail(StoppedError())
        done: Deferred[Any] = Deferred(self._cancelled)
        room = len(self._running) < self._running_max
        (self._running if room else self._waiting).append((work, done))
        self._schedule()
        return done

    def _schedule(self) -> None:
        if self._running and self._next is None:
            self._next = self._clock.callLater(self._pause_seconds, self._step)

    def _step(self) -> None:
        self._next = None
        work, done = self._running.popleft()
        try:
            next(work)
        except StopIteration as end:
            self._ended()
            done.callback(end.value)
        except Exception:
            self._ended()
            done.errback()
        else:
            self._running.append((work, done))
        self._schedule()

    def _ended(self) -> None:
        """One work less: the one that has waited longest takes its place."""
        if self._waiting:
            self._running.append(self._waiting.popleft())

    def _cancelled(self, done: Deferred[Any]) -> None:
        """Whoever waited for a work does without it."""
        for works in (self._running, self._waiting):
            for work, waits in list(works):
                if waits is done:
                    works.remove((work, waits))
                    work.close()
                    if works is self._running:
                        self._ended()
        if not self._running and self._next is not None:
            self._next.cancel()
            self._next = None

    def stop(self) -> None:
        """Give up what is not finished, and take nothing more."""
        self.stopped = True
        self.give_up(StoppedError())

    def give_up(self, error: EtcdError) -> None:
        """Give up what is not finished; whoever waits for it is told."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        works = [*self._running, *self._waiting]
        self._running.clear()
        self._waiting.clear()
        for work, done in works:
            work.close()
            if not done.called:  # who was told before may have cancelled this one
                done.errback(error)


class Hashes:
    """
    Hashes of a store, a few at a time.

    Args:
        slices: Runs them.
        store: What is hashed.
    """

    def __init__(self, slices: Slices, store: IKV) -> None:
        self._slices = slices
        self._store = store
        self._running = 0

    def hash(self, revision: int) -> Deferred[Any]:
        """
        Hash the store up to a revision, in slices.

        Returns:
            Fires with a `twistedetcd.mvcc.hash.KeyValueHash`.

        Raises:
            CompactedError: The revision was compacted.
            FutureRevisionError: It is yet to come.
            StoppedError: The member stops, now or before it is done.
            TooManyRequestsError: As many as there may be are at work.
        """
        if self._slices.stopped:
            raise StoppedError
        if self._running >= HASHES_MAX:
            raise TooManyRequestsError
        hashing = self._store.hash(revision)
        self._running += 1
        return self._slices.run(hashing).addBoth(self._hashed)

    def _hashed(self, result: Any) -> Any:
        self._running -= 1
        return result


class CompactionQueue:
    """
    Compactions that were accepted, done one after the other.

    Args:
        slices: Runs them; once it is stopped, so is the queue.
        failed: Called when one cannot be carried out; the member must stop.
    """

    def __init__(self, slices: Slices, failed: Callable[[Failure], None]) -> None:
        self._slices = slices
        self._failed = failed
        self._queue: deque[Work[None]] = deque()
        self._idle: list[Deferred[None]] = []
        self._running = False
        self._stopped = False

    def add(self, work: Work[None]) -> None:
        """Queue the work of a compaction; their revisions only ever rise."""
        self._queue.append(work)
        if not self._running:
            self._next()

    def idle(self) -> Deferred[None]:
        """
        Fires when everything queued by now is done.

        Raises:
            StoppedError: It will not be, in this life of the member.
        """
        if self._stopped:
            return fail(StoppedError())
        if not self._running:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done

    def give_up(self) -> None:
        """
        Forget them all: the store they are about is replaced by one that knows what is left to do.

        Those who wait for one to be done are told that it is, since nothing of it is left.
        """
        self._queue.clear()
        self._slices.give_up(_ObsoleteError())

    def _next(self, _: object = None) -> None:
        self._running = bool(self._queue)
        if self._running:
            self._slices.run(self._queue.popleft()).addCallbacks(self._next, self._ended)
            return
        idle, self._idle = self._idle, []
        for done in idle:
            done.callback(None)

    def _ended(self, failure: Failure) -> None:
        if failure.check(_ObsoleteError):
            self._next()
            return
        self._stopped = True
        idle, self._idle = self._idle, []
        for done in idle:
            done.errback(StoppedError())
        if not failure.check(StoppedError):
            self._failed(failure)


class _ObsoleteError(EtcdError):
    """The work was given up because nobody needs it any more."""
