"""Every sync is needed: without any one of them some crash loses what was acknowledged, or keeps a start from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.disk.life import Lives
from twistedetcd.errors import MemberError
from twistedetcd.files.simulated import SimulatedFile, SimulatedFiles

ROOMS = ("/twistedetcd/", "/tests/disk/")
FIRST_SEEDS = 8  # in which every site is met
SEEDS_MAX = 100
FOR_SPEED = {
    # So that no save has to wait for the zeros of a whole segment: see tests.wal.test_crash.
    "NextSegment._make",
}
FOR_EVIDENCE = {
    # So that what a repair cuts off is still there in a copy: see tests.wal.test_crash.
    "_cut_torn_end",
}


def site() -> str:
    """Which sync of ours this is: the functions it was called by, the nearest two."""
    names: list[str] = []
    frame = sys._getframe(2)
    while frame is not None and len(names) < 2:
        code = frame.f_code
        if any(room in code.co_filename for room in ROOMS) and "<lambda>" not in code.co_qualname:
            names.append(code.co_qualname)
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(names)


@contextmanager
def syncs(without: str = "") -> Iterator[dict[str, int]]:
    """Count the syncs of each site, and leave out those of one."""
    counts: dict[str, int] = {}
    sync, sync_directory = SimulatedFile.sync, SimulatedFiles.sync_directory

    def counted_sync(file: SimulatedFile) -> None:
        name = f"sync < {site()}"
        counts[name] = counts.get(name, 0) + 1
        if name != without:
            sync(file)

    def counted_sync_directory(files: SimulatedFiles, path: str) -> None:
        name = f"sync_directory < {site()}"
        counts[name] = counts.get(name, 0) + 1
        if name != without:
            sync_directory(files, path)

    with (
        mock.patch.object(SimulatedFile, "sync", counted_sync),
        mock.patch.object(SimulatedFiles, "sync_directory", counted_sync_directory),
    ):
        yield counts


def fails(seed: int) -> bool:
    """Whether something acknowledged is lost, or a start refused."""
    try:
        Lives(seed).run()
    except (AssertionError, MemberError):
        return True
    return False
