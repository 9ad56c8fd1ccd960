"""Child processes: every one is killed in the end, and what each one cost is known."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

SETTLE_SECONDS_MAX = 0.5
SETTLE_STEP_SECONDS = 0.02
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Nothing can be measured; the text is one sentence for the person who asked."""


class Finished(NamedTuple):
    """
    A process that ended.

    Attributes:
        text: What it wrote.
        cpu_seconds: CPU time that it used.
        at: When it ended, on the clock `time.perf_counter`.
    """

    text: str
    cpu_seconds: float
    at: float


class Children:
    """The processes that we started and that still run.  Leaving the context kills them."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._names: dict[int, str] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self._running.clear()

    def spawn(
        self,
        command: Sequence[str],
        *,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """
        Start a process; what it says on either output goes to ``stdout``.

        Raises:
            BenchError: It cannot be started.
        """
        try:
            process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT, env=environment
            )
        except OSError as error:
            raise BenchError(f"{command[0]} cannot be started: {error}.") from error
        self._running[process.pid] = process
        self._names[process.pid] = command[0]
        return process

    def finish(self, processes: Sequence[subprocess.Popen[bytes]]) -> list[Finished]:
        """
        Wait for processes to end that write less than a pipe holds.

        Raises:
            BenchError: Another one ended meanwhile: a server that should not have.
        """
        waiting = {process.pid for process in processes}
        finished: dict[int, Finished] = {}
        with ExitStack() as stack:
            poll, pids = select.poll(), {}
            for pid in self._running:
                descriptor = os.pidfd_open(pid)
                stack.callback(os.close, descriptor)
                poll.register(descriptor, select.POLLIN)
                pids[descriptor] = pid
            while waiting:
                for descriptor, _ in poll.poll():
                    poll.unregister(descriptor)
                    pid = pids[descriptor]
                    finished[pid] = self._reap(pid)
                    if pid not in waiting:
                        raise BenchError(f"{self._names[pid]} ended while it was measured.")
                    waiting.remove(pid)
        return [finished[process.pid] for process in processes]

    def end(self, pid: int) -> None:
        """
        Ask a server to end, and wait until it has.

        Raises:
            BenchError: Another one ended meanwhile.
        """
        process = self._running[pid]
        process.send_signal(signal.SIGTERM)
        self.finish([process])

    def kill(self, pid: int) -> None:
        """
        End a server at once, and wait until it has ended.

        Raises:
            BenchError: Another one ended meanwhile.
        """
        process = self._running[pid]
        process.kill()
        self.finish([process])

    def _reap(self, pid: int) -> Finished:
        """Take the last words of a process that has ended."""
        now = time.perf_counter()
        process = self._running.pop(pid)
        _, status, usage = os.wait4(pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        text = ""
        if process.stdout is not None:
            with process.stdout:
                text = process.stdout.read().decode(errors="replace")
        return Finished(text, usage.ru_utime + usage.ru_stime, now)


def cpu_seconds(*pids: int) -> float:
    """CPU time that running processes have used together, over all their threads, those that ended too."""
    return sum(parse_stat(Path(f"/proc/{pid}/stat").read_text()) for pid in pids)


def resident_bytes(pid: int) -> int:
    """Memory that a running process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def parse_stat(text: str) -> float:
    """CPU seconds from the text of ``/proc/PID/stat``, whose second field may hold blanks and parentheses."""
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def settle(*pids: int) -> float:
    """
    Let processes finish what they do in the background, for a moment at most.

    Returns:
        Their `cpu_seconds` then.
    """
    end = time.monotonic() + SETTLE_SECONDS_MAX
    used, quiet = cpu_seconds(*pids), 0
    while quiet < 2 and time.monotonic() < end:
        time.sleep(SETTLE_STEP_SECONDS)
        before, used = used, cpu_seconds(*pids)
        quiet = quiet + 1 if used == before else 0
    return used
