"""How long something may take before it is left alone for a while."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.patience import TIMES, Patience


class PatienceTests(SynchronousTestCase):
    """It is lost by what is too long on average, for a while."""

    def setUp(self) -> None:
        self.patience = Patience(limit_seconds=1.0, pause_seconds=10.0)

    def took(self, *seconds: float) -> float:
        for each in seconds:
            self.patience.took(each, 100.0)
        return self.patience.lost_until

    def test_one(self) -> None:
        """One among quick ones may take up to so many times the limit."""
        self.assertEqual(-inf, self.took(0.0, TIMES, 0.0, 0.0))
        self.assertEqual(110.0, self.took(TIMES + 1))

    def test_many(self) -> None:
        """Many that take a little too long are too much; none that take a little less are."""
        self.assertEqual(-inf, self.took(*[0.99] * 1000))
        self.assertEqual(110.0, self.took(*[1.01] * 1000))

    def test_again(self) -> None:
        """After the pause it has a new chance, however long it was that took so long."""
        self.took(1e9)
        self.patience.took(1.0, 110.0)
        self.assertEqual(110.0, self.patience.lost_until)
        self.patience.took(TIMES + 1, 111.0)
        self.assertEqual(121.0, self.patience.lost_until)

    def test_lost_before(self) -> None:
        """It may be lost from the start, and what takes too long makes that no shorter."""
        for until in (7.0, 1000.0, inf):
            self.patience = Patience(1.0, 10.0, until)
            self.assertEqual(until, self.patience.lost_until)
            self.assertEqual(max(until, 110.0), self.took(TIMES + 1))
