"""
What goes wrong, by the seed: each fault begins at some time, on some machine, and ends again.

The kinds are in `KINDS`; a run may be limited to some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twistedetcd.testing.network import Faults
from twistedetcd.testing.simulation.calls import Road
from twistedetcd.testing.simulation.cluster import Cluster
from twistedetcd.testing.simulation.machine import Machine
from twistedetcd.testing.simulation.operator import Operator

FAULT_SECONDS = (0.7, 2.0, 3.0, 6.0)
"""How often a fault begins, on average: one of these by the seed."""
SET_BACK_SECONDS = 10.0
"""So long, at most, the timers of a machine are late because its clock was set back."""
FEW_KINDS = 5
"""Of more kinds of faults each seed has only some: all together hide what a few bring about."""

End = Callable[[], None]


class Nemesis:
    """
    Who makes trouble.

    Args:
        cluster: For whom.
        kinds: Which kinds of faults.
        road: How clients reach members, which gets worse with the kind ``clients``.
        operator: Changes the membership, with the kinds ``members`` and ``transfer``.
    """

    def __init__(self, cluster: Cluster, kinds: Sequence[str], road: Road, operator: Operator) -> None:
        self.cluster = cluster
        self.random = cluster.world.random("nemesis")
        self.road = road
        self.operator = operator
        self._kinds = list(kinds)
        if len(kinds) > FEW_KINDS:
            self._kinds = self.random.sample(self._kinds, self.random.randint(2, len(kinds)))
        self._pause_seconds = self.random.choice(FAULT_SECONDS)
        cluster.world.note("", f"every {self._pause_seconds} s: {', '.join(self._kinds) or 'nothing'}")
        self._stopped = not kinds
        self._under_way: dict[int, End] = {}
        self._count = 0

    def start(self) -> None:
        """Begin."""
        if not self._stopped:
            self.cluster.world.clock.callLater(self.random.expovariate(1 / self._pause_seconds), self._next)

    def stop(self) -> None:
        """End all that goes wrong; nothing does any more."""
        self._stopped = True
        for number in list(self._under_way):
            self._end(number)
        self.cluster.world.note("", "everything is mended")

    def _next(self) -> None:
        if not self._stopped:
            begin, least, most = KINDS[self.random.choice(self._kinds)]
            end = begin(self)
            self._count += 1
            self._under_way[self._count] = end
            self.cluster.world.clock.callLater(self.random.uniform(least, most), self._end, self._count)
            self.start()

    def _end(self, number: int) -> None:
        end = self._under_way.pop(number, None)
        if end is not None:
            end()

    def victim(self) -> Machine:
        """A machine, the leader's rather than another."""
        leader = self.cluster.leader()
        if leader is not None and self.random.random() < 0.4:
            return leader
        return self.random.choice(self.cluster.machines)


def crash(nemesis: Nemesis) -> End:
    """The power fails, now or in the middle of something, and comes back."""
    random, machine = nemesis.random, nemesis.victim()
    if random.random() < 0.5:
        machine.cut_power_after(random.randrange(40), only_syncs=random.random() < 0.5)
        return _nothing
    return crash_and_hold(machine)


def away(nemesis: Nemesis) -> End:
    """A machine is down for so long that the others forget what it has missed."""
    return crash_and_hold(nemesis.victim())


def crash_and_hold(machine: Machine) -> End:
    """The power fails, and does not come back before the end."""
    machine.crash()
    return _hold(machine)


def crash_all(nemesis: Nemesis) -> End:
    """The power fails everywhere."""
    for machine in nemesis.cluster.machines:
        machine.crash()
    return _nothing


def kill(nemesis: Nemesis) -> End:
    """A process is killed, and started again."""
    machine = nemesis.victim()
    machine.kill()
    return _hold(machine)


def _hold(machine: Machine) -> End:
    machine.held = True

    def release() -> None:
        machine.held = machine.told_removed

    return release


def stop(nemesis: Nemesis) -> End:
    """A member is stopped in order, and started again."""
    nemesis.victim().stop()
    return _nothing


def pause(nemesis: Nemesis) -> End:
    """A machine does nothing for a while."""
    machine = nemesis.victim()
    machine.pause()
    return machine.resume


def partition(nemesis: Nemesis) -> End:
    """Some members do not reach the others, in one direction or in both."""
    random, cluster = nemesis.random, nemesis.cluster
    ids = [machine.member_id for machine in cluster.machines]
    inside = random.sample(ids, random.randint(1, max(1, len(ids) // 2)))
    leader = cluster.leader()
    if leader is not None and leader.member_id not in inside and random.random() < 0.5:
        inside[0] = leader.member_id
    ways = random.choice(("both", "both", "in", "out"))
    names = [machine.name for machine in cluster.machines if machine.member_id in inside]
    cluster.world.note("", f"{', '.join(names)} cut off, {ways}")
    cluster.world.network.partition(inside, [id for id in ids if id not in inside], ways)
    return cluster.world.network.heal


def depose(nemesis: Nemesis) -> End:
    """A leader is cut off, and its clock set back: for a while it does not notice that another one leads."""
    random, cluster = nemesis.random, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return _nothing
    others = [machine.member_id for machine in cluster.machines if machine is not leader]
    _set_clock(leader, -random.uniform(2.0, 8.0))
    cluster.world.note("", f"{leader.name} cut off, the leader")
    cluster.world.network.partition([leader.member_id], others)
    return cluster.world.network.heal


def network(nemesis: Nemesis) -> End:
    """Messages get lost, late, overtaken, repeated."""
    random, net = nemesis.random, nemesis.cluster.world.network
    slowest = random.choice((0.002, 0.02, 0.2))
    net.faults = Faults(
        latency_seconds=(0.0003, slowest),
        drop=random.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=random.choice((0.0, 0.05)),
        reorder=random.choice((0.0, 0.05, 0.3)),
    )
    nemesis.cluster.world.note("", f"the network: {net.faults}")

    def end() -> None:
        net.faults = Faults()

    return end


def clients(nemesis: Nemesis) -> End:
    """What clients say, and what they are told, gets lost."""
    road = nemesis.road
    road.drop = nemesis.random.choice((0.02, 0.1))

    def end() -> None:
        road.drop = 0.0

    return end


def members(nemesis: Nemesis) -> End:
    """Somebody adds a member, or removes one."""
    nemesis.operator.step()
    return _nothing


def transfer(nemesis: Nemesis) -> End:
    """Somebody wants another leader."""
    nemesis.operator.transfer()
    return _nothing


def clock(nemesis: Nemesis) -> End:
    """A clock is set, for good."""
    seconds = nemesis.random.choice((-1.0, -0.1, 0.1, 1.0)) * nemesis.random.uniform(0.0, 4.0)
    _set_clock(nemesis.victim(), seconds)
    return _nothing


def _set_clock(machine: Machine, seconds: float) -> None:
    """Set a clock, but not so often back that nothing would happen on that machine for too long."""
    if machine.late_seconds - seconds <= SET_BACK_SECONDS:
        machine.set_clock(seconds)


def slow_disk(nemesis: Nemesis) -> End:
    """A disk is slow."""
    machine = nemesis.victim()
    machine.slow_disk(nemesis.random.choice((10.0, 50.0, 200.0)))
    return machine.mend_disk


def bad_disk(nemesis: Nemesis) -> End:
    """A disk is full, or refuses everything."""
    machine = nemesis.victim()
    if nemesis.random.random() < 0.5:
        machine.fill_disk(nemesis.random.randrange(20_000))
    else:
        machine.break_disk()
    return machine.mend_disk


def _nothing() -> None:
    """It needs no end."""


KINDS: Mapping[str, tuple[Callable[[Nemesis], End], float, float]] = {
    "crash": (crash, 0.1, 4.0),
    "away": (away, 8.0, 20.0),
    "crash-all": (crash_all, 0.1, 1.0),
    "kill": (kill, 0.1, 4.0),
    "stop": (stop, 0.1, 1.0),
    "pause": (pause, 0.1, 5.0),
    "partition": (partition, 0.5, 8.0),
    "depose": (depose, 3.0, 8.0),
    "network": (network, 1.0, 8.0),
    "clients": (clients, 1.0, 8.0),
    "members": (members, 0.0, 1.0),
    "transfer": (transfer, 0.0, 1.0),
    "clock": (clock, 0.1, 1.0),
    "slow-disk": (slow_disk, 0.5, 5.0),
    "bad-disk": (bad_disk, 0.5, 3.0),
}
"""How each begins, and for how many seconds it lasts, at least and at most."""


def kinds(text: str) -> tuple[str, ...]:
    """
    The kinds that a list with commas names; ``all`` and ``none`` are lists, too.

    Raises:
        ValueError: No such kind.
    """
    if text in ("all", "none"):
        return tuple(KINDS) if text == "all" else ()
    names = tuple(text.split(","))
    for name in names:
        if name not in KINDS:
            raise ValueError(f"no kind of fault is called {name!r}; there are: {', '.join(KINDS)}")
    return names
