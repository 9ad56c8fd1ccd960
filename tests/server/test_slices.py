"""Slow work between reactor turns."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.interfaces import Work
from twistedetcd.server.slices import Slices


class CancelTests(SynchronousTestCase):
    """Who does not want a result any more cancels the work."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slices = Slices(self.clock, pause_seconds=1.0, running_max=2)
        self.done: list[str] = []

    def run_work(self, name: str, slices: int = 2) -> Deferred[str]:
        return self.slices.run(self.work(name, slices))

    def work(self, name: str, slices: int) -> Work[str]:
        try:
            for _ in range(slices):
                yield
            return name
        finally:
            self.done.append(name)

    def turns(self, count: int) -> None:
        self.clock.pump([1.0] * count)

    def test_running(self) -> None:
        """It is closed at once and never goes on; the others do."""
        one, two = self.run_work("one"), self.run_work("two")
        self.turns(2)
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertEqual(["one"], self.done)
        self.turns(6)
        self.assertEqual("two", self.successResultOf(two))

    def test_its_place(self) -> None:
        """One that waited takes the place of one that was cancelled; one that waits may be cancelled, too."""
        works = [self.run_work(name) for name in ("one", "two", "three", "four")]
        works[2].cancel()
        self.failureResultOf(works[2], CancelledError)
        works[0].cancel()
        self.failureResultOf(works[0], CancelledError)
        self.turns(6)
        self.assertEqual(["two", "four"], [self.successResultOf(works[at]) for at in (1, 3)])

    def test_while_all_are_given_up(self) -> None:
        """Who is told that its work was given up may cancel another one."""
        one, two = self.run_work("one"), self.run_work("two")
        one.addErrback(lambda _: two.cancel())
        self.slices.stop()
        self.failureResultOf(two, CancelledError)

    def test_the_last(self) -> None:
        """Without any work left nothing is scheduled; work that comes later is done."""
        one = self.run_work("one")
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())
        two = self.run_work("two")
        self.turns(6)
        self.assertEqual("two", self.successResultOf(two))
