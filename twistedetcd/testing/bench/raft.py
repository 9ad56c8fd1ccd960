"""``python -m twistedetcd.testing.bench.raft``: what raft itself costs, without disk, network or clients."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfState, Ready, Snapshot

VOTERS = (1, 3)
BATCHES = (1, 10, 100, 500)
ENTRY_BYTES = 300
ROUNDS = 9
ENTRIES = 6_000
"""Of one run; the log is compacted after it."""


class Cost(NamedTuple):
    """One row: microseconds an entry, and how they spread over the rounds."""

    voters: int
    batch: int
    median: float
    low: float
    high: float


class Cluster:
    """Members in one process; the messages between them are handed over as they are."""

    def __init__(self, voters: int) -> None:
        first = Snapshot(1, 1, ConfState(tuple(range(1, voters + 1))))
        self._storages = [MemoryStorage() for _ in range(voters)]
        for storage in self._storages:
            storage.apply_snapshot(first)
        self._nodes = [
            RawNode(Config(id=id, storage=storage, applied=1, draw=lambda ticks: 0))
            for id, storage in enumerate(self._storages, 1)
        ]
        self.applied = 0
        """Entries that the leader applied."""
        self._nodes[0].campaign()
        self._settle()

    def write(self, datas: Sequence[bytes]) -> None:
        """Propose a batch to the leader, and go on until every member has applied it."""
        self._nodes[0].propose(datas)
        self._settle()

    def compact(self) -> None:
        """Forget the log but for its end."""
        for storage in self._storages:
            storage.compact(storage.last_index() - 1)

    def _settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for node, storage in zip(self._nodes, self._storages, strict=True):
                while node.has_ready():
                    busy = True
                    self._carry_out(node, storage, node.ready())

    def _carry_out(self, node: RawNode, storage: MemoryStorage, ready: Ready) -> None:
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        for message in ready.messages:
            self._nodes[message.to - 1].step(message)
        if node is self._nodes[0]:
            self.applied += len(ready.committed)
        node.advance()


def measure(voters: int, batch: int, *, rounds: int = ROUNDS, entries: int = ENTRIES) -> Cost:
    """
    Time one row.

    Args:
        voters: How many members.
        batch: Entries proposed at once.
        rounds: Runs; one more before them warms up.
        entries: Of each run, rounded up to whole batches.
    """
    cluster, data = Cluster(voters), bytes(ENTRY_BYTES)
    datas, writes = [data] * batch, -(-entries // batch)
    costs = []
    for _ in range(rounds + 1):
        before = cluster.applied
        began = time.perf_counter()
        for _ in range(writes):
            cluster.write(datas)
        seconds = time.perf_counter() - began
        assert cluster.applied - before == writes * batch, "an entry was not applied"
        costs.append(seconds * 1e6 / (writes * batch))
        cluster.compact()
    costs = costs[1:]
    return Cost(voters, batch, statistics.median(costs), min(costs), max(costs))


def row(cost: Cost) -> str:
    """A row of the table."""
    return (
        f"| {cost.voters} | {cost.batch} | {cost.median:.2f} ({cost.low:.2f}..{cost.high:.2f}) "
        f"| {cost.median * cost.batch:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = argparse.ArgumentParser(
        prog="python -m twistedetcd.testing.bench.raft",
        description=f"The cost of appending and committing {ENTRY_BYTES}-byte entries: members in one "
        "process, logs in memory.  The median of the rounds, and their spread.",
    )
    options.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each row ({ROUNDS})")
    options.add_argument("--entries", type=int, default=ENTRIES, help=f"entries of a run ({ENTRIES:,})")
    chosen = options.parse_args(arguments)
    if chosen.rounds < 1 or chosen.entries < 1:
        print("--rounds and --entries must be positive.", file=sys.stderr)
        return 1
    print("| Voters | Entries a batch | µs an entry | µs a batch |")
    print("|--:|--:|--:|--:|")
    for voters in VOTERS:
        for batch in BATCHES:
            print(row(measure(voters, batch, rounds=chosen.rounds, entries=chosen.entries)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
