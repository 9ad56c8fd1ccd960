"""Leadership transfer, quorum checks, reads and pre-vote (dissertation, 3.10, 6.2, 6.4, 9.6)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member
from tests.raft.network import Network
from twistedetcd.raft.errors import ProposalDroppedError
from twistedetcd.raft.types import (
    NOBODY,
    ConfChange,
    ConfChangeType,
    ConfState,
    Message,
    MessageType,
    ReadState,
    Role,
)


class TransferTests(SynchronousTestCase):
    """A leader hands over (dissertation, 3.10)."""

    def setUp(self) -> None:
        self.network = Network(check_quorum=True, pre_vote=True)
        self.leader = self.network.elect(1)
        self.network.delivered.clear()

    def transfer(self, to: int, *, by: int = 1) -> None:
        self.network[by].node.transfer_leader(to)
        self.network.settle()

    def test_at_once(self) -> None:
        """A member that is up to date campaigns at once, without pre-vote, and wins over the lease (3.10)."""
        self.transfer(2)
        self.assertEqual(([2], 3), (self.network.leaders(), self.network[2].node.term))
        self.assertFalse(any(m.type is MessageType.PRE_VOTE for m in self.network.delivered))

    def test_by_a_follower(self) -> None:
        """A follower hands the wish on (3.10)."""
        self.transfer(3, by=2)
        self.assertEqual([3], self.network.leaders())

    def test_catches_up_first(self) -> None:
        """A member that lacks entries gets them first (3.10)."""
        self.network.isolate(3)
        self.network.propose(1, b"a", b"b")
        self.network.heal()
        self.leader.node.report_unreachable(3)
        self.transfer(3)
        self.assertEqual([3], self.network.leaders())
        self.assertEqual([b"a", b"b"], self.network[3].data())

    def test_needs_a_snapshot_first(self) -> None:
        """Or even a snapshot (3.10)."""
        self.network.isolate(3)
        self.network.propose(1, b"a", b"b")
        self.leader.storage.create_snapshot(4, ConfState((1, 2, 3)))
        self.leader.storage.compact(4)
        self.network.heal()
        self.network.tick(1)
        self.transfer(3)
        self.assertEqual([3], self.network.leaders())

    def test_no_proposals_meanwhile(self) -> None:
        """The leader takes no proposals while it hands over, and takes them again if that fails (3.10)."""
        self.network.isolate(2)
        self.transfer(2)
        self.assertRaises(ProposalDroppedError, self.leader.node.propose, [b"x"])
        self.network.tick(1, 10)
        self.network.propose(1, b"y")
        self.assertEqual(([1], [b"y"]), (self.network.leaders(), self.leader.data()))

    def test_to_nobody_useful(self) -> None:
        """Not to itself, to a learner, or to a stranger (raft.md 13)."""
        self.network.add(4)
        self.leader.node.propose_conf_change(ConfChange(0, ConfChangeType.ADD_LEARNER_NODE, 4))
        self.network.settle()
        for target in (1, 4, 9):
            self.transfer(target)
            self.assertEqual(NOBODY, self.leader.node.status().lead_transferee)
        self.assertEqual([1], self.network.leaders())

    def test_another_target(self) -> None:
        """The last wish counts (raft.md 13)."""
        self.network.isolate(2)
        self.transfer(2)
        self.transfer(3)
        self.assertIs(Role.LEADER, self.network[3].node.role)

    def test_target_removed(self) -> None:
        """If its target loses its vote the transfer is off (raft.md 12)."""
        self.network.isolate(2)
        self.transfer(2)
        self.leader.node.apply_conf_change(ConfChange(0, ConfChangeType.REMOVE_NODE, 2))
        self.assertEqual(NOBODY, self.leader.node.status().lead_transferee)

    def test_only_followers_take_over(self) -> None:
        """A candidate campaigns already, and a learner never does (raft.md 13)."""
        network = Network()
        network[1].node.campaign()
        network[1].node.step(Message(MessageType.TIMEOUT_NOW, 1, 2, 2))
        self.assertEqual((Role.CANDIDATE, 2), (network[1].node.role, network[1].node.term))


class QuorumTests(SynchronousTestCase):
    """A leader that hears from no majority steps down (dissertation, 6.2)."""

    def test_steps_down(self) -> None:
        """Within two election timeouts; until then it may have been lucky (dissertation, 6.2)."""
        network = Network(check_quorum=True)
        network.elect(1)
        network.isolate(1)
        network.tick(1, 20)
        self.assertEqual((Role.FOLLOWER, NOBODY), (network[1].node.role, network[1].node.lead))
        self.assertEqual(2, network[1].node.term)

    def test_majority_is_enough(self) -> None:
        """One of two followers keeps it in office (dissertation, 6.2)."""
        network = Network(check_quorum=True)
        network.elect(1)
        network.isolate(3)
        network.tick(1, 50)
        self.assertEqual([1], network.leaders())

    def test_lease(self) -> None:
        """Who heard a leader less than an election timeout ago ignores candidates (dissertation, 4.2.3)."""
        network = Network(check_quorum=True, draw=lambda ticks: ticks - 1)
        network.elect(1)
        voter = network[2]
        for ticks, answers in ((0, []), (9, []), (10, [False])):
            voter.node.step(Message(MessageType.HEARTBEAT, 2, 1, 2))
            for _ in range(ticks):
                voter.node.tick()
            voter.node.step(Message(MessageType.PRE_VOTE, 2, 3, 3, 2, 2))
            sent = voter.carry_out().messages
            self.assertEqual(answers, [m.reject for m in sent if m.type is MessageType.PRE_VOTE_RESP], ticks)

    def test_forgotten_leader(self) -> None:
        """Who is told to forget its leader may vote at once, or hear of it again (raft.md 13)."""
        network = Network(check_quorum=True)
        network.elect(1)
        voter = network[2]
        voter.node.forget_leader()
        self.assertEqual((NOBODY, 2), (voter.node.lead, voter.node.term))
        network.tick(1)
        self.assertEqual(1, voter.node.lead)
        voter.node.forget_leader()
        voter.node.step(Message(MessageType.VOTE, 2, 3, 3, 2, 2))
        answers = [m for m in voter.carry_out().messages if m.type is MessageType.VOTE_RESP]
        self.assertEqual([False], [answer.reject for answer in answers])


class ReadTests(SynchronousTestCase):
    """Reads without writing (dissertation, 6.4)."""

    def read(self, network: Network, id: int) -> list[ReadState]:
        network[id].reads.clear()
        network[id].node.read_index(b"r")
        network.settle()
        return network[id].reads

    def test_any_member(self) -> None:
        """Leader and followers alike are told the commit index (dissertation, 6.4 and 6.4.1)."""
        network = Network()
        network.elect(1)
        network.propose(1, b"x")
        for id in network.voters:
            self.assertEqual([ReadState(3, b"r")], self.read(network, id))

    def test_deposed_leader(self) -> None:
        """A leader that was deposed without knowing it answers no read (dissertation, 6.4)."""
        network = Network()
        network.elect(1)
        network.isolate(1)
        network.elect(2)
        network.propose(2, b"news")
        self.assertEqual([1, 2], network.leaders())
        self.assertEqual([], self.read(network, 1))
        network.heal()
        network.tick(2)
        self.assertEqual([], network[1].reads)

    def test_lease(self) -> None:
        """With leases no heartbeat is sent: faster, and wrong if clocks drift (dissertation, 6.4.1)."""
        network = Network(check_quorum=True, lease_based_reads=True)
        network.elect(1)
        network.delivered.clear()
        self.assertEqual([ReadState(2, b"r")], self.read(network, 1))
        self.assertEqual([], network.delivered)

    def test_kf_03_first_entry_of_the_term(self) -> None:
        """A leader answers only after an entry of its term is committed (dissertation, 6.4)."""
        network = Network(logs={1: (1, 1), 2: (1, 1)})
        leader = network[1]
        leader.node.campaign()
        leader.settle()
        leader.node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
        leader.node.read_index(b"early")
        leader.settle()
        leader.node.step(Message(MessageType.HEARTBEAT_RESP, 1, 2, 2))
        leader.settle()
        self.assertEqual([], leader.reads)
        network.settle()
        network.tick(1)
        self.assertEqual([ReadState(4, b"early")], leader.reads)

    def test_candidates_drop_reads(self) -> None:
        """Nobody can answer while there is no leader; the caller asks again (raft.md 11)."""
        network = Network()
        network[1].node.campaign()
        self.assertEqual([], self.read(network, 1))


class PreVoteTests(SynchronousTestCase):
    """Asking before campaigning (dissertation, 9.6)."""

    def setUp(self) -> None:
        self.network = Network(pre_vote=True, check_quorum=True)
        self.leader = self.network.elect(1)

    def state(self, member: Member) -> tuple[object, ...]:
        return member.node.status().hard_state, member.node.role, member.node.lead

    def test_kf_05_partitioned_member(self) -> None:
        """A member cut off does not raise its term, so its return disturbs nobody (dissertation, 9.6)."""
        term = self.leader.node.term
        self.network.isolate(3)
        self.network.tick(3, 100)
        self.assertEqual((Role.PRE_CANDIDATE, term), (self.network[3].node.role, self.network[3].node.term))
        self.network.heal()
        self.network.tick(1)
        self.assertEqual(([1], term), (self.network.leaders(), self.leader.node.term))
        self.assertEqual(1, self.network[3].node.lead)

    def test_changes_nothing(self) -> None:
        """Being asked changes neither term nor vote nor timer (dissertation, 9.6)."""
        voter = Network(pre_vote=True)[1]
        before = self.state(voter)
        voter.node.step(Message(MessageType.PRE_VOTE, 1, 2, 9, 1, 1))
        self.assertEqual(before, self.state(voter))
        [answer] = voter.carry_out().messages
        self.assertEqual((MessageType.PRE_VOTE_RESP, 9, False), (answer.type, answer.term, answer.reject))

    def test_incomplete_log(self) -> None:
        """The answer is no if the log could not win (dissertation, 9.6)."""
        voter = Network(pre_vote=True, logs={1: (1, 1)})[1]
        voter.node.step(Message(MessageType.PRE_VOTE, 1, 2, 9, 1, 2))
        [answer] = voter.carry_out().messages
        self.assertEqual((True, 1), (answer.reject, answer.term))

    def test_majority(self) -> None:
        """Only after a majority would vote for it does it raise its term and ask in earnest (9.6)."""
        network = Network(pre_vote=True)
        node = network[1].node
        node.campaign()
        network[1].settle()
        self.assertEqual((Role.PRE_CANDIDATE, 1), (node.role, node.term))
        node.step(Message(MessageType.PRE_VOTE_RESP, 1, 2, 2))
        self.assertEqual((Role.CANDIDATE, 2), (node.role, node.term))
        node.step(Message(MessageType.PRE_VOTE_RESP, 1, 3, 2))
        self.assertEqual((Role.CANDIDATE, 2), (node.role, node.term), "a late answer elects nobody")

    def test_behind(self) -> None:
        """A pre-candidate whose term is over is told so, and catches up (raft.md 6)."""
        network = Network(pre_vote=True)
        behind = network[3]
        network.isolate(3)
        network.elect(1)
        network.elect(2)
        behind.node.campaign()
        network.heal()
        network.settle()
        self.assertEqual(network[2].node.term, behind.node.term)

    def test_kf_05_stale_leader(self) -> None:
        """
        A member with a higher term tells an old leader of it, else neither would ever hear of the other
        (raft.md 6).
        """
        network = Network(pre_vote=True)
        network.elect(1)
        network[3].node.step(Message(MessageType.VOTE, 3, 2, 7, 2, 2))
        network[3].settle()
        network.tick(1)
        self.assertEqual(7, network[1].node.term)
