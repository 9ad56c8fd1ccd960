"""
A process that has imported the server, and makes another of itself whenever a test wants a member.

To import it takes a second of processor time, for which most tests would wait most of their time.  What runs
is what the console script runs, in a process of its own; tests of how that starts start it themselves.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.005
MODULES = (
    "twistedetcd.tap",
    "twistedetcd.backends.lmdb",
    "twistedetcd.backends.memory",
    "twisted.scripts.twistd",
    "twisted.internet.epollreactor",
    # What twistd's plugins want.
    "twisted.cred.strcred",
    "twisted.trial.itrial",
    "twisted.words.iwords",
    "unittest",
)
"""What every member imports, but for the reactor, which each makes for itself."""


class Child:
    """A member, as `subprocess.Popen` shows a process."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Its exit status, negative if a signal killed it; ``None`` while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask(pid=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """
        The same, once it has ended.

        Raises:
            subprocess.TimeoutExpired: It did not.
        """
        limit = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > limit:
                raise subprocess.TimeoutExpired(f"member {self.pid}", timeout)
            time.sleep(POLL_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Without a warning."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """That process, as tests see it: it ends with the one that made it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._one_at_a_time = Lock()

    def start(
        self, flags: Sequence[str], log: Path, directory: Path, environment: Mapping[str, str]
    ) -> Child:
        """
        Start a member.

        Args:
            flags: Its own.
            log: Where all goes that it says; what is there is lost.
            directory: Where it works.
            environment: All of it.
        """
        log.write_bytes(b"")
        member = {"flags": flags, "log": str(log), "directory": str(directory), "environment": environment}
        return Child(self, self.ask(**member))

    def ask(self, **question: Any) -> Any:
        """What the process answers."""
        with self._one_at_a_time:
            assert self._process.stdin is not None and self._process.stdout is not None, "they are pipes"
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """No more."""
        self._process.communicate()


@cache
def nursery() -> Nursery:
    """The one of this process."""
    one = Nursery()
    atexit.register(one.close)
    return one


def _answer() -> None:
    """Answer questions as long as there are any; returns only in those who are to be members."""
    for line in sys.stdin.buffer:
        question = json.loads(line)
        if "pid" in question:
            ended, status = os.waitpid(question["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if not answer:
                _grow_up(**question)
                return
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)


def _grow_up(flags: Sequence[str], log: str, directory: str, environment: Mapping[str, str]) -> None:
    """Be what the console script would be, had it been called so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(output)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    script = Path(sys.executable).parent / "twistedetcd"
    sys.path[0] = str(script.parent)
    sys.argv = [str(script), *flags]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who runs the tests means them
    for name in MODULES:
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules, "all would share it"
    gc.freeze()
    _answer()
    from twistedetcd.tap import main

    main()
