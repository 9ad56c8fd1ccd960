"""Log replication, as the Raft paper describes it (5.3, 5.4.2)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.network import Network, entries
from twistedetcd.raft.errors import InvariantError
from twistedetcd.raft.types import HardState, Message, MessageType, Role


class ReplicationTests(SynchronousTestCase):
    """From a proposal to everybody's state (raft paper, 5.3)."""

    def test_append(self) -> None:
        """A leader appends a proposal and sends it to all, with what comes before it (paper, 5.3)."""
        network = Network()
        leader = network.elect(1)
        leader.node.propose([b"x"])
        ready = leader.node.ready()
        [entry] = ready.entries
        self.assertEqual((2, 3, b"x"), entry[:3])
        sent = [(m.to, m.log_term, m.index, list(m.entries), m.commit) for m in ready.messages]
        self.assertEqual([(to, 2, 2, [entry], 2) for to in (2, 3)], sent)

    def test_commit_by_majority(self) -> None:
        """An entry is committed once more than half hold it on disk, the leader included (paper, 5.3)."""
        for count, acknowledging, committed in ((3, 0, False), (3, 1, True), (5, 1, False), (5, 2, True)):
            network = Network(count)
            leader = network.elect(1)
            leader.node.propose([b"x"])
            leader.settle()
            last = leader.node.status().last_index
            for id in range(2, 2 + acknowledging):
                leader.node.step(Message(MessageType.APP_RESP, 1, id, 2, 0, last))
            self.assertEqual(committed, network.committed(1) == last, (count, acknowledging))

    def test_own_copy_counts_once_saved(self) -> None:
        """The leader's own copy counts after it is on its disk, not before (dissertation, 10.2.1)."""
        network = Network()
        leader = network.elect(1)
        leader.node.propose([b"x"])
        leader.node.ready()
        leader.node.step(Message(MessageType.APP_RESP, 1, 2, 2, 0, 3))
        self.assertEqual(2, network.committed(1))
        leader.node.advance()
        self.assertEqual(3, network.committed(1))

    def test_applied_by_all(self) -> None:
        """Followers learn what is committed and apply it in log order (paper, 5.3)."""
        network = Network()
        network.elect(1)
        network.propose(1, b"a", b"b")
        network.propose(1, b"c")
        for member in network.members.values():
            self.assertEqual([b"a", b"b", b"c"], member.data())

    def test_committed_entries_of_older_terms(self) -> None:
        """Committing an entry commits all before it, whoever made them (paper, 5.3)."""
        network = Network(logs={1: (1, 1, 2), 2: (1,)})
        network.elect(1)
        network.propose(1, b"x")
        self.assertEqual([b"1/2", b"1/3", b"2/4", b"x"], network[3].data())

    def test_consistency_check(self) -> None:
        """A follower refuses an append unless it has the entry before it (paper, 5.3)."""
        for prev, term, accepted in ((1, 1, True), (2, 1, True), (3, 2, True), (3, 1, False), (4, 2, False)):
            follower = Network(logs={1: (1, 2)})[1]
            follower.node.step(Message(MessageType.APP, 1, 2, 5, term, prev))
            [answer] = follower.carry_out().messages
            self.assertEqual((accepted, prev), (not answer.reject, answer.index), (prev, term))

    def test_answer_after_saving(self) -> None:
        """A follower acknowledges an append in the Ready that saves it, never before (paper, figure 2)."""
        follower = Network()[1]
        follower.node.step(Message(MessageType.APP, 1, 2, 2, 1, 1, entries(2)))
        ready = follower.node.ready()
        self.assertEqual(entries(2), list(ready.entries))
        self.assertTrue(ready.must_sync)
        self.assertEqual([(MessageType.APP_RESP, 2)], [(m.type, m.index) for m in ready.messages])

    def test_conflict(self) -> None:
        """A conflicting entry goes with all that follows it; entries that agree stay (paper, 5.3)."""
        for own, prev, sent, result in (
            ((1, 1), 1, (2,), [2]),
            ((1, 1, 1), 2, (2, 2), [1, 2, 2]),
            ((1, 1, 1), 1, (1,), [1, 1, 1]),
            ((1,), 2, (1, 2), [1, 1, 2]),
        ):
            network = Network(logs={1: own})
            new = [entry._replace(index=entry.index + prev - 1) for entry in entries(*sent)]
            message = Message(MessageType.APP, 1, 2, 5, 1, prev, new)
            network[1].node.step(message)
            network[1].settle()
            self.assertEqual(result, network.log(1), (own, sent))

    def test_commit_only_what_was_compared(self) -> None:
        """A follower commits no further than the last entry of the message (paper, figure 2)."""
        follower = Network(logs={1: (1, 1, 1)})[1]
        follower.node.step(Message(MessageType.APP, 1, 2, 5, 1, 2, (), 4))
        self.assertEqual(2, follower.node.status().hard_state.commit)

    def test_committed_entries_stay(self) -> None:
        """An append from below the commit index changes nothing; it is told how far (paper, figure 3)."""
        follower = Network(logs={1: (1, 1)})[1]
        follower.node.step(Message(MessageType.HEARTBEAT, 1, 2, 2, commit=3))
        follower.settle()
        follower.node.step(Message(MessageType.APP, 1, 3, 5, 1, 1, entries(4)))
        [answer] = follower.carry_out().messages
        self.assertEqual((3, False), (answer.index, answer.reject))
        self.assertEqual(entries(1, 1), list(follower.storage.entries(2, 4, 999)))

    def test_kf_11_committed_past_the_end(self) -> None:
        """A leader that thinks this log longer than it is: the disk forgot, so stop (paper, 5.4.3)."""
        follower = Network(logs={1: (1, 1)})[1]
        message = Message(MessageType.HEARTBEAT, 1, 2, 2, commit=4)
        self.assertRaises(InvariantError, follower.node.step, message)

    def test_logs_of_figure_7(self) -> None:
        """Whatever a follower lacks or has too much, its log becomes like the leader's (paper, figure 7)."""
        leader = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
        for other in (
            (1, 1, 1, 4, 4, 5, 5, 6, 6),
            (1, 1, 1, 4),
            (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
            (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
            (1, 1, 1, 4, 4, 4, 4),
            (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
        ):
            # The third member's log is empty: it votes for the leader and makes the majority.
            network = Network(logs={1: leader, 2: other})
            node = network[1].node
            while node.role is not Role.LEADER:
                node.campaign()
                network.settle()
            network.propose(1, b"x")
            self.assertEqual([*leader, node.term, node.term], network.log(1))
            for id in (2, 3):
                self.assertEqual(network.log(1), network.log(id), other)

    def test_few_probes(self) -> None:
        """A whole term is skipped at a time when logs differ (paper, end of 5.3)."""
        network = Network(logs={1: (1, *[2] * 20, *[6] * 20), 2: (1, *[3] * 60)})
        network.isolate(2)
        network.elect(1)
        network.heal()
        network.delivered.clear()
        network.tick(1)
        rejections = [m for m in network.delivered if m.type is MessageType.APP_RESP and m.reject]
        self.assertEqual(2, len(rejections), "one in term 6, one in term 2")
        self.assertEqual(network.log(1), network.log(2))

    def test_retry(self) -> None:
        """A leader tries a slow follower again until it has everything (paper, 5.3)."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        for number in range(20):
            network.propose(1, b"%d" % number)
        self.assertEqual([], network[3].data())
        network.heal()
        network.tick(1)
        self.assertEqual(network[1].data(), network[3].data())

    def test_leader_appends_only(self) -> None:
        """A leader never overwrites or removes entries of its own log (paper, figure 3)."""
        network = Network(logs={1: (1, 1)})
        leader = network.elect(1)
        before = network.log(1)
        leader.node.step(Message(MessageType.APP, 1, 2, 1, 1, 1, entries(1)))
        network.propose(1, b"x")
        self.assertEqual(before, network.log(1)[: len(before)])


class OlderTermTests(SynchronousTestCase):
    """An entry of an older term is not committed by counting copies (raft paper, 5.4.2 and figure 8)."""

    def test_kf_02_figure_8(self) -> None:
        """
        A majority holds an entry of term 2, yet it is committed only with one of the leader's own term: until
        then a later leader could still replace it.
        """
        network = Network(5, logs={1: (2,), 2: (2,), 5: (3,)})
        network.isolate(1, 2, 3)
        leader = network[1]
        leader.node.campaign()
        network.isolate(5)
        leader.settle()
        for id in (2, 3):
            leader.node.step(Message(MessageType.VOTE_RESP, 1, id, leader.node.term))
        leader.settle()
        self.assertIs(Role.LEADER, leader.node.role)
        for id in (2, 3):
            leader.node.step(Message(MessageType.APP_RESP, 1, id, leader.node.term, 0, 2))
        self.assertEqual(1, network.committed(1))
        for id in (2, 3):
            leader.node.step(Message(MessageType.APP_RESP, 1, id, leader.node.term, 0, 3))
        self.assertEqual(3, network.committed(1))

    def test_first_entry(self) -> None:
        """So a new leader appends an empty entry of its term at once (paper, 8; dissertation, 6.4)."""
        network = Network(logs={1: (1, 1), 2: (1, 1)})
        network.elect(1)
        self.assertEqual([1, 1, 2], network.log(1))
        self.assertEqual(4, network.committed(3))


class CrashTests(SynchronousTestCase):
    """Requests to a member that crashed are repeated, and repeating does no harm (raft paper, 5.5)."""

    def test_repeated_append(self) -> None:
        """The same append again changes nothing and is acknowledged again (paper, 5.5)."""
        follower = Network()[1]
        append = Message(MessageType.APP, 1, 2, 2, 1, 1, entries(2, 2), 1)
        answers = []
        for _ in range(2):
            follower.node.step(append)
            answers += follower.carry_out().messages
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(entries(2, 2), list(follower.storage.entries(2, 4, 999)))

    def test_repeated_vote(self) -> None:
        """So is the same request for a vote (paper, 5.5)."""
        voter = Network()[1]
        request = Message(MessageType.VOTE, 1, 2, 5, 1, 1)
        for _ in range(2):
            voter.node.step(request)
        first, second = voter.carry_out().messages
        self.assertEqual(first, second)
        self.assertEqual(HardState(5, 2, 1), voter.storage.initial_state()[0])
