"""Snapshots in memory."""

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.interfaces import ISnapshotter
from twistedetcd.snap.memory import MemorySnapshotter
from twistedetcd.testing.snapshotter import SnapshotterKit


class MemoryConformanceTests(SnapshotterKit, SynchronousTestCase):
    """The contract."""

    def make(self) -> MemorySnapshotter:
        return MemorySnapshotter()

    def open_again(self, snapshotter: ISnapshotter) -> ISnapshotter:
        return snapshotter
