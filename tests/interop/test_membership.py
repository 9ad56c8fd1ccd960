"""Members come, go and are promoted, as etcd's do; who has no place in a cluster ends, and says why."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import grpc  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest

from tests.interop.clusters import PUT, QUICK, ClusterCase, Members
from tests.interop.servers import ID, etcdctls, free_ports, if_long, reference_etcd, wait_until
from tests.interop.test_etcdctl import NORMALISERS
from twistedetcd.pb.rpc_pb2 import MemberListRequest, MemberPromoteRequest, PutRequest

MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
PROMOTE = "/etcdserverpb.Cluster/MemberPromote"
BEHIND = "etcdserver: can only promote a learner member which is in sync with leader"
REMOVED = "the member has been permanently removed from the cluster"

# {four} is a learner, then a voter, and never started; {...url} are free, {leader} and others are ids.
# A learner is not updated: etcd before 3.6.12 forgets that it is one.
SCRIPT = """
member list
member list -w table
member list -w json
endpoint status --cluster
endpoint health --cluster
endpoint hashkv --cluster
put a 1
endpoint hashkv --cluster
member add four --peer-urls={fourth_url} --learner
member list
member list -w json
member list -w fields
endpoint status
member add five --peer-urls={fifth_url} --learner
member add five --peer-urls={leader_url}
member add five --peer-urls={fourth_url},{fifth_url} --learner
member add five --peer-urls=nonsense
member add five
member promote {four}
member promote {follower}
member promote abc
member promote
member remove {four}
member remove {four}
member remove abc
member remove nonsense
member add four --peer-urls={sixth_url} -w json
member list
member update {four} --peer-urls={fifth_url}
member list
member update {four} --peer-urls={leader_url}
member update abc --peer-urls={fifth_url}
member update {four}
member remove {four}
member list
move-leader {follower}
move-leader abc
move-leader
endpoint health
"""
RULES = [
    (rf" *{ID}", " *"),
    (r'"(?:raft_term|raftTerm|raftIndex|raftAppliedIndex|revision)":\d+', "*"),
    (r'^"(?:RaftTerm|RaftIndex|RaftAppliedIndex|Revision)" : \d+', "*"),
    (r", \d+, \d+, \d+, $", ", *"),
    (r"\bm[123]\b", "m*"),
    (r"ID:\d+", "ID:*"),
]


class LearnerTests(ClusterCase):
    """A learner becomes a voter when it has what the others have."""

    def test_promoted(self) -> None:
        """
        It is refused while it is behind; promoted, it votes.

        Without the leader that it joined there is a quorum only with it.
        """
        members = self.found(("m1", "m2"), QUICK)
        members.start()
        load = self.write()
        load.wait_for_more(10)
        learner = members.add("l", learner=True)
        with self.assertRaises(grpc.RpcError) as caught:
            members[members.leader()].call(PROMOTE, MemberPromoteRequest(ID=members.id("l")))
        self.assertEqual(
            (grpc.StatusCode.FAILED_PRECONDITION, BEHIND),
            (caught.exception.code(), caught.exception.details()),
        )
        members.start("l")
        self.assertTrue(members.status("l").isLearner)
        with self.assertRaises(grpc.RpcError) as caught:
            learner.call(PUT, PutRequest(key=b"a"))
        self.assertEqual("etcdserver: rpc not supported for learner", caught.exception.details())
        number = members.id("l")

        def promoted() -> bool:
            try:
                members[members.leader()].call(PROMOTE, MemberPromoteRequest(ID=number))
            except grpc.RpcError as error:
                self.assertEqual(BEHIND, error.details())
                return False
            return True

        wait_until(promoted, "the learner to be promoted")
        load.write_through("l")
        load.wait_for_more(10, "l")
        self.assertFalse(members.status("l").isLearner)
        members.kill(members.leader(["m1", "m2"]))
        load.wait_for_more(10, "l")
        self.settle(load)


class RemovedTests(ClusterCase):
    """Who is removed ends with status 0, and says why."""

    def test_removed(self) -> None:
        """One that runs; one that was down, at its next start; a learner that was down; the leader."""
        members = self.found(flags=QUICK)
        members.start()
        leader = members.leader()
        running, down = (name for name in members.servers if name != leader)
        members.stop(down)
        members.remove(down)
        self.check_removed(down)
        members.add("l", learner=True)
        members.start("l")
        members.stop("l")
        members.remove("l")
        self.check_removed("l")
        members.remove(leader)
        self.check_removed(leader)  # while it runs, and if it is started again
        self.check_removed(leader)
        members.leader([running])  # what is handed on to a leader that ends gets lost, as in etcd
        members[running].call(PUT, PutRequest(key=b"a"))
        self.assertEqual([running], list(members.members()))

    def check_removed(self, name: str) -> None:
        """It ends; the cluster goes on without it."""
        status, log = self.end_of(self.members[name])
        self.assertEqual(0, status, log)
        self.assertIn(REMOVED, log)


class RefusedStartTests(ClusterCase):
    """Who has no place in the cluster that its flags name ends with status 1, and says why."""

    @if_long
    def test_refused(self) -> None:
        """Another token, lists that do not match, data lost or exchanged: it ends, and disturbs nobody."""
        members = self.found(flags=QUICK)
        members.start()
        load = self.write()
        load.wait_for_more(10, *members.servers)
        name = next(name for name in members.servers if name != members.leader())
        term = members.status(name).raftTerm
        server = members[name]
        load.leave(name)
        members.stop(name)
        kept = server.directory / "kept"
        server.data.rename(kept)

        # It has lost its data.
        self.check_refused(name, "has already been bootstrapped")
        # The same with another token, so that it would have another id, in another cluster.
        self.check_refused(name, "cluster ID mismatch", "--initial-cluster-token=other")
        others = [other for other in members.servers if other != name]
        # It joins, and does not know all.
        existing = "--initial-cluster-state=existing"
        self.check_refused(
            name, "member count is unequal", existing, members.initial_cluster([name, others[0]])
        )
        [port] = free_ports(1)
        wrong = f"{members.initial_cluster([name, others[0]])},{others[1]}=https://127.0.0.1:{port}"
        self.check_refused(name, "no match found for existing member", existing, wrong)
        # Nobody that it could ask is there.
        [port] = free_ports(1)
        alone = f"{members.initial_cluster([name])},m9=https://127.0.0.1:{port}"
        self.check_refused(name, "cannot fetch cluster info from peer urls", existing, alone)

        # Its data is back, but at the place of another member, whose vote it would have a second time.
        kept.rename(server.data)
        place = f"--initial-advertise-peer-urls={members.peer_url(others[0])}"
        status, log = self.end_of(server, place)
        self.assertEqual(1, status, log)
        self.assertIn("is it the data of another member?", log)

        members.start(name)
        load.write_through(name)
        load.wait_for_more(10, name)
        self.assertEqual(term, members.status(name).raftTerm)
        self.settle(load)

    def check_refused(self, name: str, reason: str, *flags: str) -> None:
        """It ends with status 1 and says why, and has left nothing that it would go on with."""
        server = self.members[name]
        status, log = self.end_of(server, *flags)
        self.assertEqual(1, status, log)
        self.assertIn(reason, log)
        self.assertNotIn("Traceback", log)
        self.assertFalse((server.data / "member" / "wal").exists(), log)


class EtcdctlTests(ClusterCase):
    """To etcdctl, a cluster of ours is one of etcd's."""

    def test_members(self) -> None:
        """What it prints of members, and to whoever changes them, is the same, whichever etcdctl it is."""
        if not etcdctls():
            raise SkipTest("needs etcdctl")
        theirs = self.found(flags=["--logger=zap"], program=[reference_etcd()])
        ours = self.found()
        for members in (theirs, ours):
            for server in members.servers.values():
                server.run()
        for members in (theirs, ours):
            for name in members.servers:
                members.wait_ready(name)
        for members in (theirs, ours):
            members.wait_steady()
        for version in sorted(etcdctls()):
            scripts = [Script(members, version) for members in (theirs, ours)]
            for number, line in enumerate(SCRIPT.strip().splitlines()):
                running = [script.begin(line) for script in scripts]
                expected, actual = (end() for end in running)
                if expected != actual:
                    self.fail(f"{version}, command {number}: {line}\netcd:\n{expected}\nours:\n{actual}")


class Script:
    """
    Commands for one cluster.

    Args:
        members: The cluster.
        version: Of etcdctl.
    """

    def __init__(self, members: Members, version: str) -> None:
        self._members = members
        self._version = version
        ports = free_ports(3)
        self._names = {
            f"{name}_url": f"http://127.0.0.1:{port}"
            for name, port in zip(("fourth", "fifth", "sixth"), ports, strict=True)
        }

    def begin(self, line: str) -> Callable[[], str]:
        """Run one; returns what waits for its end and gives what it printed."""
        if "{" in line:
            self._look()
            line = line.format(**self._names)
        process = self._members.begin_etcdctl(*line.split(), version=self._version)
        return lambda: self._end(process)

    def _look(self) -> None:
        """Who is who now."""
        leader = self._members.leader()
        listed = self._members[leader].call(MEMBER_LIST, MemberListRequest(linearizable=True)).members
        self._names["leader_url"] = self._members.peer_url(leader)
        for member in listed:
            if member.name == leader:
                self._names["leader"] = f"{member.ID:x}"
            elif member.name:
                self._names["follower"] = f"{member.ID:x}"
            else:
                self._names["four"] = f"{member.ID:x}"

    def _end(self, process: subprocess.Popen[str]) -> str:
        """What differs between any two clusters is left out, the order of members too."""
        stdout, stderr = process.communicate(timeout=30)
        text = f"{stdout}\n--- stderr\n{stderr}\n--- exit status {process.returncode}"
        for pattern, replacement in NORMALISERS.values():
            text = pattern.sub(replacement, text)
        for rule, replacement in RULES:
            text = re.sub(rule, replacement, text, flags=re.MULTILINE)
        lines = (
            ",".join(sorted(re.split("[,=]", re.sub(r'["{}\[\]]', "", line)))) for line in text.splitlines()
        )
        return "\n".join(sorted(lines))
