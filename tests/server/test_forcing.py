"""A member's log becomes that of a cluster of its own (KF-56)."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.member import Member
from twistedetcd.cluster.roster import Roster
from twistedetcd.errors import MemberError
from twistedetcd.raft.changebytes import decode_change, encode_change
from twistedetcd.raft.types import ConfChange, ConfChangeType, Entry, HardState
from twistedetcd.server.forcing import force_new_cluster

ADD, LEARN, REMOVE, UPDATE = (
    ConfChangeType.ADD_NODE,
    ConfChangeType.ADD_LEARNER_NODE,
    ConfChangeType.REMOVE_NODE,
    ConfChangeType.UPDATE_NODE,
)


def member(number: int, learner: bool = False) -> Member:
    """One with a peer URL of its own."""
    return Member(number, (f"http://m{number}:2380",), learner)


OURSELVES = member(1)
FOUNDERS = [member(1), member(2), member(3)]


def change(index: int, kind: ConfChangeType, number: int, promote: bool = False, term: int = 2) -> Entry:
    """A change of membership in the log."""
    context = b"" if kind == REMOVE else member(number, kind == LEARN).to_context(promote)
    entry_type, data = encode_change(ConfChange(0, kind, number, context))
    return Entry(term, index, data, entry_type)


def forced(
    entries: Sequence[Entry], commit: int, roster: Roster, applied: int = 0
) -> tuple[HardState, list[Entry]]:
    """What is to be saved."""
    return force_new_cluster(OURSELVES, roster, applied, HardState(2, 3, commit), entries)


def changes(entries: Sequence[Entry]) -> list[tuple[int, int, int]]:
    """Index, type and whom it is about, of each change."""
    found = []
    for entry in entries:
        one = decode_change(entry)
        assert isinstance(one, ConfChange)
        found.append((entry.index, int(one.type), one.node_id))
    return found


class ForcingTests(SynchronousTestCase):
    """Three founders and what became of them; we are member 1, in term 2."""

    def test_others_are_removed(self) -> None:
        """Voters and learners, by ascending id, committed, in a term of its own, with no vote in it."""
        log = [Entry(2, 4, b"put"), change(5, LEARN, 4), Entry(2, 6, b"put")]
        state, saved = forced(log, 6, Roster(FOUNDERS), 3)
        self.assertEqual([(7, REMOVE, 2), (8, REMOVE, 3), (9, REMOVE, 4)], changes(saved))
        self.assertEqual({3}, {entry.term for entry in saved})
        self.assertEqual(HardState(3, 0, 9), state)

    def test_removal_in_the_log_only(self) -> None:
        """Who was removed by an entry that is committed but not applied needs no other."""
        _, saved = forced([change(4, REMOVE, 2), Entry(2, 5)], 5, Roster(FOUNDERS), 3)
        self.assertEqual([(6, REMOVE, 3)], changes(saved))

    def test_uncommitted(self) -> None:
        """What is not known to be committed is replaced, changes and all."""
        log = [Entry(2, 4, b"put"), change(5, REMOVE, 1), Entry(2, 6), Entry(2, 7)]
        _, saved = forced(log, 4, Roster(FOUNDERS), 3)
        self.assertEqual([(5, REMOVE, 2), (6, REMOVE, 3)], changes(saved))

    def test_applied_is_committed(self) -> None:
        """The backend may be further than the commit index on the disk."""
        log = [Entry(2, 4, b"put"), Entry(2, 5, b"put"), Entry(2, 6)]
        _, saved = forced(log, 3, Roster(FOUNDERS), 5)
        self.assertEqual([(6, REMOVE, 2), (7, REMOVE, 3)], changes(saved))

    def test_alone_already(self) -> None:
        """The only voter committed whatever it saved: nothing is given up, and nothing to do."""
        state, saved = forced([Entry(2, 2, b"put"), Entry(2, 3, b"put")], 1, Roster([OURSELVES]), 1)
        self.assertEqual((HardState(2, 3, 1), []), (state, saved))

    def test_alone_until_another_was_added(self) -> None:
        """From the change on that adds a voter, a commit takes two."""
        log = [Entry(2, 2, b"put"), change(3, ADD, 2), Entry(2, 4, b"put")]
        _, saved = forced(log, 1, Roster([OURSELVES]), 1)
        self.assertEqual([(4, REMOVE, 2)], changes(saved))

    def test_learner(self) -> None:
        """A learner promotes itself, then removes the others: there must always be a voter."""
        roster = Roster([member(1, learner=True), member(2)])
        _, saved = forced([], 3, roster, 3)
        self.assertEqual([(4, ADD, 1), (5, REMOVE, 2)], changes(saved))
        self.assert_alone(roster, saved)

    def test_unknown_to_itself(self) -> None:
        """One that had joined, but not read so, adds itself, but for URLs that others still have."""
        roster = Roster([Member(9, OURSELVES.peer_urls)])
        _, saved = forced([], 3, roster, 3)
        self.assertEqual([(4, ADD, 1), (5, REMOVE, 9)], changes(saved))
        self.assert_alone(roster, saved)
        state, saved = force_new_cluster(OURSELVES, Roster(), 0, HardState(), [])
        self.assertEqual((HardState(1, 0, 1), [(1, ADD, 1)]), (state, changes(saved)))

    def test_removed(self) -> None:
        """One that was removed has no id to go on with."""
        self.assertRaises(MemberError, forced, [change(4, REMOVE, 1)], 4, Roster(FOUNDERS), 3)
        self.assertRaises(MemberError, forced, [], 4, Roster([member(2)], [1]), 4)

    def test_refused_changes(self) -> None:
        """A change that was refused when it was committed has no effect here either."""
        log = [change(4, LEARN, 1), change(5, ADD, 2), change(6, ADD, 4), change(7, UPDATE, 8)]
        roster = Roster(FOUNDERS, [4])
        _, saved = forced(log, 7, roster, 3)
        self.assertEqual([(8, REMOVE, 2), (9, REMOVE, 3)], changes(saved))

    def assert_alone(self, roster: Roster, entries: Sequence[Entry]) -> None:
        """Applying these makes us the only member, a voter."""
        after = roster.copy()
        for entry in entries:
            one = decode_change(entry)
            assert isinstance(one, ConfChange)
            self.assertIsNone(after.apply(one))
        self.assertEqual([1], [voter.id for voter in after.voters])
        self.assertEqual([], after.learners)

    @settings(derandomize=True, deadline=None, max_examples=200)
    @given(
        st.lists(
            st.tuples(st.sampled_from([ADD, LEARN, REMOVE, UPDATE]), st.integers(1, 5), st.booleans()),
            max_size=12,
        ),
        st.integers(0, 15),
        st.integers(0, 15),
    )
    def test_any_history(
        self, steps: list[tuple[ConfChangeType, int, bool]], commit: int, applied: int
    ) -> None:
        """
        Whatever the log holds: exactly one voter, ourselves, and a second time there is nothing to do.

        Unless we were removed, by an entry that is known to be committed.
        """
        log = [change(n, kind, who, promote) for n, (kind, who, promote) in enumerate(steps, 1)]
        commit, applied = min(commit, len(log)), min(applied, len(log))
        backend = Roster([OURSELVES])
        for entry in log[:applied]:
            backend.apply(decode_change(entry))  # type: ignore[arg-type]
        before = backend.members, backend.removed
        try:
            state, saved = forced(log, commit, backend, applied)
        except MemberError:
            self.assertIn((REMOVE, 1), [(kind, who) for kind, who, _ in steps])
            return
        self.assertEqual(before, (backend.members, backend.removed))
        first = saved[0].index if saved else len(log) + 1
        self.assertGreater(first, max(commit, applied))
        after = [*log[: first - 1], *saved]
        self.assertEqual(list(range(1, len(after) + 1)), [entry.index for entry in after])
        for entry in after[applied:]:
            if entry.type:
                backend.apply(decode_change(entry))  # type: ignore[arg-type]
        self.assertEqual([1], [voter.id for voter in backend.voters])
        self.assertEqual(([], 1), (backend.learners, len(backend.members)))
        _, again = force_new_cluster(OURSELVES, backend, len(after), state, after)
        self.assertEqual([], again)
