"""Linearizable reads: an index to read at, never older than what was acknowledged before (raft.md 11)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, single_leader, stored
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeType,
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

    def test_waits_for_the_first_commit_in_its_term(self) -> None:
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
        node.read_index(b"stale?")
        member.settle()
        self.assertEqual([], member.reads)
        node.step(Message(MessageType.HEARTBEAT_RESP, to=1, sender=2, term=2, context=b"stale?"))
        member.settle()
        self.assertEqual([ReadState(3, b"stale?")], member.reads)
