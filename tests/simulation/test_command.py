"""``python -m twistedetcd.testing.simulate``."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.testing import simulate


class CommandTests(SynchronousTestCase):
    """What can be asked for, and what is said."""

    def test_refused(self) -> None:
        """What makes no sense is refused by name, with exit status 2: above all nothing passes untested."""
        for arguments in (
            "--seeds 5-3",
            "--seeds 5",
            "--seed x",
            "--seed 1 --members 0",
            "--seed 1 --members 10",
            "--seed 1 --seconds 0",
            "--seed 1 --seconds nan",
            "--seed 1 --seconds inf",
            "--seed 1 --jobs 0",
            "--seed 1 --lines -3",
            "--seed 1 --nemesis war",
            "",
        ):
            errors = io.StringIO()
            with redirect_stderr(errors):
                stop = self.assertRaises(SystemExit, simulate.main, arguments.split())
            self.assertEqual(2, stop.code, arguments)
            self.assertIn("error: ", errors.getvalue())

    def test_good(self) -> None:
        """A seed that is good gives a line that says so, after its transcript, and status 0."""
        out = io.StringIO()
        with redirect_stdout(out):
            status = simulate.main(
                ["--seed", "1", "--seconds", "3", "--members", "1", "--nemesis", "none", "--lines", "5"]
            )
        *transcript, last = out.getvalue().splitlines()
        self.assertEqual((0, 5), (status, len(transcript)))
        self.assertRegex(last, "^seed 1: good; calls ")
