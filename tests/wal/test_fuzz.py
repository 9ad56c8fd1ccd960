"""Changed bytes in a log: a prefix of it, or a refusal that says where; nothing else."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.testing.fuzz.wal import fuzz_wal

SEEDS = 400


class FuzzTests(SynchronousTestCase):
    """By the seed, which replays what it found."""

    def test_changed_bytes(self) -> None:
        """Each outcome comes up, and none that is not allowed."""
        outcomes: Counter[str] = Counter()
        for seed in range(SEEDS):
            try:
                outcomes[fuzz_wal(Random(seed))] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
        self.assertEqual({"whole", "cut", "refused"}, {*outcomes})
        self.assertGreater(min(outcomes.values()), SEEDS // 20)
