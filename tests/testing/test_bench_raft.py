"""The micro-benchmark of raft: that it measures what it says."""

from __future__ import annotations

import contextlib
import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.testing.bench.raft import BATCHES, VOTERS, Cluster, Cost, main, measure, row


class BenchRaftTests(SynchronousTestCase):
    """``make bench-raft``"""

    def test_everything_is_applied(self) -> None:
        """A write returns when its entries are applied, with one voter and with three."""
        for voters in VOTERS:
            cluster = Cluster(voters)
            before = cluster.applied
            cluster.write([b"x"] * 7)
            cluster.compact()
            cluster.write([b"y"])
            self.assertEqual(before + 8, cluster.applied)

    def test_row(self) -> None:
        """The cost of an entry with its spread, and that of a batch."""
        self.assertEqual("| 3 | 10 | 2.50 (2.00..4.00) | 25 |", row(Cost(3, 10, 2.5, 2.0, 4.0)))

    def test_spread(self) -> None:
        """The median lies within the spread, and nothing is free."""
        cost = measure(1, 10, rounds=3, entries=20)
        self.assertTrue(0 < cost.low <= cost.median <= cost.high)

    def test_main(self) -> None:
        """One row for each number of voters and size of batch; nonsense is refused."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(0, main(["--rounds=1", "--entries=1"]))
        self.assertEqual(2 + len(VOTERS) * len(BATCHES), len(out.getvalue().splitlines()))
        self.patch(sys, "stderr", io.StringIO())
        self.assertEqual(1, main(["--rounds=0"]))
