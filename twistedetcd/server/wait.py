"""
Who waits for which request.

A request that was proposed here is found again by the identity of its entry's data, which raft never copies:
with it comes the message as it was parsed on arrival, so that applying parses nothing twice (design D3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from twistedetcd.apply.request import Request
from twistedetcd.errors import Code, EtcdError


class Waiter(Protocol):
    """Somebody who is told, once, how a request went."""

    def reply(self, message: bytes) -> None:
        """The encoded response."""

    def fail(self, code: Code, message: str) -> None:
        """It was refused."""


class Pending(NamedTuple):
    """
    A request on its way.

    Attributes:
        data: The entry's data.  Kept so that no other object gets its identity.
        request: The parsed request.
        waiter: Who asked; ``None`` if nobody waits.
        deadline: When to give up, in seconds of the member's clock.
    """

    data: bytes
    request: Request
    waiter: Waiter | None
    deadline: float


class Waits:
    """
    Requests on their way, oldest first.

    Attributes:
        pending: By the identity of the entry's data.
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}

    def add(self, data: bytes, request: Request, waiter: Waiter | None, deadline: float) -> None:
        """Remember a request before it is proposed."""
        self.pending[id(data)] = Pending(data, request, waiter, deadline)

    def take(self, data: bytes) -> Pending | None:
        """The request with this very data, which is then forgotten."""
        return self.pending.pop(id(data), None)

    def expire(self, now: float, error: EtcdError) -> None:
        """
        Tell those whose time is up.  Their requests may still be applied: the parsed message stays.
        """
        for key, entry in list(self.pending.items()):
            if entry.deadline > now:
                break
            if entry.waiter is not None:
                entry.waiter.fail(error.code, error.message)
            self.pending.pop(key)

    def fail_all(self, error: EtcdError) -> None:
        """The member stops: nobody will hear of what is still on its way."""
        pending, self.pending = self.pending, {}
        for entry in pending.values():
            if entry.waiter is not None:
                entry.waiter.fail(error.code, error.message)


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
