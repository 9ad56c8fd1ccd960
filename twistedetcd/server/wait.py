"""
Who waits for which request.

A request that was proposed here is found again by the identity of its entry's data, which raft never copies:
with it comes the message as it was parsed on arrival, so that applying parses nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twistedetcd.apply.request import Request
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
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}

    def expire(self, now: float, error: EtcdError) -> None:
        """Tell those whose time is up.  Their requests may still be applied."""
        for key, (_, _, waiter, deadline) in list(self.pending.items()):
            if deadline > now:
                break
            del self.pending[key]
            if waiter is not None:
                waiter.fail(error.code, error.message)

    def fail_all(self, error: EtcdError) -> None:
        """The member stops: nobody will hear of what is still on its way."""
        pending = list(self.pending.values())
        self.pending.clear()
        for _, _, waiter, _ in pending:
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
