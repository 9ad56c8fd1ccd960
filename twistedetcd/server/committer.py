"""
Moves pending writes into the engine, in the background (design D4).

One batch at a time.  When a batch is sealed the consistent index goes into it, never later: a crash replays
the log from exactly there, and every entry is applied once.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twistedetcd.interfaces import IBackend, RunInThread
from twistedetcd.mvcc.pending import Pending


class Committer:
    """
    Seals the open batch every ``interval_seconds``, or when it has ``operations_max`` writes.

    Args:
        clock: For the interval.
        pending: The overlay.
        backend: Where its batches go.
        run_in_writer: Runs a write on the one writer thread.
        stamp: Puts the consistent index, its term and what else describes the batch into the open batch;
            called between two entries only.
        failed: Called when the engine refused a batch; the member must stop.
    """

    def __init__(
        self,
        clock: IReactorTime,
        pending: Pending,
        backend: IBackend,
        run_in_writer: RunInThread,
        stamp: Callable[[], None],
        failed: Callable[[Failure], None],
        interval_seconds: float,
        operations_max: int,
    ) -> None:
        self._clock = clock
        self._pending = pending
        self._backend = backend
        self._run_in_writer = run_in_writer
        self._stamp = stamp
        self._failed = failed
        self._interval_seconds = interval_seconds
        self._operations_max = operations_max
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin to commit at intervals."""
        self._timer = self._clock.callLater(self._interval_seconds, self._interval)

    def _interval(self) -> None:
        self._timer = self._clock.callLater(self._interval_seconds, self._interval)
        self._seal()

    def check(self) -> None:
        """Seal if the open batch is full.  Call at the end of a turn."""
        if self._pending.operations >= self._operations_max:
            self._seal()

    def flush(self) -> Deferred[None]:
        """
        Commit all that is pending now.

        Returns:
            Fires once it is durable; never, if the engine refuses, since the member stops then.
        """
        if self._writing is None and not self._pending.operations:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if self._writing is None:
            self._seal()
            self._waiting.append(done)
        else:
            # What is on its way was sealed before this call: the next batch is the one to wait for.
            self._writing.addCallback(lambda _: self.flush().chainDeferred(done))
        return done

    def _seal(self) -> None:
        if self._writing is not None or not self._pending.operations:
            return
        self._stamp()
        batch = self._pending.seal()
        assert batch is not None, "the open batch has operations"
        self._writing = Deferred()
        self._run_in_writer(lambda: self._backend.write(batch)).addCallbacks(self._committed, self._failed)

    def _committed(self, _: object) -> None:
        self._pending.committed()
        writing, self._writing = self._writing, None
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
        if writing is not None:
            writing.callback(None)
        self.check()

    def stop(self) -> Deferred[None]:
        """Commit what is left; fires once it is durable.  Nothing may be written afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self.flush()
