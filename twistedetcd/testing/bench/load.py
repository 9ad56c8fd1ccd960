"""Load on one server: a process for each connection, and what all of them together measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from twistedetcd.testing.bench.generator import READY, Job, Tally
from twistedetcd.testing.bench.processes import BenchError, Children

INACTIVITY_SECONDS_MAX = 30
_SUCCEEDED = re.compile(r"^requests: .* (\d+) succeeded,", re.MULTILINE)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


class H2loadReport(NamedTuple):
    """What ``h2load`` printed of itself."""

    succeeded: int
    data_bytes: int


@dataclass(frozen=True)
class Outcome:
    """
    What a load came to.

    Attributes:
        seconds: From the start of the first generator to the end of the last.
        succeeded: Calls answered with HTTP 200 (``h2load``) or status 0 (our own generator).
        data_bytes: Of all DATA frames received.
        core_shares: CPU time over run time of each generator process.
        cpu_seconds: Of all generator processes.
    """

    seconds: float
    succeeded: int
    data_bytes: int
    core_shares: tuple[float, ...]
    cpu_seconds: float


def parse_h2load(text: str) -> H2loadReport:
    """
    Read the summary that ``h2load`` prints at its end.

    Raises:
        BenchError: There is none.
    """
    succeeded, data = _SUCCEEDED.search(text), _DATA.search(text)
    if succeeded is None or data is None:
        lines = text.strip().splitlines() or ["nothing"]
        raise BenchError(f"h2load printed no summary; its last line is: {lines[-1]}")
    return H2loadReport(int(succeeded[1]), int(data[1]))


def h2load(
    children: Children, tool: str, url: str, bodies: Sequence[Path], requests: int, streams: int
) -> Outcome:
    """
    Run one ``h2load`` for each body.

    Args:
        children: Kills them if we are interrupted.
        tool: The path of ``h2load``.
        url: Server and path.
        bodies: Each holds one request message with its gRPC prefix.
        requests: Of each process.
        streams: Of each process, at a time.

    Raises:
        BenchError: One of them ended without a summary.
    """
    command = [tool, "-c", "1", "-m", str(streams), "-n", str(requests), "-N", str(INACTIVITY_SECONDS_MAX)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    began = []
    processes = []
    for body in bodies:
        began.append(time.perf_counter())
        processes.append(children.spawn([*command, "-d", str(body), url]))
    finished = children.finish(processes)
    reports = [parse_h2load(end.text) for end in finished]
    return Outcome(
        max(end.at for end in finished) - began[0],
        sum(report.succeeded for report in reports),
        sum(report.data_bytes for report in reports),
        tuple(end.cpu_seconds / (end.at - start) for start, end in zip(began, finished, strict=True)),
        sum(end.cpu_seconds for end in finished),
    )


class Generators:
    """
    Our own generators, one process for each connection; they stay for the next load.

    Args:
        children: Takes the processes.
        module: What they run.
    """

    def __init__(self, children: Children, module: str = "generator") -> None:
        self._children = children
        self._module = f"twistedetcd.testing.bench.{module}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, port: int, path: str, messages: Sequence[bytes], requests: int, streams: int) -> Outcome:
        """
        One connection for each message; all start at once when the last has made its frames.

        Raises:
            BenchError: One of them failed.
        """
        while len(self._processes) < len(messages):
            command = [sys.executable, "-m", self._module]
            self._processes.append(self._children.spawn(command, stdin=subprocess.PIPE))
        processes = self._processes[: len(messages)]
        for process, message in zip(processes, messages, strict=True):
            _say(process, json.dumps(Job(port, path, message.hex(), requests, streams)._asdict()))
        for process in processes:
            if (line := _hear(process)) != READY:
                raise BenchError(f"The generator failed: {line}{_rest(process)}")
        began = time.perf_counter()
        for process in processes:
            _say(process, "")
        tallies = [self._tally(process) for process in processes]
        return Outcome(
            time.perf_counter() - began,
            sum(tally.succeeded for tally in tallies),
            sum(tally.data_bytes for tally in tallies),
            tuple(tally.cpu_seconds / tally.seconds for tally in tallies),
            sum(tally.cpu_seconds for tally in tallies),
        )

    def _tally(self, process: subprocess.Popen[bytes]) -> Tally:
        line = _hear(process)
        try:
            return Tally(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise BenchError(f"The generator failed: {line}{_rest(process)}") from error


def _say(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None, "a pipe was asked for"
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None, "spawn() gives a pipe"
    return process.stdout.readline().decode(errors="replace")


def _rest(process: subprocess.Popen[bytes]) -> str:
    """The last line of a process that failed: what went wrong."""
    process.kill()
    assert process.stdout is not None, "spawn() gives a pipe"
    lines = process.stdout.read().decode(errors="replace").strip().splitlines()
    return f" {lines[-1]}" if lines else ""
