"""One voter: the whole cycle of proposing, saving, committing and applying, without anybody to ask."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, single_leader, stored
from twistedetcd.raft.errors import InvariantError, ProposalDroppedError
from twistedetcd.raft.types import (
    NOBODY,
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Role,
    SoftState,
)


class BootstrapTests(SynchronousTestCase):
    """A new cluster begins with its members as the first entries of the log (raft.md 14)."""

    def test_first_ready(self) -> None:
        """The first Ready carries one ADD_NODE change per peer, committed, in the configuration at once."""
        member = Member()
        member.node.bootstrap([(1, b"one")])
        ready = member.carry_out()
        self.assertEqual([(1, 1, EntryType.CONF_CHANGE)], [(e.term, e.index, e.type) for e in ready.entries])
        self.assertEqual(ready.entries, ready.committed)
        self.assertEqual(HardState(1, 0, 1), ready.hard_state)
        self.assertTrue(ready.must_sync)
        self.assertEqual(ConfState((1,)), member.configuration)
        self.assertFalse(member.node.has_ready())

    def test_only_on_an_empty_storage(self) -> None:
        """A member that has a log belongs to a cluster already."""
        again = Member(storage=single_leader().storage)
        self.assertRaises(ValueError, again.node.bootstrap, [(1, b"")])
        self.assertRaises(ValueError, Member().node.bootstrap, [])

    def test_no_campaign_before_the_changes_are_applied(self) -> None:
        """A committed membership change not yet applied forbids to campaign (raft.md 8)."""
        member = Member()
        member.node.bootstrap([(1, b"")])
        member.node.campaign()
        self.assertIs(Role.FOLLOWER, member.node.role)


class CampaignTests(SynchronousTestCase):
    """A follower that hears no leader campaigns (raft paper, 5.2)."""

    def campaigning(self, **config: Any) -> Member:
        member = Member(storage=stored((1,), [], HardState(1, 0, 1)), applied=1, **config)
        member.node.campaign()
        return member

    def test_own_vote_counts_once_durable(self) -> None:
        """Even the only voter leads after its vote is saved, not before (raft.md 15)."""
        member = self.campaigning(pre_vote=False)
        self.assertIs(Role.CANDIDATE, member.node.role)
        ready = member.node.ready()
        self.assertEqual(HardState(2, 1, 1), ready.hard_state)
        self.assertTrue(ready.must_sync)
        self.assertEqual([], list(ready.messages))
        self.assertIs(Role.CANDIDATE, member.node.role)
        member.node.advance()
        self.assertIs(Role.LEADER, member.node.role)

    def test_pre_vote_changes_no_term(self) -> None:
        """With pre-vote the first round saves nothing; the second raises the term (dissertation, 9.6)."""
        member = self.campaigning()
        first = member.carry_out()
        self.assertIsNone(first.hard_state)
        self.assertEqual(SoftState(NOBODY, Role.PRE_CANDIDATE), first.soft_state)
        second = member.carry_out()
        self.assertEqual(HardState(2, 1, 1), second.hard_state)
        self.assertEqual(SoftState(1, Role.LEADER), member.carry_out().soft_state)

    def test_first_entry_of_the_term(self) -> None:
        """A leader appends an empty entry at once (dissertation, 6.4)."""
        member = self.campaigning(pre_vote=False)
        member.carry_out()
        self.assertEqual([Entry(2, 2)], list(member.carry_out().entries))

    def test_timeout(self) -> None:
        """The timeout is drawn from [election_ticks, 2 * election_ticks) (raft paper, 5.2)."""
        asked: list[int] = []

        def draw(n: int) -> int:
            asked.append(n)
            return 3

        storage = stored((1,), [], HardState(1, 0, 1))
        member = Member(storage=storage, applied=1, election_ticks=5, pre_vote=False, draw=draw)
        self.assertEqual([5], asked)
        for _ in range(7):
            member.node.tick()
        self.assertIs(Role.FOLLOWER, member.node.role)
        member.node.tick()
        self.assertIs(Role.CANDIDATE, member.node.role)

    def test_single_leader_keeps_leading(self) -> None:
        """A quorum check of a single voter finds its quorum (dissertation, 6.2)."""
        member = single_leader()
        for _ in range(50):
            member.node.tick()
            member.settle()
        self.assertIs(Role.LEADER, member.node.role)
        self.assertEqual([], member.sent)


class ProposalTests(SynchronousTestCase):
    """Proposals become entries, entries are saved, saved entries are committed (raft paper, 5.3)."""

    def test_kf_01_commit_after_advance(self) -> None:
        """Nothing is committed before the Ready that carried it is saved and advanced."""
        member = single_leader()
        commit = member.node.status().hard_state.commit
        member.node.propose([b"a", b"b"])
        ready = member.node.ready()
        self.assertEqual([b"a", b"b"], [entry.data for entry in ready.entries])
        self.assertTrue(ready.must_sync)
        self.assertEqual([], list(ready.committed))
        self.assertEqual(commit, member.node.status().hard_state.commit)
        member.save(ready)
        member.node.advance()
        self.assertEqual(commit + 2, member.node.status().hard_state.commit)
        ready = member.carry_out()
        self.assertEqual([b"a", b"b"], [entry.data for entry in ready.committed])
        self.assertFalse(ready.must_sync)

    def test_later_proposals_wait_for_their_own_save(self) -> None:
        """Entries proposed between a Ready and its advance are not acknowledged by it (raft.md 3)."""
        member = single_leader()
        member.node.propose([b"a"])
        first = member.node.ready()
        member.node.propose([b"b"])
        member.save(first)
        member.node.advance()
        second = member.carry_out()
        self.assertEqual([b"a"], [entry.data for entry in second.committed])
        self.assertEqual([b"b"], [entry.data for entry in second.entries])

    def test_same_objects(self) -> None:
        """The data that was proposed is the data that is committed, not a copy."""
        member = single_leader()
        datas = [bytes([n]) * 100 for n in range(20)]
        member.node.propose(datas)
        member.settle()
        committed = [entry.data for entry in member.applied[-20:]]
        self.assertTrue(all(given is taken for given, taken in zip(datas, committed, strict=True)))

    def test_nobody_leads(self) -> None:
        """Without a leader a proposal is dropped, by a follower and by a candidate (raft.md 9)."""
        member = Member(storage=stored((1,), [], HardState(1, 0, 1)), applied=1)
        self.assertRaises(ProposalDroppedError, member.node.propose, [b"a"])
        member.node.campaign()
        self.assertRaises(ProposalDroppedError, member.node.propose, [b"a"])

    def test_kf_07_uncommitted_limit(self) -> None:
        """What is not applied is bounded; a first proposal passes however large it is (raft.md 9)."""
        member = single_leader(max_uncommitted_bytes=10)
        member.node.propose([b"x" * 100])
        self.assertRaises(ProposalDroppedError, member.node.propose, [b"y"])
        member.settle()
        member.node.propose([b"y"])

    def test_one_ready_at_a_time(self) -> None:
        """A second Ready before advance, or an advance without one, is a driver's bug (raft.md 3)."""
        member = single_leader()
        self.assertRaises(InvariantError, member.node.advance)
        member.node.propose([b"a"])
        member.node.ready()
        self.assertRaises(InvariantError, member.node.ready)

    def test_kf_06_committed_in_portions(self) -> None:
        """Committed entries come out in order, as many as the limit allows, none lost (raft.md 5)."""
        member = single_leader(max_bytes_per_message=250, max_committed_bytes_per_ready=250)
        datas = [bytes([n]) * 100 for n in range(1, 11)]
        member.node.propose(datas)
        portions = [len(ready.committed) for ready in member.settle()]
        self.assertEqual(datas, member.data())
        self.assertEqual([0, 2, 2, 2, 2, 2], portions)


class MembershipTests(SynchronousTestCase):
    """A change takes effect when it is applied (dissertation, 4.1)."""

    def test_applied(self) -> None:
        """The change comes back committed, and its application returns the new configuration."""
        member = single_leader()
        member.node.propose_conf_change(ConfChange(7, ConfChangeType.ADD_LEARNER_NODE, 2, b"url"))
        self.assertEqual((), member.node.status().configuration.learners)
        member.settle()
        self.assertEqual(ConfState((1,), (2,)), member.configuration)

    def test_one_at_a_time(self) -> None:
        """A second change before the first is applied becomes an empty entry (raft.md 12)."""
        member = single_leader()
        last = member.node.status().last_index
        for id in (2, 3):
            member.node.propose_conf_change(ConfChange(0, ConfChangeType.ADD_LEARNER_NODE, id))
        first, second = member.node.ready().entries
        self.assertEqual(EntryType.CONF_CHANGE, first.type)
        self.assertEqual(Entry(first.term, last + 2), second)

    def test_refused_change(self) -> None:
        """A change with node id 0 changes nothing, so the application can refuse one (raft.md 3)."""
        member = single_leader()
        before = member.node.status().configuration
        self.assertEqual(before, member.node.apply_conf_change(ConfChange()))


class RestartTests(SynchronousTestCase):
    """What was acknowledged is there after a crash (raft paper, 5.4)."""

    def test_from_hard_state_and_log(self) -> None:
        """Entries after the stored commit index are committed by the first entry of the new term."""
        entries = [Entry(3, 2, b"a"), Entry(3, 3, b"b"), Entry(3, 4, b"c")]
        member = Member(storage=stored((1,), entries, HardState(3, 1, 2)), applied=1)
        member.settle()
        self.assertEqual([b"a"], member.data())
        self.assertIs(Role.FOLLOWER, member.node.role)
        member.node.campaign()
        member.settle()
        self.assertEqual(4, member.node.term)
        self.assertEqual([b"a", b"b", b"c"], member.data())
        self.assertEqual(Entry(4, 5), member.applied[-1])

    def test_applied_entries_are_not_handed_out_again(self) -> None:
        """``applied`` says where the application stands (raft.md 14)."""
        entries = [Entry(3, 2, b"a"), Entry(3, 3, b"b")]
        member = Member(storage=stored((1,), entries, HardState(3, 1, 3)), applied=2)
        member.settle()
        self.assertEqual([b"b"], member.data())

    def test_lost_log(self) -> None:
        """A commit index past the end of the log means that a disk forgot: the member must not start."""
        storage = stored((1,), [], HardState(3, 1, 9))
        self.assertRaises(InvariantError, Member, storage=storage)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["go", "crash", "crash unsaved"])), max_size=12)
    )
    def test_nothing_acknowledged_is_lost(self, steps: list[tuple[int, str]]) -> None:
        """
        Whatever is handed out as committed comes back after any crash, in the same order; the commit index
        never decreases (raft.md 17, invariants 5, 8 and 12).
        """
        member, acknowledged, number, commit = single_leader(), [], 0, 0
        for count, end in steps:
            datas = [b"%d" % (number + n) for n in range(count)]
            number += count
            member.node.propose(datas)
            if end == "crash unsaved":
                member.node.ready()
            else:
                member.carry_out()
            if end == "go":
                member.settle()
                acknowledged = member.data()
            else:
                member = Member(storage=member.storage)
                member.settle()
                member.node.campaign()
                member.settle()
                acknowledged += datas if end == "crash" else []
            self.assertEqual(acknowledged, member.data())
            self.assertGreaterEqual(member.node.status().hard_state.commit, commit)
            commit = member.node.status().hard_state.commit
