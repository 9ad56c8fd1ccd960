"""Linearizable reads: an index to read at, never older than what was acknowledged before (raft.md 11)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, single_leader, stored
from twistedetcd.raft import reads
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    HardState,
    Message,
    MessageType,
    ReadState,
)


class SingleVoterTests(SynchronousTestCase):
    """One voter needs nobody's confirmation, but it has to know its own commit index."""

    def test_answer(self) -> None:
        """A leader that has committed in its term answers in the next Ready."""
        member = single_leader()
        member.node.read_index(b"one")
        member.node.read_index(b"two")
        commit = member.node.status().hard_state.commit
        ready = member.carry_out()
        self.assertEqual([ReadState(commit, b"one"), ReadState(commit, b"two")], list(ready.read_states))
        self.assertFalse(member.node.has_ready())

    def test_kf_04_waits_for_the_first_commit_in_its_term(self) -> None:
        """
        Known failure 4: the stored commit index may lag behind acknowledged writes, so after a restart a read
        waits for the first entry of the new term (dissertation, 6.4).
        """
        entries = [Entry(3, 2, b"a"), Entry(3, 3, b"acknowledged")]
        member = Member(storage=stored((1,), entries, HardState(3, 1, 2)), applied=1, pre_vote=False)
        member.settle()
        member.node.campaign()
        member.carry_out()
        member.node.read_index(b"early")
        ready = member.carry_out()
        self.assertEqual([], list(ready.read_states))
        self.assertEqual([ReadState(4, b"early")], list(member.carry_out().read_states))

    def test_nobody_leads(self) -> None:
        """Without a leader a read is lost; its caller asks again (raft.md 11)."""
        member = Member(storage=stored((1,), [], HardState(1, 0, 1)), applied=1)
        member.node.read_index(b"lost")
        member.node.campaign()
        member.settle()
        self.assertEqual([], member.reads)


class QuorumTests(SynchronousTestCase):
    """A leader answers once a quorum has confirmed, after the read came, that it leads (dissertation 6.4)."""

    def setUp(self) -> None:
        self.leader = Member(storage=stored((1, 2, 3), [], HardState(1, 0, 1)), applied=1, pre_vote=False)
        self.leader.node.campaign()
        self.leader.settle()
        self.leader.node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
        self.leader.settle()
        self.leader.node.step(Message(MessageType.APP_RESP, 1, 2, 2, 0, 2))
        self.leader.settle()

    def asked(self, context: bytes) -> bytes:
        """Ask for a read; the context of the heartbeats that it leads to."""
        self.leader.sent.clear()
        self.leader.node.read_index(context)
        self.leader.settle()
        contexts = {message.context for message in self.leader.sent}
        self.assertEqual(1, len(contexts))
        return contexts.pop()

    def answer(self, sender: int, context: bytes) -> list[ReadState]:
        """A member answers a heartbeat; the reads that this confirms."""
        self.leader.reads.clear()
        self.leader.node.step(Message(MessageType.HEARTBEAT_RESP, 1, sender, 2, context=context))
        self.leader.settle()
        return self.leader.reads

    def test_one_answer_for_all_before(self) -> None:
        """An answer confirms its read and every older one, in order."""
        self.asked(b"a")
        second = self.asked(b"b")
        self.asked(b"c")
        self.assertEqual([ReadState(2, b"a"), ReadState(2, b"b")], self.answer(3, second))

    def test_late_answer(self) -> None:
        """
        The same context again is another read: a late answer to the first must not confirm it, since the
        leader may have been deposed in between (raft.md 11, hazard a).
        """
        first = self.asked(b"same")
        self.assertEqual([ReadState(2, b"same")], self.answer(2, first))
        second = self.asked(b"same")
        self.assertEqual([], self.answer(3, first))
        self.assertEqual([ReadState(2, b"same")], self.answer(3, second))

    def test_same_context_twice(self) -> None:
        """Two reads with one context are both answered."""
        self.asked(b"same")
        self.assertEqual([ReadState(2, b"same")] * 2, self.answer(2, self.asked(b"same")))

    def test_strange_contexts(self) -> None:
        """A context that was never sent confirms nothing."""
        self.asked(b"a")
        for context in (b"", b"a", b"\xff" * 8, b"\xff" * 9):
            self.assertEqual([], self.answer(2, context))

    def test_periodic_heartbeats_ask_again(self) -> None:
        """A lost question is asked again with the next heartbeat."""
        context = self.asked(b"a")
        self.leader.sent.clear()
        self.leader.node.tick()
        self.leader.settle()
        self.assertEqual([context] * 2, [message.context for message in self.leader.sent])
        self.answer(2, context)
        self.leader.sent.clear()
        self.leader.node.tick()
        self.leader.settle()
        self.assertEqual([b""] * 2, [message.context for message in self.leader.sent])

    def test_learners_do_not_count(self) -> None:
        """Nor do strangers: only a voter can elect somebody else."""
        changes = ConfChangeV2(1, (ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, 2),))
        self.leader.node.apply_conf_change(changes)
        self.leader.node.apply_conf_change(ConfChangeV2())
        context = self.asked(b"a")
        self.assertEqual([], self.answer(2, context))
        self.assertEqual([ReadState(2, b"a")], self.answer(3, context))

    def test_limit(self) -> None:
        """One read too many is lost, and its caller asks again."""
        self.patch(reads, "WAITING_MAX", 1)
        context = self.asked(b"a")
        self.leader.node.read_index(b"lost")
        self.assertEqual([ReadState(2, b"a")], self.answer(2, context))


class RemovedLeaderTests(SynchronousTestCase):
    """A leader that was removed leads on until another is elected; it must not read by itself."""

    def test_asks_the_single_voter_that_is_left(self) -> None:
        """The one voter left may have elected itself already, so only its answer confirms a read."""
        member = Member(storage=stored((1, 2), [], HardState(1, 0, 1)), applied=1, pre_vote=False)
        node = member.node
        node.campaign()
        member.settle()
        node.step(Message(MessageType.VOTE_RESP, to=1, sender=2, term=2))
        node.propose_conf_change(ConfChange(type=ConfChangeType.REMOVE_NODE, node_id=1))
        member.settle()
        node.step(Message(MessageType.APP_RESP, to=1, sender=2, term=2, index=3))
        member.settle()
        self.assertEqual((2,), member.configuration.voters)
        member.sent.clear()
        node.read_index(b"stale?")
        member.settle()
        self.assertEqual([], member.reads)
        [asked] = member.sent
        node.step(Message(MessageType.HEARTBEAT_RESP, to=1, sender=2, term=2, context=asked.context))
        member.settle()
        self.assertEqual([ReadState(3, b"stale?")], member.reads)
