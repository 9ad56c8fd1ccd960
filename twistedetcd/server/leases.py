"""
What the leader does for leases: it counts, renews, and has those that ended revoked through the log.

Nothing ends a lease but a committed revoke.  An owner who is told that a lease was renewed can rely on it for
the TTL from that moment on; one who is told that it is gone will not find its keys any more.

A leader that has been deposed without knowing it must do neither: before each of these a quorum confirms that
it leads, in the same way and in the same message as for a read.  Other members ask the leader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.apply import request as kinds
from twistedetcd.errors import (
    AppliedTooSlowlyError,
    BadAnswerError,
    Code,
    EtcdError,
    LeaderChangedError,
    LeaseNotFoundError,
    NoLeaderError,
    NotPrimaryError,
    StoppedError,
)
from twistedetcd.interfaces import ILessor, Work
from twistedetcd.mvcc.work import begin
from twistedetcd.pb.rpc_pb2 import LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest
from twistedetcd.server.peers import read_number
from twistedetcd.server.wait import Waiter

LOOK_SECONDS = 0.5  # how often it is looked for leases that ended
DUE_MAX = 500  # taken in one look, so that no more than a thousand end in a second
REVOKES_MAX = 16  # on their way through the log; a lease may have a thousand keys to be deleted in one turn
CHECKPOINTS_MAX = 1000  # leases in one entry
CHECKPOINT_ENTRIES_MAX = 5  # in one look
APPLIED_SECONDS_MAX = 1.0  # how long a question waits for what was committed before it


class Proposer(Protocol):
    """What of a member its leases need; see `twistedetcd.server.member.EtcdServer`."""

    @property
    def behind(self) -> bool:
        """Whether something is committed here that is not applied yet."""

    @property
    def alone(self) -> bool:
        """Whether nobody else has a vote."""

    def propose_as_leader(self, kind: str, raw: bytes, message: Any, waiter: Waiter | None) -> None:
        """Have a request replicated if this member leads; raises `EtcdError` if it is not taken."""

    def read(self, execute: Callable[[Any, Any], None], call: Any, request: Any) -> None:
        """Carry out a linearizable read; raises `EtcdError` if it is not taken."""

    def ask_leader(self, kind: str, body: bytes) -> Deferred[bytes]:
        """Ask whoever leads."""

    def read_slowly(self, work: Work[Any]) -> Deferred[Any]:
        """Go on with slow work."""

    def failed(self, failure: Failure) -> None:
        """Something could not be done that must be; the member stops."""


RENEW = "lease-renew"
"""What a leader is asked: eight bytes of a lease's id; answered with eight of its TTL, 0 if it is gone."""


class Renewal(Protocol):
    """Somebody who keeps a lease alive; told once."""

    def renewed(self, ttl_seconds: int) -> None:
        """It lasts for so long from now on; 0 if it is gone."""

    def fail(self, code: Code, message: str) -> None:
        """That cannot be said."""


class Leases:
    """
    The leases of one member.

    Args:
        clock: For timers.
        monotonic: Seconds on a clock that nobody sets.
        lessor: The leases themselves.
        extend_seconds: What a new leader adds to each lease: an election timeout.
        retry_seconds: When a lease whose revoke got lost is revoked again.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        monotonic: Callable[[], float],
        lessor: ILessor,
        extend_seconds: float,
        retry_seconds: float,
    ) -> None:
        self._clock = clock
        self._now = monotonic
        self.lessor = lessor
        self._extend_seconds = extend_seconds
        self._retry_seconds = retry_seconds
        self._timer: IDelayedCall | None = None
        self._due: deque[int] = deque()
        """Ended, and not being revoked yet; at most `DUE_MAX`."""
        self._revoking = 0
        self._proving = False
        self._waiting: deque[tuple[float, Callable[[], None], Callable[[EtcdError], None]]] = deque()
        """Questions that came before all was applied: until when, how to go on, and whom to refuse."""
        self._ending: dict[int, list[Renewal]] = {}
        """Who asked for more of a lease that ended: they hear when it is revoked."""

    # Its member's life.

    def belong_to(self, member: Proposer) -> None:
        """Whose they are; called once, before anything else."""
        self._member = member

    def lead(self) -> None:
        """The member leads, and has applied all that was acknowledged before."""
        work = begin(self.lessor.promote(self._now(), self._extend_seconds))
        if work is not None:
            self._member.read_slowly(work).addErrback(self._not_counted)
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK_SECONDS, self._look)

    def follow(self) -> None:
        """The member does not lead, or not any more."""
        self.lessor.demote()
        self._stop_looking()
        self._fail_ending(NotPrimaryError())

    def stop(self, error: EtcdError) -> None:
        """The member stops: those who wait are told."""
        self._stop_looking()
        self._fail_ending(error)
        waiting, self._waiting = self._waiting, deque()
        for _, _, refuse in waiting:
            refuse(error)

    def _stop_looking(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail_ending(self, error: EtcdError) -> None:
        ending, self._ending = self._ending, {}
        for renewals in ending.values():
            for renewal in renewals:
                renewal.fail(error.code, error.message)

    def _not_counted(self, failure: Failure) -> None:
        if not failure.check(StoppedError):
            self._member.failed(failure)

    def applied(self) -> None:
        """Entries were applied."""
        if self.lessor.granted:
            self.lessor.count_granted(self._now())
        if self._ending:
            for lease_id in [lease_id for lease_id in self._ending if lease_id not in self.lessor]:
                for renewal in self._ending.pop(lease_id):
                    renewal.renewed(0)
        while self._waiting and not self._member.behind:
            self._waiting.popleft()[1]()

    def sweep(self, now: float) -> None:
        """Refuse those who have waited too long; ``now`` is on the clock of the timers."""
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[2](AppliedTooSlowlyError())

    # Asked by owners.

    @property
    def here(self) -> bool:
        """Whether this member can say how long leases last, as far as it knows."""
        return self.lessor.primary or self._member.alone

    def when_applied(self, go_on: Callable[[], None], refuse: Callable[[EtcdError], None]) -> None:
        """
        Ask the primary, once all that is committed here is applied: at once, as a rule.

        With others, a quorum is asked first whether it leads.

        Args:
            go_on: Asks.
            refuse: Called with the reason instead, when that takes too long.

        Raises:
            NoLeaderError: This member does not lead.
        """
        if not self.lessor.primary:
            raise NoLeaderError
        if not self._member.alone:
            self._member.read(_go_on, _Asker(refuse), go_on)
        elif self._member.behind:
            self._waiting.append((self._clock.seconds() + APPLIED_SECONDS_MAX, go_on, refuse))
        else:
            go_on()

    def renew(self, lease_id: int, renewal: Renewal) -> None:
        """
        Have a lease last for its TTL from now on.

        Raises:
            NoLeaderError: This member does not lead.
        """
        member = self._member
        if self.lessor.primary and member.alone and not member.behind:
            ttl = self.lessor.renew(lease_id, self._now())
            if ttl is not None:
                renewal.renewed(ttl)
                return
        if self.here:
            self.when_applied(lambda: self._renew(lease_id, renewal), lambda error: _refuse(renewal, error))
        else:
            asked = member.ask_leader(RENEW, lease_id.to_bytes(8, "big", signed=True))
            asked.addCallback(_ttl).addCallbacks(renewal.renewed, _not_asked, errbackArgs=(renewal,))

    def answer_renewal(self, body: bytes) -> Deferred[bytes]:
        """
        Renew a lease for another member.

        Raises:
            NoLeaderError: This member does not lead.
        """
        answer = _RenewalOfOthers()
        if not self.lessor.primary:
            raise NoLeaderError
        self.renew(_signed(read_number(body)), answer)
        return answer.done

    def _renew(self, lease_id: int, renewal: Renewal) -> None:
        lessor, now = self.lessor, self._now()
        if not lessor.primary:
            _refuse(renewal, NotPrimaryError())
            return
        ttl = lessor.renew(lease_id, now)
        if ttl is not None:
            renewal.renewed(ttl)
        elif lessor.ended(lease_id, now):
            self._ending.setdefault(lease_id, []).append(renewal)
        else:
            # The next leader must not count from an old checkpoint.  The lease may end before it is gone.
            forget = LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=lease_id)])
            try:
                self._checkpoint(forget, _Then(lambda: self._renew(lease_id, renewal), renewal.fail))
            except EtcdError as error:
                _refuse(renewal, error)

    def time_to_live(self, lease_id: int) -> tuple[int, int] | None:
        """
        Whole seconds that remain of a lease, and its TTL; ``None`` if there is no such lease.

        Raises:
            LeaderChangedError: This member does not lead any more.
        """
        if not self.lessor.primary:
            raise LeaderChangedError
        try:
            left, ttl = self.lessor.time_to_live(lease_id, self._now())
        except LeaseNotFoundError:
            return None
        return int(left), ttl

    # Ending what is due.

    def _look(self) -> None:
        self._timer = None
        seconds = LOOK_SECONDS
        now = self._now()
        if not self._due:
            due, complete = self.lessor.due(now, DUE_MAX, self._retry_seconds)
            self._due.extend(due)
            seconds = LOOK_SECONDS if complete else 0.0
        self._timer = self._clock.callLater(seconds, self._look)
        self._revoke_if_leading()
        self._note_what_remains(now)

    def _revoke_if_leading(self) -> None:
        if self._member.alone:
            self._revoke()
        elif self._due and not self._proving:
            self._proving = True
            try:
                self._member.read(_go_on, _Asker(self._not_proven), self._proven)
            except EtcdError as error:
                self._not_proven(error)

    def _proven(self) -> None:
        """A quorum takes this member for the leader still."""
        self._proving = False
        if self.lessor.primary:
            self._revoke()

    def _not_proven(self, error: EtcdError) -> None:
        self._proving = False
        self._log.debug("No lease is ended: {error}", error=error)

    def _revoke(self) -> None:
        while self._due and self._revoking < REVOKES_MAX:
            lease_id = self._due.popleft()
            # One who revoked it before us may have granted another of the same id.
            if lease_id not in self.lessor or not self.lessor.ended(lease_id, self._now()):
                continue
            request = LeaseRevokeRequest(ID=lease_id)
            waiter = _Then(self._revoked, self._not_revoked)
            try:
                self._member.propose_as_leader(
                    kinds.LEASE_REVOKE, request.SerializeToString(), request, waiter
                )
            except EtcdError:
                self._due.appendleft(lease_id)  # until the next look
                return
            self._revoking += 1

    def _revoked(self) -> None:
        self._revoking -= 1
        self._revoke_if_leading()

    def _not_revoked(self, code: Code, message: str) -> None:
        # It was revoked by somebody else, or will be due again.
        self._log.debug("A lease that ended was not revoked: {reason}", reason=message)
        self._revoking -= 1

    def _note_what_remains(self, now: float) -> None:
        for _ in range(CHECKPOINT_ENTRIES_MAX):
            found = self.lessor.checkpoints(now, CHECKPOINTS_MAX)
            if not found:
                return
            request = LeaseCheckpointRequest(
                checkpoints=[LeaseCheckpoint(ID=lease_id, remaining_TTL=left) for lease_id, left in found]
            )
            try:
                self._checkpoint(request, None)
            except EtcdError as error:
                self._log.debug("What remains of leases was not noted: {error}", error=error)
                return

    def _checkpoint(self, request: LeaseCheckpointRequest, waiter: Waiter | None) -> None:
        self._member.propose_as_leader(kinds.LEASE_CHECKPOINT, request.SerializeToString(), request, waiter)


class _Then:
    """A waiter that does not care for the response."""

    def __init__(self, done: Callable[[], None], failed: Callable[[Code, str], None]) -> None:
        self._done = done
        self.fail = failed

    def reply(self, message: bytes) -> None:
        """See `Waiter`."""
        self._done()


def _refuse(renewal: Renewal, error: EtcdError) -> None:
    renewal.fail(error.code, error.message)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _ttl(answer: bytes) -> int:
    """
    Raises:
        BadAnswerError: It is none.
    """
    ttl = read_number(answer)
    if ttl >> 63:
        raise BadAnswerError
    return ttl


def _not_asked(failure: Failure, renewal: Renewal) -> None:
    failure.trap(EtcdError)
    error = failure.value
    assert isinstance(error, EtcdError), "or it would not have been trapped"
    _refuse(renewal, error)


class _RenewalOfOthers:
    """Passes on to another member what becomes of a renewal."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()

    def renewed(self, ttl_seconds: int) -> None:
        """See `Renewal`."""
        self.done.callback(ttl_seconds.to_bytes(8, "big", signed=True))

    def fail(self, code: Code, message: str) -> None:
        """See `Renewal`."""
        self.done.errback(_error(code, message))


class _Asker:
    """Somebody who asked, as a read wants it."""

    def __init__(self, refuse: Callable[[EtcdError], None]) -> None:
        self._refuse = refuse

    def fail(self, code: Code, message: str) -> None:
        """It could not be confirmed."""
        self._refuse(_error(code, message))


def _error(code: Code, message: str) -> EtcdError:
    error = EtcdError(message)
    error.code = code
    return error


def _go_on(call: Any, go_on: Callable[[], None]) -> None:
    """A read that only goes on."""
    go_on()
