"""A Config becomes a running member, on real files, and nothing is left of it afterwards."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

from twisted.application.service import MultiService
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from twistedetcd import disk, service
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.config import Config, parse
from twistedetcd.disk import open_backend
from twistedetcd.errors import BackendError, Code, ConfigError, MemberError, StoppedError
from twistedetcd.files.local import LocalFiles
from twistedetcd.files.probe import SYNCS, median_sync_seconds
from twistedetcd.pb.rpc_pb2 import CompactionRequest, LeaseGrantRequest, PutRequest
from twistedetcd.protocols.giving import GivingWay
from twistedetcd.protocols.handshakes import SecureFactory
from twistedetcd.schema import LEASE
from twistedetcd.service import EtcdService
from twistedetcd.wal.opening import LogOptions

reactor: Any = global_reactor


def no_file(path: str) -> bytes:
    """No configuration file is read here."""
    raise FileNotFoundError(path)


def config_of(directory: str, *flags: str, name: str = "one", scheme: str = "http") -> Config:
    """A member in a directory, with etcd's defaults, on any free port."""
    url = "http://127.0.0.1:2379"
    config = parse(
        [
            f"--name={name}",
            f"--data-dir={directory}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            *flags,
        ],
        {},
        no_file,
    )
    return dataclasses.replace(
        config,
        listen_client_urls=(f"{scheme}://127.0.0.1:0",),
        listen_peer_urls=("http://127.0.0.1:0",),
    )


def open_files(directory: str) -> list[str]:
    """What this process has open below a directory."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if path.startswith(os.path.abspath(directory)):
            found.append(path)
    return found


def our_threads() -> list[str]:
    """Threads of any member."""
    return [thread.name for thread in threading.enumerate() if "twistedetcd" in thread.name]


class Waiting:
    """A client inside of the process."""

    def __init__(self) -> None:
        self.answered: Deferred[bytes] = Deferred()

    def reply(self, message: bytes) -> None:
        """It went well."""
        self.answered.callback(message)

    def fail(self, code: Code, message: str) -> None:
        """It did not."""
        self.answered.errback(RuntimeError(f"{code.name}: {message}"))


def ask(etcd: EtcdService, kind: str, request: Any) -> Deferred[bytes]:
    """Any request by way of the log."""
    waiting = Waiting()
    etcd.member.propose(kind, request.SerializeToString(), request, waiting)
    return waiting.answered


def put(etcd: EtcdService, key: bytes, value: bytes = b"v") -> Deferred[bytes]:
    """Put a key by way of the log."""
    return ask(etcd, "put", PutRequest(key=key, value=value))


class HalfCloser(Protocol):
    """Says something, and that this is all; or says nothing at all."""

    def __init__(self, request: bytes) -> None:
        self.request, self.received = request, b""
        self.closed: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self.request)
        if self.request:
            transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(self.received)


class ServiceCase(TestCase):
    """Members on the real reactor; small log segments, since their size is not what is looked at."""

    timeout = 10

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.patch(disk, "LogOptions", self._small)
        self.services: list[EtcdService] = []

    def _small(self, **options: Any) -> LogOptions:
        return LogOptions(**options, segment_bytes=256 * 1024)

    def build(self, *flags: str, directory: str = "", name: str = "one", **more: Any) -> EtcdService:
        """A member that is not started."""
        etcd = EtcdService(config_of(directory or self.directory, *flags, name=name), reactor, **more)
        self.services.append(etcd)
        return etcd

    def started(self, *flags: str, **more: Any) -> Deferred[EtcdService]:
        """A member that serves."""
        etcd = self.build(*flags, **more)
        etcd.startService()
        return etcd.ready.addCallback(lambda _: etcd)

    def tearDown(self) -> Any:
        stopped: Deferred[Any] = Deferred()
        stopped.callback(None)
        for etcd in self.services:
            stopped.addCallback(lambda _, etcd=etcd: etcd.stopService())
        return stopped.addCallback(lambda _: self.assert_nothing_left())

    def assert_nothing_left(self) -> None:
        """No thread, open file or timer of a member."""
        self.assertEqual([], our_threads())
        self.assertEqual([], open_files(self.directory))
        calls: Sequence[IDelayedCall] = reactor.getDelayedCalls()
        self.assertEqual([], [call for call in calls if "twistedetcd" in str(call)])


class LifeTests(ServiceCase):
    """Building, starting, stopping, and starting again."""

    def test_building_opens_nothing(self) -> None:
        """twistd forks between building and starting, so there is no file, thread or timer before."""
        before = reactor.getDelayedCalls()
        self.build()
        self.assertFalse(os.path.exists(self.directory))
        self.assertEqual([], our_threads())
        self.assertEqual(before, reactor.getDelayedCalls())

    @inlineCallbacks
    def test_again_on_the_same_data(self) -> Any:
        """The same service starts again after it stopped, with all its keys, its id and a new `ready`."""
        etcd = yield self.started()
        yield put(etcd, b"a", b"first")
        member_id, first = etcd.member.identity.id, etcd.ready
        yield etcd.stopService()
        self.assert_nothing_left()
        with self.assertRaisesRegex(AssertionError, "not running"):
            etcd.member  # noqa: B018
        self.assertEqual([], etcd.client_ports)
        etcd.startService()
        self.assertIsNot(first, etcd.ready)
        yield etcd.ready
        self.assertEqual(member_id, etcd.member.identity.id)
        [record], _ = etcd.member.store.range(b"a", None)
        self.assertIn(b"first", record)
        self.assertEqual(1, len(etcd.client_ports))

    @inlineCallbacks
    def test_leases_come_back(self) -> Any:
        """After a restart the leases are there with their keys; a key whose lease is not, is told of."""
        etcd = yield self.started()
        for lease_id in (-7, 8):
            yield ask(etcd, "lease_grant", LeaseGrantRequest(ID=lease_id, TTL=60))
            yield ask(etcd, "put", PutRequest(key=b"k%d" % lease_id, lease=lease_id))
        etcd.member.pending.delete(LEASE, (8).to_bytes(8, "big"))  # as no entry does
        yield etcd.stopService()
        with capturedLogs() as logs:
            etcd.startService()
            yield etcd.ready
        lessor = etcd.member.leases.lessor
        self.assertEqual(({b"k-7": -7}, 1), (dict(lessor.lease_of), len(lessor)))
        left, ttl = etcd.member.leases.time_to_live(-7)
        self.assertEqual((True, 60), (59 <= left <= 61, ttl))
        told = [formatEvent(event) for event in logs if event["log_level"] == LogLevel.error]
        self.assertEqual(["1 keys have a lease that does not exist, such as 8; they stay without one"], told)

    def test_nobody_sets_the_time(self) -> None:
        """Leases are counted on the machine's monotonic clock, or on a test's if that is the reactor."""
        self.assertIs(time.monotonic, service._monotonic(reactor))
        clock = MemoryReactorClock()
        clock.advance(3.0)
        self.assertEqual(3.0, service._monotonic(clock)())

    @inlineCallbacks
    def test_two_in_one_process(self) -> Any:
        """Two members live side by side under one parent, each with its own data."""
        parent = MultiService()
        parent.startService()
        one = self.build()
        two = self.build(directory=os.path.join(self.directory, "two"), name="two")
        for etcd in (one, two):
            etcd.setServiceParent(parent)
            yield etcd.ready
        yield put(one, b"a")
        self.assertEqual(2, one.member.store.revision)
        self.assertEqual(1, two.member.store.revision)
        self.assertNotEqual(one.client_ports[0].getHost().port, two.client_ports[0].getHost().port)
        yield parent.stopService()
        self.assert_nothing_left()

    @inlineCallbacks
    def test_fifty_lives(self) -> Any:
        """Two members that start, serve and stop fifty times leave as much open as they found."""
        pair = [self.build(), self.build(directory=os.path.join(self.directory, "two"), name="two")]
        left = set()
        for life in range(50):
            for etcd in pair:
                etcd.startService()
            for etcd in pair:
                yield etcd.ready
                yield put(etcd, b"life", b"%d" % life)
            for etcd in pair:
                yield etcd.stopService()
            self.assert_nothing_left()
            calls = len(reactor.getDelayedCalls())
            left.add((len(os.listdir("/proc/self/fd")), threading.active_count(), calls))
        self.assertEqual(1, len(left), left)

    test_fifty_lives.timeout = 60  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_gives_way(self) -> Any:
        """Between what others wait for and what nobody does, it lets others run."""
        etcd = yield self.started()
        self.assertIsInstance(etcd.client_ports[0].factory.turn._give_way, GivingWay)

    @inlineCallbacks
    def test_stopped_before_ready(self) -> Any:
        """A member that is stopped before it serves says that it will not."""
        etcd = self.build("--fsync-in=thread")
        etcd.startService()
        ready = etcd.ready
        stopped = etcd.stopService()
        yield self.assertFailure(ready, StoppedError)
        yield stopped
        self.assert_nothing_left()
        etcd.startService()
        yield etcd.ready

    @inlineCallbacks
    def test_stopped_twice(self) -> Any:
        """Stopping what is not running does nothing."""
        etcd = yield self.started()
        yield etcd.stopService()
        yield etcd.stopService()

    @inlineCallbacks
    def test_open_connections(self) -> Any:
        """A client that keeps its HTTP/1.1 connection does not hold up the end, nor outlive it."""
        etcd = yield self.started()
        port = etcd.client_ports[0].getHost().port
        pool = HTTPConnectionPool(reactor)
        response = yield Agent(reactor, pool=pool).request(b"GET", b"http://127.0.0.1:%d/health" % port)
        body = yield readBody(response)
        self.assertEqual(b'{"health":"true","reason":""}', body)
        began = reactor.seconds()
        yield etcd.stopService()
        self.assertLess(reactor.seconds() - began, 1.0)
        self.assertEqual({}, etcd._http.protocols)
        yield pool.closeCachedConnections()
        yield deferLater(reactor, 0.01)

    @inlineCallbacks
    def test_open_handshakes(self) -> Any:
        """A client in the middle of its handshake does not hold up the end, nor outlive it."""
        etcd = EtcdService(config_of(self.directory, "--auto-tls", scheme="https"), reactor)
        self.services.append(etcd)
        etcd.startService()
        yield etcd.ready
        client = HalfCloser(b"")
        port = etcd.client_ports[0].getHost().port
        yield connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
        while not etcd._factory.undecided:
            yield deferLater(reactor, 0)
        yield etcd.stopService()
        yield client.closed
        self.assertEqual({}, etcd._factory.undecided)

    @inlineCallbacks
    def test_half_closed(self) -> Any:
        """A client of HTTP/1.1 that closes its side gets its answer all the same, and then the end."""
        etcd = yield self.started()
        port = etcd.client_ports[0].getHost().port
        for path in (b"/version", b"/health"):
            client = HalfCloser(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            yield connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
            answer = yield client.closed
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"}"), answer)

    @inlineCallbacks
    def test_connections_max(self) -> Any:
        """Clients may use the file descriptors that the process does not need itself."""
        for files_max, connections_max in ((151, 1), (1024, 874), (resource.RLIM_INFINITY, None)):
            self.patch(service.resource, "getrlimit", lambda _, files_max=files_max: (files_max, files_max))
            etcd = yield self.started()
            self.assertEqual(connections_max, etcd._factory.connections_max)
            yield etcd.stopService()

    @inlineCallbacks
    def test_compaction_goes_on(self) -> Any:
        """A compaction that the stop interrupted goes on after the next start."""
        etcd = yield self.started("--compaction-batch-limit=1", "--compaction-sleep-interval=1h")
        for number in range(5):
            yield put(etcd, b"a", b"%d" % number)
        request, waiting = CompactionRequest(revision=5), Waiting()
        etcd.member.propose("compaction", request.SerializeToString(), request, waiting)
        yield waiting.answered
        yield etcd.stopService()
        etcd = yield self.started()
        yield etcd.member.compactions.idle()
        self.assertIsNone(etcd.member.store.unfinished_compaction)
        self.assertEqual(5, etcd.member.store.compact_revision)

    @inlineCallbacks
    def test_snapshots(self) -> Any:
        """The log before a snapshot goes away, and the next start reads only what follows it."""
        flags = ("--snapshot-count=20", "--max-wals=1", "--max-snapshots=2")
        etcd = yield self.started(*flags)
        for number in range(100):
            yield put(etcd, b"k%d" % number, bytes(20_000))
        yield etcd.stopService()
        wal, snap = (os.path.join(self.directory, "member", name) for name in ("wal", "snap"))
        segments = [name for name in os.listdir(wal) if name.endswith(".wal")]
        self.assertGreater(len(segments), 4)
        self.assertGreater(len([name for name in os.listdir(snap) if name.endswith(".snap")]), 3)
        with capturedLogs() as events:
            etcd = yield self.started(*flags)
        self.assertEqual(100, etcd.member.store.count(b"k", b"l"))
        self.assertGreater(etcd.member.node.raft.status().applied, 100)
        yield deferLater(reactor, 0.05)  # the first purge
        formats = [str(event["log_format"]) for event in events if event["log_level"] >= LogLevel.warn]
        self.assertEqual([], [text for text in formats if not text.startswith("slow fdatasync")])
        yield etcd.stopService()
        left = [name for name in os.listdir(wal) if name.endswith(".wal")]
        self.assertLess(len(left), len(segments) - 2)
        self.assertLess(len([name for name in os.listdir(snap) if name.endswith(".snap")]), 5)

    @inlineCallbacks
    def test_no_snapshots_in_memory(self) -> Any:
        """An engine that forgets gets all of the log at each start, so none of it goes away."""
        flags = ("--snapshot-count=5", "--backend=memory")
        etcd = yield self.started(*flags)
        for number in range(30):
            yield put(etcd, b"k%d" % number)
        yield etcd.stopService()
        self.assertEqual([], os.listdir(os.path.join(self.directory, "member", "snap")))
        etcd = yield self.started(*flags)
        self.assertEqual(30, etcd.member.store.count(b"k", b"l"))

    @inlineCallbacks
    def test_full_disk(self) -> Any:
        """A log that finds the disk full says so, and in which file; nothing acknowledged is lost."""
        failures: list[Failure] = []
        etcd = yield self.started("--fsync-in=reactor", on_fatal=failures.append)
        yield put(etcd, b"a")

        def full(descriptor: int, data: bytes, offset: int) -> int:
            raise OSError(28, "No space left on device")

        with capturedLogs() as events, mock.patch("os.pwrite", full):
            yield self.assertFailure(put(etcd, b"b"), RuntimeError)
            yield deferLater(reactor, 0)
        segment = os.path.join(self.directory, "member", "wal", "0000000000000000-0000000000000000.wal")
        sentence = f"[Errno 28] No space left on device: '{segment}'"
        self.assertEqual([sentence], [failure.getErrorMessage() for failure in failures])
        [said] = [event for event in events if event["log_level"] == LogLevel.critical]
        self.assertEqual(f"The member stops: {sentence}", formatEvent(said))
        yield etcd.stopService()
        etcd = yield self.started()
        self.assertEqual((1, 0), (etcd.member.store.count(b"a", None), etcd.member.store.count(b"b", None)))

    @inlineCallbacks
    def test_port_in_use(self) -> Any:
        """Who cannot listen does not start, and says where."""
        etcd = yield self.started()
        taken = etcd.client_ports[0].getHost().port
        failures: list[Failure] = []
        other = self.build(directory=os.path.join(self.directory, "two"), on_fatal=failures.append)
        other._config = dataclasses.replace(other._config, listen_client_urls=(f"http://127.0.0.1:{taken}",))
        other.startService()
        error = yield self.assertFailure(other.ready, MemberError)
        self.assertRegex(str(error), f"cannot listen on 127.0.0.1:{taken}: .*in use")
        self.assertEqual(1, len(failures))

    @inlineCallbacks
    def test_disk_fails(self) -> Any:
        """A member whose log fails says so once, answers nobody, and can still be stopped."""
        failures: list[Failure] = []
        etcd = yield self.started("--fsync-in=reactor", on_fatal=failures.append)

        def full(state: Any, entries: Any) -> Any:
            raise OSError(28, "No space left on device")

        etcd.member.node._wal.save = full
        with capturedLogs() as events:
            yield self.assertFailure(put(etcd, b"a"), RuntimeError)
            yield deferLater(reactor, 0)
        [failure] = failures
        failure.trap(OSError)
        [said] = [event for event in events if event["log_level"] == LogLevel.critical]
        self.assertIn("No space left", str(said["reason"]))
        yield etcd.stopService()
        self.assert_nothing_left()


class FsyncTests(ServiceCase):
    """Where the log waits for the disk is a matter of speed only."""

    @inlineCallbacks
    def _survives(self, *flags: str) -> Any:
        etcd = yield self.started(*flags)
        for number in range(3):
            yield put(etcd, b"k%d" % number)
        left = os.path.join(self.directory, "crashed")
        shutil.copytree(os.path.join(self.directory, "member", "wal"), os.path.join(left, "member", "wal"))
        again = yield self.started("--backend=memory", directory=left)
        self.assertEqual(3, again.member.store.count(b"k", b"l"))

    def test_reactor(self) -> Any:
        """What was answered is in the files."""
        return self._survives("--fsync-in=reactor")

    def test_thread(self) -> Any:
        """The same."""
        return self._survives("--fsync-in=thread")

    def test_auto(self) -> Any:
        """The same."""
        return self._survives("--fsync-in=auto")

    def test_never(self) -> Any:
        """Without syncs it is written all the same, so that the process may be killed (KF-30)."""
        return self._survives("--unsafe-no-fsync")

    @inlineCallbacks
    def test_auto_measures(self) -> Any:
        """A disk that takes more than the limit begins with a thread, and says so; a fast one does not."""
        thread, here = "a thread, while it takes so long", "the reactor, unless the disk is busy"
        for seconds, place in ((0.0051, thread), (0.0049, here)):
            self.patch(disk, "median_sync_seconds", lambda *_, seconds=seconds: seconds)
            with capturedLogs() as events:
                etcd = yield self.started()
            [event] = [event for event in events if "place" in event]
            self.assertEqual((place, round(seconds * 1000, 3)), (event["place"], event["milliseconds"]))
            wal: Any = etcd.member.node._wal
            for running in (0, 1):
                self.patch(etcd, "_running", running)
                self.assertEqual(place == thread or running > 0, wal._where() is not None)
            etcd._running = 0
            yield etcd.stopService()

    @inlineCallbacks
    def test_slow_disk(self) -> Any:
        """A sync that takes long by the reactor's clock is told, whichever thread waits; that stays so."""
        for place in ("reactor", "thread"):
            etcd = yield self.started(f"--fsync-in={place}")
            times = iter(range(0, 1000, 2))
            wal: Any = etcd.member.node._wal
            self.assertEqual(reactor.seconds, wal._seconds)
            wal._seconds = lambda times=times: float(next(times))
            with capturedLogs() as events:
                yield put(etcd, b"a")
            [event] = [event for event in events if event["log_format"] == "slow fdatasync"]
            self.assertEqual(("2s", "1s"), (event["took"], event["expected-duration"]))
            wal._seconds = lambda: 1e9
            self.assertEqual(place == "thread", wal._where() is not None)
            yield etcd.stopService()

    @inlineCallbacks
    def test_others_do_not(self) -> Any:
        """Who was told where to sync, or never to, is not measured."""
        self.patch(disk, "median_sync_seconds", lambda *_: self.fail("measured"))
        for flag in ("--fsync-in=reactor", "--fsync-in=thread", "--unsafe-no-fsync"):
            etcd = yield self.started(flag)
            self.assertEqual(flag == "--fsync-in=thread", etcd.member.node._wal._run_sync is not None)
            yield etcd.stopService()


class ProbeTests(SynchronousTestCase):
    """What a sync takes."""

    def test_median(self) -> None:
        """The middle one of a few counts, so that one slow sync decides nothing; no file is left."""
        directory = self.mktemp()
        os.mkdir(directory)
        steps = iter([0.0, 9.0, 10.0, 10.003, 20.0, 20.001, 30.0, 30.002, 40.0, 40.004])
        files = LocalFiles()
        syncs: list[str] = []

        def opened(path: str, create: bool = False) -> Any:
            file = LocalFiles.open(files, path, create)
            sync = file.sync
            file.sync = lambda: (syncs.append(path), sync())  # type: ignore[method-assign]
            return file

        files.open = opened  # type: ignore[method-assign]
        self.assertAlmostEqual(0.003, median_sync_seconds(files, directory, lambda: next(steps)))
        self.assertEqual(SYNCS, len(syncs))
        self.assertEqual([], os.listdir(directory))


class RefusalTests(ServiceCase):
    """What cannot start says why in one sentence, and leaves nothing open."""

    def assert_refused(self, pattern: str, *flags: str, **more: Any) -> None:
        """It does not start; what was running goes on."""
        files, threads = open_files(self.directory), our_threads()
        etcd = self.build(*flags, **more)
        error = self.assertRaises(MemberError, etcd.startService)
        self.assertRegex(str(error), pattern)
        self.assertNotIn("\n", str(error))
        self.assertFalse(etcd.running)
        self.assertEqual(sorted(files), sorted(open_files(self.directory)))
        self.assertEqual(sorted(threads), sorted(our_threads()))

    @inlineCallbacks
    def stopped(self, *flags: str, **more: Any) -> Any:
        """The data of a member that ran, with a key."""
        etcd = yield self.started(*flags, **more)
        yield put(etcd, b"a")
        yield etcd.stopService()

    def test_few_files(self) -> None:
        """A process that may open few files would stop when its log wants another."""
        self.patch(service.resource, "getrlimit", lambda _: (150, 4096))
        self.assert_refused(r"^file descriptor limit\[150\] .* should be set higher than 150 ")

    @inlineCallbacks
    def test_locked(self) -> Any:
        """A data directory belongs to one member at a time, whichever engine each of them has."""
        yield self.started()
        self.assert_refused("use")
        self.assert_refused("use", "--backend=memory")

    @inlineCallbacks
    def test_log_without_a_backend(self) -> Any:
        """A log that is whole makes the backend anew; this is how an engine in memory restarts."""
        yield self.stopped()
        shutil.rmtree(os.path.join(self.directory, "member", "snap"))
        etcd = yield self.started()
        self.assertEqual(1, etcd.member.store.count(b"a", None))

    @inlineCallbacks
    def test_backend_without_a_log(self) -> Any:
        """Part of the member is lost."""
        yield self.stopped()
        shutil.rmtree(os.path.join(self.directory, "member", "wal"))
        self.assert_refused("snap holds a store, but .*wal holds no log")

    @inlineCallbacks
    def test_backend_of_another(self) -> Any:
        """Log and backend must be of one member."""
        yield self.stopped()
        other = os.path.join(self.directory, "two")
        advertised = "http://127.0.0.1:9999"
        flags = [f"--initial-advertise-peer-urls={advertised}", f"--initial-cluster=one={advertised}"]
        yield self.stopped(*flags, directory=other)
        shutil.rmtree(os.path.join(self.directory, "member", "snap"))
        shutil.copytree(os.path.join(other, "member", "snap"), os.path.join(self.directory, "member", "snap"))
        self.assert_refused("the log is that of member [0-9a-f]+, which the backend does not know")

    @inlineCallbacks
    def test_older_log(self) -> Any:
        """A log that ends before the backend has lost its end."""
        etcd = yield self.started()
        wal = os.path.join(self.directory, "member", "wal")
        shutil.copytree(wal, wal + ".older")
        yield put(etcd, b"a")
        yield etcd.stopService()
        shutil.rmtree(wal)
        os.rename(wal + ".older", wal)
        self.assert_refused("has applied entry .*, but the log ends at")

    @inlineCallbacks
    def test_damaged_backend(self) -> Any:
        """A record that cannot be read is told as damage."""
        yield self.stopped()
        backend = open_backend("lmdb", os.path.join(self.directory, "member", "snap"))
        backend.write({b"key": {b"no revision": b""}})
        backend.close()
        self.assert_refused("damaged")

    def test_unknown_backend(self) -> None:
        """The known ones are listed."""
        self.assert_refused("there is no backend 'nosql'; there are: .*lmdb, memory", "--backend=nosql")
        with self.assertRaises(ConfigError):
            open_backend("nosql", self.directory)

    def test_store_of_an_etcd(self) -> None:
        """It is left as it is: nothing of ours is put beside it."""
        snap = os.path.join(self.directory, "member", "snap")
        os.makedirs(snap)
        with open(os.path.join(snap, "db"), "wb") as file:
            file.write(bytes(100))
        self.assert_refused("snap holds the store of an etcd, which this version cannot read")
        self.assertEqual(["db"], os.listdir(snap))

    def test_backend_options(self) -> None:
        """They follow the name; one that is unknown, or a value that does not parse, is refused."""
        os.mkdir(self.directory)
        backend = open_backend("lmdb:map-bytes=1048576", self.directory)
        self.assertEqual(1 << 20, backend.environment.info()["map_size"])  # type: ignore[attr-defined]
        backend.close()
        open_backend("memory:", self.directory).close()
        for spec, text in (
            ("lmdb:size=1", "--backend=lmdb has no option 'size'; there are: map-bytes"),
            ("memory:map-bytes=1", "--backend=memory has no option 'map-bytes'; there are: none"),
            (
                "lmdb:map-bytes=1k",
                "--backend=lmdb: map-bytes: must be a number of bytes, at least 1048576, not '1k'",
            ),
        ):
            with self.assertRaises(ConfigError) as refused:
                open_backend(spec, self.directory)
            self.assertEqual(text, str(refused.exception))

    def test_certificate(self) -> None:
        """A certificate that cannot be shown is named."""
        url = "https://127.0.0.1:2379"
        flags = (f"--listen-client-urls={url}", f"--advertise-client-urls={url}", "--key-file=nowhere")
        etcd = EtcdService(config_of(self.directory, *flags, "--cert-file=nowhere", scheme="https"), reactor)
        with self.assertRaisesRegex(MemberError, "^cannot read nowhere: No such file or directory$"):
            etcd.startService()
        self.assert_nothing_left()

    def test_unreadable(self) -> None:
        """What the system says about a file reaches the operator."""
        os.mkdir(self.directory)
        with open(os.path.join(self.directory, "member"), "w"):
            pass
        self.assert_refused("Errno.*member")

    def test_engine_cannot_open(self) -> None:
        """An engine's own trouble with a file becomes a sentence as well."""
        path = os.path.join(self.directory, "nowhere")
        with self.assertRaisesRegex(BackendError, "cannot open .*nowhere"):
            open_backend("lmdb", path)

    @inlineCallbacks
    def test_closing_goes_on(self) -> Any:
        """What cannot be closed is logged, and keeps nothing else from being closed."""

        def refuse(backend: MemoryBackend) -> None:
            raise OSError(5, "Input/output error")

        self.patch(MemoryBackend, "close", refuse)
        etcd = yield self.started("--backend=memory")
        yield etcd.stopService()
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class FakeReactorTests(SynchronousTestCase):
    """The reactor is the one that was handed in."""

    def test_listens(self) -> None:
        """It listens where and how it was told to, once it can serve; localhost is 127.0.0.1."""
        reactor = FakeReactor()
        self.patch(disk, "LogOptions", lambda **options: LogOptions(**options, segment_bytes=65536))
        config = config_of(self.mktemp(), "--backend=memory", "--fsync-in=reactor", "--auto-tls")
        config = dataclasses.replace(
            config, listen_client_urls=("http://127.0.0.1:1", "https://[::1]:2", "http://localhost:3")
        )
        etcd = EtcdService(config, reactor)
        etcd.startService()
        self.addCleanup(etcd._close)
        reactor.advance(0)
        self.successResultOf(etcd.ready)
        self.assertEqual(
            [(0, "127.0.0.1", False), (1, "127.0.0.1", False), (2, "::1", True), (3, "127.0.0.1", False)],
            [
                (port, interface, isinstance(factory, SecureFactory))
                for port, factory, _, interface in reactor.tcpServers
            ],
        )
        stopped = etcd.stopService()
        ended: list[Any] = []
        stopped.addBoth(ended.append)
        for _ in range(200):
            if ended:
                break
            threading.Event().wait(0.01)
            reactor.run_calls_from_threads()
        self.assertEqual([None], ended)
        self.assertEqual([], our_threads())


class FakeReactor(MemoryReactorClock):
    """Keeps what threads ask for until the test runs it."""

    def __init__(self) -> None:
        super().__init__()
        self._from_threads: list[Any] = []

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        self._from_threads.append((function, args, kwargs))

    def run_calls_from_threads(self) -> None:
        """In this thread."""
        calls, self._from_threads = self._from_threads, []
        for function, args, kwargs in calls:
            function(*args, **kwargs)
