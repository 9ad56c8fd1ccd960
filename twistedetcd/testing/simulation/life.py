"""One life of a simulated member: from its start to its stop, crash or end by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.python.failure import Failure

from twistedetcd.assembly import Assembly, Host
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.founding import Entrance
from twistedetcd.errors import BackendError, MemberError, MemberRemovedError, StoppedError
from twistedetcd.testing.clock import MachineClock
from twistedetcd.testing.simulation.journal import JournalBackend
from twistedetcd.testing.simulation.threads import SimulatedThreads
from twistedetcd.wal.opening import LogOptions

if TYPE_CHECKING:
    from twistedetcd.testing.simulation.machine import Machine

SEGMENT_BYTES = 32 * 1024
"""Segments of the log are so short that there are many."""


class Hangup(Protocol):
    """Somebody who is connected to the member."""

    def hung_up(self) -> None:
        """The member is gone."""


class Life:
    """
    A life.

    Args:
        machine: Where.

    Attributes:
        clock: The machine's clock, and all that happens there in this life.
        assembly: The member; ``None`` until it has read its disk.
        serves: Whether clients can be served.
        dead: Whether it is over: nothing that it still does is seen by anybody.
        connected: Who is connected to it; a dictionary for its order.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.number = machine.lives
        self.clock = MachineClock(machine.world.clock, machine.rate, machine.clock_offset)
        self.clock.failed = self._call_failed
        self.assembly: Assembly | None = None
        self.serves = self.dead = False
        self.connected: dict[Hangup, None] = {}
        self._closers: list[Callable[[], object]] = []
        self._stopping = False
        self._transport = machine.world.network.transport(machine.member_id, self.clock)

    def __repr__(self) -> str:
        return "serving" if self.serves else "starting"

    def begin(self) -> None:
        """Start, as soon as the machine does anything."""
        self.clock.callLater(0, self._begin)

    def _begin(self) -> None:
        machine = self.machine
        try:
            host = self._host(machine.entrance())
            self.assembly = assembly = Assembly(machine.config, host, self._closers)
            machine.world.assembled(self)
            assembly.start().addCallbacks(self._ready, self._not_ready)
        except (MemberRemovedError, MemberError, OSError) as error:
            self._stopped_itself(error)

    def _host(self, joined: Entrance | None) -> Host:
        machine, clock = self.machine, self.clock
        files = machine.files
        # Chance of this life only: what one draws does not depend on how the one before ended.
        random = machine.world.random(f"life {self.number} of {machine.name}")
        worker = SimulatedThreads(clock, files, random, 2)
        return Host(
            clock=clock,
            monotonic=clock.monotonic,
            files=files,
            open_backend=lambda directory: (
                MemoryBackend() if machine.forgetful else JournalBackend(files, directory)
            ),
            log_options=lambda directory, busy: LogOptions(
                run_in_worker=worker,
                run_sync=SimulatedThreads(clock, files, random, 1) if machine.sync_in_thread else None,
                segment_bytes=SEGMENT_BYTES,
                seconds=clock.seconds,
            ),
            run_in_writer=SimulatedThreads(clock, files, random, 1),
            run_in_worker=worker,
            draw=random.randrange,
            jitter=random.random,
            transport=self._transport,
            joined=joined,
            failed=lambda failure: self._stopped_itself(failure.value),
        )

    def _ready(self, _: None) -> None:
        self.serves = True
        self.machine.note("serves clients")

    def _not_ready(self, failure: Failure) -> None:
        if not (self.dead or self._stopping):
            self._stopped_itself(failure.value)

    def _stopped_itself(self, error: BaseException | None) -> None:
        """The process ends, once what runs there now is over."""
        if self.dead or self._stopping:
            return
        self._stopping = True
        self.serves = False
        machine = self.machine
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, MemberRemovedError):
            machine.told_removed = machine.held = True
        elif not machine.excused:
            machine.world.problem(machine.name, f"stopped by itself: {text}")
        self.clock.callLater(0, machine.exited, f"{text} ({machine.excused or 'for no reason'})")

    def _call_failed(self) -> None:
        """Something raised where a reactor would have logged it; in the ``except`` clause."""
        if not self.dead:
            failure = Failure()
            self.machine.world.problem(self.machine.name, f"raised: {failure.getTraceback()}")

    def stop(self) -> None:
        """Stop in order."""
        self.clock.callLater(0, self._stop)

    def _stop(self) -> None:
        if self._stopping or self.assembly is None or not self.serves:
            return
        self._stopping = True
        self.serves = False
        self.assembly.member.stop().addBoth(self._stopped)

    def _stopped(self, result: object) -> None:
        machine = self.machine
        if isinstance(result, Failure) and not (
            machine.excused and result.check(BackendError, MemberError, OSError, StoppedError)
        ):
            machine.world.problem(machine.name, f"did not stop: {result.getTraceback()}")
        while self._closers and not self.dead:
            try:
                self._closers.pop()()
            except OSError as error:
                if not (machine.excused or self.dead):  # dead: the power failed in the middle of it
                    machine.world.problem(machine.name, f"was not closed: {error}")
        if not self.dead:
            machine.exited("it was asked to")

    def end(self) -> None:
        """It is over, at once."""
        if not self.dead:
            self.dead = True
            self.serves = False
            self.clock.stop()
            self.machine.world.network.detach(self.machine.member_id, self._transport)
            connected, self.connected = self.connected, {}
            for one in connected:
                one.hung_up()
