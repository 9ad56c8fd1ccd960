"""
Watches on both servers: how many events a second, how soon they come, what a watch costs that waits.

The two take turns.  A run counts if every event came, and none twice.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from twistedetcd.pb.rpc_pb2 import PutRequest
from twistedetcd.testing.bench.client import Client
from twistedetcd.testing.bench.measure import CORE_SHARE_MAX
from twistedetcd.testing.bench.processes import BenchError, resident_bytes
from twistedetcd.testing.bench.rows import (
    FANOUT,
    FANOUT_CPU,
    IDLE,
    LATENCY,
    LATENCY_TAIL,
    PUT,
    WatchRow,
)
from twistedetcd.testing.bench.servers import Server
from twistedetcd.testing.bench.watchers import MARKER, Watchers

KEY = b"watched"
CONNECTIONS = 10
FANOUT_STREAMS, FANOUT_WATCHES = 10, 100  # on each connection, and on each stream
FANOUT_PUTS = 4  # whose events may be on their way
LATENCY_STREAMS = 10
LATENCY_PUTS = 500  # in a run of two seconds, about
IDLE_STREAMS, IDLE_WATCHES = 50, 100
IDLE_STEP = CONNECTIONS * IDLE_WATCHES
TAIL = 0.99


@dataclass
class WatchResult:
    """
    One row on both servers.

    Attributes:
        etcd: Its figures, one a round.
        ours: Ours.
        problems: Why the row does not count.
    """

    row: WatchRow
    etcd: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How much better than etcd's our figure is, for each round; above 1 is better."""
        pairs = zip(self.etcd, self.ours, strict=True)
        return [ours / etcd if self.row.rises else etcd / ours for etcd, ours in pairs]

    @property
    def met(self) -> bool | None:
        """Whether the goal is; ``None`` if there is none."""
        return None if self.row.goal is None else statistics.median(self.ratios) >= self.row.goal

    def add(self, server: Server, figure: float) -> None:
        (self.etcd if server.name == "etcd" else self.ours).append(figure)


@dataclass(frozen=True)
class Watching:
    """
    What all rows share.

    Attributes:
        etcd: The one.
        ours: The other.
        rounds: How often each row is measured on each.
        seconds: How long a run shall take.
        tell: Called with a line now and then.
    """

    etcd: Server
    ours: Server
    rounds: int
    seconds: float
    tell: Callable[[str], None]
    _problems: dict[WatchRow, list[str]] = field(default_factory=dict)

    def measure(self, rows: Sequence[WatchRow]) -> list[WatchResult]:
        """
        Measure some rows.

        Raises:
            BenchError: A server does not do what it should.
        """
        results = {row: WatchResult(row) for row in rows}
        if FANOUT in results or FANOUT_CPU in results:
            self._in_turns("P10", self._fan_out, results)
        for row, problems in self._problems.items():
            if row in results:
                results[row].problems = list(dict.fromkeys(problems))
        if LATENCY in results or LATENCY_TAIL in results:
            self._in_turns("P11", self._latency, results)
        if IDLE in results:
            for server in (self.etcd, self.ours):
                results[IDLE].add(server, self._idle(server))
        return list(results.values())

    def _in_turns(
        self,
        name: str,
        run: Callable[[Server], dict[WatchRow, float]],
        results: dict[WatchRow, WatchResult],
    ) -> None:
        for number in range(self.rounds):
            pair = (self.etcd, self.ours)
            for server in pair if number % 2 == 0 else reversed(pair):
                figures = run(server)
                for row, figure in figures.items():
                    if row in results:
                        results[row].add(server, figure)
                shown = ", ".join(f"{figure:.3g} {row.unit}" for row, figure in figures.items())
                self.tell(f"{name}, round {number + 1} of {self.rounds}, {server.name}: {shown}")

    def _fan_out(self, server: Server) -> dict[WatchRow, float]:
        stream = [KEY] * FANOUT_WATCHES
        watchers = Watchers(server.port, [[stream] * FANOUT_STREAMS] * CONNECTIONS)
        each = CONNECTIONS * FANOUT_STREAMS * FANOUT_WATCHES
        putter = Putter(server.port)
        try:
            events = watchers.events()
            received = 0
            began, busy, cpu = time.perf_counter(), time.process_time(), server.cpu_seconds()
            now = began
            while now < began + self.seconds or received < putter.puts * each:
                if now < began + self.seconds and received >= (putter.puts - FANOUT_PUTS + 1) * each:
                    putter.put()
                count, now = next(events)
                received += count
            share = (time.process_time() - busy) / (now - began)
            used = server.cpu_seconds() - cpu
        finally:
            putter.close()
            watchers.close()
        if received != putter.puts * each:
            raise BenchError(f"{server.name}: {received:,} events of {putter.puts:,} puts came.")
        self.tell(f"P10, {server.name}: the generator used {share:.0%} of a core")
        if share > CORE_SHARE_MAX:
            self._problems.setdefault(FANOUT, []).append(f"{server.name}: generator")
        return {FANOUT: received / (now - began) / 1000, FANOUT_CPU: used / received * 1e6}

    def _latency(self, server: Server) -> dict[WatchRow, float]:
        watchers = Watchers(server.port, [[[KEY]] * LATENCY_STREAMS] * CONNECTIONS)
        each = CONNECTIONS * LATENCY_STREAMS
        putter = Putter(server.port)
        latencies: list[float] = []
        try:
            events = watchers.events()
            for _ in range(max(round(LATENCY_PUTS * self.seconds / 2), 10)):
                began = time.perf_counter()
                putter.put()
                received = 0
                while received < each:
                    count, now = next(events)
                    latencies += [now - began] * count
                    received += count
        finally:
            putter.close()
            watchers.close()
        latencies.sort()
        return {
            LATENCY: statistics.median(latencies) * 1000,
            LATENCY_TAIL: latencies[int(TAIL * len(latencies))] * 1000,
        }

    def _idle(self, server: Server) -> float:
        count = CONNECTIONS * IDLE_STREAMS * IDLE_WATCHES
        server.settle()
        before = resident_bytes(server.pid)
        with closing(idle_watches(server.port, count)):
            server.settle()
            grown = resident_bytes(server.pid) - before
        self.tell(f"W1, {server.name}: {grown / (1 << 20):.0f} MiB")
        return grown / count


def idle_watches(port: int, count: int) -> Watchers:
    """So many watches, a multiple of `IDLE_STEP`; each of another key, which nobody puts."""
    numbers = iter(range(count))
    streams = range(count // IDLE_STEP)
    keys = [
        [[b"idle/%08d" % next(numbers) for _ in range(IDLE_WATCHES)] for _ in streams]
        for _ in range(CONNECTIONS)
    ]
    return Watchers(port, keys)


class Putter:
    """Puts the watched key; whether that worked is seen by the events."""

    def __init__(self, port: int) -> None:
        self._client = Client(port)
        self._request = PutRequest(key=KEY, value=MARKER).SerializeToString()
        self.puts = 0

    def put(self) -> None:
        """
        Put, once the last one is answered; do not wait for the answer.

        Raises:
            CallError: The last one was refused.
        """
        if self.puts:
            self._client.finish()
        self._client.begin(PUT.encode(), self._request)
        self.puts += 1

    def close(self) -> None:
        self._client.close()
