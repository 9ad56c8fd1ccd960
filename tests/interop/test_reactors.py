"""The protocols on other reactors than the one that the tests run on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
REACTORS = ("epoll", "poll", "select", "asyncio")
SECONDS_MAX = 60.0


class ReactorTests(SynchronousTestCase):
    """grpcio's calls, which use all that a reactor offers; ``make test-reactors`` runs the rest, too."""

    def test_grpcio(self) -> None:
        """They pass on each reactor."""
        running = {}
        for reactor in REACTORS:
            command = [sys.executable, "-m", "twisted.trial", f"--reactor={reactor}"]
            command += [f"--temp-directory={Path(self.mktemp()).absolute()}", "tests.protocols.test_grpcio"]
            running[reactor] = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        for reactor, process in running.items():
            output, _ = process.communicate(timeout=SECONDS_MAX)
            self.assertEqual(0, process.returncode, f"{reactor}: {output}")
            self.assertIn("PASSED", output)
