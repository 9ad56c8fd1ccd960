"""One seed, one history: a cluster, its clients, and what goes wrong; then whether all promises were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from twistedetcd.pb.rpc_pb2 import RangeRequest, RangeResponse
from twistedetcd.testing.checks import History, Unknown, Violation, Witness, check
from twistedetcd.testing.checks.leases import LeaseTerms
from twistedetcd.testing.simulation.caller import Caller, Record
from twistedetcd.testing.simulation.calls import Road
from twistedetcd.testing.simulation.clients import Client
from twistedetcd.testing.simulation.cluster import Cluster, founding_configs
from twistedetcd.testing.simulation.ending import UnreadableError, check_membership, read_history
from twistedetcd.testing.simulation.keepers import Keeper
from twistedetcd.testing.simulation.nemesis import KINDS, SET_BACK_SECONDS, Nemesis
from twistedetcd.testing.simulation.operator import Operator
from twistedetcd.testing.simulation.transcript import Transcript
from twistedetcd.testing.simulation.watchers import Watcher
from twistedetcd.testing.simulation.world import World

SECONDS = 60.0
"""How long a run is."""
CLIENTS, KEEPERS, WATCHERS = 5, 2, 3
CALLS_PER_SECOND = 20.0
"""Of all clients together, as long as nothing holds them up."""
STARTED_SECONDS = 30.0
"""By then a new cluster must serve."""
FORGETFUL = 0.1
"""How many founders have an engine that forgets all with its process."""
HEALED_SECONDS = 60.0
"""So long after the last fault a cluster must have recovered from all of them."""
QUIET_SECONDS = 28.0
"""After the last request: leases end, watches are told all."""
GRACE_SECONDS = 6.0
"""What a lease may last longer than its TTL while all is well."""
DRIFT = 0.006
"""How much faster or slower than true time a machine's clock is, and a little more."""

FLAGS: Mapping[str, Sequence[str]] = {
    "snapshot-count": ("20", "60", "200"),
    "snapshot-catchup-entries": ("1", "5", "20"),
    "max-wals": ("1", "2", "5"),
    "max-snapshots": ("1", "2", "5"),
    "compaction-batch-limit": ("3", "1000"),
    "watch-progress-notify-interval": ("1s", "10s"),
    "backend-batch-interval": ("10ms", "100ms", "2s"),
    "backend-batch-limit": ("1", "10", "10000"),
    "pre-vote": ("true", "true", "false"),
    "feature-gates": ("LeaseCheckpoint=true", "LeaseCheckpoint=false"),
}
"""What the members of a cluster are set to, one of each by the seed."""


@dataclass(frozen=True)
class Outcome:
    """
    What became of a seed.

    Attributes:
        seed: The seed.
        problems: What went wrong that no client can see.
        violations: The promises that were broken.
        counts: How often what happened.
        transcript: What happened, if it was kept.
    """

    seed: int
    problems: Sequence[str]
    violations: Sequence[Violation]
    counts: Counter[str]
    transcript: Transcript | None

    @property
    def good(self) -> bool:
        """Whether all went well."""
        return not (self.problems or self.violations)


class Simulation:
    """
    A cluster under load and in trouble.

    Args:
        seed: Decides everything.
        members: How many members.
        kinds: The kinds of faults, see `twistedetcd.testing.simulation.nemesis.KINDS`.
        transcript: Whether to write down what happens.
    """

    def __init__(
        self, seed: int, members: int = 3, kinds: Sequence[str] = tuple(KINDS), transcript: bool = False
    ) -> None:
        self.world = world = World(seed, transcript)
        random = world.random("flags")
        flags = [f"--{name}={random.choice(values)}" for name, values in FLAGS.items()]
        world.note("", " ".join(flags))
        self.cluster = Cluster(world, founding_configs(members, *flags), flags)
        engines = world.random("engines")
        for machine in self.cluster.machines:
            machine.forgetful = engines.random() < FORGETFUL
        self.record = Record()
        self.road = Road()
        self.operator = Operator(self._caller("op", Road()), self.cluster)
        self.nemesis = Nemesis(self.cluster, kinds, self.road, self.operator)
        machines = self.cluster.machines
        self.clients = [
            Client(self._caller(f"c{number}"), number, machines, CALLS_PER_SECOND / CLIENTS)
            for number in range(1, CLIENTS + 1)
        ]
        self.keepers = [
            Keeper(self._caller(f"k{number}"), CLIENTS + number, machines) for number in range(1, KEEPERS + 1)
        ]
        self.watchers = [Watcher(self._caller(f"w{number}"), machines) for number in range(1, WATCHERS + 1)]

    def _caller(self, name: str, road: Road | None = None) -> Caller:
        random = self.world.random(f"road of {name}")
        return Caller(self.world, name, random, road or self.road, self.record)

    def run(self, seconds: float = SECONDS) -> Outcome:
        """
        Run to the end.

        Args:
            seconds: How long things go wrong.
        """
        observer = _Log(self.world)
        globalLogPublisher.addObserver(observer)
        try:
            return self._run(seconds)
        finally:
            globalLogPublisher.removeObserver(observer)

    def _run(self, seconds: float) -> Outcome:
        world, cluster = self.world, self.cluster
        cluster.start()
        if not cluster.wait_until(lambda: all(m.serves for m in cluster.machines), STARTED_SECONDS):
            world.problem("", f"did not start: {cluster.machines}")
            return self._outcome([])
        running = [client.run() for client in self.clients]
        running += [keeper.run() for keeper in self.keepers]
        running += [watcher.run() for watcher in self.watchers]
        self.nemesis.start()
        world.clock.advance(seconds)
        self.nemesis.stop()
        if not self._recover():
            world.problem("", f"did not recover: {cluster.machines}")
            return self._outcome([])
        healed_at = world.clock.seconds()
        world.clock.advance(5.0)
        for client in self.clients:
            client.stop()
        for keeper in self.keepers:
            keeper.stop()
        for watcher in self.watchers:
            watcher.stop()
        world.clock.advance(QUIET_SECONDS)
        for done in running[: CLIENTS + KEEPERS]:
            if not done.called:
                world.problem("", "a client was never told anything")
            elif done.result is not None:
                done.addErrback(lambda failure: world.problem("", failure.getTraceback()))
        return self._outcome(self._look_back(healed_at))

    def _recover(self) -> bool:
        """Wait until all members serve, and machines and members are in line; false if it takes too long."""
        cluster, operator = self.cluster, self.operator
        if not cluster.wait_until(lambda: not operator.busy, HEALED_SECONDS):
            return False
        operator.settle()
        return cluster.wait_until(lambda: not operator.busy and cluster.recovered(), HEALED_SECONDS)

    def _look_back(self, healed_at: float) -> list[Violation]:
        """Read what there is in the end, and compare it with all that was seen."""
        world = self.world
        results: list[object] = []
        Deferred.fromCoroutine(self._read_all()).addBoth(results.append)
        self.cluster.wait_until(lambda: bool(results), 60.0)
        for watcher in self.watchers:
            if watcher.stream is not None:
                watcher.stream.leave()
        members = results[0] if results and isinstance(results[0], dict) else {}
        if not members:
            world.problem("", f"could not be read: {results[0] if results else 'no answer'}")
        check_membership(self.cluster)
        led = [(healed_at + SET_BACK_SECONDS, world.clock.seconds())]
        return check(
            History(self.record.operations, self.record.watches),
            self.cluster.chronicle.witness(),
            members=members,
            terms=LeaseTerms(drift=DRIFT, grace=GRACE_SECONDS, led=led),
            settled=True,
        )

    async def _read_all(self) -> dict[str, Witness]:
        caller = self._caller("end", Road())
        first = self.cluster.voters()[0]
        everything = await caller.ask(first, RangeRequest(key=b"\0", range_end=b"\0"))
        if not isinstance(everything, RangeResponse):
            raise UnreadableError(f"{first.name} does not answer: {everything}")
        return {
            machine.name: await read_history(caller, machine, everything.header.revision)
            for machine in self.cluster.voters()
        }

    def _outcome(self, violations: Sequence[Violation]) -> Outcome:
        operations = self.record.operations
        counts = Counter(
            calls=len(operations),
            unknown=sum(isinstance(operation.outcome, Unknown) for operation in operations),
            watches=len(self.record.watches),
            events=sum(len(one.events) for watch in self.record.watches for _, one in watch.received),
            revisions=self.cluster.chronicle.revision,
            lives=sum(machine.lives for machine in [*self.cluster.machines, *self.cluster.retired]),
            snapshots=self.world.network.arrived["image taken"],
            term=self.cluster.term,
            added=self.cluster.added,
            retired=len(self.cluster.retired),
        )
        return Outcome(self.world.seed, self.world.problems, violations, counts, self.world.transcript)


@implementer(ILogObserver)
class _Log:
    """Hears what members log: a failure there is one that nobody expected."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self._world.problem("", f"logged: {formatEvent(event)} {failure.getTraceback()}")


def run(
    seed: int,
    seconds: float = SECONDS,
    members: int = 3,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    transcript: bool = False,
) -> Outcome:
    """As `Simulation` and its `Simulation.run`."""
    return Simulation(seed, members, kinds, transcript).run(seconds)
