"""Images of stores, ours given to etcd's tools and theirs to us: nothing is lost on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import Server, reference_server, reference_tool, run
from tests.mvcc.stores import Stack
from twistedetcd.backends.lmdb import LMDBFactory
from twistedetcd.backends.memory import MemoryFactory
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.files.local import LocalFiles
from twistedetcd.interfaces import IBackend, IBackendFactory
from twistedetcd.lease.lessor import Lessor
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    HashKVRequest,
    LeaseGrantRequest,
    LeaseTimeToLiveRequest,
    PutRequest,
    RangeRequest,
)
from twistedetcd.raft.types import ConfState
from twistedetcd.server.bootstrap import AppliedMark
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.snap.bbolt.writing import measure
from twistedetcd.snap.install import install

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
PUTS = 3000
KEYS = 700
LARGE = bytes(1024 * 1024)
LEASES = range(1, 301)
COMPACTED = 1500
INDEX = 5000
PREFIX_END = b"l"  # all keys begin with k


def changes() -> Iterable[tuple[bytes, bytes | None, int]]:
    """What happens to a store: a key, what is put, or ``None`` for its deletion, and its lease."""
    random = Random(1)
    there = set()
    for _ in range(PUTS):
        key = b"k%04d" % random.randrange(KEYS)
        if key in there and random.random() < 0.2:
            there.remove(key)
            yield key, None, 0
        else:
            there.add(key)
            yield key, random.randbytes(random.randrange(400)), random.choice((0, 0, *LEASES))
    yield b"klarge", LARGE, 0


def filled(backend: IBackend) -> Stack:
    """A store as a member has it after some time."""
    stack = Stack(backend)
    lessor = Lessor(stack.pending, 1, None)
    for lease_id in LEASES:
        lessor.grant(lease_id, 100_000)
    for number, (key, value, lease) in enumerate(changes()):
        transaction = stack.store.write()
        if value is None:
            transaction.delete(key)
        else:
            transaction.put(key, value, lease)
        transaction.end()
        if number % 500 == 0:
            stack.flush()
    stack.compact(COMPACTED)
    cluster = Cluster(stack.pending)
    cluster.add(Member(1, ("http://127.0.0.1:1",), name="before"))
    cluster.set_version("3.6.0")
    AppliedMark(stack.pending).write(INDEX, 3, ConfState((1,)))
    stack.flush()
    return stack


class OursTests(SynchronousTestCase):
    """etcd takes what we write."""

    def test_memory(self) -> None:
        """An image made from the engine in memory."""
        self.restored(MemoryFactory())

    def test_lmdb(self) -> None:
        """One made from LMDB."""
        self.restored(LMDBFactory())

    def restored(self, factory: IBackendFactory) -> None:
        """etcd's tools accept an image and its digest; an etcd that is started on it has all of the store."""
        server = reference_server(self.mktemp())
        self.addCleanup(server.clean_up)
        etcdutl = reference_tool("etcdutl")
        directory = self.mktemp()
        os.makedirs(directory)
        backend = factory.open(directory)
        self.addCleanup(backend.close)
        stack = filled(backend)
        self.addCleanup(stack.pending.close)
        view = backend.read()
        self.addCleanup(view.close)
        image = finish(measure(view))
        path = server.directory / "image"
        with path.open("wb") as file:
            digest = sha256()
            for chunk in image.chunks():
                digest.update(chunk)
                file.write(chunk)
            file.write(digest.digest())
        status = json.loads(run(etcdutl, "snapshot", "status", str(path), "-w", "json"))
        records = sum(1 for bucket in view.buckets() for _ in view.range(bucket, b"", None))
        self.assertEqual(
            (stack.store.revision, records, image.size_bytes),
            (status["revision"], status["totalKey"], status["totalSize"]),
        )
        flags = ("name", "initial-cluster", "initial-advertise-peer-urls")
        run(
            etcdutl,
            "snapshot",
            "restore",
            str(path),
            f"--data-dir={server.data}",
            *[f"--{name}={server.flag(name)}" for name in flags],
        )
        server.start()
        self.compare(server, stack)
        # etcd goes on from there: its own pages among ours, then a check of them all.
        for key, value, _ in changes():
            server.call(f"{KV}Put", PutRequest(key=key, value=value or b""))
        server.call(f"{KV}DeleteRange", DeleteRangeRequest(key=b"k", range_end=b"k05"))
        server.call(f"{KV}Compact", CompactionRequest(revision=stack.store.revision + PUTS, physical=True))
        saved = str(server.directory / "saved")
        run(reference_tool("etcdctl"), f"--endpoints={server.endpoint}", "snapshot", "save", saved)
        run(etcdutl, "snapshot", "status", saved)
        file = LocalFiles().open(saved)
        self.addCleanup(file.close)
        ImageFile(file).check()

    def compare(self, server: Server, stack: Stack) -> None:
        """Everything that can be asked of it."""
        ours = stack.hash()
        theirs = server.call("/etcdserverpb.Maintenance/HashKV", HashKVRequest())
        self.assertEqual(
            (ours.hash, ours.compact_revision, ours.revision),
            (theirs.hash, theirs.compact_revision, theirs.header.revision),
        )
        for revision in (0, COMPACTED, COMPACTED + 700):
            request = RangeRequest(key=b"k", range_end=PREFIX_END, revision=revision)
            found = server.call(f"{KV}Range", request).kvs
            self.assertEqual(stack.items(b"k", PREFIX_END, revision), list(found))
        owned = {item.key for item in stack.items(b"k", PREFIX_END) if item.lease == LEASES[0]}
        request = LeaseTimeToLiveRequest(ID=LEASES[0], keys=True)
        lease = server.call(f"{LEASE}LeaseTimeToLive", request)
        self.assertEqual((100_000, owned), (lease.grantedTTL, set(lease.keys)))


class TheirsTests(SynchronousTestCase):
    """We take what etcd writes."""

    def test_saved_snapshot(self) -> None:
        """A snapshot of a running etcd is read, and installed into either engine; the store is the same."""
        server = reference_server(self.mktemp())
        self.addCleanup(server.clean_up)
        etcdctl = reference_tool("etcdctl")
        server.start("--unsafe-no-fsync")
        for lease_id in LEASES:
            server.call(f"{LEASE}LeaseGrant", LeaseGrantRequest(ID=lease_id, TTL=100_000))
        for key, value, lease in changes():
            if value is None:
                server.call(f"{KV}DeleteRange", DeleteRangeRequest(key=key))
            else:
                server.call(f"{KV}Put", PutRequest(key=key, value=value, lease=lease))
        server.call(f"{KV}Compact", CompactionRequest(revision=COMPACTED, physical=True))
        theirs = server.call("/etcdserverpb.Maintenance/HashKV", HashKVRequest())
        saved = server.directory / "saved"
        run(etcdctl, f"--endpoints={server.endpoint}", "snapshot", "save", str(saved))
        found = server.call(f"{KV}Range", RangeRequest(key=b"k", range_end=PREFIX_END)).kvs
        server.stop()
        for factory in (MemoryFactory(), LMDBFactory()):
            stack = self.installed(saved, factory)
            ours = stack.hash()
            self.assertEqual(
                (theirs.hash, theirs.compact_revision, theirs.header.revision),
                (ours.hash, ours.compact_revision, ours.revision),
            )
            self.assertEqual(list(found), stack.items(b"k", PREFIX_END))
            self.assertEqual({item.key: item.lease for item in found if item.lease}, stack.restored)
            lessor = Lessor(stack.pending, 1, None)
            lessor.restore()
            self.assertEqual(len(LEASES), len(lessor))

    def installed(self, saved: Path, factory: IBackendFactory) -> Stack:
        """A store over a backend that had something else before."""
        directory = self.mktemp()
        os.makedirs(directory)
        backend = factory.open(directory)
        self.addCleanup(backend.close)
        backend.write({b"key": {b"something": b"else"}})
        file = LocalFiles().open(str(saved))
        self.addCleanup(file.close)
        image = ImageFile(file)
        image.check()
        self.assertGreater(image.consistent_index, PUTS)
        self.assertEqual(saved.stat().st_size, image.size_bytes + 32)
        finish(install(backend, image))
        stack = Stack(backend)
        self.addCleanup(stack.pending.close)
        return stack
