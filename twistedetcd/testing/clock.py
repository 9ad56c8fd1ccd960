"""
Time that passes only when it is told to, for many machines at once.

`task.Clock` sorts all its calls at each step; a simulated cluster makes a thousand of them a second.  Here
they are in a heap, in the order of their times and, at the same time, of their making: two runs are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf, nextafter
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

ROUNDING_SECONDS = 1e-6
"""More than is lost when true time becomes a machine's, and back."""


@implementer(IDelayedCall)
class TimedCall:
    """A call that is to be made."""

    __slots__ = ("_timers", "arguments", "function", "keywords", "over", "time")

    def __init__(
        self,
        timers: Timers,
        time: float,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        self._timers = timers
        self.time = time
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.over: type[Exception] | None = None

    def getTime(self) -> float:
        """When."""
        return self.time

    def active(self) -> bool:
        """Whether it will be made."""
        return self.over is None

    def cancel(self) -> None:
        """It shall not be made."""
        self._check()
        self.over = AlreadyCancelled

    def reset(self, secondsFromNow: float) -> None:
        """It shall be made so many seconds from now."""
        self._move(self._timers.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """It shall be made so much later."""
        self._move(self.time + secondsLater)

    def _move(self, time: float) -> None:
        self._check()
        self.time = time
        self._timers.push(self)

    def _check(self) -> None:
        if self.over is not None:
            raise self.over


def soon(clock: IReactorTime, function: Callable[..., object], *arguments: Any) -> None:
    """As `Timers.soon`, of any clock: a reactor calls in its next turn."""
    if isinstance(clock, Timers):
        clock.soon(function, *arguments)
    else:
        clock.callLater(0, function, *arguments)


@implementer(IReactorTime)
class Timers:
    """Calls to be made, the next one first; what time it is, a subclass says."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimedCall]] = []
        self._made = 0

    def seconds(self) -> float:
        """The time."""
        raise NotImplementedError

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> TimedCall:
        """See `IReactorTime`."""
        assert delay >= 0, f"{delay} seconds from now are in the past"
        now = self.seconds()
        time = now + delay
        if delay and time <= now:
            time = nextafter(now, inf)  # however short a delay, what is asked for later is later
        call = TimedCall(self, time, callable, args, kw)
        self.push(call)
        return call

    def getDelayedCalls(self) -> list[TimedCall]:
        """See `IReactorTime`."""
        # One that was moved is in the heap twice.
        return [call for time, _, call in self._heap if call.over is None and time == call.time]

    def soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Something comes in from outside: call at this very time, but not in the middle of another call."""
        self.callLater(0, function, *arguments)

    def push(self, call: TimedCall) -> None:
        """Keep a call that has a time."""
        self._made += 1
        heappush(self._heap, (call.time, self._made, call))

    @property
    def next_time(self) -> float | None:
        """When the next call is to be made; ``None`` if there is none."""
        heap = self._heap
        while heap and (heap[0][2].over is not None or heap[0][2].time != heap[0][0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def clear(self) -> None:
        """No call that waits is made any more; whoever has one may still cancel it."""
        self._heap.clear()


class SimulatedClock(Timers):
    """The time of a whole simulated world; begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def seconds(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass, and make each call at its time."""
        self.run_until(self._now + seconds)

    def run_until(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """
        Let time pass up to a moment, or until it is so.

        Args:
            until: When to stop.
            done: Asked after each call.

        Returns:
            Whether it was ``done``.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, call = heappop(heap)
            if call.over is not None or call.time != time:
                continue  # it was cancelled, or moved
            if time > self._now:
                self._now = time
            call.over = AlreadyCalled
            call.function(*call.arguments, **call.keywords)
            if done is not None and done():
                return True
        self._now = max(self._now, until)
        return False

    def pump(self, timings: list[float]) -> None:
        """As `task.Clock.pump`."""
        for seconds in timings:
            self.advance(seconds)


class MachineClock(Timers):
    """
    The clock of one machine, and all that happens there: it goes its own pace, may be set, and may stop.

    As with a reactor, timers are on the clock that can be set: set forward, they are due; set back, they
    wait.

    Args:
        world: True time.
        rate: How many of this clock's seconds pass in one true second.
        offset: What it shows at the beginning of the world.

    Attributes:
        paused: Whether nothing happens, though time goes on.
        failed: Called in the ``except`` clause when a call raised; without it, that leaves `run_until`.
    """

    def __init__(self, world: SimulatedClock, rate: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self._world = world
        self._rate = rate
        self._offset = offset
        self._armed: TimedCall | None = None
        self._running = self._stopped = False
        # Rounding must not show a call a time before its own.
        self._least = -inf
        self.paused = False
        self.failed: Callable[[], None] | None = None

    def monotonic(self) -> float:
        """Seconds that nobody sets."""
        return self._world.seconds() * self._rate

    def seconds(self) -> float:
        now = self._world._now * self._rate + self._offset
        return now if now > self._least else self._least

    def set(self, seconds: float) -> None:
        """Somebody sets the clock, so much forward or back."""
        self._offset += seconds
        self._least = -inf
        self._arm()

    def pause(self) -> None:
        """Nothing happens until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """All that is due happens."""
        self.paused = False
        self._arm()

    def stop(self) -> None:
        """Nothing happens any more, whatever is still asked for."""
        self._stopped = True
        self.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def soon(self, function: Callable[..., object], *arguments: Any) -> None:
        if self._running or self._stopped or self.paused:
            self.callLater(0, function, *arguments)
            return
        # What most events of a world are: they need no place among the calls that wait.
        self._running = True
        try:
            self._make(function, arguments, {})
            self._make_due()
        finally:
            self._running = False
        self._arm()

    def push(self, call: TimedCall) -> None:
        if self._stopped:
            return
        super().push(call)
        if not self._running and (self._armed is None or self._true_time(call.time) < self._armed.time):
            self._arm()

    def _true_time(self, time: float) -> float:
        return (time - self._offset) / self._rate

    def _arm(self) -> None:
        """Have the world wake us for the next call."""
        armed, time = self._armed, self.next_time
        if time is None or self.paused:
            if armed is not None:
                armed.cancel()
                self._armed = None
            return
        true_time = max((time - self._offset) / self._rate, self._world._now)
        if armed is not None:
            if armed.time == true_time and armed.arguments[0] == time:
                return
            armed.cancel()
        self._armed = TimedCall(self._world, true_time, self._run, (time,), {})
        self._world.push(self._armed)

    def _run(self, due: float) -> None:
        """Make the calls that are due: at least those for which we were woken, whatever the rounding."""
        self._armed = None
        self._running = True
        try:
            if due - self.seconds() < ROUNDING_SECONDS:
                self._least = max(self._least, due)
            self._make_due()
        finally:
            self._running = False
        self._arm()

    def _make_due(self) -> None:
        now, heap = self.seconds(), self._heap
        while heap and heap[0][0] <= now and not self.paused:
            time, _, call = heappop(heap)
            if call.over is not None or call.time != time:
                continue  # it was cancelled, or moved
            call.over = AlreadyCalled
            self._make(call.function, call.arguments, call.keywords)

    def _make(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        try:
            function(*arguments, **keywords)
        except Exception:
            if self.failed is None:
                raise
            self.failed()
