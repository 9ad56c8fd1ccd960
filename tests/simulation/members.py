"""What scenes of whole clusters need: members that come and go, all views of who is there, and rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from tests.simulation.test_machine import Scene
from twistedetcd.assembly import Assembly
from twistedetcd.cluster.legacytree import decode_membership
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.cluster.reconfig import STEADY_SECONDS
from twistedetcd.mvcc.pending import Pending
from twistedetcd.pb.rpc_pb2 import (
    HashKVRequest,
    HashKVResponse,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MoveLeaderRequest,
    MoveLeaderResponse,
    PutRequest,
)
from twistedetcd.raft.types import Role
from twistedetcd.server.bootstrap import read_mark
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.testing.checks import Refused, Unknown
from twistedetcd.testing.packets import Packet
from twistedetcd.testing.simulation.cluster import joining_config
from twistedetcd.testing.simulation.machine import Machine


class MembersScene(Scene):
    """A cluster whose members change."""

    members = 3

    def setUp(self) -> None:
        self.names: dict[int, str] = {}
        super().setUp()

    # Looking inside.

    def assembly(self, machine: Machine) -> Assembly:
        """What runs on a machine."""
        assert machine.life is not None and machine.life.assembly is not None, f"{machine} does not run"
        return machine.life.assembly

    def node(self, machine: Machine) -> RaftNode:
        """Its raft."""
        return self.assembly(machine).member.node

    @property
    def leader(self) -> Machine:
        """Who leads."""
        leader = self.cluster.leader()
        assert leader is not None, "nobody leads"
        return leader

    @property
    def followers(self) -> list[Machine]:
        """Who does not, by name."""
        leader = self.leader
        return [machine for machine in self.cluster.machines if machine is not leader]

    def commit(self, machine: Machine) -> int:
        """How far raft knows that there is agreement."""
        return self.node(machine).raft.status().hard_state.commit

    def leads(self, machine: Machine) -> bool:
        """Whether it believes so."""
        return machine.serves and self.node(machine).raft.role is Role.LEADER

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        clock = self.world.clock
        clock.run_until(clock.seconds() + seconds)

    def until(self, so: Any, seconds: float = 20.0) -> None:
        """Let time pass until it is so; fail if it never is."""
        self.assertTrue(self.cluster.wait_until(so, seconds), self.cluster.machines)

    def writes(self, count: int, machine: Machine | None = None, prefix: bytes = b"w") -> None:
        """Some puts, one after the other."""
        for number in range(count):
            self.begin(PutRequest(key=prefix + b"%04d" % number, value=bytes(100)), machine or self.leader)
            self.run_for(0.01)
        self.run_for(1.0)

    # What happens to members.

    def down(self, machine: Machine, chance: float | None = 1.0) -> None:
        """It crashes, and stays down."""
        machine.held = True
        machine.crash(chance)

    def up(self, *machines: Machine) -> None:
        """They may start again; wait until all serve."""
        for machine in machines:
            machine.held = False
        self.serve()

    def apart(self, *machines: Machine, ways: str = "both") -> None:
        """Some do not reach the others."""
        others = [one.member_id for one in self.cluster.machines if one not in machines]
        self.world.network.partition([one.member_id for one in machines], others, ways)

    def heal(self) -> None:
        """All reach all."""
        self.world.network.heal()

    def move_leader(self, to: Machine) -> None:
        """Hand over."""
        answer = self.ask(MoveLeaderRequest(targetID=to.member_id), self.leader)
        self.assertIsInstance(answer, MoveLeaderResponse)
        self.until(lambda: self.cluster.leader() is to)

    def member_list(self, machine: Machine | None = None) -> MemberListResponse:
        """Who there is, as one of them tells."""
        answer = self.ask(MemberListRequest(linearizable=True), machine or self.leader)
        self.assertIsInstance(answer, MemberListResponse)
        assert isinstance(answer, MemberListResponse)
        return answer

    def add(self, learner: bool = False, through: Machine | None = None) -> MemberAddResponse:
        """Add a member, when all have been connected for long enough."""
        self.run_for(STEADY_SECONDS + 1.0)
        name, url = self.cluster.next_name()
        answer = self.ask(MemberAddRequest(peerURLs=[url], isLearner=learner), through or self.leader)
        self.assertIsInstance(answer, MemberAddResponse)
        assert isinstance(answer, MemberAddResponse)
        self.names[answer.member.ID] = name
        return answer

    def machine_for(self, added: MemberAddResponse, *flags: str) -> Machine:
        """A machine for a member that was added; its first life will join the cluster."""
        name, [url] = self.names[added.member.ID], added.member.peerURLs
        others = {
            one.name or f"{one.ID:x}": one.peerURLs[0] for one in added.members if one.ID != added.member.ID
        }
        self.cluster.add(joining_config(name, url, others, *self.flags, *flags), added.member.ID)
        return self.cluster.machines[-1]

    def join(self, added: MemberAddResponse, *flags: str) -> Machine:
        """The same, and wait until it serves."""
        machine = self.machine_for(added, *flags)
        self.serve()
        return machine

    def promote(self, number: int, through: Machine | None = None) -> None:
        """Make a voter of a learner."""
        answer = self.ask(MemberPromoteRequest(ID=number), through or self.leader)
        self.assertIsInstance(answer, MemberPromoteResponse)

    def remove(self, machine: Machine, through: Machine | None = None) -> None:
        """Remove a member; its machine stops, and is not started again."""
        answer = self.ask(MemberRemoveRequest(ID=machine.member_id), through or self.leader)
        self.assertIsInstance(answer, MemberRemoveResponse)
        self.cluster.retire(machine)

    # Rules.

    def assert_refused(self, words: str, request: Message, machine: Machine | None = None) -> None:
        """It is not done, and the client is told why."""
        answer = self.ask(request, machine or self.leader)
        self.assertIsInstance(answer, Refused | Unknown)  # not every code says that it was not done
        self.assertIn(words, str(answer))

    def hashes(self) -> set[tuple[int, int, int]]:
        """What all members hold, once all have the last entry."""
        last = self.commit(self.leader)
        self.until(lambda: all(self.node(one).applied_index >= last for one in self.cluster.machines))
        found = set()
        for machine in self.cluster.machines:
            answer = self.ask(HashKVRequest(), machine)
            assert isinstance(answer, HashKVResponse), answer
            found.add((answer.header.revision, answer.compact_revision, answer.hash))
        return found

    def views(self, machine: Machine) -> list[tuple[list[int], list[int]]]:
        """
        Voters and learners, as each part of one member knows them.

        Returns:
            Raft's, those in memory, and in the engine, once it has all, its members and its configuration.
        """
        self.run_for(0.5)
        assembly = self.assembly(machine)
        configuration = assembly.member.node.raft.status().configuration
        pending = Pending(assembly._disk.backend)
        stored = Cluster(pending)
        stored.restore()
        _, _, marked = read_mark(pending.get)
        pending.close()
        return [
            *((sorted(one.voters), sorted(one.learners)) for one in (configuration, marked)),
            *(_roles(cluster.members) for cluster in (assembly.member.cluster, stored)),
        ]

    def snapshot_view(self, machine: Machine) -> tuple[list[int], list[int]] | None:
        """Likewise in its newest ``.snap`` file, whose two accounts must agree; ``None`` if it has none."""
        snapshot = next(self.assembly(machine)._disk.snapshots.load(), None)
        if snapshot is None:
            return None
        told = _roles(decode_membership(snapshot.data).members)
        self.assertEqual((sorted(snapshot.conf_state.voters), sorted(snapshot.conf_state.learners)), told)
        return told

    def assert_one_view(self, voters: Sequence[int], learners: Sequence[int] = ()) -> None:
        """All members agree in all views, the last ``.snap`` included."""
        expected = (sorted(voters), sorted(learners))
        self.writes(45, prefix=b"view")  # so that everybody takes a snapshot
        for machine in self.cluster.machines:
            self.assertEqual([expected] * 4, self.views(machine), machine)
            self.assertEqual(expected, self.snapshot_view(machine), machine)


def _roles(members: Sequence[Member]) -> tuple[list[int], list[int]]:
    return (
        [member.id for member in members if not member.is_learner],
        [member.id for member in members if member.is_learner],
    )


def is_message(*kinds: Any) -> Any:
    """Picks packets that carry raft messages of some types."""

    def wanted(packet: Packet) -> bool:
        message = packet.message
        return message is not None and message.type in kinds

    return wanted
