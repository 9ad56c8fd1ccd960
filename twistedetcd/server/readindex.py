"""
Linearizable reads: each waits until this member has applied what was committed when it came.

All reads of a turn share one question to raft.  One question is out at a time; reads that come meanwhile
share the next one, since the answer to the first may be older than they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twistedetcd.errors import Code, EtcdError, LeaderChangedError
from twistedetcd.raft.types import ReadState

RETRY_SECONDS = 0.5  # an answer that has not come by then is asked for again

Execute = Callable[[Any, Any], None]
"""Carries out a read: called with the call and its request."""


class ReadIndex:
    """
    The reads that wait.

    Args:
        next_context: A number never used before, so that no late answer is taken for another's.
        ask: Puts the question to raft.
    """

    def __init__(self, next_context: int, ask: Callable[[bytes], None]) -> None:
        self.arrived: list[tuple[Execute, Any, Any]] = []
        self._asked: list[tuple[Execute, Any, Any]] = []
        self._contexts: set[bytes] = set()
        self._next_context = next_context
        self._ask = ask
        self._asked_at = 0.0
        self._first_asked_at = 0.0
        # Confirmed, but this member has not applied so far yet: index and reads, by ascending index.
        self._confirmed: deque[tuple[int, list[tuple[Execute, Any, Any]]]] = deque()

    def ask(self, now: float) -> None:
        """Ask for the reads that arrived, unless a question is out."""
        if self.arrived and not self._asked:
            self._asked, self.arrived = self.arrived, []
            self._first_asked_at = now
            self._put(now)

    def retry(self, now: float, timeout_seconds: float, error: EtcdError) -> None:
        """Ask again if the answer is late; give up after ``timeout_seconds``."""
        if not self._asked:
            return
        if now - self._first_asked_at >= timeout_seconds:
            self._fail(error)
        elif now - self._asked_at >= RETRY_SECONDS:
            self._put(now)

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
            for execute, call, request in confirmed.popleft()[1]:
                execute(call, request)

    def leader_changed(self) -> None:
        """What the old leader was asked says nothing now."""
        self._fail(LeaderChangedError())

    def fail_all(self, error: EtcdError) -> None:
        """The member stops."""
        self._asked += self.arrived
        self.arrived = []
        for _, reads in self._confirmed:
            self._asked += reads
        self._confirmed.clear()
        self._fail(error)

    def _fail(self, error: EtcdError) -> None:
        asked, self._asked = self._asked, []
        self._contexts.clear()
        code: Code = error.code
        for _, call, _ in asked:
            call.fail(code, error.message)
