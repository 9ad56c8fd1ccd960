"""When revisions were there, as far as clients could know."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import inf

from twistedetcd.testing.checks.effects import is_linearizable
from twistedetcd.testing.checks.history import History


class Highest:
    """The highest of some numbers that were set before a time."""

    def __init__(self, numbers: Sequence[tuple[float, int]]) -> None:
        ordered = sorted(numbers)
        self._times = [at for at, _ in ordered]
        self._until = list(accumulate((number for _, number in ordered), max))

    def before(self, at: float) -> int | None:
        """The highest set before a time, if any was."""
        place = bisect_left(self._times, at)
        return self._until[place - 1] if place else None

    def upto(self, at: float) -> int | None:
        """The highest set before a time, or at it."""
        place = bisect_right(self._times, at)
        return self._until[place - 1] if place else None

    def reached(self, number: int) -> float:
        """When it was reached; infinite if never."""
        place = bisect_left(self._until, number)
        return self._times[place] if place < len(self._times) else inf


class Timeline:
    """
    Bounds on the times of revisions.

    Who is told of a revision, by whichever member, knows that it is committed.
    """

    def __init__(self, history: History) -> None:
        told: list[tuple[float, int]] = []
        missed: list[tuple[int, float]] = []
        for operation in history.operations:
            revision = operation.revision
            if revision and operation.returned_at is not None:
                told.append((operation.returned_at, revision))
                if is_linearizable(operation.request):
                    missed.append((revision, operation.called_at))
        for watch in history.watches:
            for at, response in watch.received:
                last = response.events[-1].kv.mod_revision if response.events else 0
                told.append((at, max(response.header.revision, last)))
        self._told = Highest(told)
        missed.sort()
        self._missed_revisions = [revision for revision, _ in missed]
        self._missed_until = list(accumulate((at for _, at in missed), max))

    def known(self, at: float) -> int:
        """The highest revision that anybody was told of before a time; 0 for none."""
        return self._told.before(at) or 0

    def there_by(self, revision: int) -> float:
        """When a revision was there at the latest: when first somebody was told of it, or of a later one."""
        return self._told.reached(revision)

    def there_after(self, revision: int) -> float:
        """When it was not there yet: the last call of a linearizable request answered with an earlier one."""
        place = bisect_left(self._missed_revisions, revision)
        return self._missed_until[place - 1] if place else -inf
