"""Leadership handed over: because somebody asked for it, or because the leader stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedetcd.cluster.members import Cluster
from twistedetcd.errors import BadLeaderTransfereeError, NotLeaderError, TransferTooSlowError


class Driver(Protocol):
    """What of raft's driver is needed; see `twistedetcd.server.raftnode.RaftNode`."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads, as far as it knows."""

    def transfer_leader(self, to: int) -> None:
        """Ask to hand over."""


class Transfer:
    """
    One member's leadership, and who gets it next.

    Args:
        clock: For the time limit.
        cluster: Who there is.
        ourselves: This member's id.
        active_since: Since when a member has been heard; ``None`` if it is not.
        wake: Makes sure that what was asked of raft is done before this reactor turn ends.
    """

    def __init__(
        self,
        clock: IReactorTime,
        cluster: Cluster,
        ourselves: int,
        active_since: Callable[[int], float | None],
        wake: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        self._id = ourselves
        self._active_since = active_since
        self._wake = wake
        self._waiting: list[tuple[int, Deferred[None], IDelayedCall]] = []

    def move(self, driver: Driver, to: int, timeout_seconds: float) -> Deferred[None]:
        """
        Hand over to a member.

        Returns:
            Fires once this member knows that the other one leads.

        Raises:
            NotLeaderError: This one does not lead.
            BadLeaderTransfereeError: There is no such voter.
            TransferTooSlowError: It did not come about in time.
        """
        if not driver.is_leader:
            return fail(NotLeaderError())
        member = self._cluster.member(to)
        if member is None or member.is_learner:
            return fail(BadLeaderTransfereeError())
        if to == self._id:
            return succeed(None)
        done: Deferred[None] = Deferred()
        timer = self._clock.callLater(timeout_seconds, self._too_slow, done)
        self._waiting.append((to, done, timer))
        driver.transfer_leader(to)
        self._wake()
        return done

    def hand_over(self, driver: Driver, timeout_seconds: float) -> Deferred[None]:
        """
        Hand over to whoever has been heard for longest, if there is anybody and this member leads.

        Returns:
            Fires when that is done, or was tried for long enough.
        """
        heard = [
            (since, voter.id)
            for voter in self._cluster.voters
            if voter.id != self._id and (since := self._active_since(voter.id)) is not None
        ]
        if not heard or not driver.is_leader:
            return succeed(None)
        return self.move(driver, min(heard)[1], timeout_seconds).addErrback(
            lambda failure: failure.trap(TransferTooSlowError) and None
        )

    def lead_changed(self, lead: int) -> None:
        """Somebody leads, or nobody."""
        for waiting in [waiting for waiting in self._waiting if waiting[0] == lead]:
            self._waiting.remove(waiting)
            waiting[2].cancel()
            waiting[1].callback(None)

    def _too_slow(self, done: Deferred[None]) -> None:
        self._waiting = [waiting for waiting in self._waiting if waiting[1] is not done]
        done.errback(TransferTooSlowError())

    def stop(self) -> None:
        """The member stops."""
        waiting, self._waiting = self._waiting, []
        for _, done, timer in waiting:
            timer.cancel()
            done.errback(TransferTooSlowError())
