"""Many leases in the order they end, in slices, and not too many of them at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice

from twistedetcd.interfaces import Work

RUN = 5000
"""Leases that are sorted in one slice: some milliseconds."""

Ending = tuple[float, int]
"""When a lease ends, and its id."""


def in_order(leases: Iterable[Ending]) -> Work[Iterator[Ending]]:
    """
    Sort.

    Args:
        leases: Must bear what happens between two slices.

    Returns:
        The same, by time and then id; what it hands out costs little for each.
    """
    runs: list[list[Ending]] = []
    rest = iter(leases)
    while run := list(islice(rest, RUN)):
        runs.append(sorted(run))
        if len(run) < RUN:
            break
        yield
    return merge(*runs)


class Spacing:
    """
    Puts times off so that no second has more than so many.

    Args:
        per_second_max: Of them.
    """

    def __init__(self, per_second_max: int) -> None:
        self._last: deque[float] = deque(maxlen=per_second_max)

    def put_off(self, at: float) -> float:
        """The first time, at or after ``at``, that is free; call with ascending times."""
        last = self._last
        if len(last) == last.maxlen:
            at = max(at, last[0] + 1.0)
        last.append(at)
        return at
