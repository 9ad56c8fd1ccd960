"""
Linearizable reads: each waits until this member has applied what was committed when it came.

All reads of a turn share one question to raft.  One question is out at a time; reads that come meanwhile
share the next one, since the answer to the first may be older than they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from twistedetcd.errors import Code, EtcdError, LeaderChangedError, MemberError
from twistedetcd.raft.types import ReadState

RETRY_SECONDS = 0.5  # an answer that has not come by then is asked for again

Execute = Callable[[Any, Any], None]
"""Carries out a read: called with the call and its request."""

Read = tuple[Execute, Any, Any, float]
"""A read that waits: how to carry it out, its call, its request, and until when."""


class ReadIndex:
    """
    The reads that wait.

    Args:
        next_context: A number never used before, so that no late answer is taken for another's.
        ask: Puts the question to raft.
    """

    _log = Logger()

    def __init__(self, next_context: int, ask: Callable[[bytes], None]) -> None:
        # In each list the first to come is the first whose time is up.
        self.arrived: list[Read] = []
        self._asked: list[Read] = []
        self._contexts: set[bytes] = set()
        self._next_context = next_context
        self._ask = ask
        self._asked_at = 0.0
        # Confirmed, but this member has not applied so far yet: index and reads, by ascending index.
        self._confirmed: deque[tuple[int, list[Read]]] = deque()

    def ask(self, now: float) -> None:
        """Ask for the reads that arrived, unless a question is out."""
        if self.arrived and not self._asked:
            self._asked, self.arrived = self.arrived, []
            self._put(now)

    def retry(self, now: float, error: EtcdError) -> None:
        """Tell those whose time is up, wherever they wait; ask again if the answer is late."""
        late: list[Read] = []
        for reads in (self._asked, *(reads for _, reads in self._confirmed), self.arrived):
            count = 0
            while count < len(reads) and reads[count][3] <= now:
                count += 1
            late += reads[:count]
            del reads[:count]
        if not self._asked:
            self._contexts.clear()
        elif now - self._asked_at >= RETRY_SECONDS:
            self._put(now)
        _tell(late, error)

    def _put(self, now: float) -> None:
        self._asked_at = now
        context = self._next_context.to_bytes(8, "big")
        self._next_context += 1
        self._contexts.add(context)
        self._ask(context)

    def confirmed(self, states: Sequence[ReadState], applied: int) -> None:
        """Raft answered; those whose index is applied are carried out now, the others by `applied_to`."""
        for state in states:
            if state.context in self._contexts:
                asked, self._asked = self._asked, []
                self._contexts.clear()
                self._confirmed.append((state.index, asked))
        self.applied_to(applied)

    def applied_to(self, applied: int) -> None:
        """Carry out the reads that needed no more than ``applied``."""
        confirmed = self._confirmed
        while confirmed and confirmed[0][0] <= applied:
            reads = confirmed.popleft()[1]
            for done, (execute, call, request, _) in enumerate(reads):
                try:
                    execute(call, request)
                except MemberError:
                    self._asked += reads[done:]  # the member stops, and tells them
                    raise
                except Exception:
                    # One read that cannot be carried out (too large for the memory, say) is its own affair.
                    self._log.failure("A read could not be carried out")
                    call.fail(Code.INTERNAL, "internal error")

    def leader_changed(self) -> None:
        """What the old leader was asked says nothing now."""
        asked, self._asked = self._asked, []
        self._contexts.clear()
        _tell(asked, LeaderChangedError())

    def fail_all(self, error: EtcdError) -> None:
        """The member stops."""
        waiting = [read for _, reads in self._confirmed for read in reads] + self._asked + self.arrived
        self._confirmed.clear()
        self._asked, self.arrived = [], []
        self._contexts.clear()
        _tell(waiting, error)


def _tell(reads: Sequence[Read], error: EtcdError) -> None:
    for _, call, _, _ in reads:
        call.fail(error.code, error.message)
