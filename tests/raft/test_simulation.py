"""Clusters of raft members under every kind of trouble keep all that raft promises (the rules: `Rule`)."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.log import RaftLog
from twistedetcd.testing.raftsim.__main__ import main
from twistedetcd.testing.raftsim.rules import Rule
from twistedetcd.testing.raftsim.simulation import Outcome, run
from twistedetcd.testing.raftsim.world import COUNTERS

SEEDS = 72
"""`make fuzz-raft` runs more."""

_run = cache(run)


class SeedTests(SynchronousTestCase):
    """Each seed is another cluster with other trouble; a failure shows the end of its transcript."""

    def check(self, part: int, parts: int = 6) -> None:
        """The seeds of one part keep all promises."""
        for seed in range(part, SEEDS, parts):
            outcome: Outcome = _run(seed)
            if outcome.broken is not None:
                self.fail(run(seed, transcript=True).describe())

    def test_seeds_1(self) -> None:
        """All promises are kept."""
        self.check(0)

    def test_seeds_2(self) -> None:
        """All promises are kept."""
        self.check(1)

    def test_seeds_3(self) -> None:
        """All promises are kept."""
        self.check(2)

    def test_seeds_4(self) -> None:
        """All promises are kept."""
        self.check(3)

    def test_seeds_5(self) -> None:
        """All promises are kept."""
        self.check(4)

    def test_seeds_6(self) -> None:
        """All promises are kept."""
        self.check(5)

    def test_reach(self) -> None:
        """The seeds reach everything that is worth simulating."""
        reached = sum((_run(seed).coverage for seed in range(SEEDS)), Counter[str]())
        self.assertEqual([], [name for name in COUNTERS if not reached[name]])


class ReplayTests(SynchronousTestCase):
    """A seed is all that is needed to see a failure again."""

    def test_deterministic(self) -> None:
        """The same seed gives the same transcript to the letter, whatever raft hands out included."""
        for seed in (1, 6):  # One with synchronous and one with asynchronous writes.
            first, second = run(seed, 300, transcript=True), run(seed, 300, transcript=True)
            assert first.transcript is not None and second.transcript is not None
            self.assertEqual(first.transcript.lines, second.transcript.lines)
            self.assertGreater(len(first.transcript.lines), 300)

    def test_transcript_changes_nothing(self) -> None:
        """With a transcript the run is the same as without."""
        self.assertEqual(run(3, 300).coverage, run(3, 300, transcript=True).coverage)

    def test_failure_names_its_seed(self) -> None:
        """A broken promise is shown with its seed, step and rule, behind the end of the transcript."""
        self.patch(RaftLog, "is_up_to_date", lambda log, term, index: True)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(["--seeds", "0..30", "--steps", "400"])
        self.assertEqual(1, status)
        self.assertRegex(out.getvalue(), rf"seed \d+, step \d+: {Rule.LEADER_COMPLETENESS.name}: ")
        self.assertRegex(
            out.getvalue(), r"again: python -m twistedetcd.testing.raftsim --seed \d+ --steps 400"
        )

    def test_command(self) -> None:
        """The command runs one seed, or many, and says what they reached."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(0, main(["--seed", "1", "--steps", "50"]))
            self.assertEqual(0, main(["--seeds", "1..2", "--steps", "50"]))
        self.assertIn("seed 1, step 51: all promises were kept", out.getvalue())
        self.assertIn("2 seeds of 50 steps", out.getvalue())
