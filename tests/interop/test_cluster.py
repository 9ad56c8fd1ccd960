"""Clusters whose members are killed, paused, restarted and replaced under load lose nothing."""

from __future__ import annotations

import os
from time import sleep

from tests.interop.clusters import QUICK, ClusterCase

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "1"))
PUTS = 30  # acknowledged before anything else happens
PAUSE_SECONDS = 2.0  # twice the default of an election timeout
SNAPSHOTS = ("--snapshot-count=200", "--snapshot-catchup-entries=50")  # who was away needs a store


class TroubleTests(ClusterCase):
    """As long as a quorum runs the cluster serves, and what it has acknowledged stays."""

    def test_etcdctl(self) -> None:
        """etcdctl, told of all members, writes and reads, and goes on when the leader is gone."""
        members = self.found(flags=QUICK)
        members.start()
        self.assertEqual("OK\n", members.etcdctl("put", "a", "1").stdout)
        self.assertEqual("a\n1\n", members.etcdctl("get", "a").stdout)
        done = members.etcdctl("endpoint", "health")
        self.assertEqual((0, 3), (done.returncode, (done.stdout + done.stderr).count("is healthy")), done)
        members.kill(members.leader())
        members.leader()
        self.assertEqual("OK\n", members.etcdctl("put", "b", "2", endpoints=members.live).stdout)
        done = members.etcdctl("get", "a", "c", "--print-value-only")
        self.assertEqual("1\n2\n", done.stdout, done.stderr)
        members.start(*set(members.servers) - set(members.live))
        self.assertEqual(1, len(set(members.hashes().values())))

    def test_killed(self) -> None:
        """Members that are killed, the leader first, or told to end, come back to what the others have."""
        members = self.found(flags=[*QUICK, *SNAPSHOTS])
        members.start()
        load = self.write()
        for _ in range(ROUNDS):
            load.wait_for_more(PUTS)
            leader = members.leader()
            members.kill(leader)
            load.wait_for_more(3 * PUTS)
            members.start(leader)
            load.wait_for_more(PUTS, *members.servers)
            for name in members.servers:  # one after the other, whoever leads
                members.stop(name)
                load.wait_for_more(PUTS)
                members.start(name)
                load.wait_for_more(PUTS, name)
            for name in members.servers:  # all at once
                members.kill(name)
            members.start()
            load.wait_for_more(PUTS, *members.servers)
        self.settle(load)

    def test_paused(self) -> None:
        """
        A member that does nothing for longer than an election timeout does no harm when it goes on.

        That is a leader that thinks that it still is one, and a follower.  The time of the pause is real.
        """
        members = self.found()
        members.start()
        load = self.write()
        for _ in range(ROUNDS):
            load.wait_for_more(PUTS)
            leader = members.leader()
            members.pause(leader)
            sleep(PAUSE_SECONDS)
            load.wait_for_more(PUTS)
            members.resume(leader)
            load.wait_for_more(PUTS, *members.servers)
            follower = next(name for name in members.servers if name != members.leader())
            term = members.status(members.leader()).raftTerm
            members.pause(follower)
            sleep(PAUSE_SECONDS)
            members.resume(follower)
            load.wait_for_more(PUTS, *members.servers)
            self.assertEqual(term, members.status(members.leader()).raftTerm)
        self.settle(load)

    def test_two_of_five(self) -> None:
        """Five members serve without two of them, among them the leader."""
        members = self.found(("m1", "m2", "m3", "m4", "m5"), QUICK)
        members.start()
        load = self.write()
        for _ in range(ROUNDS):
            load.wait_for_more(PUTS)
            leader = members.leader()
            follower = next(name for name in members.servers if name != leader)
            members.kill(follower)
            members.kill(leader)
            load.wait_for_more(PUTS)
            members.start(follower, leader)
            load.wait_for_more(PUTS, *members.servers)
        self.settle(load)


class ReplacementTests(ClusterCase):
    """A cluster outlives all its founders."""

    def test_replaced(self) -> None:
        """Members are removed, added and started, one by one, until none of the first remain."""
        members = self.found(flags=[*QUICK, *SNAPSHOTS])
        members.start()
        load = self.write()
        for number, old in enumerate(list(members.servers)):
            load.wait_for_more(PUTS)
            members.remove(old)
            load.leave(old)
            server = members.drop(old)
            self.addCleanup(server.clean_up)
            process = server.process
            assert process is not None
            self.assertEqual(0, process.wait(30), server.log.read_text())
            new = f"n{number}"
            members.add(new)
            members.start(new)
            load.write_through(new)
            load.wait_for_more(PUTS, new)
        self.assertEqual({"n0", "n1", "n2"}, set(members.members()))
        self.settle(load)
