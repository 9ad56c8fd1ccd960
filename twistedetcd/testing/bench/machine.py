"""What the figures were taken on: they mean little elsewhere."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

import twisted
from twistedetcd import __version__

SYNCS = 200
SYNC_BYTES = 4096


def facts(directory: Path) -> dict[str, str | int | float]:
    """
    The machine and what runs on it.

    Args:
        directory: On the disk to be measured.
    """
    return {
        "cpu": cpu_model(_read("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": round(os.getloadavg()[0], 2),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(_read("/proc/mounts"), directory.resolve()),
        "fdatasync_microseconds": round(fdatasync_microseconds(directory), 1),
        "python": platform.python_version(),
        "twisted": twisted.__version__,
        "twistedetcd": __version__,
    }


def fdatasync_microseconds(directory: Path) -> float:
    """The median time to append a block to a file and to make it durable."""
    path = directory / "fdatasync"
    block = b"\0" * SYNC_BYTES
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(times) * 1e6


def cpu_model(text: str) -> str:
    """The processor's name from the text of ``/proc/cpuinfo``."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def filesystem(text: str, directory: Path) -> str:
    """The kind of file system that a directory is on, from the text of ``/proc/mounts``."""
    best, kind = -1, "unknown"
    for line in text.splitlines():
        _, place, name, *_ = line.split(" ")
        if directory.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), name
    return kind


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
