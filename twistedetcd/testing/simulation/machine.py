"""A simulated machine: a disk, a clock and threads of its own, and a member that lives there now and then."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from twistedetcd.cluster.founding import Entrance
from twistedetcd.cluster.member import member_id
from twistedetcd.config import Config
from twistedetcd.disk import must_join
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.testing.simulation.life import Life
from twistedetcd.testing.simulation.world import World

EPOCH_SECONDS = 1_000_000.0
"""What clocks show when the world begins."""


@dataclass
class Pace:
    """
    How fast a machine's disk is, in seconds.

    Attributes:
        sync: A sync takes that long on average.
        write: Any other change does.
    """

    sync: float = 0.002
    write: float = 0.00005


class PowerCutError(OSError):
    """Nothing reaches the disk any more: the machine is about to stop."""


class Machine:
    """
    A machine.

    Args:
        world: Where it stands.
        config: What its member is.
        sync_in_thread: Whether its log is synced in a thread.
        number: The id of its member; ``None`` for that of a founder.
        entrance: Asked by a member that joins.

    Attributes:
        member_id: The id of its member.
        files: Its disk.
        life: The member that runs; ``None`` when none does.
        lives: How many have begun.
        pace: How fast its disk is.
        disk_error: What its disk refuses every change with; ``None`` when it works.
        excused: Why the member may have to stop by itself; empty when there is no reason.
        held: Whether nobody shall start it.
        forgetful: Whether its member's engine keeps nothing over the end of a process, and the log has to.
        told_removed: Whether the member stopped since others said that it is removed.
    """

    def __init__(
        self,
        world: World,
        config: Config,
        sync_in_thread: bool = True,
        number: int | None = None,
        entrance: Callable[[Machine], Entrance] | None = None,
    ) -> None:
        self.world = world
        self._entrance = entrance
        self.config = config
        self.name = config.name
        self.sync_in_thread = sync_in_thread
        founder = member_id(config.initial_advertise_peer_urls, config.initial_cluster_token)
        self.member_id = founder if number is None else number
        self.random = world.random(f"machine {self.name}")
        self.rate = 1.0 + self.random.uniform(-0.005, 0.005)
        self.clock_offset = EPOCH_SECONDS + self.random.uniform(-1.0, 1.0)
        self._late_until = 0.0
        self.pace = Pace()
        self.files = self._dressed(SimulatedFiles(world.random(f"disk {self.name}")))
        self.life: Life | None = None
        self.lives = 0
        self.disk_error: int | None = None
        self.excused = ""
        self.held = self.told_removed = self.forgetful = False
        self._left_until_cut: int | None = None
        self._only_syncs = False
        self._slow = 1.0

    def __repr__(self) -> str:
        return f"<machine {self.name}: {self.life or 'down'}>"

    @property
    def serves(self) -> bool:
        """Whether clients can be served."""
        return self.life is not None and self.life.serves

    @property
    def paused(self) -> bool:
        """Whether nothing happens there, though time goes on."""
        return self.life is not None and self.life.clock.paused

    def note(self, text: str) -> None:
        """Write something down."""
        self.world.note(self.name, text)

    # Life and death.

    def start(self) -> None:
        """A member starts, with what is on the disk."""
        assert self.life is None, "it runs already"
        if self.disk_error is None and self.files.capacity_bytes is None:
            self.excused = "it has not joined yet" if must_join(self.config, self.files) else ""
        self.lives += 1
        self.note(f"starts, for the {self.lives}. time")
        self.life = Life(self)
        self.life.begin()

    def crash(self, chance: float | None = None) -> None:
        """The power fails; what was not synced is there with that chance, which is drawn if not given."""
        self._left_until_cut = None
        if self.life is not None:
            self.note("crashes")
            self.life.end()
            self.life = None
        self.files = self._dressed(self.files.crashed(chance))

    def kill(self) -> None:
        """The process is killed, and the disk loses nothing."""
        if self.life is not None:
            self.note("is killed")
            self.life.end()
            self.life = None
        self.files.killed()

    def stop(self) -> None:
        """The member is asked to stop in order; some time later it is gone."""
        if self.life is not None:
            self.note("is asked to stop")
            self.life.stop()

    def exited(self, reason: str) -> None:
        """The process has ended by itself."""
        self.note(f"has stopped: {reason}")
        assert self.life is not None, "it did not run"
        self.life.end()
        self.life = None
        self.files.killed()

    # What may happen to it.

    def entrance(self) -> Entrance | None:
        """
        What a member that joins has to know; ``None`` for others.

        Raises:
            MemberError: Nobody tells.
        """
        if self._entrance is None or not must_join(self.config, self.files):
            return None
        return self._entrance(self)

    def pause(self) -> None:
        """Nothing happens there; time goes on."""
        if self.life is not None:
            self.note("is paused")
            self.life.clock.pause()

    def resume(self) -> None:
        """It goes on."""
        if self.life is not None:
            self.note("goes on")
            self.life.clock.resume()

    @property
    def late_seconds(self) -> float:
        """So long its timers may still be late, because its clock was set back."""
        return max(0.0, self._late_until - self.world.clock.seconds())

    def set_clock(self, seconds: float) -> None:
        """Somebody sets its clock, so much forward or back."""
        self.note(f"has its clock set by {seconds:.3f} s")
        self.clock_offset += seconds
        if seconds < 0:
            self._late_until = max(self._late_until, self.world.clock.seconds()) - seconds
        if self.life is not None:
            self.life.clock.set(seconds)

    def cut_power_after(self, changes: int, only_syncs: bool = False) -> None:
        """The power fails in the middle of the change to the disk, or the sync, after so many more."""
        self._left_until_cut, self._only_syncs = changes, only_syncs

    def fill_disk(self, free_bytes: int) -> None:
        """There is room for so much more."""
        self.note(f"has {free_bytes} bytes left on its disk")
        self.excused = "its disk was full"
        self.files.capacity_bytes = None
        self.files.capacity_bytes = self.files.used_bytes + free_bytes

    def break_disk(self) -> None:
        """Its disk refuses every change from now on."""
        self.note("has a disk that refuses")
        self.excused = "its disk refused"
        self.disk_error = errno.EIO

    def slow_disk(self, factor: float) -> None:
        """Its disk is so many times slower than usual."""
        self.note(f"has a disk that is {factor:g} times slower")
        self._slow = factor

    def mend_disk(self) -> None:
        """Its disk works, has room, and is as fast as usual; what stopped meanwhile stays so."""
        self.files.capacity_bytes = self.disk_error = None
        self._slow = 1.0

    def _dressed(self, files: SimulatedFiles) -> SimulatedFiles:
        files.before.append(self._before)
        files.seconds = self._seconds
        return files

    def _seconds(self, what: str, path: str) -> float:
        if what.startswith("sync"):
            return self._slow * self.random.expovariate(1 / self.pace.sync)
        return 0.0 if what in ("read", "open") else self._slow * self.pace.write

    def _before(self, what: str, path: str) -> None:
        if self.life is not None and self.life.dead:
            raise PowerCutError(errno.EIO, os.strerror(errno.EIO), path)
        if what in ("read", "open"):
            return
        if self._left_until_cut is not None and (what.startswith("sync") or not self._only_syncs):
            self._left_until_cut -= 1
            if self._left_until_cut < 0 and self.life is not None:
                self.note(f"loses its power at {what} {path}")
                # Nothing that it still does is seen by anybody.
                self.life.end()
                self.world.clock.callLater(0, self.crash)
                raise PowerCutError(errno.EIO, os.strerror(errno.EIO), path)
        if self.disk_error is not None:
            raise OSError(self.disk_error, os.strerror(self.disk_error), path)
