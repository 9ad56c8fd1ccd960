"""``etcdctl snapshot save`` from a running member; etcd goes on from what it saved."""

from __future__ import annotations

import json
from pathlib import Path
from signal import SIGKILL, SIGTERM
from threading import Event, Thread
from typing import Any

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.servers import Server, etcdctls, our_server, reference_server, reference_tool, run
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    HashKVRequest,
    HashKVResponse,
    LeaseGrantRequest,
    LeaseTimeToLiveRequest,
    PutRequest,
    RangeRequest,
    SnapshotRequest,
    SnapshotResponse,
)

KV, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
VALUE = bytes(range(256)) * 400
LARGE = 150  # such values: the snapshot takes a while
WRITERS = 4
RESTORE_FLAGS = ("name", "initial-cluster", "initial-advertise-peer-urls")


class Writers:
    """Clients that put and put, until they are told to stop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = Event()
        self.counts = [0] * WRITERS
        self._threads = [Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> Writers:
        self._server.connect()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        while not self._stop.is_set():
            count = self.counts[number]
            key = b"w%d-%d" % (number, count % 100)
            self._server.call(f"{KV}Put", PutRequest(key=key, value=b"%d" % count))
            self.counts[number] = count + 1


class SaveTests(SynchronousTestCase):
    """What is saved while others write is the store as it was at one revision."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)

    def fill(self, *flags: str) -> None:
        """A store with history, leases, and values that take a while."""
        self.server.start(*flags)
        call = self.server.call
        call(f"{LEASE}LeaseGrant", LeaseGrantRequest(ID=77, TTL=100_000))
        for number in range(300):
            call(f"{KV}Put", PutRequest(key=b"s%d" % (number % 50), value=b"%d" % number, lease=77))
        for number in range(LARGE):
            call(f"{KV}Put", PutRequest(key=b"large%d" % number, value=VALUE))
        call(f"{KV}Compact", CompactionRequest(revision=200, physical=True))

    def hash(self, server: Server, revision: int = 0) -> tuple[int, int]:
        """The hash up to a revision, and what was compacted."""
        request = HashKVRequest(revision=revision)
        answer: HashKVResponse = server.call("/etcdserverpb.Maintenance/HashKV", request)
        return answer.hash, answer.compact_revision

    def revision(self) -> int:
        """Ours, now."""
        found: int = self.server.call(f"{KV}Range", RangeRequest(key=b"-")).header.revision
        return found

    def test_lmdb(self) -> None:
        """Whatever etcdctl saves it, and with the default engine."""
        self.fill("--unsafe-no-fsync")
        programs = etcdctls()
        if not programs:
            raise SkipTest("needs etcdctl")
        for version, etcdctl in sorted(programs.items()):
            self.check_saved(version, etcdctl)

    def test_memory(self) -> None:
        """With the engine that has everything in memory."""
        self.fill("--unsafe-no-fsync", "--backend=memory")
        self.check_saved("memory", reference_tool("etcdctl"))

    def check_saved(self, name: str, etcdctl: str) -> None:
        """Saved under load; etcd accepts it, and serves from it what we had at its revision."""
        path = str(self.server.directory / f"saved-{name}")
        with Writers(self.server) as writers:
            while min(writers.counts) < 20:
                self.revision()
            before = self.revision()
            run(etcdctl, f"--endpoints={self.server.endpoint}", "snapshot", "save", path)
            after = self.revision()
        etcdutl = reference_tool("etcdutl")
        status = json.loads(run(etcdutl, "snapshot", "status", path, "-w", "json"))
        self.assertEqual(status, json.loads(run(etcdctl, "snapshot", "status", path, "-w", "json")))
        self.assertEqual(Path(path).stat().st_size, status["totalSize"] + 32)
        revision = status["revision"]
        self.assertLessEqual(before, revision)
        self.assertLessEqual(revision, after)
        etcd = reference_server(self.mktemp())
        self.addCleanup(etcd.clean_up)
        flags = [f"--data-dir={etcd.data}", *[f"--{flag}={etcd.flag(flag)}" for flag in RESTORE_FLAGS]]
        run(etcdutl, "snapshot", "restore", path, *flags)
        etcd.start("--unsafe-no-fsync")
        self.assertEqual(self.hash(self.server, revision), self.hash(etcd))
        everything = RangeRequest(key=b"\0", range_end=b"\0", revision=revision)
        ours, theirs = (server.call(f"{KV}Range", everything) for server in (self.server, etcd))
        self.assertEqual(list(ours.kvs), list(theirs.kvs))
        lease = etcd.call(f"{LEASE}LeaseTimeToLive", LeaseTimeToLiveRequest(ID=77, keys=True))
        self.assertEqual(50, len(lease.keys))
        etcd.call(f"{KV}Put", PutRequest(key=b"next", value=b"one"))
        etcd.stop()


class LeavingTests(SynchronousTestCase):
    """Clients that do not stay to the end, and members that do not."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)
        self.server.start()
        for number in range(30):
            self.server.call(f"{KV}Put", PutRequest(key=b"%d" % number, value=VALUE))

    def snapshot(self) -> Any:
        """One that is asked for."""
        begin = self.server.channel.unary_stream(
            SNAPSHOT,
            request_serializer=SnapshotRequest.SerializeToString,
            response_deserializer=SnapshotResponse.FromString,
        )
        return begin(SnapshotRequest())

    def half(self) -> Any:
        """One that has begun."""
        call = self.snapshot()
        self.assertTrue(next(call).blob)
        return call

    def check_whole(self) -> None:
        """The next one gets all."""
        self.assertGreater(sum(len(response.blob) for response in self.snapshot()), 30 * len(VALUE))

    def test_hang_up(self) -> None:
        """Any number of clients may go away in the middle; the next one gets all, and the member stops."""
        for _ in range(20):
            self.half().cancel()
        self.check_whole()
        self.check_left_behind(SIGTERM)

    def check_left_behind(self, number: int) -> None:
        """Whoever is in the middle when the member gets a signal is told that there is no more."""
        staying = self.half()
        assert self.server.process is not None, "it runs"
        self.server.process.send_signal(number)
        error = self.assertRaises(grpc.RpcError, list, staying)
        self.assertEqual(grpc.StatusCode.UNAVAILABLE, error.code())
        self.assertEqual(-number, self.server.stop(number))

    def test_killed(self) -> None:
        """A member that is killed in the middle leaves its client with an error, and comes back with all."""
        self.check_left_behind(SIGKILL)
        self.server.start()
        self.server.connect()
        self.check_whole()
        self.assertEqual(30, self.server.call(f"{KV}Range", RangeRequest(key=b"\0", range_end=b"\0")).count)
