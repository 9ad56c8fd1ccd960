"""Simulated time: the same calls in the same order, whatever a machine's own clock does."""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twistedetcd.testing.clock import MachineClock, SimulatedClock


class SimulatedClockTests(SynchronousTestCase):
    """The clock of a simulated world."""

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.said: list[str] = []

    def test_contract(self) -> None:
        """It is a reactor's clock, and its calls are a reactor's calls."""
        verifyObject(IReactorTime, self.clock)
        verifyObject(IDelayedCall, self.clock.callLater(1, self.said.append, "a"))

    def test_order(self) -> None:
        """Calls are made in the order of their times; at the same time, in the order of their making."""
        for delay, text in ((2, "d"), (1, "b"), (1, "c"), (0, "a")):
            self.clock.callLater(delay, self.said.append, text)
        self.clock.advance(2)
        self.assertEqual(["a", "b", "c", "d"], self.said)

    def test_a_call_sees_its_own_time(self) -> None:
        """What a call asks for later is later than the call."""
        seen: list[float] = []
        self.clock.callLater(1, lambda: self.clock.callLater(1, lambda: seen.append(self.clock.seconds())))
        self.clock.advance(5)
        self.assertEqual([2.0], seen)
        self.assertEqual(5.0, self.clock.seconds())

    def test_over_is_over(self) -> None:
        """A call that was made or cancelled cannot be changed."""
        made, cancelled = self.clock.callLater(0, int), self.clock.callLater(1, self.said.append, "x")
        cancelled.cancel()
        self.clock.advance(2)
        self.assertEqual([], self.said)
        self.assertEqual([False, False], [made.active(), cancelled.active()])
        self.assertRaises(AlreadyCalled, made.cancel)
        self.assertRaises(AlreadyCancelled, cancelled.reset, 1)

    def test_run_until_done(self) -> None:
        """It stops at the moment it is so, and not later."""
        for delay in (1, 2, 3):
            self.clock.callLater(delay, self.said.append, "x")
        self.assertTrue(self.clock.run_until(10, lambda: len(self.said) == 2))
        self.assertEqual(2.0, self.clock.seconds())
        self.assertFalse(self.clock.run_until(10, lambda: False))


class MachineClockTests(SynchronousTestCase):
    """The clock of one machine."""

    def setUp(self) -> None:
        self.world = SimulatedClock()
        self.said: list[float] = []

    def note(self) -> None:
        self.said.append(self.world.seconds())

    def test_pace(self) -> None:
        """A fast clock's second is over before a true one."""
        clock = MachineClock(self.world, rate=2.0, offset=100.0)
        clock.callLater(1, self.note)
        self.world.advance(3)
        self.assertEqual([0.5], self.said)
        self.assertEqual((106.0, 6.0), (clock.seconds(), clock.monotonic()))

    def test_set(self) -> None:
        """Set forward, what waits is due; set back, it waits longer; the other clock is never set."""
        clock = MachineClock(self.world)
        clock.callLater(10, self.note)
        clock.set(4.0)
        self.world.advance(6.5)
        clock.callLater(1, self.note)
        clock.set(-5.0)
        self.world.advance(10)
        self.assertEqual([6.0, 12.5], self.said)
        self.assertEqual(16.5, clock.monotonic())

    def test_pause(self) -> None:
        """Paused, nothing happens; then all that was due does, at once."""
        clock = MachineClock(self.world)
        clock.callLater(1, self.note)
        clock.callLater(2, self.note)
        clock.pause()
        clock.callLater(5, self.note)
        self.world.advance(3)
        self.assertEqual([], self.said)
        clock.resume()
        self.world.advance(3)
        self.assertEqual([3.0, 3.0, 5.0], self.said)

    def test_soon(self) -> None:
        """What comes in is heard at once, with what it leads to; not within a call, nor while paused."""
        clock, heard = MachineClock(self.world), list[str]()

        def hear(text: str) -> None:
            heard.append(text)
            if text == "a":
                clock.soon(hear, "c")
                clock.callLater(0, hear, "d")
                heard.append("b")

        clock.soon(hear, "a")
        self.assertEqual(["a", "b", "c", "d"], heard)
        clock.pause()
        clock.soon(hear, "e")
        self.world.advance(1)
        self.assertEqual(4, len(heard))
        clock.resume()
        self.world.advance(0)
        self.assertEqual("e", heard[-1])
        clock.stop()
        clock.soon(hear, "f")
        self.world.advance(1)
        self.assertEqual("e", heard[-1])

    def test_stop(self) -> None:
        """Stopped, nothing happens any more, whatever is still asked for; who cleans up finds no fault."""
        clock = MachineClock(self.world)
        pending = clock.callLater(1, self.note)
        clock.stop()
        late = clock.callLater(1, self.note)
        self.world.advance(3)
        self.assertEqual([], self.said)
        pending.cancel()
        late.cancel()

    def test_failure(self) -> None:
        """One call that raises keeps no other from being made."""
        clock = MachineClock(self.world)
        clock.failed = self.note
        clock.callLater(1, {}.__getitem__, "nothing")
        clock.callLater(1, self.note)
        self.world.advance(1)
        self.assertEqual([1.0, 1.0], self.said)
