"""
Raft snapshots, so that the log before them need not be kept; and the removal of what is too much of both.

The order is what keeps a member whole: the backend has the entry durably, then the snapshot is durable, then
the log has its record, and only then is the log before it let go.  A crash between any two of these starts
from the snapshot before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.interfaces import IWAL, ISnapshotter, RunInThread
from twistedetcd.raft.types import Snapshot

PURGE_SECONDS: Final = 30.0
_LATER: Final = 1 << 64  # no index gets there: one is under way


class Snapshots:
    """
    Takes a snapshot every so many entries, and purges log and snapshots at intervals; one at a time.

    Args:
        clock: For the interval.
        snapshotter: Where snapshots go.
        wal: The log they are recorded in.
        run_in_worker: Runs what the snapshotter blocks on.
        applied: The index of the last entry that was committed and carried out in this life.
        state: The snapshot at that entry; called between two entries only.
        commit: Makes the backend have all that is applied by now, durably.
        record: Puts a snapshot's record into the log.
        purge_images: Removes stores of others that came too late.
        failed: Called when one of these failed; the member must stop.
        every: Entries between two snapshots; ``None`` for no snapshots, since the backend forgets.
        recorded: The newest snapshot that the log vouches for; 0 for none.
        wals_max: Pieces of the log that are kept; 0 for all.
        snapshots_max: Snapshots that are kept; 0 for all.

    Attributes:
        recorded: The index of the newest snapshot that the log vouches for.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        snapshotter: ISnapshotter,
        wal: IWAL,
        run_in_worker: RunInThread,
        applied: Callable[[], int],
        state: Callable[[], Snapshot],
        commit: Callable[[], Deferred[None]],
        record: Callable[[Snapshot], Deferred[None]],
        purge_images: Callable[[], Deferred[None]],
        failed: Callable[[Failure], None],
        every: int | None,
        recorded: int,
        wals_max: int,
        snapshots_max: int,
    ) -> None:
        self._clock = clock
        self._snapshotter = ISnapshotter(snapshotter)
        self._wal = wal
        self._run_in_worker = run_in_worker
        self._applied = applied
        self._state = state
        self._commit = commit
        self._record = record
        self._purge_images = purge_images
        self._failed = failed
        self._every = every
        self.recorded = recorded
        self._next = recorded + (every or 0)
        self._wals_max = wals_max
        self._snapshots_max = snapshots_max
        self._one_at_a_time = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._stopped = False

    def start(self, on_applied: list[Callable[[], None]]) -> None:
        """Begin; what is in ``on_applied`` is called when entries were applied."""
        if self._every is not None:
            on_applied.append(self.check)
        self._purge()

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires once nothing is under way."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._one_at_a_time.run(lambda: None)

    def check(self) -> None:
        """Take a snapshot if it is due."""
        if self._applied() > self._next and not self._stopped:
            self._next = _LATER
            self._one_at_a_time.run(self._begin)

    def _begin(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._take()).addErrback(self._refused)

    async def _take(self) -> None:
        if self._stopped:
            return
        snapshot = self._state()
        await self._commit()
        if not self._stopped:
            await self._run_in_worker(lambda: self._snapshotter.save(snapshot))
        if not self._stopped:
            await self._record(snapshot)
            self._wal.release_to(snapshot.index)
            self.recorded = snapshot.index
            self._next = snapshot.index + (self._every or 0)
            self._log.info("saved snapshot to disk, at index {index}", index=snapshot.index)

    def _refused(self, failure: Failure) -> None:
        if not self._stopped:
            self._failed(failure)

    def _purge(self) -> None:
        self._timer = None
        self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._remove()).addBoth(self._removed))

    async def _remove(self) -> None:
        if not self._stopped:
            await self._purge_images()
            segments = await self._wal.purge(self._wals_max)
            snapshots = await self._run_in_worker(
                lambda: self._snapshotter.purge(self._snapshots_max, self.recorded)
            )
            if segments or snapshots:
                self._log.info(
                    "purged {segments} segments of the log and {snapshots} snapshots",
                    segments=segments,
                    snapshots=snapshots,
                )

    def _removed(self, result: Failure | None) -> None:
        if result is not None:
            # What is too much does no harm yet, and whatever is wrong with the disk shows when it matters.
            self._log.warn("Could not purge: {error}", error=result.value)
        if not self._stopped:
            self._timer = self._clock.callLater(PURGE_SECONDS, self._purge)
