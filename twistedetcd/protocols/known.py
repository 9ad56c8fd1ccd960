"""What a peer transport knows of one peer: the way there, whether it is heard, and what has been carried."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf

from twistedetcd.interfaces import PeerStatistics
from twistedetcd.protocols.dialing import Line
from twistedetcd.protocols.frames import Lane

HEARD_SECONDS = 3.5
"""A peer of which nothing came for so long is not heard any more; a sign of life comes each second."""
ROUND_TRIPS = (*(0.0001 * 2**number for number in range(16)), inf)
"""Up to which times ways there and back are counted: those of etcd's metric."""
REPORT_SECONDS = 1.0
"""A peer is reported unreachable no more often."""


class Peer:
    """
    One of them.

    Args:
        member: Who.
        urls: Where.
        lines: The ways there, by `Lane`.
    """

    def __init__(self, member: int, urls: tuple[str, ...], lines: Sequence[Line]) -> None:
        self.member = member
        self.urls = urls
        self.lines = list(lines)
        self._coming: dict[int, Line] = {}
        """To where it moves: each takes the place of the line of before once that is lost, or it is made."""
        self._heard_since = self._heard_at = -inf
        self._reported_at = -inf
        self._sent_bytes = self._received_bytes = self._sent_failures = 0
        self._round_trip_seconds = 0.0
        self._round_trips = [0] * len(ROUND_TRIPS)

    @property
    def all_lines(self) -> list[Line]:
        """Those of before, too, as long as it moves."""
        return [*self.lines, *self._coming.values()]

    def stop(self) -> None:
        """It is not to be talked to any more."""
        for line in self.all_lines:
            line.stop()

    def move(self, urls: tuple[str, ...], lines: Sequence[Line]) -> None:
        """It is elsewhere, or will be: what there is stays until the new lines are made."""
        for line in self._coming.values():
            line.stop()
        self.urls = urls
        self._coming = dict(enumerate(lines))

    def connected(self, line: Line) -> None:
        """A line was made."""
        for lane in [lane for lane, one in self._coming.items() if one is line]:
            self._replace(lane)

    def disconnected(self, line: Line) -> None:
        """A line is gone."""
        for lane in [lane for lane, one in enumerate(self.lines) if one is line and lane in self._coming]:
            self._replace(lane)

    def _replace(self, lane: int) -> None:
        self.lines[lane].stop()
        self.lines[lane] = self._coming.pop(lane)

    def send(self, lane: Lane, frames: Sequence[bytes]) -> bool:
        """Send frames; false if some are lost."""
        self._sent_bytes += sum(map(len, frames))
        sent = self.lines[lane].send(frames)
        self._sent_failures += not sent
        return sent

    def to_be_reported(self, now: float) -> bool:
        """Whether it is time to say that something for it was lost; if so, it is said now."""
        if now - self._reported_at < REPORT_SECONDS:
            return False
        self._reported_at = now
        return True

    def heard(self, now: float, received_bytes: int) -> None:
        """Something came from it."""
        self._received_bytes += received_bytes
        if now - self._heard_at >= HEARD_SECONDS:
            self._heard_since = now
        self._heard_at = now

    def active_since(self, now: float) -> float | None:
        """Since when it is heard; ``None`` if it is not."""
        return self._heard_since if now - self._heard_at < HEARD_SECONDS else None

    def measured(self, seconds: float) -> None:
        """How long it took there and back."""
        self._round_trip_seconds += seconds
        self._round_trips[bisect_left(ROUND_TRIPS, seconds)] += 1

    def statistics(self) -> PeerStatistics:
        """All that was counted."""
        return PeerStatistics(
            all(line.connected for line in self.lines),
            self._sent_bytes,
            self._received_bytes,
            self._sent_failures,
            list(zip(ROUND_TRIPS, accumulate(self._round_trips), strict=True)),
            self._round_trip_seconds,
        )
