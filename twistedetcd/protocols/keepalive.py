"""
How long a connection lives: pings that a client may send, pings that we send, age and idleness.

The rules are grpc-go's, since its clients are configured to match them (its documents A8 and A9).  No clock
here: every method is told the time, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from twistedetcd.protocols.framing import ConnectionFaultError, ErrorCode

STRIKES_MAX = 2  # pings that come too early; one more ends the connection
IDLE_PING_SECONDS_MIN = 7200.0  # between two pings while there is no call
INTERVAL_SECONDS_MIN = 1.0  # between two pings of ours, whatever the policy says
TOO_MANY_PINGS = "too_many_pings"  # clients that read this in a GOAWAY ping less often from then on
AGE_SPREAD = 0.1  # ages differ by so much to either side, lest all clients come back at once
_GOLDEN = 0.618033988749895  # its multiples, without their whole part, spread evenly over 0 to 1


@dataclass(frozen=True, slots=True)
class KeepalivePolicy:
    """
    What a server asks of its connections; all in seconds.

    Attributes:
        ping_min_seconds: Least time between two pings of a client that has calls.
        interval_seconds: After so much silence we ping.
        timeout_seconds: Silence after that ping which ends the connection.
        idle_seconds: A connection without calls for so long is drained.
        age_seconds: A connection this old is drained, give or take a tenth.
        age_grace_seconds: Time its calls have then, before it is cut off.
    """

    ping_min_seconds: float = 300.0
    interval_seconds: float = 7200.0
    timeout_seconds: float = 20.0
    idle_seconds: float | None = None
    age_seconds: float | None = None
    age_grace_seconds: float | None = None


class PingStrikes:
    """
    A client's pings, of which too many come too early.

    Go's clients measure the bandwidth with a ping for each call that is answered, so a ping after an answer
    of ours is forgiven, and so is what came before it.
    """

    def __init__(self, ping_min_seconds: float) -> None:
        self._ping_min_seconds = ping_min_seconds
        self._last: float | None = None
        self._strikes = 0

    def pinged(self, now: float, has_calls: bool, answered: bool) -> None:
        """
        A ping came.

        Args:
            now: When.
            has_calls: Whether any call is open.
            answered: Whether HEADERS or DATA of ours went out since the last ping.

        Raises:
            ConnectionFaultError: It is the third that came too early.
        """
        last, self._last = self._last, now
        if answered:
            self._strikes = 0
            return
        least = self._ping_min_seconds if has_calls else IDLE_PING_SECONDS_MIN
        if last is not None and now - last < least:
            self._strikes += 1
            if self._strikes > STRIKES_MAX:
                raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, TOO_MANY_PINGS)


class Verdict(Enum):
    """What is to be done with a connection."""

    KEEP = "nothing"
    PING = "ask whether anybody is there"
    DRAIN = "take no new calls, hang up after the last"
    ABORT = "hang up now"


class Lifetime:
    """
    One connection's.

    Args:
        policy: The rules.
        now: When it began.
        number: Which of the server's connections it is; spreads the ages.

    Attributes:
        heard_at: When the client last gave a sign of life; the owner sets it.
    """

    def __init__(self, policy: KeepalivePolicy, now: float, number: int = 0) -> None:
        self.heard_at = now
        self._policy = policy
        self._asked_at: float | None = None
        self._idle_since: float | None = now
        spread = 1 + AGE_SPREAD * (2 * (number * _GOLDEN % 1) - 1)
        self._old_at = None if policy.age_seconds is None else now + policy.age_seconds * spread
        self._drained = False

    def check(self, now: float, has_calls: bool) -> Verdict:
        """Decide; the owner asks from time to time, and does what it is told."""
        policy = self._policy
        if self._asked_at is not None:
            if self.heard_at >= self._asked_at:
                self._asked_at = None
            elif now - self._asked_at >= policy.timeout_seconds:
                return Verdict.ABORT
        elif now - self.heard_at >= max(policy.interval_seconds, INTERVAL_SECONDS_MIN):
            self._asked_at = now
            return Verdict.PING
        if has_calls:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        return self._end(now)

    def _end(self, now: float) -> Verdict:
        policy = self._policy
        old = self._old_at is not None and now >= self._old_at
        if self._drained:
            grace = policy.age_grace_seconds
            if old and grace is not None and self._old_at is not None and now >= self._old_at + grace:
                return Verdict.ABORT
            return Verdict.KEEP
        idle = (
            policy.idle_seconds is not None
            and self._idle_since is not None
            and now - self._idle_since >= policy.idle_seconds
        )
        if old or idle:
            self._drained = True
            return Verdict.DRAIN
        return Verdict.KEEP
