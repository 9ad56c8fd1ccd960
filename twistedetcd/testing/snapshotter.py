"""
The conformance kit of `ISnapshotter`: one that passes it can tell a restart where to begin.

Mix it into a trial test case, and say how to make a snapshotter and how to open it again::

    from twisted.trial.unittest import SynchronousTestCase
    from twistedetcd.testing.snapshotter import SnapshotterKit

    class MySnapshotterTests(SnapshotterKit, SynchronousTestCase):
        def make(self):
            return MySnapshotter(self.mktemp())

        def open_again(self, snapshotter):
            return MySnapshotter(snapshotter.directory)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from twistedetcd.interfaces import ISnapshotter
from twistedetcd.raft.types import ConfState, Snapshot

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Case
else:
    _Case = object  # so that trial does not take the kit itself for a test case

JOINT = ConfState((1, 2**64 - 1), (3,), (4, 5), (6,), True)


class SnapshotterKit(_Case):
    """
    Tests of a snapshotter; see the module's text.

    Attributes:
        snapshotter: The one under test, new and empty for each test.
    """

    snapshotter: ISnapshotter

    def setUp(self) -> None:
        self.snapshotter = self.make()

    def make(self) -> ISnapshotter:
        """A new one."""
        raise NotImplementedError

    def open_again(self, snapshotter: ISnapshotter) -> ISnapshotter:
        """What a restart would find."""
        raise NotImplementedError

    def saved(self, *places: tuple[int, int]) -> list[Snapshot]:
        """Save snapshots at these indices and terms; returns them."""
        snapshots = [Snapshot(index, term, JOINT, b"state") for index, term in places]
        for snapshot in snapshots:
            self.snapshotter.save(snapshot)
        self.snapshotter = self.open_again(self.snapshotter)
        return snapshots

    def test_contract(self) -> None:
        """It provides the interface."""
        verifyObject(ISnapshotter, self.snapshotter)

    def test_none(self) -> None:
        """A new one holds nothing."""
        self.assertEqual(([], []), (list(self.snapshotter.load()), list(self.snapshotter.list())))
        self.assertEqual(0, self.snapshotter.purge(1, 100))

    def test_newest_first(self) -> None:
        """They come back as they were, the newest first, by term and then by index."""
        places = [(10, 1), (300, 1), (20, 2), (2**63, 2**40)]
        saved = self.saved(*places)
        self.assertEqual(saved[::-1], list(self.snapshotter.load()))
        self.assertEqual(places[::-1], list(self.snapshotter.list()))

    def test_without_data(self) -> None:
        """A snapshot may say nothing but where it is."""
        snapshot = Snapshot(1, 1, ConfState((1,)))
        self.snapshotter.save(snapshot)
        self.assertEqual([snapshot], list(self.open_again(self.snapshotter).load()))

    def test_replaced(self) -> None:
        """One of the same place takes the place of the other."""
        self.saved((10, 1))
        again = Snapshot(10, 1, ConfState((9,)), b"x" * 3000)
        self.snapshotter.save(again)
        self.assertEqual([again], list(self.open_again(self.snapshotter).load()))

    def test_purge(self) -> None:
        """The oldest go, until so many are left; 0 keeps all."""
        saved = self.saved((10, 1), (20, 1), (30, 2), (40, 2))
        self.assertEqual(0, self.snapshotter.purge(0, 40))
        self.assertEqual(0, self.snapshotter.purge(4, 40))
        self.assertEqual(3, self.snapshotter.purge(1, 40))
        self.assertEqual(saved[3:], list(self.snapshotter.load()))

    def test_purge_counts_what_the_log_knows(self) -> None:
        """One that the log may not vouch for keeps nothing else from staying, and stays itself."""
        saved = self.saved((10, 1), (20, 1), (30, 2))
        self.assertEqual(1, self.snapshotter.purge(1, 20))
        self.assertEqual([saved[2], saved[1]], list(self.snapshotter.load()))
