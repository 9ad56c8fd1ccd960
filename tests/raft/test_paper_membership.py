"""Changes of membership (raft paper, 6; dissertation, 4), and snapshots (paper, 7)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member
from tests.raft.network import Network
from twistedetcd.raft.errors import InvariantError, ProposalDroppedError
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    EntryType,
    Message,
    MessageType,
    Role,
    Snapshot,
)

ADD, REMOVE, LEARN = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER_NODE


def change(*singles: tuple[ConfChangeType, int], transition: int = 0) -> ConfChangeV2:
    """Several changes at once."""
    return ConfChangeV2(transition, tuple(ConfChangeSingle(*single) for single in singles))


def configuration(member: Member) -> ConfState:
    """What a member acts under."""
    return member.node.status().configuration


class OneServerTests(SynchronousTestCase):
    """One server at a time (dissertation, 4.1 to 4.2)."""

    def setUp(self) -> None:
        self.network = Network()
        self.leader = self.network.elect(1)

    def ask(self, kind: ConfChangeType, id: int) -> None:
        self.leader.node.propose_conf_change(ConfChange(0, kind, id))
        self.network.settle()

    def test_add(self) -> None:
        """A new server gets the log, and counts from then on (dissertation, 4.1)."""
        new = self.network.add(4)
        self.network.propose(1, b"before")
        self.ask(ADD, 4)
        self.network.propose(1, b"after")
        self.assertEqual(ConfState((1, 2, 3, 4)), configuration(new))
        self.assertEqual([b"after"], new.data(), "what came before is in its snapshot")
        self.network.isolate(2, 3)
        self.network.propose(1, b"two of four")
        self.assertNotIn(b"two of four", self.leader.data())

    def test_remove(self) -> None:
        """A removed server does not count any more (dissertation, 4.1)."""
        self.ask(REMOVE, 3)
        self.network.isolate(3)
        self.network.propose(1, b"two of two")
        self.assertIn(b"two of two", self.network[2].data())

    def test_kf_09_one_at_a_time(self) -> None:
        """A change waits until the one before it is applied: meanwhile it becomes an empty entry (4.1)."""
        for id in (4, 5):
            self.leader.node.propose_conf_change(ConfChange(0, ADD, id))
        kinds = [entry.type for entry in self.leader.node.ready().entries]
        self.assertEqual([EntryType.CONF_CHANGE, EntryType.NORMAL], kinds)

    def test_new_leader_is_careful(self) -> None:
        """There may be a change in the part of its log that a new leader has not applied (4.1)."""
        network = Network()
        leader = network[1]
        leader.node.campaign()
        leader.settle()
        leader.node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
        leader.settle()
        leader.node.propose_conf_change(ConfChange(0, ADD, 4))
        [first] = leader.node.ready().entries
        self.assertEqual(EntryType.CONF_CHANGE, first.type, "all before its own first entry is applied")
        logs = {1: (1, 1)}
        leader = Network(logs=logs)[1]
        leader.node.campaign()
        leader.settle()
        leader.node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
        leader.settle()
        leader.node.propose_conf_change(ConfChange(0, ADD, 4))
        [second] = leader.node.ready().entries
        self.assertEqual(EntryType.NORMAL, second.type, "index 3 may be a change")

    def test_leader_removes_itself(self) -> None:
        """It goes on until its removal is committed, without counting itself then (dissertation, 4.2.2)."""
        self.ask(REMOVE, 1)
        self.assertEqual(ConfState((2, 3)), configuration(self.network[2]))
        self.assertIs(Role.LEADER, self.leader.node.role)
        self.assertRaises(ProposalDroppedError, self.leader.node.propose, [b"x"])
        self.network.elect(2)
        self.network.propose(2, b"without it")
        self.assertIn(b"without it", self.network[3].data())

    def test_step_down(self) -> None:
        """If told so, it steps down as soon as its removal is applied (dissertation, 4.2.2)."""
        network = Network(step_down_on_removal=True)
        network.elect(1).node.propose_conf_change(ConfChange(0, REMOVE, 1))
        network.settle()
        self.assertEqual([], network.leaders())

    def test_removed_server_does_not_campaign(self) -> None:
        """Nor does one that was never told to be in a configuration (dissertation, 4.2.3)."""
        self.ask(REMOVE, 3)
        for member in (self.network[3], self.network.add(4)):
            member.node.campaign()
            for _ in range(50):
                member.node.tick()
            self.assertIs(Role.FOLLOWER, member.node.role)

    def test_removed_server_does_not_disturb(self) -> None:
        """While a leader is heard, a server that was removed cannot depose it (dissertation, 4.2.3)."""
        network = Network(check_quorum=True)
        network.elect(1)
        term = network[1].node.term
        for id in (1, 2):
            network[id].node.step(Message(MessageType.VOTE, id, 3, term + 5, term + 5, 99))
            self.assertEqual(term, network[id].node.term)

    def test_vote_for_a_stranger(self) -> None:
        """A vote is given to whoever asks: the change that adds it may not be here yet (4.1)."""
        voter = Network()[1]
        voter.node.step(Message(MessageType.VOTE, 1, 9, 5, 1, 1))
        [answer] = voter.carry_out().messages
        self.assertFalse(answer.reject)

    def test_unapplied_change_forbids_to_campaign(self) -> None:
        """A committed change that is not applied yet may have removed the member (raft.md 8)."""
        network = Network(async_storage_writes=False)
        network.elect(1)
        network.isolate(2)
        self.leader = network[1]
        self.leader.node.propose_conf_change(ConfChange(0, REMOVE, 2))
        network.settle()
        network.heal()
        last = self.leader.node.status().last_index
        entry = self.leader.storage.entries(last, last + 1, 0)[0]
        network[2].node.step(Message(MessageType.APP, 2, 1, 2, 2, last - 1, [entry], last))
        network[2].node.campaign()
        self.assertIs(Role.FOLLOWER, network[2].node.role)

    def test_no_voter_left(self) -> None:
        """A committed change that leaves nobody cannot be applied (dissertation, 4.1)."""
        member = Network(1)[1]
        self.assertRaises(InvariantError, member.node.apply_conf_change, ConfChange(0, REMOVE, 1))


class LearnerTests(SynchronousTestCase):
    """A server catches up before it counts (dissertation, 4.2.1)."""

    def setUp(self) -> None:
        self.network = Network()
        self.leader = self.network.elect(1)
        self.learner = self.network.add(4)
        self.leader.node.propose_conf_change(ConfChange(0, LEARN, 4))
        self.network.settle()

    def test_gets_the_log(self) -> None:
        """A learner applies what the others do (dissertation, 4.2.1)."""
        self.network.propose(1, b"x")
        self.assertEqual(b"x", self.learner.data()[-1])

    def test_does_not_count(self) -> None:
        """Neither for committing nor for winning (dissertation, 4.2.1)."""
        self.network.isolate(1, 4)
        self.network.propose(1, b"two, one of them a learner")
        self.assertEqual([], self.leader.data())

    def test_does_not_campaign(self) -> None:
        """A learner never asks for votes (dissertation, 4.2.1)."""
        self.network.isolate(4)
        self.network.tick(4, 50)
        self.assertIs(Role.FOLLOWER, self.learner.node.role)

    def test_forwards(self) -> None:
        """It may hand on a proposal (raft.md 12)."""
        self.network.propose(4, b"from a learner")
        self.assertEqual([b"from a learner"], self.leader.data())

    def test_promoted(self) -> None:
        """Adding it as a voter makes it one; it may lead then (dissertation, 4.2.1)."""
        self.leader.node.propose_conf_change(ConfChange(0, ADD, 4))
        self.network.settle()
        self.assertEqual(ConfState((1, 2, 3, 4)), configuration(self.learner))
        self.network.elect(4)

    def test_promotion_that_voters_missed(self) -> None:
        """A promoted learner is voted for by those who do not know yet, and votes itself (raft.md 8)."""
        self.learner.node.step(Message(MessageType.VOTE, 4, 2, 9, 9, 99))
        answers = [m for m in self.learner.carry_out().messages if m.type is MessageType.VOTE_RESP]
        self.assertEqual([False], [answer.reject for answer in answers])


class JointTests(SynchronousTestCase):
    """Any change at once, through a joint configuration (raft paper, 6; dissertation, 4.3)."""

    def setUp(self) -> None:
        self.network = Network()
        self.leader = self.network.elect(1)
        for id in (4, 5):
            self.network.add(id)

    def enter(self, *, explicit: bool) -> None:
        """From 1, 2, 3 to 1, 4, 5."""
        way = ConfChangeTransition.JOINT_EXPLICIT if explicit else ConfChangeTransition.AUTO
        singles = ((REMOVE, 2), (REMOVE, 3), (ADD, 4), (ADD, 5))
        self.leader.node.propose_conf_change(change(*singles, transition=way))
        self.network.settle()

    def test_by_itself(self) -> None:
        """It is entered, and left once that is committed (paper, 6)."""
        self.enter(explicit=False)
        for id in (1, 4, 5):
            self.assertEqual(ConfState((1, 4, 5)), configuration(self.network[id]))

    def test_both_halves_commit(self) -> None:
        """An entry needs a majority of the old and one of the new configuration (paper, 6)."""
        self.enter(explicit=True)
        self.assertEqual((1, 2, 3), configuration(self.leader).voters_outgoing)
        for cut, committed in (((2, 4), True), ((2, 3), False), ((4, 5), False)):
            self.network.isolate(*cut)
            data = b"without %d and %d" % cut
            self.network.propose(1, data)
            self.assertEqual(committed, data in self.leader.data(), cut)
            self.network.heal()
            self.network.tick(1)
            self.assertIn(data, self.leader.data())

    def test_kf_08_both_halves_elect(self) -> None:
        """So does a candidate (paper, 6)."""
        self.enter(explicit=True)
        self.network.isolate(2, 3)
        self.network[4].node.campaign()
        self.network.settle()
        self.assertIs(Role.CANDIDATE, self.network[4].node.role)
        self.network.heal()
        self.network.elect(4)

    def test_left_when_told(self) -> None:
        """An explicit joint configuration stays until it is left by an empty change (raft.md 12)."""
        self.enter(explicit=True)
        self.leader.node.propose_conf_change(change((ADD, 6)))
        self.network.settle()
        self.assertTrue(configuration(self.leader).voters_outgoing)
        self.leader.node.propose_conf_change(change())
        self.network.settle()
        self.assertEqual(ConfState((1, 4, 5)), configuration(self.leader))

    def test_kf_08_voter_becomes_learner(self) -> None:
        """A voter of the outgoing half is a learner only after that half is gone (raft.md 12)."""
        explicit = ConfChangeTransition.JOINT_EXPLICIT
        self.leader.node.propose_conf_change(change((LEARN, 3), transition=explicit))
        self.network.settle()
        state = configuration(self.leader)
        self.assertEqual(((), (3,)), (state.learners, state.learners_next))
        self.leader.node.propose_conf_change(change())
        self.network.settle()
        self.assertEqual(ConfState((1, 2), (3,)), configuration(self.network[3]))

    def test_new_leader_leaves_too(self) -> None:
        """If the leader fails in between, the next one leaves the joint configuration (paper, 6)."""
        singles = ((REMOVE, 3), (ADD, 4), (ADD, 5))
        self.leader.node.propose_conf_change(change(*singles))
        # Everybody has the change, but its author is gone before it could leave.
        for message in self.leader.carry_out().messages:
            self.network[message.to].node.step(message)
        self.network.isolate(1)
        self.network.settle()
        self.network.elect(2)
        self.network.heal()
        self.network.tick(2)
        self.network.propose(2, b"go on")
        self.network.propose(2, b"and on")
        self.assertEqual(ConfState((1, 2, 4, 5)), configuration(self.network[2]))


class SnapshotTests(SynchronousTestCase):
    """Who is too far behind gets the state instead of the log (raft paper, 7)."""

    def setUp(self) -> None:
        self.network = Network()
        self.leader = self.network.elect(1)
        self.network.isolate(3)
        self.network.propose(1, b"a", b"b", b"c")
        self.index = self.leader.applied[-1].index
        self.leader.storage.create_snapshot(self.index, ConfState((1, 2, 3)), b"abc")
        self.leader.storage.compact(self.index)
        self.network.delivered.clear()

    def test_installed(self) -> None:
        """The follower takes the state, and the log goes on behind it (paper, 7)."""
        self.network.heal()
        self.network.tick(1)
        self.network.propose(1, b"d")
        storage = self.network[3].storage
        self.assertEqual((self.index, b"abc"), (storage.snapshot().index, storage.snapshot().data))
        self.assertEqual([b"d"], self.network[3].data())
        self.assertEqual(1, sum(m.type is MessageType.SNAP for m in self.network.delivered))

    def test_acknowledged_once_saved(self) -> None:
        """Its answer leaves with the Ready that saves it; nothing is applied before that (paper, 7)."""
        follower = self.network[3]
        snapshot = self.leader.storage.snapshot()
        follower.node.step(Message(MessageType.SNAP, 3, 1, 2, snapshot=snapshot))
        ready = follower.node.ready()
        self.assertEqual((snapshot, []), (ready.snapshot, list(ready.committed)))
        [answer] = ready.messages
        self.assertEqual((MessageType.APP_RESP, self.index), (answer.type, answer.index))
        follower.node.campaign()
        self.assertIs(Role.FOLLOWER, follower.node.role, "half a snapshot must not lead")

    def test_old_snapshot(self) -> None:
        """One that covers nothing new is ignored, and the commit index told (paper, 7)."""
        self.network.heal()
        self.network.tick(1)
        before = self.network.log(2)
        self.network[2].node.step(
            Message(MessageType.SNAP, 2, 1, 2, snapshot=Snapshot(2, 2, ConfState((1, 2, 3))))
        )
        [answer] = self.network[2].carry_out().messages
        self.assertEqual((self.index, before), (answer.index, self.network.log(2)))

    def test_snapshot_of_what_is_there(self) -> None:
        """If the log has its last entry, the log stays and is committed that far (paper, 7)."""
        follower = Network(logs={3: (1, 1, 1)})[3]
        snapshot = Snapshot(3, 1, ConfState((1, 2, 3)))
        follower.node.step(Message(MessageType.SNAP, 3, 1, 2, snapshot=snapshot))
        ready = follower.carry_out()
        self.assertIsNone(ready.snapshot)
        self.assertEqual((3, 4), (follower.node.status().hard_state.commit, follower.storage.last_index()))

    def test_not_for_me(self) -> None:
        """A snapshot whose configuration lacks this member is not taken (raft.md 10)."""
        follower = Network()[3]
        follower.node.step(Message(MessageType.SNAP, 3, 1, 2, snapshot=Snapshot(9, 2, ConfState((1, 2)))))
        self.assertIsNone(follower.node.ready().snapshot)

    def test_brings_the_configuration(self) -> None:
        """The latest configuration comes with it (paper, 7)."""
        new = self.network.add(4)
        self.leader.node.propose_conf_change(ConfChange(0, LEARN, 4))
        self.network.settle()
        self.leader.storage.compact(self.index + 1)
        self.network.tick(1)
        self.assertEqual(ConfState((1, 2, 3), (4,)), configuration(new))
        self.assertTrue(new.node.status().last_index > self.index)
