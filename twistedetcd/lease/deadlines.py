"""What is due when: leases by a time, in a tree, so that one can be taken out again wherever it is."""

from __future__ import annotations

from itertools import islice
from struct import Struct

from BTrees.OOBTree import OOTreeSet

_ITEM = Struct(">dq")  # the bytes of numbers that are not negative sort as the numbers do
_LAST_ID = -1  # all its bits are set, so of one time it is the last


class Deadlines:
    """Times, at or after 0, each with the id of a lease.  Removing one costs what adding it does."""

    def __init__(self) -> None:
        self._items: OOTreeSet[bytes] = OOTreeSet()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, at: float, lease_id: int) -> None:
        """Have a lease due at a time."""
        self._items.add(_ITEM.pack(at, lease_id))

    def remove(self, at: float, lease_id: int) -> None:
        """Undo `add`."""
        self._items.remove(_ITEM.pack(at, lease_id))

    def due(self, now: float, limit: int) -> list[tuple[float, int]]:
        """The first ``limit`` that are due by now, and since when; they stay."""
        items = self._items.keys(None, _ITEM.pack(now, _LAST_ID))
        return [_ITEM.unpack(item) for item in islice(items, limit)]
