"""
How much of what costs us, and brings a client nothing, one connection may bring.

Each `Limit` is a bucket of tokens that refills with time.  A client that empties one is told to calm down
(ENHANCE_YOUR_CALM, RFC 9113, 10.5).  The bursts are far above what clients do, and far below what hurts.
"""

from __future__ import annotations

from typing import NamedTuple

from twistedetcd.protocols.framing import ConnectionFaultError, ErrorCode


class Limit(NamedTuple):
    """
    One bucket.

    Attributes:
        what: Names it to the client.
        burst: Tokens that it holds.
        per_second: Tokens that come back.
    """

    what: str
    burst: int
    per_second: float


# A client may give up everything it has asked for when its own deadline passes, hence the large burst.
RESETS = Limit("streams reset before their answer", 10_000, 1000)  # rapid reset, CVE-2023-44487
FAULTS = Limit("streams that break a rule", 1000, 100)  # also those that make us reset: CVE-2025-8671
REFUSALS = Limit("streams above the limit", 10_000, 1000)  # a client's, before it knows the limit
SETTINGS_FRAMES = Limit("SETTINGS frames", 100, 1)  # CVE-2019-9515
EMPTY_FRAMES = Limit("empty DATA frames", 1000, 100)  # CVE-2019-9518
PRIORITIES = Limit("PRIORITY frames", 1000, 100)  # CVE-2019-9513
IDLE_FRAMES = Limit("frames that say nothing", 1000, 100)  # unknown types, GOAWAY, answers to no question
TINY_UPDATES = Limit("windows opened by a few bytes", 1000, 100)  # data dribble, CVE-2019-9511

LARGE_LIST_COST = 10
"""What a header list above the limit takes of FAULTS: its octets were decoded all the same."""
TINY_UPDATE_BYTES = 64
"""A window opened by less, while a body waits for it, lets us send little more than frame headers."""
WINDOW_UPDATES_FREE = 10_000
"""So many may come on a connection, and one more for every two bytes of a body that went out."""


class Allowances:
    """What is left in each bucket of one connection; a bucket that was never used costs nothing."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def spend(self, limit: Limit, now: float, cost: int = 1) -> None:
        """
        Take tokens out of a bucket.

        Raises:
            ConnectionFaultError: There are not enough.
        """
        left, at = self._left.get(limit.what, (limit.burst, now))
        left = min(limit.burst, left + (now - at) * limit.per_second) - cost
        if left < 0:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {limit.what}")
        self._left[limit.what] = left, now
