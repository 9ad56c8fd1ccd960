"""Killed while clients hold leases: none ends too early, none stays, and no key outlives its lease."""

from __future__ import annotations

import time
from random import Random
from signal import SIGKILL
from threading import Condition, Thread

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import Server, our_server
from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    PutRequest,
    RangeRequest,
)

KILLS = 3
OWNERS = 8
RENEWALS_MAX = 200  # acknowledged in one life
LIFE_SECONDS_MAX = 20.0
TTL_SECONDS = 3
ELECTION_SECONDS = 1.0
LATE_SECONDS = 1.5
POLL_SECONDS = 0.05
SEED = 39
LEASE, KV = "/etcdserverpb.Lease/Lease", "/etcdserverpb.KV/"


class Owners:
    """
    Clients that each grant a lease, put a key with it and keep it alive, until the member is gone.

    Attributes:
        until: When each lease may end, at the earliest, as its owner was told.
        keys: The lease of each key that was acknowledged.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.until: dict[int, float] = {}
        self.keys: dict[bytes, int] = {}
        self._acknowledged = 0
        self._grown = Condition()

    def run_until_killed(self, renewals: int) -> None:
        """
        Kill the member once some renewals were acknowledged, with others on their way.

        Raises:
            AssertionError: It took too long to acknowledge them.
        """
        self._server.connect()
        owners = [Thread(target=self._own) for _ in range(OWNERS)]
        with self._grown:
            goal = self._acknowledged + renewals
            for owner in owners:
                owner.start()
            in_time = self._grown.wait_for(lambda: self._acknowledged >= goal, LIFE_SECONDS_MAX)
        assert self._server.process is not None
        self._server.process.send_signal(SIGKILL)
        for owner in owners:
            owner.join()
        self._server.stop(SIGKILL)
        assert in_time, f"{self._acknowledged} renewals acknowledged, {goal} expected"

    def _own(self) -> None:
        try:
            asked = time.monotonic()
            lease_id: int = self._server.call(f"{LEASE}Grant", LeaseGrantRequest(TTL=TTL_SECONDS)).ID
            self._told(lease_id, asked)
            key = b"%x" % lease_id
            self._server.call(f"{KV}Put", PutRequest(key=key, lease=lease_id))
            self.keys[key] = lease_id
            keep_alive = self._server.channel.stream_stream(
                f"{LEASE}KeepAlive",
                request_serializer=LeaseKeepAliveRequest.SerializeToString,
                response_deserializer=LeaseKeepAliveResponse.FromString,
            )
            while True:
                asked = time.monotonic()
                for answer in keep_alive(iter([LeaseKeepAliveRequest(ID=lease_id)])):
                    assert answer.TTL == TTL_SECONDS, answer
                    self._told(lease_id, asked)
        except grpc.RpcError:
            return

    def _told(self, lease_id: int, asked: float) -> None:
        with self._grown:
            self.until[lease_id] = asked + TTL_SECONDS
            self._acknowledged += 1
            self._grown.notify()


class LeaseCrashTests(SynchronousTestCase):
    """What an owner was told holds."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)

    def test_killed_under_load(self) -> None:
        """
        After a kill each lease is there until what its owner was told, and soon after that it is not.

        Soon: at most its TTL, an election timeout and 1.5 s after the member leads again.
        """
        random = Random(SEED)
        owners = Owners(self.server)
        for _ in range(KILLS):
            self.server.start()
            owners.run_until_killed(random.randrange(1, RENEWALS_MAX))
        self.server.start()
        leads = time.monotonic()
        latest = leads + TTL_SECONDS + ELECTION_SECONDS + LATE_SECONDS
        while True:
            there, now = self.leases(), time.monotonic()
            early = {lease_id for lease_id, until in owners.until.items() if now < until} - there
            self.assertEqual(set(), early, "ended too early")
            outlived = {key for key in self.keys() if owners.keys.get(key, 0) not in there}
            self.assertEqual(set(), outlived & owners.keys.keys(), "a key outlived its lease")
            if not there:
                break
            self.assertLess(now, latest, f"still there: {there}")
            time.sleep(POLL_SECONDS)
        self.assertEqual(set(), self.keys())

    def keys(self) -> set[bytes]:
        """All keys."""
        everything = self.server.call(f"{KV}Range", RangeRequest(key=b"\0", range_end=b"\0"))
        return {kv.key for kv in everything.kvs}

    def leases(self) -> set[int]:
        """Those that are there."""
        return {each.ID for each in self.server.call(f"{LEASE}Leases", LeaseLeasesRequest()).leases}
