"""Sets of keys that ranges make: what a transaction deletes, however many ranges and keys it names."""

from __future__ import annotations

from BTrees.OOBTree import OOBTree


class Intervals:
    """
    A set of keys, kept as the half-open intervals that it consists of; these neither overlap nor touch.

    Attributes:
        weight: How many intervals were added; there are at most as many.
    """

    def __init__(self) -> None:
        self._ends = OOBTree()  # by their starts; None where there is no end
        self.weight = 0

    def add(self, start: bytes, end: bytes | None) -> None:
        """Add [``start``, ``end``), or all from ``start`` on; an inverted interval is empty."""
        if end is not None and end <= start:
            return
        self.weight += 1
        before = self._last_start(start)
        if before is not None:
            its_end = self._ends[before]
            if its_end is None or (end is not None and its_end >= end):
                return
            if its_end >= start:
                start = before
        for swallowed in list(self._ends.keys(start, end)):
            its_end = self._ends.pop(swallowed)
            if its_end is None or (end is not None and its_end > end):
                end = its_end
        self._ends[start] = end

    def remove(self, key: bytes) -> None:
        """Take one key out."""
        if key not in self:
            return
        start = self._last_start(key)
        end = self._ends.pop(start)
        if start != key:
            self._ends[start] = key
        if end is None or key + b"\0" < end:
            self._ends[key + b"\0"] = end

    def update(self, other: Intervals) -> None:
        """Add all of another set."""
        for start, end in other.items():
            self.add(start, end)

    def items(self) -> list[tuple[bytes, bytes | None]]:
        """The intervals, in order."""
        return list(self._ends.items())

    def __contains__(self, key: bytes) -> bool:
        start = self._last_start(key) if self.weight else None
        if start is None:
            return False
        end = self._ends[start]
        return end is None or key < end

    def _last_start(self, key: bytes) -> bytes | None:
        try:
            found: bytes = self._ends.maxKey(key)
        except ValueError:
            return None
        return found
