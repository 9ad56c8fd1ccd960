"""Clusters of whole servers, under load and in trouble, keep all that etcd promises (the rules: `Rule`)."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections import Counter
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.testing import simulate
from twistedetcd.testing.simulate import describe
from twistedetcd.testing.simulation.nemesis import KINDS, kinds
from twistedetcd.testing.simulation.run import run

SECONDS = 25.0
"""`make simulate` runs longer, and more seeds."""

CHANGES = ("members", "transfer")
_run = cache(run)


class SeedTests(SynchronousTestCase):
    """Each seed is another history; a failure names its seed, which replays it."""

    def check(self, members: int, *seeds: int, only: tuple[str, ...] = tuple(KINDS)) -> Counter[str]:
        """Run some seeds; returns what they reached."""
        total = Counter[str]()
        for seed in seeds:
            outcome = _run(seed, SECONDS, members, only)
            if not outcome.good:
                again = f"--seed {seed} --seconds {SECONDS:g} --members {members} --nemesis {','.join(only)}"
                self.fail(f"{describe(outcome)}\nagain: python -m twistedetcd.testing.simulate {again}")
            total += outcome.counts
        return total

    def test_one_member(self) -> None:
        """A member alone loses nothing either."""
        self.assertGreater(self.check(1, 1, 2, 3, 4)["lives"], 8)

    def test_three_members_1(self) -> None:
        """The smallest cluster that bears the loss of a member."""
        self.check(3, 1, 2, 3, 4)

    def test_three_members_2(self) -> None:
        """Likewise."""
        self.check(3, 5, 6, 7, 8)

    def test_three_members_3(self) -> None:
        """Likewise."""
        self.check(3, 9, 10, 11, 12)

    def test_five_members(self) -> None:
        """More members, more that may be missing."""
        self.check(5, 1, 2, 3, 4)

    def test_members_change(self) -> None:
        """Members come and go, and the leader is another now and then."""
        self.check(3, 1, 2, only=CHANGES)

    def test_reach(self) -> None:
        """The seeds reach what is worth simulating: restarts, elections, snapshots, changes of membership."""
        reached = self.check(3, *range(1, 13)) + self.check(5, 1, 2, 3, 4)
        reached += self.check(3, 1, 2, only=CHANGES)
        wanted = ("calls", "unknown", "watches", "events", "snapshots", "added", "retired")
        self.assertEqual([], [name for name in wanted if not reached[name]])
        self.assertGreater(reached["lives"], 100)
        self.assertGreater(reached["term"], 100)

    def test_nothing_goes_wrong(self) -> None:
        """Without faults everybody gets an answer, but for leases that a new leader does not count yet."""
        outcome = run(1, SECONDS, 3, kinds("none"))
        self.assertTrue(outcome.good, describe(outcome))
        self.assertEqual(3, outcome.counts["lives"])
        self.assertLess(outcome.counts["unknown"], outcome.counts["calls"] / 20)


class ReplayTests(SynchronousTestCase):
    """A seed is all that is needed to see a failure again."""

    def transcript(self, seed: int) -> list[str]:
        outcome = run(seed, 8.0, 3, transcript=True)
        assert outcome.transcript is not None
        return list(outcome.transcript.lines)

    def test_same_seed(self) -> None:
        """The same seed gives the same transcript to the letter; another one gives another."""
        first = self.transcript(1)
        self.assertGreater(len(first), 100)
        self.assertEqual(first, self.transcript(1))
        self.assertNotEqual(first, self.transcript(2))

    def test_transcript_changes_nothing(self) -> None:
        """With a transcript the run is the same as without."""
        self.assertEqual(run(2, 8.0, 3).counts, run(2, 8.0, 3, transcript=True).counts)

    def test_other_process(self) -> None:
        """Nor does it matter how a process hashes."""
        texts = []
        for hash_seed in ("0", "77"):
            command = [sys.executable, "-m", "twistedetcd.testing.simulate", "--seed=1", "--seconds=5"]
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
            texts.append(subprocess.check_output([*command, "--lines=100000"], env=environment))
        self.assertGreater(len(texts[0].splitlines()), 100)
        self.assertEqual(*texts)


class CommandTests(SynchronousTestCase):
    """What ``python -m twistedetcd.testing.simulate`` says."""

    def command(self, *arguments: str) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = simulate.main(arguments)
        return status, out.getvalue()

    def test_one_seed(self) -> None:
        """One seed, with the end of what happened."""
        status, text = self.command("--seed=1", "--members=1", "--seconds=2", "--lines=5")
        self.assertEqual((0, 6), (status, len(text.splitlines())))
        self.assertIn("seed 1: good; calls ", text)

    def test_many_seeds(self) -> None:
        """Many seeds, a line for each."""
        status, text = self.command("--seeds=1-3", "--members=1", "--seconds=1", "--nemesis=none")
        self.assertEqual((0, 4), (status, len(text.splitlines())))
        self.assertIn("3 seeds of 1 s", text)

    def test_kinds(self) -> None:
        """Faults are named; a name that does not exist is refused."""
        self.assertEqual(tuple(KINDS), kinds("all"))
        self.assertEqual(("crash", "pause"), kinds("crash,pause"))
        error = self.assertRaises(ValueError, kinds, "crash,flood")
        self.assertIn("no kind of fault is called 'flood'; there are: crash, ", str(error))
