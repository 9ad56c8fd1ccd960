"""clusters: members as processes, in clusters, clients that write meanwhile, and what must hold then."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from threading import Condition, Event, Thread
from typing import Any, NamedTuple

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.certificates import Authority
from tests.interop.servers import (
    ENVIRONMENT,
    READY,
    READY_SECONDS_MAX,
    Server,
    call,
    etcdctls,
    free_ports,
    open_channel,
    script,
    wait_until,
)
from twistedetcd.pb.rpc_pb2 import (
    HashKVRequest,
    Member,
    MemberAddRequest,
    MemberListRequest,
    MemberRemoveRequest,
    PutRequest,
    RangeRequest,
    StatusRequest,
)

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
ELECTION_SECONDS = 0.5  # what that says
COMMAND_SECONDS_MAX = 30.0
ASK_SECONDS_MAX = 2.0  # for questions that are asked again
CHANGE_SECONDS_MAX = 20.0
PUT_SECONDS_MAX = 8.0  # a member's own patience is shorter
AGAIN_SECONDS = 0.05  # a client whose put was refused tries the next one after that
PAUSE_SECONDS = 0.01  # between two puts of one client, or members have no time for anything else
PROGRESS_SECONDS_MAX = 30.0
PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
HASH_KV = "/etcdserverpb.Maintenance/HashKV"
STATUS = "/etcdserverpb.Maintenance/Status"
MEMBER_ADD = "/etcdserverpb.Cluster/MemberAdd"
MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
MEMBER_REMOVE = "/etcdserverpb.Cluster/MemberRemove"


class Ports(NamedTuple):
    """
    Where a member is.

    Attributes:
        client: For clients.
        peer: Where it listens for other members.
        advertised: Where they are told to find it; a proxy may be in between.
    """

    client: int
    peer: int
    advertised: int


class Members:
    """
    A cluster.

    Args:
        directory: For all of them; must not exist.
        names: Of the founders.
        flags: What each is started with beside the addresses.
        program: What to run instead of ours.
        tls: Whether members speak TLS to each other,
        certificates: and show certificates of the authority, and demand them.
        proxied: Gives the port of a proxy before a member, by its name and the port behind.

    Attributes:
        servers: All members by name, whether they run or not.
        authority: Signs the members' certificates.
    """

    def __init__(
        self,
        directory: str,
        names: Sequence[str] = ("m1", "m2", "m3"),
        flags: Sequence[str] = (),
        program: Sequence[str] = (),
        tls: bool = True,
        certificates: bool = True,
        proxied: Callable[[str, int], int] = lambda name, port: port,
    ) -> None:
        self.home = Path(directory).absolute()
        self.servers: dict[str, Server] = {}
        self.authority = Authority(self.home / "certificates")
        self.ports: dict[str, Ports] = {}
        self.scheme = "https" if tls else "http"
        self._certificates = tls and certificates
        self._flags = flags
        self._program = program or [script("twistedetcd")]
        self._proxied = proxied
        self._paused: set[str] = set()
        for name in names:
            self._place(name)
        self.founders = self.initial_cluster(names)
        for name in names:
            self.make(name, self.founders)

    # Who there is.

    def _place(self, name: str) -> None:
        client, peer = free_ports(2)
        self.ports[name] = Ports(client, peer, self._proxied(name, peer))

    def peer_url(self, name: str) -> str:
        """Where the others are told to find a member."""
        return f"{self.scheme}://127.0.0.1:{self.ports[name].advertised}"

    def initial_cluster(self, names: Iterable[str]) -> str:
        """The flag that says who the members are."""
        return "--initial-cluster=" + ",".join(f"{name}={self.peer_url(name)}" for name in names)

    def make(self, name: str, *flags: str) -> Server:
        """A member that has a place, in a directory of its own; it is not started."""
        home = self.home / name
        home.mkdir()
        ports = self.ports[name]
        client_url = f"http://127.0.0.1:{ports.client}"
        self.servers[name] = server = Server(
            home,
            [
                *self._program,
                f"--name={name}",
                f"--data-dir={home / 'data'}",
                f"--listen-client-urls={client_url}",
                f"--advertise-client-urls={client_url}",
                f"--listen-peer-urls={self.scheme}://127.0.0.1:{ports.peer}",
                f"--initial-advertise-peer-urls={self.peer_url(name)}",
                *(self.tls_flags(name) if self._certificates else ()),
                *self._flags,
                *flags,
            ],
            ports.client,
        )
        return server

    def tls_flags(self, name: str) -> list[str]:
        """What a member needs to show the others a certificate, and to demand theirs."""
        cert_file, key_file = self.authority.issue(name, ["127.0.0.1", "localhost"])
        return [
            f"--peer-cert-file={cert_file}",
            f"--peer-key-file={key_file}",
            f"--peer-trusted-ca-file={self.authority.ca_file}",
            "--peer-client-cert-auth",
        ]

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    @property
    def live(self) -> list[str]:
        """Those that run and were not paused."""
        return [
            name
            for name, server in self.servers.items()
            if server.process is not None and name not in self._paused
        ]

    # What is done to them.

    def start(self, *names: str) -> None:
        """Start members that do not run, until all of them serve; all if none is named."""
        names = names or tuple(self.servers)
        for name in names:
            self.servers[name].run()
        for name in names:
            self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        """Until one that was started serves."""
        server = self.servers[name]

        def ready() -> bool:
            assert server.process is not None
            if server.process.poll() is not None:
                raise AssertionError(f"it ended with {server.process.returncode}: {server.log.read_text()}")
            return READY in server.log.read_bytes()

        wait_until(ready, f"{name} to serve", server.log)

    def kill(self, name: str) -> None:
        """End it without a warning."""
        self._paused.discard(name)
        self.servers[name].stop(SIGKILL)

    def stop(self, name: str) -> None:
        """Ask it to end, which it must do by that signal, as etcd does."""
        status = self.servers[name].stop(SIGTERM)
        assert status == -SIGTERM, f"{name} ended with {status}: {self.servers[name].log.read_text()}"

    def pause(self, name: str) -> None:
        """Have it do nothing, and its connections stay."""
        self._signal(name, SIGSTOP)
        self._paused.add(name)

    def resume(self, name: str) -> None:
        """Have it go on, as if no time had passed."""
        self._paused.discard(name)
        self._signal(name, SIGCONT)

    def _signal(self, name: str, number: int) -> None:
        process = self.servers[name].process
        assert process is not None, f"{name} does not run"
        process.send_signal(number)

    def wipe(self, name: str) -> None:
        """Take its data away; it must not run."""
        shutil.rmtree(self.servers[name].data)

    def clean_up(self) -> None:
        """Kill all, and remove what they leave."""
        for server in self.servers.values():
            if server.process is not None:
                server.process.send_signal(SIGKILL)
        for server in self.servers.values():
            server.clean_up()
        shutil.rmtree(self.home, ignore_errors=True)

    # What they say.

    def ask(self, path: str, request: Any, seconds_max: float = CHANGE_SECONDS_MAX) -> Any:
        """Ask live members in turn until one answers: for what may be asked twice."""
        answers: list[Any] = []

        def answered() -> bool:
            for name in self.live:
                with suppress(grpc.RpcError):
                    answers.append(self.servers[name].call(path, request, min(seconds_max, ASK_SECONDS_MAX)))
                    return True
            return False

        wait_until(answered, f"anyone to answer {path}")
        return answers[0]

    def status(self, name: str) -> Any:
        """What a member says of itself."""
        return self.servers[name].call(STATUS, StatusRequest(), ASK_SECONDS_MAX)

    def leader(self, names: Sequence[str] = ()) -> str:
        """Who leads, as soon as one of some members says that it is it; of all live ones if none is named."""
        found: list[str] = []

        def known() -> bool:
            for name in names or self.live:
                with suppress(grpc.RpcError):
                    status = self.status(name)
                    if status.leader == status.header.member_id:
                        found.append(name)
            return bool(found)

        wait_until(known, "a leader")
        return found[0]

    def members(self) -> dict[str, Member]:
        """All members by name; by peer URL those that have not said their names yet."""
        answer = self.ask(MEMBER_LIST, MemberListRequest(linearizable=True))
        return {member.name or member.peerURLs[0]: member for member in answer.members}

    def id(self, name: str) -> int:
        """Under which id the cluster knows a member."""
        members = self.members()
        return int((members.get(name) or members[self.peer_url(name)]).ID)

    def begin_etcdctl(
        self, *arguments: str, version: str = "", endpoints: Iterable[str] = ()
    ) -> subprocess.Popen[str]:
        """Run a command, of the oldest client there is, which knows all members."""
        if not etcdctls():
            raise SkipTest("needs etcdctl")
        program = etcdctls()[version or min(etcdctls())]
        known = ",".join(self.servers[name].endpoint for name in endpoints or self.servers)
        return subprocess.Popen(
            [program, f"--endpoints={known}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "ETCDCTL_API": "3"},
        )

    def etcdctl(
        self, *arguments: str, version: str = "", endpoints: Iterable[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        process = self.begin_etcdctl(*arguments, version=version, endpoints=endpoints)
        stdout, stderr = process.communicate(timeout=COMMAND_SECONDS_MAX)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    # Membership.

    def wait_steady(self) -> None:
        """Until the leader has been connected with all others for so long that it lets members be added."""

        def steady() -> bool:
            name = self.leader()
            taken = MemberAddRequest(peerURLs=[self.peer_url(name)])
            try:
                self.servers[name].call(MEMBER_ADD, taken, CHANGE_SECONDS_MAX)
            except grpc.RpcError as error:
                return bool(error.details() == "etcdserver: Peer URLs already exists")
            return False

        wait_until(steady, "members to be steady")

    def _change(self, path: str, request: Any) -> Any:
        """Ask for a change until it is not refused for the moment: right after another one it may be."""
        answers: list[Any] = []

        def changed() -> bool:
            name = self.leader()
            try:
                answers.append(self.servers[name].call(path, request, CHANGE_SECONDS_MAX))
            except grpc.RpcError as error:
                if error.details() != "etcdserver: unhealthy cluster":
                    raise
                return False
            return True

        wait_until(changed, f"{path} to be accepted")
        return answers[0]

    def add(self, name: str, learner: bool = False) -> Server:
        """Make a new member known, and make it ready to be started."""
        self._place(name)
        self._change(MEMBER_ADD, MemberAddRequest(peerURLs=[self.peer_url(name)], isLearner=learner))
        return self.make_joining(name)

    def make_joining(self, name: str) -> Server:
        """A member that the cluster knows already, ready to be started."""
        known = {url for member in self.members().values() for url in member.peerURLs}
        names = [one for one in self.ports if self.peer_url(one) in known]
        return self.make(name, "--initial-cluster-state=existing", self.initial_cluster(names))

    def remove(self, name: str) -> None:
        """Remove a member; its process, if there is one, is left to find out."""
        self._change(MEMBER_REMOVE, MemberRemoveRequest(ID=self.id(name)))

    def drop(self, name: str) -> Server:
        """Forget one that has ended; what it left stays until the end."""
        del self.ports[name]
        return self.servers.pop(name)

    # What must hold.

    def hashes(self) -> dict[str, tuple[int, int, int]]:
        """Of all live members, once they are at the same revision: that, the compacted one, and the hash."""
        found: dict[str, tuple[int, int, int]] = {}

        def settled() -> bool:
            found.clear()
            for name in self.live:
                try:
                    answer = self.servers[name].call(HASH_KV, HashKVRequest(), ASK_SECONDS_MAX)
                except grpc.RpcError:
                    return False
                found[name] = answer.header.revision, answer.compact_revision, answer.hash
            return len({revision for revision, _, _ in found.values()}) == 1

        wait_until(settled, "all members to be at one revision")
        return found

    def check(self, test: SynchronousTestCase, acknowledged: Mapping[bytes, int]) -> None:
        """
        Fail a test unless each member has all that was acknowledged, and nothing twice.

        Args:
            test: What fails.
            acknowledged: The revision of each key, if every write was a put of a new key.
        """
        hashes = self.hashes()
        test.assertEqual(1, len(set(hashes.values())), hashes)
        for name in hashes:
            everything = self.servers[name].call(
                RANGE, RangeRequest(key=b"\0", range_end=b"\0", serializable=True)
            )
            revisions = {kv.key: kv.mod_revision for kv in everything.kvs}
            lost = {key: at for key, at in acknowledged.items() if revisions.get(key) != at}
            test.assertEqual({}, lost, name)
            expected = list(range(2, everything.header.revision + 1))
            test.assertEqual(expected, sorted(revisions.values()), name)


class Load:
    """
    Clients that put one new key after the other, each through a member of its own, whatever happens to that.

    Args:
        members: Through whom: all that there are.

    Attributes:
        acknowledged: The revision of each key that was answered for.
        by: How many were, by the name of the member.
        refused: What clients were told instead, and how often.
    """

    def __init__(self, members: Members) -> None:
        self.acknowledged: dict[bytes, int] = {}
        self.by: dict[str, int] = {}
        self.refused: dict[tuple[str, str], int] = {}
        self._members = members
        self._count = 0
        self._grown = Condition()
        self._writers: dict[str, tuple[Thread, Event]] = {}
        self.write_through(*members.servers)

    def write_through(self, *names: str) -> None:
        """Begin to write through further members."""
        for name in names:
            over = Event()
            self._count += 1
            prefix = b"%b-%d" % (name.encode(), self._count)  # no key is put twice
            endpoint = self._members[name].endpoint
            writer = Thread(target=self._write, args=(name, prefix, endpoint, over))
            self.by.setdefault(name, 0)
            self._writers[name] = writer, over
            writer.start()

    def leave(self, name: str) -> None:
        """No more through this one."""
        writer, over = self._writers.pop(name)
        over.set()
        writer.join()

    def stop(self) -> None:
        """No more at all."""
        for _, over in self._writers.values():
            over.set()
        for name in list(self._writers):
            self.leave(name)

    def wait_for_more(self, puts: int, *names: str, seconds_max: float = PROGRESS_SECONDS_MAX) -> None:
        """
        Until so many more were acknowledged, by each of the members if some are named.

        Raises:
            AssertionError: That took too long.
        """
        with self._grown:
            goal = len(self.acknowledged) + puts
            goals = {name: self.by[name] + puts for name in names}

            def grown() -> bool:
                return len(self.acknowledged) >= goal and all(self.by[one] >= goals[one] for one in goals)

            if not self._grown.wait_for(grown, seconds_max):
                raise AssertionError(
                    f"{len(self.acknowledged)} puts acknowledged, {goal} expected; {self.by}, {goals}; "
                    f"{self.refused}"
                )

    def _write(self, name: str, prefix: bytes, endpoint: str, over: Event) -> None:
        count = 0
        with open_channel(endpoint) as channel:
            while not over.is_set():
                key = b"%b-%d" % (prefix, count)
                count += 1
                try:
                    answer = call(channel, PUT, PutRequest(key=key, value=key), PUT_SECONDS_MAX)
                except grpc.RpcError as error:
                    with self._grown:
                        told = error.code().name, error.details()
                        self.refused[told] = self.refused.get(told, 0) + 1
                    over.wait(AGAIN_SECONDS)
                    continue
                with self._grown:
                    self.acknowledged[key] = answer.header.revision
                    self.by[name] += 1
                    self._grown.notify_all()
                over.wait(PAUSE_SECONDS)


class ClusterCase(SynchronousTestCase):
    """What has a cluster."""

    members: Members

    def found(self, *arguments: Any, **more: Any) -> Members:
        """Make a cluster; it is not started."""
        self.members = members = Members(self.mktemp(), *arguments, **more)
        self.addCleanup(members.clean_up)
        return members

    def write(self) -> Load:
        """Begin to write through all members."""
        load = Load(self.members)
        self.addCleanup(load.stop)
        return load

    def end_of(self, server: Server, *flags: str) -> tuple[int, str]:
        """Its status and log once it has ended by itself, after a start with flags if it does not run."""
        process = server.process or server.run(*flags)
        status = process.wait(READY_SECONDS_MAX)
        server.stop(SIGKILL)
        return status, server.log.read_text()

    def settle(self, load: Load) -> None:
        """End the writing: every live member has what was acknowledged, and all have the same."""
        load.stop()
        self.assertTrue(load.acknowledged)
        self.members.check(self, load.acknowledged)
