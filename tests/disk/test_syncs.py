"""Every sync is needed: without any of them some crash loses what was acknowledged, or prevents a start."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from unittest import mock

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase

from tests.disk.life import WAL_DIRS, Lives, PowerCut
from twistedetcd.errors import MemberError
from twistedetcd.files.simulated import SimulatedFile, SimulatedFiles
from twistedetcd.testing.wal import entry
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import LogOptions

ROOMS = ("/twistedetcd/", "/tests/disk/")
STEPS = 90  # more changes than a start, a cut and a snapshot make
SEEDS = 20
OPTIONS = LogOptions(run_in_worker=execute, segment_bytes=4096)
# Syncs that these scenarios do not need, each with a test of its own: tests.wal.test_crash, test_recovery.
OTHER_REASONS = {
    "JournalBackend.__init__": "what the engine shows when it was opened is durable",
    "NextSegment._make": "no save waits until the zeros of a whole segment are on the disk",
    "_cut_torn_end": "what a repair cuts off is still there in a copy",
}


def sync_site() -> str:
    """Which sync of ours this is: the function and the line in it; of the log's only one, also who wrote."""
    frame, site = sys._getframe(2), ""
    while frame is not None:
        code = frame.f_code
        if any(room in code.co_filename for room in ROOMS) and "<lambda>" not in code.co_qualname:
            if site:
                return f"{site} < {code.co_qualname}"
            site = f"{code.co_qualname}+{frame.f_lineno - code.co_firstlineno}"
            if not site.startswith("SegmentedWAL._store"):
                break
        frame = frame.f_back  # type: ignore[assignment]
    return site


@contextmanager
def syncs(without: str = "") -> Iterator[Counter[str]]:
    """Count the syncs of each site, and leave out those of one."""
    counts: Counter[str] = Counter()
    sync, sync_directory = SimulatedFile.sync, SimulatedFiles.sync_directory

    def counted_sync(file: SimulatedFile) -> None:
        site = sync_site()
        counts[site] += 1
        if site != without:
            sync(file)

    def counted_sync_directory(files: SimulatedFiles, path: str) -> None:
        site = sync_site()
        counts[site] += 1
        if site != without:
            sync_directory(files, path)

    with (
        mock.patch.object(SimulatedFile, "sync", counted_sync),
        mock.patch.object(SimulatedFiles, "sync_directory", counted_sync_directory),
    ):
        yield counts


def killed_then_crashed(step: int, wal_dir: str | None) -> None:
    """The process ends at a step, with nothing lost; the next one builds on that; then the machine stops."""
    lives = Lives(step, wal_dir)
    lives.live(PowerCut(lives.files, step, only_syncs=False))
    lives.end(crashes=False)
    lives.live_shortly()
    lives.end(crashes=True, chance=0.0)
    lives.look()


def torn_twice(seed: int) -> None:
    """A save is torn, the log is repaired, and the first save after it is torn as well."""
    files = SimulatedFiles(Random(seed))
    wal = SegmentedWAL.create(files, "wal", b"\x08\x01", options=OPTIONS)
    for term, size in ((1, 2000), (2, 1500)):
        PowerCut(files, 1, only_syncs=True)  # the next segment is synced first
        wal.save(None, [entry(1, size, term)]).addErrback(lambda failure: failure.trap(OSError))
        files = files.crashed(0.7)
        wal = SegmentedWAL.open(files, "wal", options=OPTIONS)
        wal.read_all()


def scenarios() -> Iterator[Callable[[], None]]:
    """What a member goes through; each raises when something acknowledged is lost or a start is refused."""
    for number in range(max(STEPS, SEEDS)):
        if number < SEEDS:
            yield Lives(number, WAL_DIRS[number % 2]).run
        if number < STEPS:
            for wal_dir in WAL_DIRS:
                yield partial(killed_then_crashed, number, wal_dir)
            yield partial(torn_twice, number)


def fails(scenario: Callable[[], None]) -> bool:
    """Whether it raises."""
    try:
        scenario()
    except (AssertionError, MemberError):
        return True
    return False


class SyncTests(SynchronousTestCase):
    """A sync that could be left out would be one too many, or the simulated disk too kind."""

    def test_every_sync_is_needed(self) -> None:
        """With any single sync call made to do nothing, some scenario fails; with all of them, none does."""
        with syncs() as sites:
            for scenario in scenarios():
                scenario()
        self.assertGreater(len(sites), 15)
        excused = {site for site in sites if any(site.startswith(name) for name in OTHER_REASONS)}
        self.assertEqual(set(OTHER_REASONS), {site.partition("+")[0] for site in excused})
        survived = []
        for site in sorted(set(sites) - excused):
            with syncs(without=site):
                if not any(map(fails, scenarios())):
                    survived.append(site)
        self.assertEqual([], survived)
