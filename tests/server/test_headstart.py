"""How long a member that has just started waits for a leader."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import HeldWAL
from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfState, Role, Snapshot
from twistedetcd.server.headstart import LOOK_SECONDS, LOOK_SECONDS_MAX, HeadStart
from twistedetcd.server.raftnode import RaftNode

TICK_SECONDS = 0.125


class HeadStartTests(SynchronousTestCase):
    """The wait is cut short once, when others are heard and none of them leads."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.others, self.led, self.times = 0, False, 0
        self.start = HeadStart(self.clock, lambda: self.others, lambda: self.led, self.hasten)
        self.start.start()

    def hasten(self) -> None:
        self.times += 1

    def look(self) -> int:
        self.clock.advance(LOOK_SECONDS)
        return self.times

    def test_heard(self) -> None:
        """It is when two others are heard, and not again."""
        self.assertEqual(0, self.look())
        self.others = 1
        self.assertEqual(0, self.look())
        self.others = 2
        self.assertEqual(1, self.look())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_led(self) -> None:
        """It is not when a leader is known."""
        self.led, self.others = True, 2
        self.assertEqual(0, self.look())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nobody(self) -> None:
        """It is not looked for others for ever."""
        self.clock.pump([LOOK_SECONDS] * (round(LOOK_SECONDS_MAX / LOOK_SECONDS) + 2))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopped(self) -> None:
        """A member that stops looks no more, however often it is told."""
        self.start.stop()
        self.start.stop()
        self.assertEqual([], self.clock.getDelayedCalls())


class ElectionTests(SynchronousTestCase):
    """What is left of the wait."""

    shipping = False

    def send(self, messages: object) -> None:
        """See `twistedetcd.server.raftnode.Peers`."""

    def ticks(self, *, hastened: bool) -> int:
        """After how many ticks a member of three begins to campaign."""
        clock, storage = Clock(), MemoryStorage()
        storage.apply_snapshot(Snapshot(1, 1, ConfState((1, 2, 3))))
        raft = RawNode(Config(id=1, storage=storage, draw=lambda n: 3, applied=1, election_ticks=10))
        peers: Any = self
        node = RaftNode(clock, raft, storage, HeldWAL(), TICK_SECONDS, lambda _: 0, self.fail, 0, 5000, peers)
        node.start()
        self.addCleanup(node.stop)
        if hastened:
            node.hasten_election()
        count = 0
        while raft.role is Role.FOLLOWER:
            clock.advance(TICK_SECONDS)
            count += 1
        return count

    def test_hastened(self) -> None:
        """Two ticks of the election timeout are, and what chance adds to it."""
        self.assertEqual((13, 5), (self.ticks(hastened=False), self.ticks(hastened=True)))
