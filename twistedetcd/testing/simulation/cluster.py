"""Some machines that form a cluster, and somebody who starts what is down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twistedetcd.cluster.founding import Entrance
from twistedetcd.config import Config, parse
from twistedetcd.errors import MemberError
from twistedetcd.raft.types import Role
from twistedetcd.testing.simulation.chronicle import Chronicle
from twistedetcd.testing.simulation.machine import Machine
from twistedetcd.testing.simulation.world import World

START_SECONDS = 0.5
"""How often it is looked for machines that are down."""


class Cluster:
    """
    A cluster.

    Args:
        world: Where.
        configs: Its founding members'.
        flags: What members that join later are given.

    Attributes:
        machines: One for each member; who has this list sees every change of it.
        added: How many have come later.
        retired: Those whose members were removed.
        chronicle: What happened to the keys.
    """

    def __init__(self, world: World, configs: Sequence[Config], flags: Sequence[str] = ()) -> None:
        self.world = world
        self.flags = flags
        self.random = world.random("cluster")
        self.chronicle = Chronicle(world)
        self.machines = [self._machine(config) for config in configs]
        self.retired: list[Machine] = []
        self.added = 0
        self._named = len(configs)

    def _machine(self, config: Config, number: int | None = None) -> Machine:
        return Machine(self.world, config, self.random.random() < 0.7, number, self.entrance)

    def next_name(self) -> tuple[str, str]:
        """Name and peer URL of a machine that is to come."""
        self._named += 1
        return f"m{self._named}", f"http://10.0.0.{self._named}:2380"

    def add(self, config: Config, number: int) -> None:
        """A machine for a member that was added; it starts as soon as the others know it."""
        machine = self._machine(config, number)
        self.world.note(machine.name, f"is a new machine, for member {number:x}")
        self.machines.append(machine)
        self.added += 1

    def retire(self, machine: Machine) -> None:
        """A machine whose member was removed; what runs there goes on until it finds out."""
        machine.note("is retired")
        machine.excused = "it was removed"
        machine.held = True
        self.machines.remove(machine)
        self.retired.append(machine)

    def entrance(self, machine: Machine) -> Entrance:
        """
        What a new member learns of the cluster that it joins, from one of the others.

        Raises:
            MemberError: Nobody tells, or whoever does has not heard of it yet.
        """
        for other in self.machines:
            life = other.life
            if other is not machine and life is not None and life.serves and life.assembly is not None:
                member = life.assembly.member
                ourselves = member.cluster.member(machine.member_id)
                if ourselves is not None:
                    ourselves = ourselves._replace(name=machine.name)
                    others = [one for one in member.cluster.members if one.id != ourselves.id]
                    return Entrance(ourselves, tuple(sorted([*others, ourselves])), member.cluster_id)
        raise MemberError("nobody tells who the members are")

    def start(self) -> None:
        """All members start, and whenever one is down and nobody holds it, it starts again."""
        for machine in self.machines:
            if machine.life is None and not machine.held:
                machine.start()
        self.world.clock.callLater(START_SECONDS, self.start)

    def leader(self) -> Machine | None:
        """Who leads, if anybody does: of several who believe it, the last elected."""
        leaders = []
        for machine in self.machines:
            life = machine.life
            if life is not None and life.serves and life.assembly is not None:
                raft = life.assembly.member.node.raft
                if raft.role is Role.LEADER:
                    leaders.append((raft.term, machine))
        return max(leaders, key=lambda one: one[0])[1] if leaders else None

    @property
    def term(self) -> int:
        """The latest term that any member is in."""
        lives = [machine.life for machine in self.machines]
        assemblies = [life.assembly for life in lives if life is not None and life.assembly is not None]
        return max((assembly.member.node.raft.term for assembly in assemblies), default=0)

    def voters(self) -> list[Machine]:
        """The machines of members that vote, as the leader knows them."""
        leader = self.leader()
        assert leader is not None and leader.life is not None and leader.life.assembly is not None
        voters = leader.life.assembly.member.node.raft.status().configuration.voters
        return [machine for machine in self.machines if machine.member_id in voters]

    def recovered(self) -> bool:
        """Whether somebody leads, and every member serves."""
        return self.leader() is not None and all(machine.serves for machine in self.machines)

    def wait_until(self, so: Callable[[], bool], seconds: float) -> bool:
        """Let time go on until it is so; false if it is not by then."""
        clock = self.world.clock
        until = clock.seconds() + seconds
        while not so():
            if clock.seconds() >= until:
                return False
            clock.run_until(min(clock.seconds() + 0.05, until))
        return True


def founding_configs(count: int, *flags: str) -> list[Config]:
    """
    The configurations of a new cluster's members, called ``m1`` and so on.

    Args:
        count: How many.
        flags: What all of them are given besides.
    """
    urls = {f"m{number}": f"http://10.0.0.{number}:2380" for number in range(1, count + 1)}
    return [_config(name, url, urls, *flags) for name, url in urls.items()]


def joining_config(name: str, url: str, others: Mapping[str, str], *flags: str) -> Config:
    """
    The configuration of a member that joins a cluster.

    Args:
        name: Its name.
        url: Its peer URL.
        others: Those of the others, by name.
        flags: What it is given besides.
    """
    return _config(name, url, {**others, name: url}, "--initial-cluster-state=existing", *flags)


def _config(name: str, url: str, urls: Mapping[str, str], *flags: str) -> Config:
    members = ",".join(f"{each}={its}" for each, its in urls.items())
    arguments = [
        f"--name={name}",
        f"--data-dir=/var/lib/{name}",
        f"--listen-peer-urls={url}",
        f"--initial-advertise-peer-urls={url}",
        f"--listen-client-urls={url[:-1]}9",
        f"--advertise-client-urls={url[:-1]}9",
        f"--initial-cluster={members}",
        *flags,
    ]
    return parse(arguments, {}, lambda path: b"")
