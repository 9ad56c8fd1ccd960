"""Terms and elections, as the Raft paper describes them (5.1, 5.2, 5.4.1)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, stored
from tests.raft.network import Network, entries
from twistedetcd.raft.types import NOBODY, HardState, Message, MessageType, Role


def member(role: Role = Role.FOLLOWER, *, term: int = 2, **config: object) -> Member:
    """Member 1 of three in a role, at a term, with nothing left to do; 2 leads a follower."""
    settings = {"pre_vote": False, "check_quorum": False, **config}
    before = term if role is Role.FOLLOWER else term - 1
    made = Member(storage=stored((1, 2, 3), [], HardState(before, 0, 1)), applied=1, **settings)
    if role is Role.FOLLOWER:
        made.node.step(Message(MessageType.HEARTBEAT, 1, 2, term))
    else:
        made.node.campaign()
        made.settle()
    if role is Role.LEADER:
        made.node.step(Message(MessageType.VOTE_RESP, 1, 2, term))
    made.settle()
    made.sent.clear()
    assert (made.node.role, made.node.term) == (role, term), "the test began wrong"
    return made


ROLES = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)


class TermTests(SynchronousTestCase):
    """Terms are a logical clock (raft paper, 5.1)."""

    def test_larger_term(self) -> None:
        """Whoever sees a larger term takes it; candidates and leaders become followers (paper, 5.1)."""
        for role in ROLES:
            one = member(role)
            one.node.step(Message(MessageType.APP, 1, 3, 5, 1, 1))
            self.assertEqual((Role.FOLLOWER, 5, 3), (one.node.role, one.node.term, one.node.lead))

    def test_larger_term_is_saved(self) -> None:
        """The term is on the disk before an answer leaves (paper, 5.1 and figure 2)."""
        one = member()
        one.node.step(Message(MessageType.VOTE, 1, 3, 5, 9, 9))
        ready = one.node.ready()
        self.assertEqual((HardState(5, 3, 1), True), (ready.hard_state, ready.must_sync))

    def test_smaller_term(self) -> None:
        """A request from an older term is refused: nothing changes (paper, 5.1)."""
        for role in ROLES:
            one = member(role, term=4)
            before = one.node.status().hard_state, one.node.role, one.node.lead
            one.node.step(Message(MessageType.APP, 1, 3, 3, 1, 1, entries(3), 2))
            one.settle()
            self.assertEqual(before, (one.node.status().hard_state, one.node.role, one.node.lead))
            self.assertEqual(([], []), (one.sent, list(one.storage.entries(2, 2, 0))))


class ElectionTests(SynchronousTestCase):
    """Who leads (raft paper, 5.2)."""

    def test_start(self) -> None:
        """Members start as followers (paper, 5.2)."""
        for one in Network().members.values():
            self.assertEqual((Role.FOLLOWER, NOBODY), (one.node.role, one.node.lead))

    def test_heartbeats(self) -> None:
        """A leader sends heartbeats to everybody, again and again (paper, 5.2)."""
        leader = member(Role.LEADER, heartbeat_ticks=2)
        for _ in range(6):
            leader.node.tick()
            leader.settle()
        beats = [message.to for message in leader.sent if message.type is MessageType.HEARTBEAT]
        self.assertEqual([2, 3] * 3, beats)

    def test_no_election_while_a_leader_is_heard(self) -> None:
        """A follower stays one as long as it hears from a leader (paper, 5.2)."""
        one = member(election_ticks=5)
        for _ in range(20):
            one.node.tick()
            one.node.step(Message(MessageType.HEARTBEAT, 1, 2, 2))
        self.assertIs(Role.FOLLOWER, one.node.role)

    def test_election(self) -> None:
        """Without a leader it raises its term, votes for itself and asks everybody at once (paper, 5.2)."""
        for role in (Role.FOLLOWER, Role.CANDIDATE):
            one = member(role, election_ticks=5)
            for _ in range(5):
                one.node.tick()
            ready = one.carry_out()
            self.assertEqual(HardState(3, 1, 1), ready.hard_state)
            asked = [Message(MessageType.VOTE, to, 1, 3, 1, 1) for to in (2, 3)]
            self.assertEqual(asked, list(ready.messages))

    def test_majority(self) -> None:
        """A candidate wins by more than half of the votes, and loses by as many refusals (paper, 5.2)."""
        for count, grants, refusals, role in (
            (1, 0, 0, Role.LEADER),
            (3, 0, 0, Role.CANDIDATE),
            (3, 1, 0, Role.LEADER),
            (3, 0, 2, Role.FOLLOWER),
            (5, 1, 2, Role.CANDIDATE),
            (5, 2, 0, Role.LEADER),
            (5, 1, 3, Role.FOLLOWER),
        ):
            network = Network(count)
            node = network[1].node
            node.campaign()
            network[1].settle()
            for place, voter in enumerate(range(2, 2 + grants + refusals)):
                node.step(Message(MessageType.VOTE_RESP, 1, voter, node.term, reject=place >= grants))
            self.assertEqual((role, 2), (node.role, node.term), (count, grants, refusals))

    def test_first_answer_counts(self) -> None:
        """A member votes once in a term, however often its answer arrives (paper, 5.2)."""
        network = Network(5)
        node = network[1].node
        node.campaign()
        network[1].settle()
        for _ in range(5):
            node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
        self.assertIs(Role.CANDIDATE, node.role)

    def test_one_vote_a_term(self) -> None:
        """First come, first served; the same candidate is told yes again (paper, 5.2)."""
        one = Network()[1]
        for candidate, reject in ((2, False), (3, True), (2, False)):
            one.node.step(Message(MessageType.VOTE, 1, candidate, 5, 1, 1))
            [answer] = one.carry_out().messages
            self.assertEqual((candidate, 5, reject), (answer.to, answer.term, answer.reject))

    def test_vote_survives_a_crash(self) -> None:
        """Who restarts remembers for whom it voted (paper, 5.2 and figure 2)."""
        one = Network()[1]
        one.node.step(Message(MessageType.VOTE, 1, 2, 5, 1, 1))
        one.carry_out()
        again = Member(storage=one.storage, applied=1, pre_vote=False, check_quorum=False)
        again.node.step(Message(MessageType.VOTE, 1, 3, 5, 1, 1))
        [answer] = again.carry_out().messages
        self.assertTrue(answer.reject)

    def test_candidate_yields(self) -> None:
        """A candidate that hears from a leader of its term follows it (paper, 5.2)."""
        for kind in (MessageType.APP, MessageType.HEARTBEAT):
            one = member(Role.CANDIDATE)
            one.node.step(Message(kind, 1, 3, 2, 1, 1))
            self.assertEqual((Role.FOLLOWER, 2, 3), (one.node.role, one.node.term, one.node.lead))

    def test_split_vote(self) -> None:
        """When nobody wins, a candidate times out and starts a new election in the next term (paper, 5.2)."""
        network = Network(3)
        network.isolate(3)
        for id in (1, 2):
            network[id].node.campaign()
        network.settle()
        self.assertEqual([], network.leaders())
        network.tick(1, 10)
        self.assertEqual(([1], 3), (network.leaders(), network[1].node.term))

    def test_timeouts_are_spread(self) -> None:
        """Timeouts are drawn anew from a fixed interval at every change (paper, 5.2)."""
        draws = iter([3, 0, 4, 1, 2] * 4)
        one = member(election_ticks=5, draw=lambda ticks: next(draws))
        ticks = []
        for _ in range(4):
            term, count = one.node.term, 0
            while one.node.term == term:
                one.node.tick()
                one.settle()
                count += 1
            ticks.append(count)
        self.assertEqual(4, len(set(ticks)))
        self.assertTrue(all(5 <= count < 10 for count in ticks))


class RestrictionTests(SynchronousTestCase):
    """Only a complete log may lead (raft paper, 5.4.1)."""

    def test_up_to_date(self) -> None:
        """The later last term wins; with equal terms the longer log; equal logs may lead (paper, 5.4.1)."""
        for own, candidate, granted in (
            ((1,), (1,), True),
            ((1,), (1, 1), True),
            ((1, 1), (1,), False),
            ((1, 1), (2,), True),
            ((2,), (1, 1, 1), False),
            ((1, 2), (1, 1, 1, 1), False),
        ):
            voter = Network(logs={1: own})[1]
            last = Message(MessageType.VOTE, 1, 2, 9, candidate[-1], 1 + len(candidate))
            voter.node.step(last)
            [answer] = voter.carry_out().messages
            self.assertEqual(granted, not answer.reject, (own, candidate))

    def test_incomplete_log_cannot_win(self) -> None:
        """A member that lacks a committed entry is not elected by those who hold it (paper, 5.4.1)."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        network.propose(1, b"committed")
        network.heal()
        network[3].node.campaign()
        network.settle()
        self.assertNotEqual([3], network.leaders())
        network[2].node.campaign()
        network.settle()
        self.assertEqual([2], network.leaders())
        self.assertTrue(all(b"committed" in one.data() for one in network.members.values()))
