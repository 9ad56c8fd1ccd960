"""Known failures of raft itself that no other test here shows under its number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, single_leader
from tests.raft.network import Network
from twistedetcd.raft.errors import ProposalDroppedError
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import (
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Role,
    Snapshot,
)


class StingyStorage(MemoryStorage):
    """Gives out one entry at a time, however many it is asked for."""

    def entries(self, low: int, high: int, bytes_max: int) -> Sequence[Entry]:
        """See `Storage.entries`."""
        return super().entries(low, high, bytes_max)[:1]


class CommitTests(SynchronousTestCase):
    """What a Ready says of the commit index."""

    def test_kf_06_commit_is_not_cut_to_the_page(self) -> None:
        """
        The hard state names all that is committed, however few entries come with it; each of them comes out
        once, in order, also when the member restarts half way.
        """
        datas = [b"%d" % number for number in range(10)]
        member = single_leader(storage=StingyStorage(), max_committed_bytes_per_ready=1000)
        member.node.propose(datas)
        member.carry_out()
        last = member.storage.last_index()
        ready = member.carry_out()
        assert ready.hard_state is not None
        self.assertEqual((last, datas[:1]), (ready.hard_state.commit, member.data()))
        for _ in range(4):
            state = member.carry_out().hard_state
            self.assertIn(state, (None, ready.hard_state))
        self.assertEqual(datas[:5], member.data())
        again = Member(storage=member.storage, applied=member.applied[-1].index)
        self.assertEqual(last, again.node.status().hard_state.commit)
        again.settle()
        self.assertEqual(datas[5:], again.data())


class UncommittedTests(SynchronousTestCase):
    """What is proposed and not committed is limited, and counted back."""

    def test_kf_07_a_leader_again(self) -> None:
        """A leader that lost what it proposed, and leads again, owes nothing."""
        network = Network(max_uncommitted_bytes=100)
        network.elect(1)
        network.isolate(1)
        with self.assertRaises(ProposalDroppedError):
            for _ in range(20):
                network.propose(1, bytes(20))
        network.elect(2)
        network.heal()
        network.propose(2, b"from the new one")
        network.tick(2)
        self.assertEqual([2], network.leaders())
        network.elect(1)
        network.propose(1, bytes(1000))
        network.propose(1, b"and another")
        self.assertEqual([b"from the new one", bytes(1000), b"and another"], network[3].data())

    def test_kf_07_empty_entries(self) -> None:
        """An entry without data is taken when nothing else is."""
        network = Network(max_uncommitted_bytes=100)
        network.elect(1)
        network.isolate(1)
        network.propose(1, bytes(1000))
        self.assertRaises(ProposalDroppedError, network.propose, 1, b"x")
        last = network[1].node.status().last_index
        network.propose(1, b"")
        self.assertEqual(last + 1, network[1].node.status().last_index)


class JointTests(SynchronousTestCase):
    """A joint configuration survives restarts and snapshots."""

    joint = ConfState(
        voters=(1, 4, 5), learners=(), voters_outgoing=(1, 2, 3), learners_next=(3,), auto_leave=False
    )

    def restarted(self) -> Network:
        """Five members that start from a snapshot with this configuration."""
        network = Network(5)
        for id in network.voters:
            storage = MemoryStorage()
            storage.apply_snapshot(Snapshot(5, 1, self.joint))
            storage.set_hard_state(HardState(1, 0, 5))
            network.members[id] = Member(id, storage, applied=5, **network.config)
        return network

    def elects(self, reachable: set[int], candidate: int) -> bool:
        """Whether one of them is elected by some others."""
        network = self.restarted()
        network.isolate(*reachable)
        network[candidate].node.campaign()
        network.settle()
        return network[candidate].node.role is Role.LEADER

    def test_kf_08_both_halves_elect_after_a_restart(self) -> None:
        """Restarted inside of it, only who has a majority of both halves leads."""
        for size in range(1, 6):
            for chosen in combinations(range(1, 6), size):
                reachable = set(chosen)
                both = len(reachable & {1, 2, 3}) >= 2 and len(reachable & {1, 4, 5}) >= 2
                for candidate in reachable:
                    self.assertEqual(both, self.elects(reachable, candidate), (reachable, candidate))

    def test_kf_08_left_after_a_restart(self) -> None:
        """It is left when that is committed, and who was to become a learner is one then."""
        network = self.restarted()
        network.elect(1)
        network[1].node.propose_conf_change(ConfChangeV2())
        network.settle()
        for id in (1, 4, 5):
            self.assertEqual(ConfState((1, 4, 5), (3,)), network[id].node.status().configuration)
