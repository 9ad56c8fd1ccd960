"""One member: its process, which may be down, its disk, and the state it applies entries to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from twistedetcd.raft.config import Config
from twistedetcd.raft.errors import PeerNotFoundError, ProposalDroppedError
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import (
    NOBODY,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    ReadState,
    Ready,
    Role,
    Snapshot,
)
from twistedetcd.testing.raftsim.application import Application, decide
from twistedetcd.testing.raftsim.disk import Disk
from twistedetcd.testing.raftsim.rules import Rule, require
from twistedetcd.testing.raftsim.vouching import check_leaving
from twistedetcd.testing.raftsim.watch import Watch, inside
from twistedetcd.testing.raftsim.world import World, brief, brief_ready


class Member(ABC):
    """
    Drives one `RawNode`.  What is left to a subclass is the order of its duties.

    Attributes:
        id: Its id.
        node: The member, while its process runs.
        application: What it applies entries to.
        stalled: Its disk takes nothing just now, and what waits for a write waits on.
        deaf: It does not hear yet what its own storage answers.
    """

    def __init__(self, id: int, world: World) -> None:
        self.id, self._world = id, world
        self.disk = world.disks.setdefault(id, Disk(world.random))
        self.node: RawNode | None = None
        self.application = Application(id, world, self.disk)
        self.stalled = self.deaf = False
        self._watch: Watch | None = None

    # The process.

    def found(self, peers: Sequence[int]) -> None:
        """Begin a new cluster: start on an empty disk, and save the first entries."""
        self.start()
        self.call(lambda node: node.bootstrap([(peer, b"") for peer in peers]))
        self.work_through()
        self.sync()

    def start(self) -> None:
        """Start from what is durable."""
        world, disk = self._world, self.disk
        self.stalled = self.deaf = False
        view = disk.open(self.application.start(), self._snapshot_ready)
        applied = self.application.applied
        self.note("starts with {}, applied {}, log to {}", disk.state, applied, view.last_index())
        trace = world.transcript.trace if world.transcript is not None else None
        node = RawNode(
            Config(
                id=self.id,
                storage=view,
                draw=world.random.randrange,
                applied=applied,
                async_storage_writes=world.profile.async_storage,
                trace=trace,
                **world.profile.raft,
            )
        )
        self.node, self._watch = node, Watch(world, node)

    def crash(self) -> None:
        """Stop at once; what was not synced may be lost."""
        self.node = self._watch = None
        self.forget_work()
        before = self.disk.state.term
        lost = self.disk.crash()
        self._check_durable(before)
        self._world.coverage["crashes with loss"] += lost
        self.note("crashes{}", ", and forgets" if lost else "")

    @property
    def configuration(self) -> ConfState:
        """The one it acts under, while it runs."""
        return inside(self.node).tracker.configuration if self.node is not None else ConfState()

    @property
    def log_end(self) -> tuple[int, int]:
        """The term and the index of its last entry, while it runs: what voters compare."""
        if self.node is None:
            return (0, 0)
        log = inside(self.node).log
        return log.last_term(), log.last_index()

    @property
    def leads(self) -> bool:
        """Whether it believes to lead."""
        return self.node is not None and self.node.role is Role.LEADER

    def note(self, text: str, *fields: object) -> None:
        """Write down what it does."""
        if self._world.transcript is not None:
            self._world.transcript.note(f"{self.id} " + text.format(*fields))

    # Calls into raft.

    def call(self, wish: Callable[[RawNode], object]) -> bool:
        """
        One call into the running member, which may refuse it, and a look at what it did.

        Returns:
            Whether it was taken.
        """
        node, watch = self.node, self._watch
        assert node is not None and watch is not None
        try:
            wish(node)
        except (ProposalDroppedError, PeerNotFoundError) as error:
            self.note("refused: {}", error)
            taken = False
        else:
            taken = True
        watch.observe()
        return taken

    def tick(self) -> None:
        """A tick of its clock."""
        self.call(RawNode.tick)
        if self._watch is not None:
            self._watch.ticked()

    def hear(self, message: Message) -> None:
        """A message arrives."""
        node, watch = self.node, self._watch
        assert node is not None and watch is not None
        if self._world.transcript is not None:
            self.note("hears {}", brief(message))
        watch.heard(message)
        kind = message.type
        if kind is MessageType.SNAP_STATUS:
            self.call(lambda node: node.report_snapshot(message.sender, delivered=not message.reject))
        elif kind is MessageType.UNREACHABLE:
            self.call(lambda node: node.report_unreachable(message.sender))
        elif kind is MessageType.PRE_VOTE:
            raft = inside(node)
            before = (raft.term, raft.vote, raft.election_elapsed, raft.heartbeat_elapsed)
            self.call(lambda node: node.step(message))
            after = (raft.term, raft.vote, raft.election_elapsed, raft.heartbeat_elapsed)
            text = "{}: term, vote and timers {} after {}"
            require(before == after, Rule.PRE_VOTE_IS_FREE, text, self.id, after, before)
        else:
            if kind is MessageType.SNAP:
                # A membership change of before the snapshot must not be put in force after it.
                self.apply_all()
            term = node.term
            self.call(lambda node: node.step(message))
            if kind is MessageType.TIMEOUT_NOW and node.term > term:
                self._world.coverage["transfers"] += 1

    def send(self, message: Message) -> None:
        """A message leaves."""
        if self._world.transcript is not None:
            self.note("sends {}", brief(message))
        check_leaving(message, self.id, self.disk, self._world.history)
        self._world.network.send(message)

    # Duties.

    @abstractmethod
    def has_work(self) -> bool:
        """Whether there is anything to do."""

    @abstractmethod
    def work(self) -> None:
        """Do one part of what is owed; a crash may come between any two."""

    @abstractmethod
    def forget_work(self) -> None:
        """The process is gone, and what it still owed with it."""

    @abstractmethod
    def apply_all(self) -> None:
        """Apply everything that was handed out."""

    def work_through(self) -> None:
        """Do everything there is to do."""
        while self.node is not None and self.has_work():
            self.work()

    def sync(self) -> None:
        """Make everything written durable."""
        before = self.disk.state.term
        self.disk.sync()
        self._check_durable(before)

    def _check_durable(self, term_before: int) -> None:
        term, vote, _ = self.disk.state
        text = "{}: durable term {} after {}"
        require(term >= term_before, Rule.DURABLE_TERM, text, self.id, term, term_before)
        if vote != NOBODY:
            self._world.history.votes(self.id, term, vote)

    def take_ready(self) -> Ready:
        """What raft hands out."""
        assert self.node is not None and self._watch is not None
        ready = self.node.ready()
        if self._world.transcript is not None:
            self.note("{}", brief_ready(ready))
        self._watch.ready(ready)
        self._watch.observe()
        return ready

    def take_reads(self, reads: Sequence[ReadState]) -> None:
        """Reads are confirmed."""
        for index, context in reads:
            self._world.coverage["reads answered"] += 1
            self.note("reads {} at {}", context, index)
            if self._world.profile.checks_reads:
                self._world.history.answers(self.id, context, index)

    def apply(self, entry: Entry) -> None:
        """Apply a committed entry."""
        if not self.application.begin(entry):
            return
        if entry.type != EntryType.NORMAL:
            self._put_in_force(entry)
        # Not before, for a change of membership can make raft ask for a snapshot.
        self.application.end(entry.index)

    def _put_in_force(self, entry: Entry) -> None:
        node = self.node
        assert node is not None
        change = decide(inside(node), entry, lambda error: self.note("refuses {}: {}", entry.index, error))
        configurations: list[ConfState] = []
        self.call(lambda node: configurations.append(node.apply_conf_change(change)))
        [configuration] = configurations
        self.note("is at {} after {}", configuration, entry.index)
        self.application.configured(entry.index, configuration)

    def install(self, snapshot: Snapshot) -> None:
        """Take the state of a snapshot that is saved."""
        self.note("installs the snapshot at {}", snapshot.index)
        self.application.install(snapshot)

    def _snapshot_ready(self) -> bool:
        """Raft wants a snapshot: a newer one is made, unless there is no time for it."""
        dice = self._world.random.random()
        if dice < 0.5:
            self.compact(self.application.applied)
        return dice < 1 - self._world.profile.no_snapshot

    def compact(self, kept: int) -> None:
        """Make a snapshot of the state, and drop the log before it but the last ``kept`` entries."""
        assert self.node is not None
        self.sync()
        done = self.application.compact(kept, inside(self.node).log.applied)
        self.note("makes a snapshot at {}: {}", self.application.applied, done)
