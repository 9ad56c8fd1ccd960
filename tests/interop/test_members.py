"""Three members in one process, on real disks and in real time; only the network between is in memory."""

from __future__ import annotations

import os
from random import Random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.test_service import our_threads
from twistedetcd.apply import request as kinds
from twistedetcd.cluster.members import member_id
from twistedetcd.config import parse
from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest
from twistedetcd.raft.types import Snapshot
from twistedetcd.server import peers
from twistedetcd.server.exchange import Exchange
from twistedetcd.service import EtcdService
from twistedetcd.testing.network import SimulatedNetwork
from twistedetcd.testing.peers import SimulatedTransport

reactor: Any = global_reactor
KEYS = int(os.environ.get("CLUSTER_KEYS", "60000"))
AT_ONCE = 1000


class Waiting:
    """A client that waits for one request."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()

    def reply(self, message: bytes) -> None:
        self.done.callback(message)

    def fail(self, code: Code, message: str) -> None:
        self.done.errback(RuntimeError(message))


PATIENT = ("--heartbeat-interval=300", "--election-timeout=3000")  # all share one thread, on a busy machine


class MembersTests(TestCase):
    """What takes its time must not cost the leader its office, nor make members differ."""

    timeout = 900

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.network = SimulatedNetwork(reactor, Random(0))
        self.urls = {f"m{number}": f"http://127.0.0.1:{23800 + number}" for number in (1, 2, 3)}
        self.services: dict[str, EtcdService] = {}
        self.fatal: list[Any] = []

    def start(self, name: str, backend: str, *flags: str) -> Deferred[None]:
        """A member begins, or begins again; fires when it serves."""
        arguments = [
            f"--name={name}",
            f"--data-dir={os.path.join(self.directory, name)}",
            f"--backend={backend}",
            f"--listen-peer-urls={self.urls[name]}",
            f"--initial-advertise-peer-urls={self.urls[name]}",
            "--listen-client-urls=http://127.0.0.1:0",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--initial-cluster=" + ",".join(f"{other}={url}" for other, url in self.urls.items()),
            *flags,
        ]
        number = member_id([self.urls[name]], "etcd-cluster")
        self.services[name] = etcd = EtcdService(
            parse(arguments, {}, lambda path: b""),
            reactor,
            self.fatal.append,
            lambda: SimulatedTransport(self.network, number, reactor),
        )
        etcd.startService()
        return etcd.ready

    @inlineCallbacks
    def stop(self, name: str) -> Any:
        yield self.services.pop(name).stopService()

    @inlineCallbacks
    def tearDown(self) -> Any:
        for name in list(self.services):
            yield self.stop(name)
        while any("SimulatedNetwork" in str(call) for call in reactor.getDelayedCalls()):
            yield deferLater(reactor, 0.05)  # what was lost on the way to somebody who has gone
        self.assertEqual([], self.fatal)
        self.assertEqual([], our_threads())

    @inlineCallbacks
    def put(self, name: str, numbers: range) -> Any:
        """Put a key for each number."""
        member = self.services[name].member
        for first in numbers[::AT_ONCE]:
            waiting = []
            for number in range(first, min(first + AT_ONCE, numbers.stop)):
                request = PutRequest(key=b"%08d" % number, value=b"v" * 20)
                waiting.append(Waiting())
                member.propose(kinds.PUT, request.SerializeToString(), request, waiting[-1])
            for one in waiting:
                yield one.done

    def terms(self) -> set[int]:
        """What the members think that the term is."""
        return {etcd.member.node.raft.term for etcd in self.services.values()}

    @inlineCallbacks
    def hashes(self) -> Any:
        """Of all members, once they have applied the same."""
        members = [etcd.member for etcd in self.services.values()]
        while len({member.applied_index for member in members}) > 1:
            yield deferLater(reactor, 0.02)
        results = []
        for member in members:
            results.append((yield member.hash(0)))
        return results

    def installs(self) -> list[str]:
        """Who installs a store of another member, as it happens."""
        names: list[str] = []
        install = Exchange.install

        def noted(exchange: Exchange, snapshot: Snapshot) -> Deferred[None]:
            names.extend(name for name, etcd in self.services.items() if etcd.member._exchange is exchange)
            return install(exchange, snapshot)

        self.patch(Exchange, "install", noted)
        return names

    @inlineCallbacks
    def test_a_huge_delete(self) -> Any:
        """A delete of very many keys, on three members that share one thread, does not change the term."""
        yield DeferredList([self.start(name, "lmdb") for name in self.urls])
        yield self.put("m1", range(KEYS))
        terms = self.terms()
        self.assertEqual(1, len(terms))
        request = DeleteRangeRequest(key=b"0", range_end=b"9")
        waiting = Waiting()
        member = self.services["m1"].member
        member.propose(kinds.DELETE_RANGE, request.SerializeToString(), request, waiting)
        waiting.done.addErrback(lambda failure: failure.trap(RuntimeError))  # it may take longer than it may
        revision = member.store.revision + 1
        while any(etcd.member.store.revision < revision for etcd in self.services.values()):
            yield deferLater(reactor, 0.05)
        self.assertEqual([0] * 3, [etcd.member.store.count(b"0", b"9") for etcd in self.services.values()])
        self.assertEqual(terms, self.terms())
        self.assertEqual(1, len(set((yield self.hashes()))))

    @inlineCallbacks
    def test_different_engines(self) -> Any:
        """Members with different engines send each other their stores, and have the same."""
        engines = {"m1": "memory", "m2": "lmdb", "m3": "lmdb"}
        installed = self.installs()
        self.patch(peers, "CATCH_UP_SECONDS", 0.0)  # or the log does for whoever is away soon after another
        flags = ("--snapshot-count=500", "--snapshot-catchup-entries=100", *PATIENT)
        yield DeferredList([self.start(name, engine, *flags) for name, engine in engines.items()])
        yield self.put("m2", range(1000))
        for away, there in (("m3", "m1"), ("m1", "m2"), ("m2", "m3")):
            yield self.stop(away)
            yield self.put(there, range(500, 3000))
            yield self.start(away, engines[away], *flags)
            yield self.hashes()  # who waits for what then comes with a store is not told
            yield self.put(away, range(10))
            hashes = yield self.hashes()
            self.assertEqual((3, 1), (len(hashes), len(set(hashes))))
            self.assertEqual(away, installed[-1])
        # The engine forgets, and the log begins after a store that came from another member.
        yield self.stop("m1")
        yield self.start("m1", engines["m1"], *flags)
        self.assertEqual(1, len(set((yield self.hashes()))))
        request = RangeRequest(key=b"0", range_end=b"9", count_only=True)
        self.assertEqual(3000, self.services["m1"].member.store.count(request.key, request.range_end))
