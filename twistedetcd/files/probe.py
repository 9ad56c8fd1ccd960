"""How long a disk takes to make a write durable, found out by asking it."""

from __future__ import annotations

import os.path
from collections.abc import Callable
from statistics import median

from twistedetcd.interfaces import IFiles

SYNCS = 5
_BLOCK = bytes(4096)  # about what a busy turn writes to the log


def median_sync_seconds(files: IFiles, directory: str, seconds: Callable[[], float]) -> float:
    """
    Write and sync a scratch file, a few times.  Blocks.

    Args:
        files: The file system.
        directory: Where; the file's name ends in ``.tmp``, and it is gone afterwards.
        seconds: The time.

    Returns:
        The median of `SYNCS` writes with their syncs.

    Raises:
        OSError: The disk refused.
    """
    path = os.path.join(directory, "probe.tmp")
    files.remove(path)
    file = files.open(path, create=True)
    try:
        taken = []
        for _ in range(SYNCS):
            began = seconds()
            file.write(0, _BLOCK)
            file.sync()
            taken.append(seconds() - began)
    finally:
        file.close()
        files.remove(path)
    return median(taken)
