"""
Reads that wait for a quorum to confirm that their leader still leads (dissertation, 6.4).

A heartbeat carries the number of reads registered in this term so far; an answer to it confirms, for the
member that gives it, all of those and no later one.  So it does not matter what a read's own context is:
two may have the same, and a late answer confirms no read that came after the question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from twistedetcd.raft.types import Message

_BYTES = 8


class PendingRead(NamedTuple):
    """One read: who asked, and how much was committed then."""

    request: Message
    index: int  # type: ignore[assignment]  # tuple.index, which nobody calls


class ReadOnly:
    """The reads of one term, oldest first."""

    __slots__ = ("_acknowledged", "_registered", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[PendingRead] = deque()
        self._registered = 0
        """Reads of this term, those answered already too."""
        self._acknowledged: dict[int, int] = {}
        """By member: of how many reads it confirmed that their leader led."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, member: int, index: int, request: Message) -> bytes:
        """Note a read, which its leader ``member`` confirms; the context to ask the others with."""
        self._waiting.append(PendingRead(request, index))
        self._registered += 1
        self._acknowledged[member] = self._registered
        return self.last_context()

    def acknowledge(self, member: int, context: bytes) -> Mapping[int, int]:
        """A member answered a heartbeat; how many reads each has confirmed now."""
        count = int.from_bytes(context, "little") if len(context) == _BYTES else 0
        # A greater number was never sent.
        if self._acknowledged.get(member, 0) < count <= self._registered:
            self._acknowledged[member] = count
        return self._acknowledged

    def release(self, count: int) -> list[PendingRead]:
        """The first ``count`` reads of the term are confirmed; those of them that were not before."""
        answered = self._registered - len(self._waiting)
        return [self._waiting.popleft() for _ in range(min(count, self._registered) - answered)]

    def last_context(self) -> bytes:
        """What the next heartbeat shall ask about; empty when no read waits."""
        return self._registered.to_bytes(_BYTES, "little") if self._waiting else b""
