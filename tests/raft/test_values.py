"""Sizes, quorums and changes: the small pure parts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import no_draw
from twistedetcd.raft.changebytes import decode_change, encode_change
from twistedetcd.raft.confchange import Changer, restore
from twistedetcd.raft.config import Config
from twistedetcd.raft.describe import describe
from twistedetcd.raft.errors import ConfChangeError
from twistedetcd.raft.progress import Inflights, Progress, ProgressState
from twistedetcd.raft.quorum import (
    INFINITE,
    VoteResult,
    joint_index,
    joint_vote,
    majority_index,
    majority_vote,
)
from twistedetcd.raft.sizes import encoded_size, entry_size, limit
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
)

ids = st.integers(1, 7)


class SizeTests(SynchronousTestCase):
    """The encoded size is protobuf's (raft.md 1)."""

    def test_known(self) -> None:
        """Tags, varints and data, empty data not at all."""
        self.assertEqual(6, entry_size(Entry(1, 1)))
        self.assertEqual(6 + 2 + 1, entry_size(Entry(1, 1, b"x")))
        self.assertEqual(3 + 1 + 2 + 3 + 3 + 200, entry_size(Entry(300, 20000, b"x" * 200, 1)))

    @settings(deadline=None)
    @given(
        st.integers(120, 130),
        st.lists(st.sampled_from([0, 1, 127, 128, 300]), max_size=12),
        st.integers(0, 900),
    )
    def test_batches(self, first: int, lengths: list[int], bytes_max: int) -> None:
        """A batch is as large as its entries; a limit keeps the longest prefix that fits, or one entry."""
        batch = [Entry(1, index, bytes(length)) for index, length in enumerate(lengths, first)]
        self.assertEqual(sum(map(entry_size, batch)), encoded_size(batch))
        kept = limit(batch, bytes_max)
        self.assertEqual(batch[: len(kept)], list(kept))
        self.assertTrue(len(kept) == min(1, len(batch)) or encoded_size(kept) <= bytes_max)
        if len(kept) < len(batch):
            self.assertGreater(encoded_size(batch[: len(kept) + 1]), bytes_max)


class QuorumTests(SynchronousTestCase):
    """More than half of each half (raft paper, 5.2; dissertation, 4.3)."""

    @given(st.sets(ids), st.sets(ids), st.dictionaries(ids, st.integers(0, 9)))
    def test_index(self, voters: set[int], outgoing: set[int], acknowledged: dict[int, int]) -> None:
        """The index is the greatest that a majority of each half holds."""

        def held(half: set[int], index: int) -> bool:
            return (
                2 * sum(acknowledged.get(voter, 0) >= index for voter in sorted(half)) > len(half) or not half
            )

        index = joint_index(sorted(voters), sorted(outgoing), acknowledged)
        if not voters and not outgoing:
            self.assertEqual(INFINITE, index)
        else:
            self.assertTrue(held(voters, index) and held(outgoing, index))
            self.assertFalse(held(voters, index + 1) and held(outgoing, index + 1))
            self.assertEqual(
                index, min(majority_index(sorted(half), acknowledged) for half in (voters, outgoing))
            )

    @given(st.sets(ids), st.sets(ids), st.dictionaries(ids, st.booleans()))
    def test_vote(self, voters: set[int], outgoing: set[int], votes: dict[int, bool]) -> None:
        """Pending means that the answers not in yet can still decide either way."""
        missing = sorted((voters | outgoing) - votes.keys())
        best = joint_vote(sorted(voters), sorted(outgoing), votes | dict.fromkeys(missing, True))
        worst = joint_vote(sorted(voters), sorted(outgoing), votes | dict.fromkeys(missing, False))
        result = joint_vote(sorted(voters), sorted(outgoing), votes)
        self.assertEqual(result is VoteResult.WON, worst is VoteResult.WON)
        if result is VoteResult.LOST:
            self.assertIs(VoteResult.LOST, best)

    def test_nobody(self) -> None:
        """An empty majority agrees with everything (raft.md 9)."""
        self.assertIs(VoteResult.WON, majority_vote([], {}))
        self.assertEqual(INFINITE, majority_index([], {}))


class ProgressTests(SynchronousTestCase):
    """What a leader may send (raft.md 7)."""

    def test_probe(self) -> None:
        """One append with entries, then silence until an answer; an empty one does not pause."""
        progress = Progress(0, 5, Inflights(2))
        progress.sent_entries(0, 0)
        self.assertFalse(progress.paused())
        progress.sent_entries(1, 10)
        self.assertTrue(progress.paused())
        self.assertFalse(progress.maybe_decrease(9, 2))
        self.assertTrue(progress.maybe_decrease(4, 2))
        self.assertEqual((3, False), (progress.next, progress.paused()))

    def test_window(self) -> None:
        """The window is full at its count, and freed by an acknowledgement."""
        progress = Progress(4, 5, Inflights(2))
        progress.become_replicate()
        for _ in range(2):
            progress.sent_entries(3, 10)
        self.assertEqual((11, True), (progress.next, progress.paused()))
        self.assertEqual("StateReplicate match=4 next=11 paused inactive inflight=2[full]", str(progress))
        progress.maybe_update(7)
        progress.inflights.free_through(7)
        self.assertEqual((7, False, 1), (progress.match, progress.paused(), len(progress.inflights)))

    def test_window_bytes(self) -> None:
        """The limit of bytes is soft: the append that crosses it is sent."""
        window = Inflights(9, 15)
        window.add(1, 10)
        self.assertFalse(window.full())
        window.add(2, 10)
        self.assertTrue(window.full())

    def test_snapshot(self) -> None:
        """After a snapshot the member is probed right behind it."""
        progress = Progress(1, 2, Inflights(2))
        progress.become_snapshot(8)
        self.assertTrue(progress.paused())
        progress.become_probe()
        self.assertEqual(
            (9, ProgressState.PROBE, 0), (progress.next, progress.state, progress.pending_snapshot)
        )


singles = st.builds(ConfChangeSingle, st.sampled_from([0, 1, 2, 3]), st.integers(0, 5))


class ChangeTests(SynchronousTestCase):
    """Consecutive configurations overlap in every quorum (dissertation, 4.1 and 4.3)."""

    @given(st.lists(st.tuples(st.integers(0, 2), st.lists(singles, max_size=4).map(tuple)), max_size=8))
    def test_overlap(self, asked: list[tuple[int, tuple[ConfChangeSingle, ...]]]) -> None:
        """
        One voter differs at most, or one of the two is joint and has the other's voters as a half; and what
        is stored restores to the same (raft.md 17, invariants 10 and 23).
        """
        configuration, members = restore(ConfState((1,)), 1, Inflights(1))
        for transition, changes in asked:
            before = configuration
            changer = Changer(configuration, members, 1, Inflights(1))
            try:
                changer.change(ConfChangeV2(transition, changes))
            except ConfChangeError:
                continue
            configuration, members = changer.result()
            if configuration.voters_outgoing:
                self.assertEqual(before.voters, configuration.voters_outgoing)
            elif before.voters_outgoing:
                self.assertEqual(before.voters, configuration.voters)
            else:
                self.assertLessEqual(len(set(before.voters) ^ set(configuration.voters)), 1)
            self.assertTrue(configuration.voters)
            self.assertEqual(configuration, restore(configuration, 1, Inflights(1))[0])
            self.assertEqual(sorted(members), list(members))

    def test_describe(self) -> None:
        """A configuration reads as etcd's raft prints it."""
        state = ConfState((1, 10), (3,), (1, 4), (4,), True)
        self.assertEqual("voters=(1 a)&&(1 4) learners=(3) learners_next=(4) autoleave", describe(state))

    @given(
        st.builds(
            ConfChange, st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(0, 2**64 - 1), st.binary()
        )
    )
    def test_bytes(self, change: ConfChange) -> None:
        """A change survives its journey through the log."""
        kind, data = encode_change(change)
        self.assertEqual(change, decode_change(Entry(1, 1, data, kind)))

    @given(st.builds(ConfChangeV2, st.integers(0, 2), st.lists(singles).map(tuple), st.binary()))
    def test_bytes_v2(self, change: ConfChangeV2) -> None:
        """So does one of several members."""
        kind, data = encode_change(change)
        self.assertEqual(change, decode_change(Entry(1, 1, data, kind)))

    def test_known_bytes(self) -> None:
        """The bytes are raftpb's: numbers always, context only when there is one (raft.md 1)."""
        change = ConfChange(1, ConfChangeType.ADD_LEARNER_NODE, 300, b"x")
        self.assertEqual(bytes.fromhex("0801 1003 18ac02 220178"), encode_change(change)[1])
        self.assertEqual((EntryType.CONF_CHANGE_V2, b"\x08\x00"), encode_change(ConfChangeV2()))
        two = ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT, (ConfChangeSingle(1, 2),))
        self.assertEqual(bytes.fromhex("0802 1204 0801 1002"), encode_change(two)[1])

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Bytes that are no change are refused by name."""
        for kind in (EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2):
            try:
                decode_change(Entry(1, 1, data, kind))
            except ConfChangeError:
                continue


class ConfigTests(SynchronousTestCase):
    """A configuration that cannot work is refused at once (raft.md 14)."""

    def test_refused(self) -> None:
        """Each rule names its field."""
        wrong = (
            {"id": 0},
            {"id": 2**64 - 1},
            {"heartbeat_ticks": 0},
            {"election_ticks": 1},
            {"max_inflight_messages": 0},
            {"max_bytes_per_message": 10, "max_inflight_bytes": 9},
            {"lease_based_reads": True, "check_quorum": False},
        )
        for fields in wrong:
            config = {"id": 1, "storage": MemoryStorage(), "draw": no_draw, **fields}
            error = self.assertRaises(ValueError, Config, **config)
            self.assertTrue(any(name in str(error) for name in fields), fields)
