"""Crashes that keep any subset of un-synced sectors and names lose no acknowledged put."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.disk.life import WAL_DIRS, Lives

SEEDS = int(os.environ.get("SEEDS", "50"))


class LivesTests(SynchronousTestCase):
    """The log, snapshots, engine and raft of a whole member; only the disk and the time are not real."""

    def test_crashes_lose_no_acknowledged_put(self) -> None:
        """Life after life, whatever the crashes leave; a failure names its seed, which replays it."""
        acknowledged = snapshots = 0
        for seed in range(SEEDS):
            lives = Lives(seed, wal_dir=WAL_DIRS[seed % 2])
            try:
                lives.run()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            acknowledged += len(lives.acknowledged)
            snapshots += lives.snapshots
        self.assertGreater(acknowledged, 20 * SEEDS)
        self.assertGreater(snapshots, SEEDS)
