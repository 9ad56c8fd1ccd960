"""Snapshots in memory, for tests: gone with the process."""

from __future__ import annotations

from collections.abc import Iterator

from zope.interface import implementer

from twistedetcd.interfaces import ISnapshotter
from twistedetcd.raft.types import Snapshot


@implementer(ISnapshotter)
class MemorySnapshotter:
    """
    Attributes:
        snapshots: What is kept, by term and index.
    """

    def __init__(self) -> None:
        self.snapshots: dict[tuple[int, int], Snapshot] = {}

    def save(self, snapshot: Snapshot) -> None:
        """See `ISnapshotter.save`."""
        self.snapshots[snapshot.term, snapshot.index] = snapshot

    def load(self) -> Iterator[Snapshot]:
        """See `ISnapshotter.load`."""
        for name in sorted(self.snapshots, reverse=True):
            yield self.snapshots[name]

    def list(self) -> list[tuple[int, int]]:
        """See `ISnapshotter.list`."""
        return [(index, term) for term, index in sorted(self.snapshots, reverse=True)]

    def purge(self, keep: int, index: int) -> int:
        """See `ISnapshotter.purge`."""
        counted = [name for name in sorted(self.snapshots, reverse=True) if name[1] <= index]
        surplus = counted[keep:] if keep else []
        for name in surplus:
            del self.snapshots[name]
        return len(surplus)
