"""What a member applies entries to: only how far it is, and each entry is compared with the history."""

from __future__ import annotations

from collections.abc import Callable

from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.confchange import Changer
from twistedetcd.raft.errors import ConfChangeError
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import ConfChange, ConfChangeV2, ConfState, Entry, Snapshot
from twistedetcd.testing.raftsim.disk import Disk, snapshot_data
from twistedetcd.testing.raftsim.rules import Rule, require
from twistedetcd.testing.raftsim.world import World


class Application:
    """
    One member's state.  It outlives crashes, up to a place that each start draws anew.

    Attributes:
        applied: The last index it holds.
    """

    def __init__(self, id: int, world: World, disk: Disk) -> None:
        self._id, self._world, self._disk = id, world, disk
        self.applied = self._applied_max = 0

    def start(self) -> ConfState:
        """
        Go back to what survived: as in etcd to the snapshot, so that everything after it is applied once
        more, or to a later place.

        Returns:
            The configuration there.
        """
        history, random = self._world.history, self._world.random
        low = self._disk.durable.snapshot().index
        high = min(self._applied_max, self._disk.state.commit)
        self.applied = low
        if high > low and high >= history.founded and random.random() < 0.5:
            self.applied = random.randint(max(low, history.founded), high)
        return history.configuration_at(self.applied) if self.applied else ConfState()

    def begin(self, entry: Entry) -> bool:
        """An entry is about to be applied; ``False`` if a snapshot has brought it meanwhile."""
        if entry.index <= self.applied:
            return False
        kept = entry.index == self.applied + 1
        text = "{} applies {} after {}"
        require(kept, Rule.STATE_MACHINE_SAFETY, text, self._id, entry.index, self.applied)
        self._world.history.applies(self._id, entry)
        return True

    def end(self, index: int) -> None:
        """It is applied."""
        self.applied, self._applied_max = index, max(self._applied_max, index)

    def configured(self, index: int, configuration: ConfState) -> None:
        """A change of membership was put in force."""
        before = self._world.history.configured(self._id, index, configuration)
        if before is not None:
            coverage = self._world.coverage
            coverage["conf changes applied"] += before != configuration
            joint = (bool(before.voters_outgoing), bool(configuration.voters_outgoing))
            coverage["joint configurations entered"] += joint == (False, True)
            coverage["joint configurations left"] += joint == (True, False)

    def install(self, snapshot: Snapshot) -> None:
        """Take the state of a snapshot that is saved."""
        self._world.coverage["snapshots installed"] += 1
        text = "{} installs {!r} at {}, having applied {}"
        kept = snapshot.data == snapshot_data(snapshot.index) and snapshot.index > self.applied
        fields = (self._id, snapshot.data, snapshot.index, self.applied)
        require(kept, Rule.STATE_MACHINE_SAFETY, text, *fields)
        self.end(snapshot.index)

    def compact(self, kept: int, heard: int) -> bool:
        """
        Make a snapshot of the state, and drop the log before it.

        Args:
            kept: How many entries to keep, for those who are a little behind.
            heard: How far raft has heard that the state is: it may still look at what comes after.

        Returns:
            Whether there is a new one.
        """
        history = self._world.history
        index = min(self.applied, self._disk.state.commit)
        if index <= history.founded:
            return False
        return self._disk.compact(index, history.configuration_at(index), max(kept, index - heard))


def decide(raft: Raft, entry: Entry, refused: Callable[[ConfChangeError], None]) -> ConfChange | ConfChangeV2:
    """
    The change an entry asks for, or one of nothing if the configuration does not allow it: all members decide
    alike, as all are at the same configuration when they apply it.
    """
    change = decode_change(entry)
    tracker = raft.tracker
    try:
        Changer(tracker.configuration, tracker.members, 0, raft.window).change(change.as_v2())
    except ConfChangeError as error:
        refused(error)
        return ConfChange()
    return change
