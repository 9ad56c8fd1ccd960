"""One seed, one history."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from twistedetcd.testing.raftsim.actions import ACTIONS
from twistedetcd.testing.raftsim.cluster import Cluster
from twistedetcd.testing.raftsim.history import is_quorum
from twistedetcd.testing.raftsim.member import Member
from twistedetcd.testing.raftsim.profile import draw_profile
from twistedetcd.testing.raftsim.rules import BrokenRuleError, Rule
from twistedetcd.testing.raftsim.transcript import Transcript

STEPS = 1000
"""How many steps a seed runs by default."""

HEALING_TIMEOUTS = 60
"""Election timeouts in which a healed cluster must make progress."""


@dataclass(frozen=True)
class Outcome:
    """
    What became of a seed.

    Attributes:
        seed: The seed.
        step: The last step; one more than asked for while healing.
        broken: The promise that was broken; ``None`` if all were kept.
        coverage: How often each of `twistedetcd.testing.raftsim.world.COUNTERS` happened.
        transcript: What happened, if it was kept.
    """

    seed: int
    step: int
    broken: BrokenRuleError | None
    coverage: Counter[str]
    transcript: Transcript | None

    def describe(self, lines: int = 60) -> str:
        """The seed, the step, the broken promise and the end of the transcript."""
        kept = self.transcript.tail(lines) if self.transcript is not None else ""
        return f"{kept}\nseed {self.seed}, step {self.step}: {self.broken or 'all promises were kept'}"


class Simulation:
    """A cluster, and the dice."""

    def __init__(self, seed: int, transcript: Transcript | None = None) -> None:
        """
        Args:
            seed: Decides everything.
            transcript: Where to write down what happens.
        """
        self.seed, self.transcript = seed, transcript
        self.random = Random(seed)
        self.profile = draw_profile(self.random)
        if transcript is not None:
            transcript.note(str(self.profile))
        self.cluster = Cluster(self.random, self.profile, transcript)
        self._actions = [ACTIONS[name] for name in self.profile.weights]
        self._bounds = list(accumulate(self.profile.weights.values()))
        self.step_number = 0

    def step(self) -> None:
        """One thing happens."""
        self.step_number += 1
        if self.transcript is not None:
            self.transcript.begin_step(self.step_number)
        self._actions[bisect(self._bounds, self.random.random() * self._bounds[-1])](self.cluster)

    def heal(self) -> None:
        """
        Nothing goes wrong any more: everybody is up, every message arrives.

        Raises:
            BrokenRuleError: Even so, nobody leads, or a new proposal does not reach everybody.
        """
        self.step_number += 1
        if self.transcript is not None:
            self.transcript.begin_step(self.step_number)
            self.transcript.note("heals")
        cluster = self.cluster
        cluster.world.network.heal()
        cluster.world.network.forget()
        for member in cluster.down():
            member.start()
        leader: Member | None = None
        timeout = self.profile.raft["election_ticks"]
        for tick in range(HEALING_TIMEOUTS * timeout):
            cluster.quiet_round()
            leader = cluster.leader()
            if self._agree():
                return
            if leader is not None and not (tick + 1) % timeout:
                if any(leader.id in ids for ids in cluster.configuration[:4]):
                    _propose_again(leader, cluster.name("healed"))
                else:
                    # Removed, it would lead on for ever and take no proposal: its process has to end.
                    leader.crash()
        if not self._stranded():
            text = f"no progress under {cluster.configuration}"
            raise BrokenRuleError(Rule.LIVENESS, text if leader is None else f"{text}, led by {leader.id}")
        cluster.world.coverage["stranded"] += 1

    def _stranded(self) -> bool:
        """
        Whether raft cannot help it: one of two cases, both of members that were removed or made learners.

        Without pre-vote and quorum check they can bring a learner to a later term, which its leader then
        never hears of.  And if a voter has not heard that it may do without them, it needs their votes, which
        a longer log refuses: so it is when a leader steps down on its removal, or crashes then.
        """
        raft, newest = self.profile.raft, self.cluster.configuration
        if not raft["pre_vote"] and not raft["check_quorum"]:
            return True
        if all(self.cluster.members[voter].configuration == newest for voter in newest.voters):
            return False
        members = self.cluster.up()
        for candidate in members:
            voters = [member.id for member in members if candidate.log_end >= member.log_end]
            configuration = candidate.configuration
            votes = candidate.id in (*configuration.voters, *configuration.voters_outgoing)
            if votes and is_quorum(configuration, voters):
                return False
        return True

    def _agree(self) -> bool:
        """Whether everybody in the configuration has applied a proposal of the healed cluster."""
        history, configuration = self.cluster.world.history, self.cluster.configuration
        proposed = history.committed_at(history.committed)
        if proposed is None or not proposed.data.startswith(b"healed") or configuration.auto_leave:
            return False
        ids = {id: None for part in configuration[:4] for id in part}
        return all(self.cluster.members[id].application.applied == history.committed for id in ids)


def _propose_again(leader: Member, data: bytes) -> None:
    leader.call(lambda node: node.propose([data]))
    leader.work_through()


def run(seed: int, steps: int = STEPS, *, transcript: bool = False) -> Outcome:
    """
    Run a seed to its end, or to the first broken promise.

    Args:
        seed: Which.
        steps: How many steps before the cluster is healed.
        transcript: Keep what happens; that is slower, and changes nothing else.
    """
    kept = Transcript() if transcript else None
    simulation: Simulation | None = None
    broken: BrokenRuleError | None = None
    try:
        simulation = Simulation(seed, kept)
        for _ in range(steps):
            simulation.step()
        simulation.heal()
    except BrokenRuleError as error:
        broken = error
    except Exception as error:
        broken = BrokenRuleError(Rule.RAFT_ITSELF, f"{type(error).__name__}: {error}")
        broken.__cause__ = error
    step = simulation.step_number if simulation is not None else 0
    coverage = simulation.cluster.world.coverage if simulation is not None else Counter[str]()
    return Outcome(seed, step, broken, coverage, kept)
