"""
Moves pending writes into the engine, in the background.

One batch at a time.  When a batch is sealed the consistent index goes into it, never later: a crash replays
the log from exactly there, and every entry is applied once.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twistedetcd.interfaces import IBackend, RunInThread
from twistedetcd.mvcc.pending import Pending, Values

BUSY_OPERATIONS = 20_000  # a batch of more keeps the disk busy; to sync elsewhere for less costs more time


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

    Attributes:
        busy: Whether a batch is being written that is so large that others find the disk slow.
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
        self._given_up: Failure | None = None
        self._writing = False
        self._held = False
        self.busy = False
        # Who waits for the batch on its way, and who for the one after it.
        self._waiting: list[Deferred[None]] = []
        self._waiting_next: list[Deferred[None]] = []

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

    def flush(self, mark: bool = False) -> Deferred[None]:
        """
        Commit all that is pending now.

        Args:
            mark: Commit the consistent index also when nothing else is pending: entries may have been applied
                that change nothing.  Only between two entries.

        Returns:
            Fires once it is durable.

        Raises:
            Exception: What `give_up` was told, now or before that came about.
        """
        if self._given_up is not None:
            return fail(self._given_up)
        if mark:
            self._stamp()
        if not self._pending.operations and not self._writing:
            return succeed(None)
        done: Deferred[None] = Deferred()
        # What is on its way was sealed before this call.
        (self._waiting_next if self._pending.operations else self._waiting).append(done)
        self._seal()
        return done

    def _seal(self) -> None:
        pending = self._pending
        ready = pending.operations and pending.whole and not self._held
        if self._writing or self._given_up is not None or not ready:
            return
        self._stamp()
        operations = self._pending.operations
        batch = self._pending.seal()
        assert batch is not None, "the open batch has operations"
        self._writing, self.busy = True, operations > BUSY_OPERATIONS
        self._waiting, self._waiting_next = self._waiting_next, []
        self._run_in_writer(lambda: self._backend.write(batch)).addCallbacks(self._committed, self._refused)

    def _committed(self, _: object) -> None:
        parts = self._pending.committed()
        self._writing = self.busy = False
        if len(parts) > 1:
            self._run_in_writer(lambda: _free(parts))
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
        if self._waiting_next:
            self._seal()
        else:
            self.check()

    def hold(self) -> Deferred[None]:
        """
        Commit what is pending, and seal nothing more until `resume`: somebody else writes to the engine.

        Returns:
            Fires once the engine is at rest.

        Raises:
            Exception: As `flush`.
        """
        return self.flush().addCallback(self._hold)

    def _hold(self, _: None) -> None:
        self._held = True

    def resume(self) -> None:
        """Go on; what was pending may have been forgotten meanwhile."""
        self._held = False
        if self._waiting_next and not self._pending.operations:
            waiting, self._waiting_next = self._waiting_next, []
            for done in waiting:
                done.callback(None)
        self._seal()

    def _refused(self, failure: Failure) -> None:
        self._writing = self.busy = False
        waiting, self._waiting = self._waiting, []
        self.give_up(failure)
        for done in waiting:
            done.errback(failure)
        self._failed(failure)

    def give_up(self, failure: Failure) -> None:
        """
        Seal nothing more: the open batch may hold half of an entry, or follow one that was lost.

        A batch on its way is finished; those who wait for the next one are told.
        """
        if self._given_up is None:
            self._given_up = failure
            self._cancel_timer()
            waiting, self._waiting_next = self._waiting_next, []
            for done in waiting:
                done.errback(failure)

    def stop(self) -> Deferred[None]:
        """
        Commit what is left, unless given up; fires once the engine is at rest, for good.

        Raises:
            BackendError: The engine refused what was left.
        """
        self._cancel_timer()
        if self._given_up is None:
            return self.flush()
        if not self._writing:
            return succeed(None)
        at_rest: Deferred[None] = Deferred()
        self._waiting.append(at_rest)
        return at_rest.addErrback(lambda _: None)  # whoever gave up has spoken

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _free(parts: list[Values]) -> None:
    """Forget a large batch part by part: to free a million records in one go takes 35 ms."""
    while parts:
        parts.pop()
