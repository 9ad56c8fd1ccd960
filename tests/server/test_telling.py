"""In which order a leader of three answers its clients and writes to its followers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import HeldWAL
from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfState, Entry, Message, MessageType, Role, Snapshot
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.server.telling import TELL_SECONDS

ONE, TWO, THREE = 1, 2, 3


class TellingTests(SynchronousTestCase):
    """Appends leave before the leader's own save; what is committed is told after clients are answered."""

    shipping = False

    def setUp(self) -> None:
        self.clock, self.wal = Clock(), HeldWAL()
        self.events: list[Any] = []
        storage = MemoryStorage()
        storage.apply_snapshot(Snapshot(1, 1, ConfState((ONE, TWO, THREE))))
        self.raft = RawNode(Config(id=ONE, storage=storage, draw=lambda n: 0, applied=1, pre_vote=False))
        peers: Any = self
        self.node = RaftNode(
            self.clock, self.raft, storage, self.wal, 0.1, self.apply, self.fail, 0, 5000, peers
        )
        self.node.start()
        self.raft.campaign()
        self.node.flush()
        self.hear(MessageType.VOTE_RESP)
        self.assertIs(Role.LEADER, self.raft.role)
        for member in (TWO, THREE):
            self.hear(MessageType.APP_RESP, index=2, sender=member)
        self.clock.advance(TELL_SECONDS)
        self.events.clear()
        self.addCleanup(self.node.stop)

    def apply(self, entries: Sequence[Entry]) -> int:
        self.events.append("applied")
        return entries[-1].index

    def send(self, messages: Sequence[Message]) -> None:
        """See `twistedetcd.server.raftnode.Peers`."""
        self.events += [(message.to, len(message.entries), message.commit) for message in messages]

    def hear(self, kind: MessageType, index: int = 0, sender: int = TWO) -> None:
        self.node.step(Message(kind, to=ONE, sender=sender, term=self.raft.term, index=index))
        self.node.flush()

    def put(self) -> None:
        self.node.proposals.waiting.append(b"put")
        self.node.flush()

    def test_append_before_the_save(self) -> None:
        """Followers save while the leader does."""
        self.wal.holding = True
        self.put()
        self.assertEqual([(TWO, 1, 2), (THREE, 1, 2)], self.events)
        self.assertEqual(1, len(self.wal.held))
        self.wal.release()

    def test_told_soon(self) -> None:
        """Who waits is answered first; if nothing else is appended, followers are told a moment later."""
        self.put()
        self.events.clear()
        self.hear(MessageType.APP_RESP, index=3)
        self.assertEqual(["applied"], self.events)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual(["applied", (TWO, 0, 3), (THREE, 0, 3)], self.events)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual(3, len(self.events))

    def test_told_with_the_next_append(self) -> None:
        """The next append says it as well, and then nothing is said twice."""
        self.put()
        self.hear(MessageType.APP_RESP, index=3)
        self.events.clear()
        self.put()
        self.assertEqual([(TWO, 1, 3), (THREE, 1, 3)], self.events)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual(2, len(self.events))

    def test_told_before_a_read(self) -> None:
        """A follower that may read what is committed is told first that it is."""
        self.put()
        self.hear(MessageType.APP_RESP, index=3)
        self.events.clear()
        self.node.step(
            Message(MessageType.READ_INDEX, to=ONE, sender=TWO, term=0, entries=(Entry(0, 0, b"read"),))
        )
        self.node.flush()
        self.assertEqual({(TWO, 0, 3), (THREE, 0, 3)}, set(self.events[:2]))
        self.assertGreater(len(self.events), 2)

    def test_nothing_before_it_is_durable(self) -> None:
        """What is told in the middle of a save is only what was to be told before it."""
        self.put()
        self.hear(MessageType.APP_RESP, index=3)
        self.wal.holding = True
        self.events.clear()
        # Somebody else has a higher term: to vote for it has to be saved first.
        self.node.step(
            Message(MessageType.APP, to=ONE, sender=THREE, term=self.raft.term + 1, index=3, log_term=9)
        )
        self.node.flush()
        self.assertEqual([], self.events)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual([(TWO, 0, 3), (THREE, 0, 3)], self.events)
        self.wal.release()
        self.assertEqual(3, len(self.events))

    def test_stopped(self) -> None:
        """Who stops has nothing left to do."""
        self.put()
        self.hear(MessageType.APP_RESP, index=3)
        self.node.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
