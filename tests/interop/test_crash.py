"""Killed again and again while clients write: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

from random import Random
from signal import SIGKILL, SIGTERM
from threading import Condition, Thread

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import LONG, Server, our_server
from twistedetcd.pb.rpc_pb2 import HashKVRequest, PutRequest, RangeRequest

KILLS = 25 if LONG else 8
WRITERS = 4
ACKNOWLEDGED_MAX = 400  # puts in one life
LIFE_SECONDS_MAX = 20.0
SEED = 14
PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
HASH_KV = "/etcdserverpb.Maintenance/HashKV"


class Load:
    """
    Clients that put one new key after the other, until the member is gone.

    Attributes:
        acknowledged: The revision of each key that was answered for, over all lives.
    """

    def __init__(self, server: Server) -> None:
        self.acknowledged: dict[bytes, int] = {}
        self._server = server
        self._grown = Condition()

    def run_until_killed(self, life: int, puts: int) -> None:
        """
        Kill the member, without a warning, once some puts were acknowledged, with others on their way.

        Raises:
            AssertionError: It took too long to acknowledge them.
        """
        self._server.connect()
        writers = [Thread(target=self._write, args=(b"%d-%d" % (life, writer),)) for writer in range(WRITERS)]
        with self._grown:
            goal = len(self.acknowledged) + puts
            for writer in writers:
                writer.start()
            in_time = self._grown.wait_for(lambda: len(self.acknowledged) >= goal, LIFE_SECONDS_MAX)
        assert self._server.process is not None
        self._server.process.send_signal(SIGKILL)
        for writer in writers:
            writer.join()
        self._server.stop(SIGKILL)
        assert in_time, f"{len(self.acknowledged)} puts acknowledged, {goal} expected"

    def _write(self, name: bytes) -> None:
        count = 0
        while True:
            key = b"%b-%d" % (name, count)
            try:
                response = self._server.call(PUT, PutRequest(key=key, value=key * (count % 50)))
            except grpc.RpcError:
                return
            with self._grown:
                self.acknowledged[key] = response.header.revision
                self._grown.notify()
            count += 1


class CrashTests(SynchronousTestCase):
    """What a client was told is done stays done."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)

    def state(self) -> tuple[dict[bytes, int], int, int]:
        """The revision of every key, the current revision, and the hash of all records."""
        everything = self.server.call(RANGE, RangeRequest(key=b"\0", range_end=b"\0"))
        hashed = self.server.call(HASH_KV, HashKVRequest())
        return {kv.key: kv.mod_revision for kv in everything.kvs}, everything.header.revision, hashed.hash

    def test_killed_under_load(self) -> None:
        """
        After the last of many kills every acknowledged put is there, under the revision that was answered.

        The stored revisions are those from 2 to the current one, each once, so no put was replayed twice and
        none was half applied.
        """
        random = Random(SEED)
        load = Load(self.server)
        for life in range(KILLS):
            self.server.start("--snapshot-count=100")
            load.run_until_killed(life, random.randrange(1, ACKNOWLEDGED_MAX))
        self.server.start()
        revisions, current, hashed = self.state()
        lost = {
            key: revision for key, revision in load.acknowledged.items() if revisions.get(key) != revision
        }
        self.assertEqual({}, lost)
        self.assertEqual(list(range(2, current + 1)), sorted(revisions.values()))
        for number in (SIGTERM, SIGKILL):
            self.server.stop(number)
            self.server.start()
            self.assertEqual((revisions, current, hashed), self.state(), number)
