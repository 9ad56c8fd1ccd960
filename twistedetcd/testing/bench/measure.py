"""
One row on both servers: fill the store, make the bodies, run the load, decide whether the run counts.

A run counts if every call succeeded, if the store's revision grew by exactly the number of writes, if what a
range answers was compared with what was put and every answer was as long, and if no generator process used
more than `CORE_SHARE_MAX` of a core: then the generator would have been measured, not the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twistedetcd.pb.rpc_pb2 import LeaseRevokeRequest
from twistedetcd.testing.bench import load, messages
from twistedetcd.testing.bench.processes import BenchError, Children
from twistedetcd.testing.bench.rows import GRANT, KEEP_ALIVE, PUT, REVOKE, TXN, Row, Table
from twistedetcd.testing.bench.servers import Server

CORE_SHARE_MAX = 0.7
WARM_UP_SHARE = 0.2  # of the time of a run
WARM_UP_ROUND = 49  # its keys are its own
HOT_CONNECTIONS, HOT_STREAMS = 10, 50
_FIRST_GUESS = {1: 400, 50: 400, 500: 4000}  # requests of the run before the warm-up, by calls in flight


@dataclass(frozen=True)
class Run:
    """
    One row on one server, once.

    Attributes:
        requests: How many were made.
        seconds: How long that took.
        server_cpu_seconds: CPU time of the server meanwhile, what it finished in the background included.
        generator_core_share: Of the busiest generator process: its CPU time over its run time.
        generator_cpu_seconds: CPU time of all generator processes.
        problems: Why the run does not count; empty if it does.
    """

    requests: int
    seconds: float
    server_cpu_seconds: float
    generator_core_share: float
    generator_cpu_seconds: float
    problems: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def server_cpu_microseconds(self) -> float:
        """CPU time of the server for each request."""
        return self.server_cpu_seconds / self.requests * 1e6


@dataclass
class Result:
    """All rounds of one row; the runs of one round have the same place in both lists."""

    row: Row
    etcd: list[Run] = field(default_factory=list)
    ours: list[Run] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Why the row is invalid, each reason once."""
        named = [("etcd", run) for run in self.etcd] + [("ours", run) for run in self.ours]
        return list(dict.fromkeys(f"{name}: {text}" for name, run in named for text in run.problems))


@dataclass(frozen=True)
class Bench:
    """
    What all rows share.

    Attributes:
        children: Takes the generators.
        generators: Our own.
        renewals: Our own for streams that keep leases alive.
        h2load: Where the other one is.
        directory: For the request bodies.
        etcd: The one.
        ours: The other.
        rounds: How often each row is measured on each.
        seconds: How long a run shall take.
        requests: How many requests a run shall make instead, unless 0.
        tell: Called with a line now and then.
    """

    children: Children
    generators: load.Generators
    renewals: load.Generators
    h2load: str
    directory: Path
    etcd: Server
    ours: Server
    rounds: int
    seconds: float
    requests: int
    tell: Callable[[str], None]

    def fill(self, keys: int) -> None:
        """
        Put that many keys into both stores.

        Raises:
            BenchError: The revision says otherwise.
        """
        requests = list(messages.filling(keys))
        for server in (self.etcd, self.ours):
            before = server.revision()
            for _ in server.client.call_each(TXN.encode(), requests):
                pass
            if (grown := server.revision() - before) != len(requests):
                raise BenchError(
                    f"{server.name}: the revision grew by {grown} in {len(requests)} transactions."
                )

    def heat(self, revisions: int) -> None:
        """
        Give the hot key that many revisions on both.

        Raises:
            BenchError: The revision says otherwise.
        """
        bodies = self._bodies([messages.put(messages.HOT_KEY)] * HOT_CONNECTIONS)
        for server in (self.etcd, self.ours):
            before = server.revision()
            each = revisions // HOT_CONNECTIONS
            load.h2load(self.children, self.h2load, server.url(PUT), bodies, each, HOT_STREAMS)
            if (grown := server.revision() - before) != revisions:
                raise BenchError(f"{server.name}: the hot key's revision grew by {grown}, not {revisions}.")

    def measure(self, row: Row) -> Result:
        """Measure a row; the two take turns, and take turns in being first."""
        result = Result(row)
        rates: dict[str, float] = {}
        for server in (self.etcd, self.ours):
            rates[server.name] = self._warm_up(row, server)
        for number in range(self.rounds):
            pairs = [(self.etcd, result.etcd), (self.ours, result.ours)]
            for server, runs in pairs if number % 2 == 0 else reversed(pairs):
                run = self.run(row, server, number, self._count(row, rates[server.name], self.seconds))
                rates[server.name] = run.rate
                runs.append(run)
            self.tell(
                f"{row.name} {row.work}, round {number + 1} of {self.rounds}: "
                f"etcd {result.etcd[-1].rate:,.0f}/s, ours {result.ours[-1].rate:,.0f}/s"
            )
        return result

    def _warm_up(self, row: Row, server: Server) -> float:
        """Two short runs that do not count; returns the rate."""
        guess = _FIRST_GUESS[row.in_flight]
        rate = self.run(row, server, WARM_UP_ROUND, guess).rate
        if self.requests:
            return rate
        return self.run(row, server, WARM_UP_ROUND, self._count(row, rate, WARM_UP_SHARE * self.seconds)).rate

    def _count(self, row: Row, rate: float, seconds: float) -> int:
        """Requests of a run: a multiple of the connections, and all streams of each are used."""
        count = self.requests or round(rate * seconds)
        return max(count // row.connections, row.streams) * row.connections

    def run(self, row: Row, server: Server, number: int, count: int) -> Run:
        """
        Run a row once.

        Args:
            row: Which.
            server: On which server.
            number: The round; decides the keys.
            count: How many requests; a multiple of the row's connections.
        """
        keys = [row.key(number, connection) for connection in range(row.connections)]
        requests = [row.message(key) for key in keys]
        problems = []
        answer_bytes = 0
        if row.path == KEEP_ALIVE:
            self._grant(server, keys, row.streams)
        elif not row.writes:
            for key, request in zip(keys, requests, strict=True):
                answer = server.client.call(row.path.encode(), request)
                answer_bytes += 5 + len(answer)
                problem = row.problem(answer, key)
                if problem:
                    problems.append(problem)
        before, cpu_before = server.revision(), server.cpu_seconds()
        each = count // row.connections
        if row.table is Table.CHANGING:
            outcome = self.generators.run(server.port, row.path, requests, each, row.streams)
        elif row.path == KEEP_ALIVE:
            outcome = self.renewals.run(server.port, row.path, requests, each, row.streams)
        else:
            bodies, url = self._bodies(requests), server.url(row.path)
            outcome = load.h2load(self.children, self.h2load, url, bodies, each, row.streams)
        cpu = server.settle() - cpu_before
        grown = server.revision() - before
        if row.path == KEEP_ALIVE:
            self._revoke(server, keys, row.streams)
        problems += judge(outcome, count, grown, count if row.writes else 0, answer_bytes * each)
        if (problem := server.problem()) is not None:
            problems.append(problem)
        return Run(
            count, outcome.seconds, cpu, max(outcome.core_shares), outcome.cpu_seconds, tuple(problems)
        )

    def _grant(self, server: Server, keys: Sequence[bytes], streams: int) -> None:
        """Have a lease for each stream."""
        ids = [lease_id for key in keys for lease_id in messages.own_leases(key, streams)]
        for _ in server.client.call_each(GRANT.encode(), [messages.grant(b"", lease_id) for lease_id in ids]):
            pass

    def _revoke(self, server: Server, keys: Sequence[bytes], streams: int) -> None:
        """
        Have no more than before.

        Raises:
            CallError: A lease is not there: it ended while it was kept alive.
        """
        ids = [lease_id for key in keys for lease_id in messages.own_leases(key, streams)]
        requests = [LeaseRevokeRequest(ID=lease_id).SerializeToString() for lease_id in ids]
        for _ in server.client.call_each(REVOKE.encode(), requests):
            pass

    def _bodies(self, requests: Sequence[bytes]) -> list[Path]:
        """The requests as files, each with gRPC's prefix."""
        paths = []
        for number, request in enumerate(requests):
            path = self.directory / f"body-{number}"
            path.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
            paths.append(path)
        return paths


def judge(outcome: load.Outcome, count: int, grown: int, writes: int, answer_bytes: int) -> list[str]:
    """
    Why a run does not count.

    Args:
        outcome: What the generators saw.
        count: How many requests they were told to make.
        grown: By how much the store's revision grew.
        writes: By how much it had to.
        answer_bytes: The least that all answers together have.
    """
    problems = []
    if outcome.succeeded != count:
        problems.append(f"{outcome.succeeded} of {count} requests succeeded")
    if grown != writes:
        problems.append(f"the revision grew by {grown}, not {writes}")
    if outcome.data_bytes < answer_bytes:
        problems.append(f"the answers had {outcome.data_bytes} bytes, not {answer_bytes}")
    if max(outcome.core_shares) > CORE_SHARE_MAX:
        problems.append("generator")
    return problems
