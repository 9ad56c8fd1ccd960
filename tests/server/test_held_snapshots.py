"""A snapshot that comes while something else is under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import HeldWAL
from twistedetcd.raft.changebytes import decode_change, encode_change
from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    Message,
    MessageType,
    Snapshot,
)
from twistedetcd.server.raftnode import RaftNode

ONE, TWO, THREE, FOUR = 1, 2, 3, 4


class HeldSnapshotTests(SynchronousTestCase):
    """Whatever was handed out is carried out before the snapshot counts."""

    shipping = False

    def setUp(self) -> None:
        self.clock, self.wal = Clock(), HeldWAL()
        storage = MemoryStorage()
        storage.apply_snapshot(Snapshot(1, 1, ConfState((ONE, TWO, THREE))))
        self.raft = RawNode(Config(id=ONE, storage=storage, draw=lambda n: 0, applied=1, pre_vote=False))
        self.taking: list[Deferred[None]] = []
        self.installs: list[tuple[int, Deferred[None]]] = []
        peers: Any = self
        self.node = RaftNode(
            self.clock, self.raft, storage, self.wal, 0.1, self.apply, self.fail, 0, 5000, peers
        )
        self.node.applied_index = self.node._handed_out = 1
        self.node.start()
        self.addCleanup(self.node.stop)

    # What the driver needs of the others.

    def apply(self, entries: Sequence[Entry]) -> int:
        for entry in entries:
            if entry.type:
                self.raft.apply_conf_change(decode_change(entry))
        return entries[-1].index

    def send(self, messages: Sequence[Message]) -> None:
        """Nobody is there."""

    def take_in(self, snapshot: Snapshot) -> Deferred[None]:
        return self.taking.pop() if self.taking else succeed(None)

    def install(self, snapshot: Snapshot) -> Deferred[None]:
        self.installs.append((snapshot.index, Deferred()))
        return self.installs[-1][1]

    # What is said to it.

    def append(self, previous: tuple[int, int], commit: int, *entries: Entry) -> None:
        index, term = previous
        self.hear(Message(MessageType.APP, ONE, TWO, 2, term, index, entries, commit))

    def snapshot(self, index: int, *voters: int) -> None:
        self.hear(Message(MessageType.SNAP, ONE, TWO, 2, snapshot=Snapshot(index, 2, ConfState(voters))))

    def hear(self, message: Message) -> None:
        self.node.step(message)
        self.node.flush()

    def test_while_a_change_is_saved(self) -> None:
        """The change that a save under way commits comes before the snapshot, and not on top of it."""
        kind, data = encode_change(ConfChange(0, ConfChangeType.ADD_LEARNER_NODE, FOUR, b""))
        self.append((1, 1), 1, Entry(2, 2, b""), Entry(2, 3, data, kind))
        self.wal.holding = True
        self.append((3, 2), 3, Entry(2, 4, b"x"))
        self.snapshot(50, ONE, TWO, THREE, FOUR)
        self.wal.holding = False
        self.wal.release_all()
        self.node.flush()
        self.assertEqual((ONE, TWO, THREE, FOUR), self.raft.status().configuration.voters)
        self.assertEqual([50], [index for index, _ in self.installs])

    def test_while_another_is_taken_in(self) -> None:
        """The second waits until the first is installed."""
        first: Deferred[None] = Deferred()
        self.taking.append(first)
        self.snapshot(50, ONE, TWO, THREE)
        self.snapshot(90, ONE, TWO, THREE)
        first.callback(None)
        self.node.flush()
        self.assertEqual([50], [index for index, _ in self.installs])
        self.node.applied_to(50, 2)
        self.installs[0][1].callback(None)
        self.node.flush()
        self.assertEqual([50, 90], [index for index, _ in self.installs])
