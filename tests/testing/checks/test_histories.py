"""What a right cluster shows its clients passes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.testing.checks.mutations import SEEDS, world
from tests.testing.checks.world import World
from twistedetcd.testing.checks import Change, Rule, Violation, Witness, check
from twistedetcd.testing.checks.model import Model

MORE_SEEDS = range(len(SEEDS), 120)


def explained(violations: list[Violation]) -> list[str]:
    return [str(violation) for violation in violations]


class HistoryTests(SynchronousTestCase):
    """Random clients, delays, unknown outcomes, compactions, leases, locks, and watches that break."""

    def test_all_is_known(self) -> None:
        """Nothing is found, with all that can be given to the check."""
        unknown = resumed = compacted = expired = 0
        for seed in [*SEEDS, *MORE_SEEDS]:
            one = world(seed) if seed in SEEDS else World(seed).run()
            found = check(one.history, one.witness, members={"m": one.witness}, terms=one.terms, settled=True)
            self.assertEqual([], explained(found), seed)
            unknown += sum("unknown" in str(operation) for operation in one.operations)
            resumed += sum(watch.continues is not None for watch in one.watches)
            compacted += sum(
                bool(response.compact_revision) for watch in one.watches for _, response in watch.received
            )
            expired += one.expired
        for reached in (unknown, resumed, compacted, expired):
            self.assertGreater(reached, 100)

    def test_only_some_is_known(self) -> None:
        """Nothing is found without times, without members, behind a compaction, or without a witness."""
        for seed in SEEDS[:20]:
            one = world(seed)
            timeless = [Change(change.revision, change.events) for change in one.store.changes]
            middle = len(timeless) // 2 + 1
            earlier = Model(strict_leases=False)
            for change in timeless[: middle - 1]:
                earlier.commit(change.events)
            base = earlier.scan(b"\0", b"\0", middle)
            later = Witness(timeless[middle - 1 :], base, middle)
            for witness in (Witness(timeless), later, None):
                self.assertEqual([], explained(check(one.history, witness, terms=one.terms)), seed)

    def test_long(self) -> None:
        """A long history is nothing special."""
        one = World(1000, calls=1000).run()
        self.assertEqual([], explained(check(one.history, one.witness, terms=one.terms, settled=True)))

    def test_witness_without_gap(self) -> None:
        """A witness that misses a revision is none."""
        changes = world(0).store.changes
        self.assertRaises(ValueError, Witness, changes[:3] + changes[4:])
        self.assertRaises(ValueError, Witness, [Change(2, ())])

    def test_violation(self) -> None:
        """A violation says which rule, what happened, and to which calls."""
        operation = world(0).operations[0]
        text = str(Violation(Rule.ANSWER, "it differs", [operation]))
        self.assertIn("ANSWER: it differs", text)
        self.assertIn(str(operation), text)
        self.assertIn(operation.kind, text)
