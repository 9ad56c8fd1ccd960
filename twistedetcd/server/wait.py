"""
Who waits for which request.

A request that was proposed here is found again by the identity of its entry's data, which raft never copies:
with it comes the message as it was parsed on arrival, so that applying parses nothing twice.  One that was
sent on to a leader comes back as other bytes, and is found by the id in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twistedetcd.apply.request import Request, request_id
from twistedetcd.errors import Code, EtcdError


class Waiter(Protocol):
    """Somebody who is told, once, how a request went."""

    def reply(self, message: bytes) -> None:
        """The encoded response."""

    def fail(self, code: Code, message: str) -> None:
        """It was refused."""


Pending = tuple[bytes, Request, Waiter | None, float]
"""
A request on its way: the entry's data (kept, so that no other object gets its identity), the parsed request,
who waits, and until when in seconds of the clock.  A plain tuple, since there is one for every request.
"""


class Waits:
    """
    Requests on their way, oldest first.

    Attributes:
        pending: By the identity of the entry's data; filled and emptied by the member.
        forwarded: By the request's id.
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self.forwarded: dict[int, Pending] = {}

    def forward(self, proposals: Sequence[bytes]) -> None:
        """These are on their way to a leader."""
        for data in proposals:
            waiting = self.pending.pop(id(data), None)
            if waiting is not None:  # or it has waited for a leader until its time was up
                self.forwarded[request_id(data)] = waiting

    def refuse(self, proposals: Sequence[bytes], error: EtcdError) -> None:
        """These will not be proposed."""
        for data in proposals:
            waiting = self.pending.pop(id(data), None)
            if waiting is not None and waiting[2] is not None:
                waiting[2].fail(error.code, error.message)

    def expire(self, now: float, error_of: Callable[[float], EtcdError]) -> None:
        """
        Tell those whose time is up.  Their requests may still be applied.

        Args:
            now: On the clock of the deadlines.
            error_of: Says what to tell, given the deadline.
        """
        for waits in (self.pending, self.forwarded):
            for key, (_, _, waiter, deadline) in list(waits.items()):
                if deadline > now:
                    break
                del waits[key]
                if waiter is not None:
                    error = error_of(deadline)
                    waiter.fail(error.code, error.message)

    def fail_all(self, error: EtcdError) -> None:
        """The member stops: nobody will hear of what is still on its way."""
        waiting = [*self.pending.values(), *self.forwarded.values()]
        self.pending.clear()
        self.forwarded.clear()
        for _, _, waiter, _ in waiting:
            if waiter is not None:
                waiter.fail(error.code, error.message)


class Callback:
    """
    A waiter that passes a successful reply on.

    Args:
        waiter: Hears of a failure.
        on_reply: Called with the encoded response instead.
    """

    def __init__(self, waiter: Waiter, on_reply: Callable[[bytes], None]) -> None:
        self.reply = on_reply
        self.fail = waiter.fail
