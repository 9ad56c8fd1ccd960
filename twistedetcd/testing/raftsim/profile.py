"""What kind of trouble a seed makes: settings of raft, faults of the network, how often what happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

_BASE: Mapping[str, float] = {
    "deliver": 40.0,
    "work": 12.0,
    "tick": 18.0,
    "hurry": 1.5,
    "propose": 6.0,
    "read": 3.0,
    "change": 2.0,
    "transfer": 0.8,
    "forget": 0.5,
    "campaign": 0.8,
    "compact": 1.5,
    "crash": 1.0,
    "restart": 3.0,
    "stall": 0.8,
    "partition": 0.8,
    "heal": 1.2,
    "unreachable": 0.5,
    "calm": 1.2,
    "depose": 0.2,
    "tug": 0.3,
}
"""The weight of each action: how often it is drawn."""

_SCENARIOS: Mapping[str, Mapping[str, float]] = {
    "mixed": {},
    "elections": {"campaign": 6.0, "hurry": 6.0, "transfer": 2.0, "crash": 2.0},
    "crashes": {"crash": 5.0, "restart": 8.0, "work": 25.0, "calm": 2.0},
    "changes": {"change": 8.0, "calm": 2.5, "partition": 1.5, "transfer": 1.5},
    "partitions": {"depose": 1.5, "partition": 3.0, "heal": 2.5, "read": 8.0, "hurry": 3.0},
    "snapshots": {"compact": 8.0, "propose": 10.0, "partition": 1.5, "calm": 2.0, "change": 3.0},
    "slow disks": {
        "stall": 6.0,
        "tug": 6.0,
        "work": 6.0,
        "crash": 2.0,
        "propose": 9.0,
        "campaign": 2.0,
        "transfer": 2.0,
        "change": 0.5,
    },
}
"""What a scenario has more or less of than usual."""


@dataclass(frozen=True)
class Profile:
    """
    Attributes:
        scenario: Its name.
        weights: How often each action is drawn.
        founders: How many members begin.
        bootstrap: Begin with committed changes that add the founders; otherwise with a snapshot.
        async_storage: Writes are asynchronous.
        raft: Settings of `twistedetcd.raft.config.Config` that all members share.
        drop: The chance that a message is lost.
        duplicate: The chance that it arrives twice.
        reorder: The chance that it overtakes others.
        eager: The chance that a member does at once all the work it can.
        no_snapshot: The chance that the storage says a snapshot is not ready yet.
    """

    scenario: str
    weights: Mapping[str, float]
    founders: int
    bootstrap: bool
    async_storage: bool
    raft: Mapping[str, Any]
    drop: float
    duplicate: float
    reorder: float
    eager: float
    no_snapshot: float

    @property
    def checks_reads(self) -> bool:
        """Whether reads are linearizable: not when they rely on clocks."""
        return not self.raft["lease_based_reads"]


def draw_profile(random: Random) -> Profile:
    """The profile of a seed."""
    scenario = random.choice(list(_SCENARIOS))
    check_quorum = random.random() < 0.6
    bytes_max = random.choice((0, 30, 100, 1 << 20, 1 << 20))
    slow = scenario == "slow disks"
    return Profile(
        scenario=scenario,
        weights={**_BASE, **_SCENARIOS[scenario]},
        founders=random.choice((3, 5, 5, 5) if slow else (1, 2, 3, 3, 3, 3, 4, 5, 5)),
        bootstrap=random.random() < 0.3,
        async_storage=random.random() < (0.7 if slow else 0.4),
        raft={
            "election_ticks": random.choice((3, 4, 6, 10)),
            "heartbeat_ticks": random.choice((1, 1, 2)),
            "pre_vote": random.random() < 0.5,
            "check_quorum": check_quorum,
            "lease_based_reads": check_quorum and random.random() < 0.1,
            "step_down_on_removal": random.random() < 0.4,
            "disable_proposal_forwarding": random.random() < 0.1,
            "max_bytes_per_message": bytes_max,
            "max_committed_bytes_per_ready": random.choice((0, 0, 25, 100)),
            "max_uncommitted_bytes": random.choice((0, 0, 40, 200)),
            "max_inflight_messages": random.choice((1, 2, 4, 256)),
            "max_inflight_bytes": random.choice((0, 0, max(bytes_max, 40))),
        },
        drop=random.choice((0.0, 0.02, 0.05, 0.15)),
        duplicate=random.choice((0.0, 0.03, 0.1)),
        reorder=random.choice((0.0, 0.1, 0.3, 0.7)),
        eager=random.choice((0.2, 0.4)) if slow else random.choice((0.5, 0.8, 0.95)),
        no_snapshot=random.choice((0.0, 0.0, 0.2)),
    )
