"""What is logged of others' faults."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.protocols.complaints import QUIET_SECONDS, TOLD_MAX, Complaints
from twistedetcd.testing.clock import SimulatedClock


class ComplaintTests(SynchronousTestCase):
    """Each fault once."""

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.complaints = Complaints(self.clock)

    def test_once(self) -> None:
        """The same of the same party is not new, until some time has passed."""
        self.assertTrue(self.complaints.is_new("a", "x"))
        self.assertFalse(self.complaints.is_new("a", "x"))
        self.assertTrue(self.complaints.is_new("a", "y"))
        self.assertTrue(self.complaints.is_new("b", "x"))
        self.clock.advance(QUIET_SECONDS)
        self.assertTrue(self.complaints.is_new("a", "x"))

    def test_forgotten(self) -> None:
        """Once all is well, what happens next is new; that all is well is news only after a fault."""
        self.complaints.is_new("a", "x")
        self.assertTrue(self.complaints.forget("a"))
        self.assertFalse(self.complaints.forget("a"))
        self.assertTrue(self.complaints.is_new("a", "x"))

    def test_bounded(self) -> None:
        """Ever new faults fill no log."""
        told = sum(self.complaints.is_new("a", str(number)) for number in range(TOLD_MAX * 2))
        self.assertEqual(TOLD_MAX, told)
        self.clock.advance(QUIET_SECONDS)
        self.assertTrue(self.complaints.is_new("a", "z"))
