"""What may come in from outside, and what a broken storage means (raft.md 2, 5, 16)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, single_leader, stored
from twistedetcd.raft.changebytes import encode_change
from twistedetcd.raft.errors import (
    ConfChangeError,
    InvariantError,
    LogCompactedError,
    LogUnavailableError,
    MalformedMessageError,
    ProposalDroppedError,
)
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import (
    APPEND_THREAD,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
    Snapshot,
)

VOTERS = (1, 2, 3)


def follower(**config: object) -> Member:
    """Member 1 of three, at term 1."""
    return Member(storage=stored(VOTERS, [], HardState(1, 0, 1)), applied=1, **config)


class MalformedTests(SynchronousTestCase):
    """A peer's mistake is refused by name, and does not stop this member."""

    def test_refused(self) -> None:
        """Terms, senders and entries that no member sends."""
        one, other = Entry(2, 2), Entry(2, 4)
        for message, words in (
            (Message(MessageType.VOTE, 1, 2), "no term"),
            (Message(MessageType.APP, 1, 2), "no term"),
            (Message(MessageType.HEARTBEAT, 1, 2, 2**64 - 1), "its term is above"),
            (Message(MessageType.VOTE, 1, 2, 2**63 + 1), "its term is above"),
            (Message(MessageType.HEARTBEAT, 1, 0, 2), "no sender"),
            (Message(MessageType.HEARTBEAT, 1, 1, 2), "did not send"),
            (Message(MessageType.PROP, 1, 2), "no entries"),
            (Message(MessageType.PROP, 1, 2, 9, entries=(one,)), "must not bring a term"),
            (Message(MessageType.READ_INDEX, 1, 2), "no entries"),
            (Message(MessageType.READ_INDEX, 1, 2, entries=(one, other)), "one read"),
            (Message(MessageType.APP, 1, 2, 2, 1, 1, entries=(one, other)), "do not follow"),
            (Message(MessageType.APP, 1, 2, 2, 1, 0, entries=(one,)), "do not follow"),
        ):
            member = follower()
            error = self.assertRaises(MalformedMessageError, member.node.step, message)
            self.assertIn(words, str(error))
            self.assertFalse(member.node.has_ready(), message)

    def test_change_that_cannot_be_read(self) -> None:
        """A leader refuses it when it is proposed, not when it is applied; what came with it neither."""
        for data in (b"\xff", encode_change(ConfChangeV2(0, (ConfChangeSingle(9, 4),)))[1]):
            leader = single_leader()
            last = leader.node.status().last_index
            entries = (Entry(0, 0, b"a"), Entry(0, 0, data, EntryType.CONF_CHANGE_V2))
            proposal = Message(MessageType.PROP, 1, 2, entries=entries)
            self.assertRaises(ConfChangeError, leader.node.step, proposal)
            self.assertEqual(last, leader.node.status().last_index)

    def test_snapshot_with_an_impossible_configuration(self) -> None:
        """Nothing happens: the log stays, the configuration too."""
        member = follower()
        snapshot = Snapshot(9, 2, ConfState((1,), (1,)))
        message = Message(MessageType.SNAP, 1, 2, 2, snapshot=snapshot)
        self.assertRaises(ConfChangeError, member.node.step, message)
        status = member.node.status()
        self.assertEqual((1, ConfState(VOTERS)), (status.last_index, status.configuration))

    def test_snapshot_message_without_one(self) -> None:
        """It is taken for the empty snapshot, old news: the commit index is acknowledged (raft.md 10)."""
        member = follower()
        member.node.step(Message(MessageType.SNAP, 1, 2, 2))
        [answer] = member.carry_out().messages
        self.assertEqual((MessageType.APP_RESP, 1, False), (answer.type, answer.index, answer.reject))

    def test_forwarded_transfer(self) -> None:
        """A follower hands on a wish that came with a term, under its own (raft.md 16)."""
        member = follower()
        member.node.step(Message(MessageType.HEARTBEAT, 1, 2, 2))
        member.node.step(Message(MessageType.TRANSFER_LEADER, 1, 3, 2))
        messages = member.carry_out().messages
        wishes = [message for message in messages if message.type is MessageType.TRANSFER_LEADER]
        self.assertEqual([Message(MessageType.TRANSFER_LEADER, 2, 3, 2)], wishes)

    def test_dropped_change_holds_up_nobody(self) -> None:
        """A change that is dropped for its size does not make the next one wait (raft.md 9, 12)."""
        leader = single_leader(max_uncommitted_bytes=20)
        leader.node.propose([b"x" * 15])
        change = ConfChange(0, 1, 9, b"y" * 15)
        self.assertRaises(ProposalDroppedError, leader.node.propose_conf_change, change)
        leader.settle()
        leader.node.propose_conf_change(change)
        [entry] = leader.node.ready().entries
        self.assertEqual(EntryType.CONF_CHANGE, entry.type)


class LosingStorage(MemoryStorage):
    """A log that does not give back what it was given."""

    error: type[Exception] | None = None

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """Fails if told to."""
        if self.error is not None:
            raise self.error
        return super().entries(low, high, bytes_max)


class StorageErrorTests(SynchronousTestCase):
    """Entries that raft needs and the storage lacks."""

    def started(self, commit: int) -> tuple[LosingStorage, Member]:
        storage = LosingStorage()
        storage.apply_snapshot(Snapshot(1, 1, ConfState((1, 2))))
        storage.append([Entry(1, 2, b"a"), Entry(1, 3, b"b")])
        storage.set_hard_state(HardState(1, 0, commit))
        return storage, Member(storage=storage, applied=1, pre_vote=False, check_quorum=False)

    def test_committed_entries(self) -> None:
        """Committed, not applied, and gone: the member must stop (raft.md 5)."""
        for error in (LogUnavailableError, LogCompactedError):
            storage, member = self.started(3)
            storage.error = error
            self.assertRaises(InvariantError, member.node.ready)
            self.assertRaises(InvariantError, member.node.campaign)

    def test_compacted_while_sending(self) -> None:
        """A member that needs entries compacted meanwhile gets a snapshot (raft.md 7)."""
        storage, member = self.started(1)
        member.node.campaign()
        member.settle()
        member.node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
        member.settle()
        self.assertIs(Role.LEADER, member.node.role)
        member.sent.clear()
        storage.error = LogCompactedError
        rejection = Message(MessageType.APP_RESP, 1, 2, 2, 1, 3, reject=True, reject_hint=1)
        member.node.step(rejection)
        [message] = member.node.ready().messages
        self.assertEqual((MessageType.SNAP, 2), (message.type, message.to))

    def test_impossible_configuration(self) -> None:
        """A stored configuration that no changes lead to: the member must not start (raft.md 12)."""
        storage = MemoryStorage()
        storage.apply_snapshot(Snapshot(1, 1, ConfState((1, 2), (2,))))
        self.assertRaises(InvariantError, Member, storage=storage)


class OutstandingTests(SynchronousTestCase):
    """Entries handed out to be applied count until they are let go of (raft.md 5)."""

    def test_overtaken_by_a_snapshot(self) -> None:
        """A snapshot moves the applied index past them, but the apply thread still holds them."""
        entries = [Entry(1, index, b"x" * 50) for index in range(2, 5)]
        member = Member(
            storage=stored(VOTERS, entries, HardState(1, 0, 4)),
            applied=1,
            async_storage_writes=True,
            max_committed_bytes_per_ready=180,
        )
        node = member.node
        [apply] = node.ready().messages
        self.assertEqual(3, len(apply.entries))
        snapshot = Snapshot(9, 1, ConfState(VOTERS))
        node.step(Message(MessageType.SNAP, 1, 2, 2, snapshot=snapshot))
        [append] = node.ready().messages
        member.storage.apply_snapshot(snapshot)
        later = tuple(Entry(2, index, b"y" * 50) for index in (10, 11))
        node.step(Message(MessageType.APP, 1, 2, 2, 1, 9, later, commit=11))
        for response in append.responses:
            if response.sender == APPEND_THREAD:
                node.step(response)
        [append] = node.ready().messages
        member.storage.append(append.entries)
        node.step(append.responses[-1])
        self.assertEqual(1, len(node.ready().committed), "no room for two beside the three")
        node.step(apply.responses[0])
        self.assertEqual(1, len(node.ready().committed))
