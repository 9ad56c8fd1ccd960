"""When a member's time goes on."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import HeldWAL
from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.server.raftnode import RaftNode

TICK_SECONDS = 0.125


class TickTests(SynchronousTestCase):
    """Ticks come as often as they should, and never too many at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        storage = MemoryStorage()
        raft = RawNode(Config(id=1, storage=storage, draw=lambda n: 0))
        self.node = RaftNode(
            self.clock, raft, storage, HeldWAL(), TICK_SECONDS, lambda _: 0, self.fail, 0, 5000, None
        )
        self.ticks: list[float] = []
        self.patch(raft, "tick", lambda: self.ticks.append(self.clock.seconds()))
        self.node.start()
        self.addCleanup(self.node.stop)

    def test_late(self) -> None:
        """A reactor that wakes up late each time ticks as often as one that does not."""
        step = TICK_SECONDS * 3 / 4
        self.clock.pump([step] * 400)
        self.assertEqual(300, len(self.ticks))

    def test_pause(self) -> None:
        """After a pause it ticks once, then at least half a tick later, then as always."""
        self.clock.advance(1000)
        self.clock.pump([TICK_SECONDS / 16] * 40)
        self.assertEqual([1000.0, 1000 + TICK_SECONDS / 2, 1000 + TICK_SECONDS * 3 / 2], self.ticks[:3])

    def test_set_back(self) -> None:
        """A clock that was set back makes no tick wait longer than one does."""
        self.clock.advance(TICK_SECONDS)
        self.node._tick_at += 1000
        self.clock.pump([TICK_SECONDS] * 3)
        self.assertEqual([TICK_SECONDS * number for number in (1, 2, 3, 4)], self.ticks)
