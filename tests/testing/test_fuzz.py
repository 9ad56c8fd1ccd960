"""fuzz: a short run of every target, and that a run finds what there is to find."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.testing.fuzz.run import chunks, mutated, run
from twistedetcd.testing.fuzz.targets import TARGETS

CASES = 150


class TargetTests(SynchronousTestCase):
    """Fixed seeds, so that a failure is one for everybody; ``make fuzz`` looks further."""

    def test_few_cases(self) -> None:
        """Nothing is found in the first cases of any target."""
        for name, target in TARGETS.items():
            cases, finding = run(name, target, 0, lambda cases: cases < CASES)
            self.assertIsNone(finding, f"{name}: {finding and finding.report}")
            self.assertEqual(CASES, cases)


class RunTests(SynchronousTestCase):
    """How a target is run."""

    @staticmethod
    def fails_for_large_numbers(draw: random.Random) -> None:
        assert draw.randrange(100) < 90, "too large"

    def test_finding(self) -> None:
        """The run stops at what it finds, and the seed finds it again."""
        cases, finding = run("numbers", self.fails_for_large_numbers, 0, lambda cases: cases < 1000)
        assert finding is not None
        self.assertEqual(cases - 1, finding.seed)
        self.assertIn("AssertionError: too large", finding.report)
        again = run("numbers", self.fails_for_large_numbers, finding.seed, lambda cases: cases < 1)
        self.assertEqual(1, again[0])
        self.assertIsNotNone(again[1])

    def test_chunks(self) -> None:
        """Chunks are the same bytes in the same order."""
        draw = random.Random(1)
        for _ in range(100):
            data = draw.randbytes(draw.randrange(50))
            self.assertEqual(data, b"".join(chunks(draw, data)))

    def test_mutations(self) -> None:
        """Mutations change something, most of the time, and not much."""
        draw = random.Random(1)
        data = bytes(100)
        found = [mutated(draw, data) for _ in range(100)]
        self.assertGreater(sum(one != data for one in found), 50)
        self.assertTrue(all(80 <= len(one) <= 170 for one in found))
