"""Streaming calls, which last until the client ends them, or the member does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedetcd.errors import EtcdError, NoLeaderError

LEADERLESS_CHECKS = 3  # consecutive ones that find no leader, before streams that want one are ended

End = Callable[[EtcdError], Any]
"""Ends a stream, for a reason that its client is told."""


class Streams:
    """
    The streams of one member.

    Args:
        clock: For looking after the leader.
        has_leader: Whether one is known.
        check_seconds: How often to look: the election timeout.
    """

    def __init__(self, clock: IReactorTime, has_leader: Callable[[], bool], check_seconds: float) -> None:
        self._clock = clock
        self._has_leader = has_leader
        self._check_seconds = check_seconds
        self._streams: dict[End, str] = {}
        self._need_leader: dict[End, None] = {}
        self._leaderless = 0
        self._check: IDelayedCall | None = None

    def add(self, end: End, kind: str, needs_leader: bool) -> None:
        """
        A stream has begun.

        Args:
            end: Called if the member ends it; `remove` follows.
            kind: What it is counted under.
            needs_leader: Whether to end it when there is no leader for long.
        """
        self._streams[end] = kind
        if needs_leader:
            self._need_leader[end] = None
            if self._check is None:
                self._leaderless = 0
                self._check = self._clock.callLater(self._check_seconds, self._look)

    def remove(self, end: End) -> None:
        """A stream is over; no matter whether that is known."""
        self._streams.pop(end, None)
        self._need_leader.pop(end, None)
        if not self._need_leader and self._check is not None:
            self._check.cancel()
            self._check = None

    def count(self, kind: str) -> int:
        """How many there are of a kind."""
        return list(self._streams.values()).count(kind)

    def _look(self) -> None:
        self._check = self._clock.callLater(self._check_seconds, self._look)
        self._leaderless = 0 if self._has_leader() else self._leaderless + 1
        if self._leaderless >= LEADERLESS_CHECKS:
            for end in list(self._need_leader):
                self._end(end, NoLeaderError())

    def end_all(self, error: EtcdError) -> None:
        """End every stream."""
        for end in list(self._streams):
            self._end(end, error)

    def _end(self, end: End, error: EtcdError) -> None:
        self.remove(end)
        end(error)
