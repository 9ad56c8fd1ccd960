"""
Reads that wait for a quorum to confirm that their leader still leads (dissertation, 6.4).

A read is named by its context.  A context must never be used twice, retries included: late answers to the
first read would confirm the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twistedetcd.raft.types import Message


@dataclass(slots=True)
class PendingRead:
    """One read: who asked, how much was committed then, and who answered since."""

    request: Message
    index: int
    acks: dict[int, bool] = field(default_factory=dict)


class ReadOnly:
    """The reads of one term, oldest first."""

    __slots__ = ("_reads",)

    def __init__(self) -> None:
        self._reads: dict[bytes, PendingRead] = {}

    def add(self, index: int, request: Message) -> None:
        """Note a read asked for when ``index`` was committed; one with a context that waits is dropped."""
        self._reads.setdefault(request.entries[0].data, PendingRead(request, index))

    def acknowledge(self, member: int, context: bytes) -> dict[int, bool] | None:
        """A member answered; all answers to that read, ``None`` when it does not wait any more."""
        read = self._reads.get(context)
        if read is None:
            return None
        read.acks[member] = True
        return read.acks

    def release(self, context: bytes) -> list[PendingRead]:
        """The read is confirmed, and with it every older one."""
        released = []
        for waiting in list(self._reads):
            released.append(self._reads.pop(waiting))
            if waiting == context:
                break
        return released

    def last_context(self) -> bytes:
        """The newest read, for the next heartbeat to ask about; empty when none waits."""
        return next(reversed(self._reads), b"")
