"""Members among themselves, over a network that loses, repeats and reorders, on disks that crash."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, stored
from twistedetcd.raft.errors import LocalMessageError, PeerNotFoundError, ProposalDroppedError
from twistedetcd.raft.roles import REACTIONS
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfState, Entry, HardState, Message, MessageType, Role

VOTERS = (1, 2, 3)


class Cluster:
    """Three members, one seed, no time."""

    def __init__(self, seed: int, *, crashes: bool = True) -> None:
        self.random = random.Random(seed)
        self.crashes = crashes
        self.members = {id: self.started(id, stored(VOTERS, [], HardState(1, 0, 1))) for id in VOTERS}
        self.messages: list[Message] = []
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.commits = dict.fromkeys(VOTERS, 0)
        self.proposed = 0

    def started(self, id: int, storage: MemoryStorage) -> Member:
        applied = storage.first_index() - 1
        return Member(
            id,
            storage,
            applied=applied,
            election_ticks=4,
            draw=self.random.randrange,
            max_inflight_messages=3,
        )

    def step(self) -> None:
        """One thing happens."""
        dice = self.random.random()
        id = self.random.choice(VOTERS)
        member = self.members[id]
        if dice < 0.30:
            member.node.tick()
        elif dice < 0.36:
            self.proposed += 1
            with contextlib.suppress(ProposalDroppedError):
                member.node.propose([b"%d" % self.proposed])
        elif dice < 0.38 and self.crashes:
            self.commits[id] = 0
            self.members[id] = self.started(id, member.storage)
        elif dice < 0.39:
            self.compact(member)
        elif self.messages:
            self.deliver()
        self.carry_out(id)
        self.check(id)

    def compact(self, member: Member) -> None:
        applied = member.applied[-1].index if member.applied else 0
        if applied > member.storage.first_index():
            member.storage.create_snapshot(applied, ConfState(VOTERS))
            member.storage.compact(applied)

    def deliver(self) -> None:
        message = self.messages.pop(self.random.randrange(len(self.messages)))
        fate = self.random.random()
        if fate < 0.1:
            if message.type is MessageType.SNAP:
                self.members[message.sender].node.report_snapshot(message.to, delivered=False)
            return
        if fate < 0.2:
            self.messages.append(message)
        with contextlib.suppress(ProposalDroppedError):
            self.members[message.to].node.step(message)
        if message.type is MessageType.SNAP and fate >= 0.2:
            self.members[message.sender].node.report_snapshot(message.to, delivered=True)
        self.carry_out(message.to)

    def carry_out(self, id: int) -> None:
        member = self.members[id]
        while member.node.has_ready():
            member.sent = []
            ready = member.carry_out()
            self.messages += member.sent
            if member.node.role is Role.LEADER:
                assert self.leaders.setdefault(member.node.term, id) == id, "two leaders in one term"
            for entry in ready.committed:
                known = self.committed.setdefault(entry.index, entry)
                assert known == entry, "two entries at one index"

    def check(self, id: int) -> None:
        status = self.members[id].node.status()
        assert status.applied <= status.hard_state.commit <= status.last_index
        assert self.commits[id] <= status.hard_state.commit
        self.commits[id] = status.hard_state.commit
        for progress in status.progress.values():
            assert 0 <= progress.match < progress.next and progress.match <= status.last_index

    def heal(self) -> None:
        """Everything is delivered, in order, until all agree."""
        for _ in range(60):
            for id in VOTERS:
                self.members[id].node.tick()
                self.carry_out(id)
            while self.messages:
                message = self.messages.pop(0)
                with contextlib.suppress(ProposalDroppedError):
                    self.members[message.to].node.step(message)
                if message.type is MessageType.SNAP:
                    self.members[message.sender].node.report_snapshot(message.to, delivered=True)
                    self.carry_out(message.sender)
                self.carry_out(message.to)


class SafetyTests(SynchronousTestCase):
    """What must hold whatever happens (raft paper, figure 3; raft.md 17)."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.integers(0, 2**32))
    def test_safety(self, seed: int) -> None:
        """One leader a term, one entry an index, commit indexes that only rise; and in the end all agree."""
        cluster = Cluster(seed)
        for _ in range(600):
            cluster.step()
        cluster.heal()
        commits = {member.node.status().hard_state.commit for member in cluster.members.values()}
        self.assertEqual(1, len(commits))
        self.assertEqual(1, [m.node.role for m in cluster.members.values()].count(Role.LEADER))

    def test_deterministic(self) -> None:
        """The same seed gives the same history (raft.md 17, invariant 24)."""
        histories = []
        for _ in range(2):
            cluster = Cluster(7)
            for _ in range(800):
                cluster.step()
            histories.append((cluster.committed, cluster.leaders, cluster.messages))
        self.assertEqual(histories[0], histories[1])


class DoorTests(SynchronousTestCase):
    """What may come in from outside (raft.md 2)."""

    def setUp(self) -> None:
        self.member = Member(storage=stored(VOTERS, [], HardState(1, 0, 1)), applied=1, pre_vote=False)

    def test_local_messages(self) -> None:
        """A message to oneself is refused when it comes from somebody else."""
        hup = Message(MessageType.HUP, to=1, sender=2)
        self.assertRaises(LocalMessageError, self.member.node.step, hup)

    def test_strangers(self) -> None:
        """An answer from a member that is not known is refused."""
        answer = Message(MessageType.APP_RESP, to=1, sender=9, term=1)
        self.assertRaises(PeerNotFoundError, self.member.node.step, answer)

    def test_votes_leave_after_they_are_saved(self) -> None:
        """A request for votes comes out with the vote that must be durable first (raft.md 15)."""
        self.member.node.campaign()
        ready = self.member.node.ready()
        self.assertEqual(HardState(2, 1, 1), ready.hard_state)
        expected = [Message(MessageType.VOTE, to, 1, 2, 1, 1) for to in (2, 3)]
        self.assertEqual(expected, list(ready.messages))

    def test_one_vote_a_term(self) -> None:
        """Who voted does not vote for another in the same term (raft paper, 5.2)."""
        node = self.member.node
        for candidate in (2, 3):
            node.step(Message(MessageType.VOTE, to=1, sender=candidate, term=5, index=1, log_term=1))
        answers = [(m.to, m.reject) for m in self.member.carry_out().messages]
        self.assertEqual([(2, False), (3, True)], answers)
        self.assertEqual(HardState(5, 2, 1), self.member.storage.initial_state()[0])

    def test_a_heard_leader_is_not_voted_out(self) -> None:
        """Within an election timeout of its leader a member ignores candidates (dissertation, 6.2)."""
        node = self.member.node
        node.step(Message(MessageType.HEARTBEAT, to=1, sender=2, term=5))
        node.step(Message(MessageType.VOTE, to=1, sender=3, term=6, index=9, log_term=5))
        self.assertEqual((5, 2), (node.term, node.lead))

    def test_every_role_hears_votes(self) -> None:
        """No role is deaf to a campaign or to its own storage."""
        for role in Role:
            self.assertIn(MessageType.VOTE, REACTIONS[role])
            self.assertIn(MessageType.STORAGE_APPEND_RESP, REACTIONS[role])
