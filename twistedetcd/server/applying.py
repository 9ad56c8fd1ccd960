"""
Committed entries, carried out: in order, each exactly once, and told to whoever waits.

Most entries are done at once.  One that changes thousands of keys takes many turns of the reactor: then those
behind it wait in a backlog, and everybody else reads the state before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Request
from twistedetcd.errors import EtcdError, StoppedError
from twistedetcd.interfaces import IApplier, Work
from twistedetcd.raft.errors import InvariantError
from twistedetcd.raft.types import Entry
from twistedetcd.server.slices import Slices
from twistedetcd.server.wait import Waiter, Waits

BACKLOG_MAX = 5000  # committed entries that wait to be applied, beyond which requests are refused


class Applying:
    """
    Where one member is in its log.

    Args:
        clock: For the turns of slow entries.
        waits: Who waits for which entry.
        apply_raft_entry: Carries out an entry of raft's own, whether or not the backend has its effects.
        applied: Called when entries were carried out.
        put_off: Called with index and term when entries that were put off are carried out, too.
        failed: Called when one cannot be carried out; the member must stop.

    Attributes:
        index: The last entry whose effects are there.
        term: Its term.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        waits: Waits,
        apply_raft_entry: Callable[[Entry], None],
        applied: Callable[[], None],
        put_off: Callable[[int, int], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._pending = waits.pending
        self._forwarded = waits.forwarded
        self._apply_raft_entry = apply_raft_entry
        self._applied = applied
        self._put_off = put_off
        self._failed = failed
        self._applier: IApplier | None = None
        self._slices = Slices(clock)
        self._backlog: deque[Entry] = deque()
        """Committed, and behind an entry that takes many turns."""
        self._slow: tuple[Entry, Waiter | None, float] | None = None
        """That entry, and who waits for it until when."""
        self._held = False
        """The store is being replaced; until it is, what is committed waits in the backlog."""
        self._stopped = False
        self.index = self.term = 0

    def start(self, applier: IApplier, index: int, term: int) -> None:
        """Begin after the entry whose effects the backend has."""
        self._applier = IApplier(applier)
        self.index, self.term = index, term

    def stop(self) -> None:
        """Carry out nothing more.  What a slow entry did must not be committed; who waits for it is told."""
        self._stopped = True
        self._slices.stop()

    @property
    def behind(self) -> bool:
        """Whether an entry is half carried out, and others may wait for it."""
        return self._slow is not None or self._held

    @property
    def full(self) -> bool:
        """Whether so many entries wait that no more should be proposed."""
        return len(self._backlog) >= BACKLOG_MAX

    def hold(self) -> None:
        """Carry out nothing until `go_on`; no entry may be half carried out."""
        assert self._slow is None, "an entry is half carried out"
        self._held = True

    def go_on(self, index: int, term: int) -> None:
        """Go on after an entry whose effects came with another store."""
        self._held = False
        self.index, self.term = index, term
        self._apply_backlog()

    def apply(self, entries: Sequence[Entry]) -> int:
        """
        Carry out committed entries.

        Returns:
            The index of the last one carried out.  After one that takes many turns the others are put off.

        Raises:
            Exception: An entry cannot be carried out; the member must stop.
        """
        if self._slow is None and not self._held:
            self._check_next(entries[0])
            self._apply(iter(entries))
        else:
            self._backlog.extend(entries)
        return self.index

    def _check_next(self, entry: Entry) -> None:
        """Whatever is missing before an entry would be missing for ever."""
        if entry.index > self.index + 1:
            raise InvariantError(f"entry {entry.index} is to be applied after entry {self.index}")

    def _apply(self, entries: Iterator[Entry]) -> None:
        pending = self._pending
        apply = self._applier.apply  # type: ignore[union-attr]
        for entry in entries:
            data = entry.data
            if entry.type or not data:
                self._apply_raft_entry(entry)
                if entry.index > self.index:
                    self.index, self.term = entry.index, entry.term
                continue
            waiting = pending.pop(id(data), None)
            if entry.index <= self.index:
                continue  # the backend has its effects already: the log is replayed after a restart
            if waiting is None:
                request, waiter, until = _decoded(entry), None, 0.0
                if self._forwarded:
                    waiting = self._forwarded.pop(kinds.request_id(data), None)
                    if waiting is not None:
                        _, _, waiter, until = waiting
            else:
                _, request, waiter, until = waiting
            try:
                response: Any = apply(request, entry)
            except EtcdError as error:
                self._refused(entry, waiter, error)
            except Exception:
                if waiter is not None:
                    waiter.fail(StoppedError.code, StoppedError.message)
                raise
            else:
                if type(response) is not bytes:
                    self._backlog.extend(entries)
                    self._apply_slowly(entry, waiter, until, response)
                    break
                # First, for whoever is told may have the batch sealed.
                self.index, self.term = entry.index, entry.term
                if waiter is not None:
                    waiter.reply(response)
        self._applied()

    def _refused(self, entry: Entry, waiter: Waiter | None, error: EtcdError) -> None:
        """An entry that changed nothing, here and on every other member."""
        self.index, self.term = entry.index, entry.term
        if waiter is not None:
            waiter.fail(error.code, error.message)
        else:
            self._log.debug("Entry {index} was refused: {error}", index=entry.index, error=error)

    def expire(self, now: float, error: EtcdError) -> None:
        """Tell who waits for a slow entry that the time is up.  It goes on."""
        if self._slow is not None:
            entry, waiter, until = self._slow
            if waiter is not None and until <= now:
                self._slow = entry, None, until
                waiter.fail(error.code, error.message)

    def _apply_slowly(self, entry: Entry, waiter: Waiter | None, until: float, work: Work[bytes]) -> None:
        self._slow = entry, waiter, until
        self._slices.run(work).addCallbacks(self._slowly_applied, self._not_applied).addErrback(self._failed)

    def _slowly_applied(self, response: bytes) -> None:
        assert self._slow is not None
        entry, waiter, _ = self._slow
        self.index, self.term = entry.index, entry.term
        if waiter is not None:
            waiter.reply(response)
        self._apply_backlog()

    def _not_applied(self, failure: Failure) -> None:
        assert self._slow is not None
        entry, waiter, _ = self._slow
        error = failure.value
        if not self._stopped and isinstance(error, EtcdError):
            self._refused(entry, waiter, error)
            self._apply_backlog()
            return
        if waiter is not None:
            waiter.fail(StoppedError.code, StoppedError.message)
        if not self._stopped:
            self._failed(failure)

    def _apply_backlog(self) -> None:
        self._slow = None
        backlog, self._backlog = self._backlog, deque()
        if backlog:
            self._check_next(backlog[0])
        self._apply(iter(backlog))
        self._put_off(self.index, self.term)


def _decoded(entry: Entry) -> Request:
    """The request of an entry that nobody here waits for: replayed, or somebody else's, or given up on."""
    try:
        return kinds.decode(entry.data)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"log entry {entry.index} holds no request that this version knows") from error
