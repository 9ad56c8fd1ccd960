"""Clusters whose network is cut, in one direction or both, or slow: a majority serves, and nobody forgets."""

from __future__ import annotations

import time

import grpc  # type: ignore[import-untyped]

from tests.interop.clusters import ELECTION_SECONDS, QUICK, RANGE, ClusterCase, Load
from tests.interop.proxy import Proxy, Way
from tests.interop.servers import if_long, wait_until
from twistedetcd.pb.rpc_pb2 import RangeRequest

PUTS = 20  # acknowledged before anything else happens
LAG_SECONDS = 3.0  # that a machine which does much else may add to any time
REFUSED_SECONDS_MAX = 15.0
CUT_SECONDS = 2.0  # twice the default of an election timeout
SLOW_SECONDS = 0.5
HEALED_SECONDS_MAX = 20.0


class PartitionCase(ClusterCase):
    """Three members, a network between them, and writing clients; how long it is cut is real time."""

    def begin(self, *flags: str) -> Load:
        """Have all that."""
        self.proxy = Proxy(
            lambda: {
                name: server.process.pid
                for name, server in self.members.servers.items()
                if server.process is not None
            }
        )
        self.addCleanup(self.proxy.close)
        self.found(flags=flags, proxied=self.proxy.before)
        self.members.start()
        load = self.write()
        load.wait_for_more(PUTS, *self.members.servers)
        return load

    def split(self) -> tuple[str, list[str]]:
        """The leader, and the others."""
        leader = self.members.leader()
        return leader, [name for name in self.members.servers if name != leader]

    def heal(self, load: Load) -> None:
        """The network is well again: all members serve, and have the same."""
        self.proxy.heal()
        load.wait_for_more(PUTS, *self.members.servers, seconds_max=HEALED_SECONDS_MAX)
        self.settle(load)

    def wait_for_leader(self, names: list[str]) -> None:
        """Until one of them leads, which must be soon."""
        began = time.monotonic()
        self.members.leader(names)
        self.assertLess(time.monotonic() - began, 3 * ELECTION_SECONDS + LAG_SECONDS)

    def refusal(self, name: str) -> tuple[str, str]:
        """What a member says to a client that wants a linearizable read."""
        with self.assertRaises(grpc.RpcError) as caught:
            self.members[name].call(RANGE, RangeRequest(key=b"a"), REFUSED_SECONDS_MAX)
        return caught.exception.code().name, caught.exception.details()


class CutTests(PartitionCase):
    """A leader that does not reach the others is none."""

    def test_isolated_leader(self) -> None:
        """
        The majority has another leader within three election timeouts, and serves.

        The old one soon knows that it leads no more.  It answers serializable reads, and refuses others as
        etcd does.
        """
        load = self.begin(*QUICK)
        leader, others = self.split()
        self.proxy.isolate(leader, *others)
        self.wait_for_leader(others)
        load.wait_for_more(PUTS, *others)
        wait_until(lambda: self.members.status(leader).leader == 0, f"{leader} to lead no more")
        answer = self.members[leader].call(
            RANGE, RangeRequest(key=b"\0", range_end=b"\0", serializable=True, count_only=True)
        )
        self.assertGreaterEqual(answer.count, PUTS)
        self.assertEqual(("UNAVAILABLE", "etcdserver: request timed out"), self.refusal(leader))
        self.heal(load)

    def test_one_way(self) -> None:
        """
        A leader that is not heard, or does not hear, loses its office within three election timeouts.

        In the first case the others elect another one; in the second it steps down by itself, since no
        majority answers, and then they do.
        """
        load = self.begin(*QUICK)
        for hears in (True, False):
            leader, others = self.split()
            for source, target in [(leader, other) if hears else (other, leader) for other in others]:
                self.proxy.swallow(source, target)
            self.wait_for_leader(others)
            load.wait_for_more(PUTS, *others)
            self.proxy.heal()
            load.wait_for_more(PUTS, *self.members.servers, seconds_max=HEALED_SECONDS_MAX)
        self.settle(load)

    @if_long
    def test_follower_is_cut_off(self) -> None:
        """
        A follower that does not hear the others, or is not heard, or both, costs the cluster nothing.

        It does not even cost the leader its office when it comes back: the term stays.
        """
        load = self.begin()
        leader, [one, other] = self.split()
        term = self.members.status(leader).raftTerm
        everybody = [Way(one, name) for name in (leader, other)], [Way(name, one) for name in (leader, other)]
        for ways in (everybody[0] + everybody[1], *everybody):
            for way in ways:
                self.proxy.swallow(*way)
            # Longer than it waits for a leader: puts of others show that time passes.
            until = time.monotonic() + CUT_SECONDS
            while time.monotonic() < until:
                load.wait_for_more(1, leader, other)
            self.proxy.heal()
            load.wait_for_more(PUTS, *self.members.servers, seconds_max=HEALED_SECONDS_MAX)
            self.assertEqual(term, self.members.status(leader).raftTerm)
        self.settle(load)


class SlowTests(PartitionCase):
    """A slow network makes a slow cluster, and nothing else."""

    @if_long
    def test_slow(self) -> None:
        """With half a second each way and an election timeout that fits, the leader stays."""
        load = self.begin("--heartbeat-interval=500", "--election-timeout=5000")
        leader, _ = self.split()
        term = self.members.status(leader).raftTerm
        self.proxy.delay(SLOW_SECONDS)
        load.wait_for_more(2, *self.members.servers)
        self.proxy.delay(0)
        load.wait_for_more(PUTS, *self.members.servers)
        self.assertEqual(term, self.members.status(leader).raftTerm)
        self.settle(load)

    def test_slow_with_the_default(self) -> None:
        """
        With the default, a second, there may be elections, but when the network is well all is well.

        Then connections that are reset, one member's after the other's, are made again, and the leader stays.
        """
        load = self.begin()
        self.proxy.delay(SLOW_SECONDS)
        load.wait_for_more(2)
        self.proxy.delay(0)
        load.wait_for_more(PUTS, *self.members.servers)
        leader, others = self.split()
        term = self.members.status(leader).raftTerm
        for name in [leader, *others]:
            self.proxy.reset(name)
            load.wait_for_more(PUTS, *self.members.servers)
        self.assertEqual(term, self.members.status(leader).raftTerm)
        self.settle(load)
