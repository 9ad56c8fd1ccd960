"""The table of what is measured: one line for each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from twistedetcd.testing.bench import messages
from twistedetcd.testing.bench.processes import BenchError

PUT, RANGE, TXN = (f"/etcdserverpb.KV/{method}" for method in ("Put", "Range", "Txn"))
GRANT, REVOKE, KEEP_ALIVE = (
    f"/etcdserverpb.Lease/Lease{method}" for method in ("Grant", "Revoke", "KeepAlive")
)


class Table(Enum):
    """The rows of one table are measured on the same store; the value is its heading."""

    MANY = "A store of many keys"
    HOT = "One key with many revisions"
    CHANGING = "A different grpc-timeout on every call"
    LEASES = "Leases"
    CLUSTER = "Three members on one machine"


@dataclass(frozen=True)
class Row:
    """
    One line of a table.

    Attributes:
        name: As the option ``--rows`` names it.
        work: What is done.
        path: The method.
        message: Makes the request from a key.
        connections: Each is one generator process.
        streams: Calls in flight on each connection.
        goal: The ratio to etcd that closes the row's issue.
        at_follower: Of the rows about a cluster: whether a follower is asked, and not the leader.
    """

    name: str
    work: str
    table: Table
    path: str
    message: Callable[[bytes], bytes]
    connections: int
    streams: int
    goal: float
    at_follower: bool = False

    @property
    def writes(self) -> bool:
        """Whether each call raises the revision by one."""
        return self.path in (PUT, TXN)

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams

    def key(self, round_number: int, connection: int) -> bytes:
        """The key that a connection asks for."""
        if self.table is Table.HOT:
            return messages.HOT_KEY
        return messages.own_key(ROWS.index(self), round_number, connection)

    def problem(self, answer: bytes, key: bytes) -> str | None:
        """What is wrong with the answer to a call that does not write, or ``None``."""
        if self.path == GRANT:
            return messages.grant_problem(answer)
        keys = messages.range_keys() if self.message is messages.range_many else [key]
        return messages.range_problem(answer, keys)


ROWS = (
    Row("P1", "put, 500 in flight", Table.MANY, PUT, messages.put, 10, 50, 1.3),
    Row("P2", "put, lone", Table.MANY, PUT, messages.put, 1, 1, 0.9),
    Row("P3", "range, 500 in flight", Table.MANY, RANGE, messages.range_one, 10, 50, 1.7),
    Row("P4", "range, lone", Table.MANY, RANGE, messages.range_one, 1, 1, 1.0),
    Row("P5", "range of 1,000 keys, 50 in flight", Table.MANY, RANGE, messages.range_many, 10, 5, 1.5),
    Row("P6", "txn (compare + put), 500 in flight", Table.MANY, TXN, messages.txn, 10, 50, 1.2),
    Row("H1", "put, 500 in flight", Table.HOT, PUT, messages.put, 10, 50, 1.3),
    Row("H2", "put, lone", Table.HOT, PUT, messages.put, 1, 1, 0.9),
    Row("H3", "range, 500 in flight", Table.HOT, RANGE, messages.range_one, 10, 50, 1.7),
    Row("H4", "range, lone", Table.HOT, RANGE, messages.range_one, 1, 1, 1.0),
    Row("T1", "put, 500 in flight", Table.CHANGING, PUT, messages.put, 10, 50, 1.3),
    Row("T3", "range, 500 in flight", Table.CHANGING, RANGE, messages.range_one, 10, 50, 1.7),
    Row("P12G", "lease grant, 500 in flight", Table.LEASES, GRANT, messages.grant, 10, 50, 1.0),
    Row(
        "P12K", "lease keep-alive, on 500 streams", Table.LEASES, KEEP_ALIVE, messages.keep_alive, 10, 50, 1.0
    ),
    Row("P7", "put at the leader, 500 in flight", Table.CLUSTER, PUT, messages.put, 10, 50, 1.0),
    Row("P8", "put at the leader, lone", Table.CLUSTER, PUT, messages.put, 1, 1, 1.0),
    Row(
        "P9",
        "range at a follower, 500 in flight",
        Table.CLUSTER,
        RANGE,
        messages.range_one,
        10,
        50,
        1.0,
        True,
    ),
)
"""The goals of the second and third table are those of the same work in the first."""


class LargeRow(NamedTuple):
    """
    One line of the table.

    Attributes:
        name: As the option ``--rows`` names it.
        work: What is measured.
        unit: Of both figures; the smaller one is better.
        goal: Of etcd's figure over ours; ``None`` where the longest turn has the goal.
    """

    name: str
    work: str
    unit: str
    goal: float | None


MEMORY = LargeRow("P13", "resident memory", "MiB", 1.0)
RESTART = LargeRow("P14", "restart to ready", "s", 0.5)
BIG_RANGE = LargeRow("L1", "slowest put beside a range of a tenth of the keys", "ms", None)
HASHING = LargeRow("L2", "slowest put beside a HashKV of all", "ms", None)
DELETING = LargeRow("L3", "slowest put beside a delete of all keys", "ms", None)
COMPACTING = LargeRow("L4", "slowest put beside a compaction of all revisions", "ms", None)
REVOKING = LargeRow("L5", "slowest put beside the revoke of a lease with a fifth as many keys", "ms", None)
LARGE_ROWS = (MEMORY, RESTART, BIG_RANGE, HASHING, DELETING, COMPACTING, REVOKING)
"""In the order they are measured: each leaves what the next one needs."""


FAILOVER = LargeRow("E1", "from the kill of the leader to the next put", "ms", 0.91)
FAILOVER_ROWS = (FAILOVER,)
"""The goal: no longer than 1.1 times etcd's."""


class WatchRow(NamedTuple):
    """
    One line of the table about watches.

    Attributes:
        name: As the option ``--rows`` names it.
        work: What is measured.
        unit: Of the figures.
        rises: Whether the larger figure is the better one.
        goal: Of the better server's figure over the other's; ``None`` for a figure that is only told.
    """

    name: str
    work: str
    unit: str
    rises: bool
    goal: float | None


FANOUT = WatchRow("P10", "events of one key, 10,000 watches on 100 streams", "k/s", True, 1.0)
FANOUT_CPU = WatchRow("P10C", "server's CPU time for each of them", "µs", False, 1.0)
LATENCY = WatchRow("P11", "put to event, 100 watches, median", "ms", False, 1.0)
LATENCY_TAIL = WatchRow("P11T", "the same, 99 of 100", "ms", False, 1.0)
IDLE = WatchRow("W1", "memory of an idle watch, of 50,000 on 500 streams", "bytes", False, None)
WATCH_ROWS = (FANOUT, FANOUT_CPU, LATENCY, LATENCY_TAIL, IDLE)


def select_watch(names: str) -> list[WatchRow]:
    """As `select`, of the rows about watches."""
    wanted = _wanted(names)
    return [row for row in WATCH_ROWS if row.name in wanted]


def select(names: str) -> list[Row]:
    """
    The rows that a comma-separated list names, in the order of the table; all if it is empty.

    Raises:
        BenchError: There is no such row.
    """
    wanted = _wanted(names)
    return [row for row in ROWS if row.name in wanted]


def select_large(names: str) -> list[LargeRow]:
    """As `select`, of the rows about a large store."""
    wanted = _wanted(names)
    return [row for row in LARGE_ROWS if row.name in wanted]


def select_failover(names: str) -> list[LargeRow]:
    """As `select`, of the rows about the loss of a leader."""
    wanted = _wanted(names)
    return [row for row in FAILOVER_ROWS if row.name in wanted]


def _wanted(names: str) -> set[str]:
    known = [row.name for row in (*ROWS, *FAILOVER_ROWS, *LARGE_ROWS, *WATCH_ROWS)]
    wanted = {name.strip().upper() for name in names.split(",") if name.strip()} or set(known)
    unknown = sorted(wanted.difference(known))
    if unknown:
        raise BenchError(f"There is no row {unknown[0]}; the rows are {', '.join(known)}.")
    return wanted
