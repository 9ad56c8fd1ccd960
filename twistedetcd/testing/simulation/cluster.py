"""Some machines that form a cluster, and somebody who starts what is down."""

from __future__ import annotations

from collections.abc import Callable

from twistedetcd.config import Config, parse
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

    Attributes:
        machines: One for each member.
        chronicle: What happened to the keys.
    """

    def __init__(self, world: World, configs: list[Config]) -> None:
        self.world = world
        self.random = world.random("cluster")
        self.chronicle = Chronicle(world)
        self.machines = [
            Machine(world, config, sync_in_thread=self.random.random() < 0.7) for config in configs
        ]

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
    founders = ",".join(f"{name}={url}" for name, url in urls.items())
    return [
        parse(
            [
                f"--name={name}",
                f"--data-dir=/var/lib/{name}",
                f"--listen-peer-urls={url}",
                f"--initial-advertise-peer-urls={url}",
                f"--listen-client-urls={url[:-1]}9",
                f"--advertise-client-urls={url[:-1]}9",
                f"--initial-cluster={founders}",
                *flags,
            ],
            {},
            lambda path: b"",
        )
        for name, url in urls.items()
    ]
