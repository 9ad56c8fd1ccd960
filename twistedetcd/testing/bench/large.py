"""
A store of a million keys: what it costs to have, to open again, and to work on while others go on.

Each work on the whole store runs while somebody puts a small key every 10 ms; what counts is the slowest of
those puts, and for a member of ours the longest turn of its reactor.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from google.protobuf.message import Message

from twistedetcd.pb import rpc_pb2
from twistedetcd.testing.bench import messages
from twistedetcd.testing.bench.client import CallError, Client
from twistedetcd.testing.bench.processes import BenchError, Children, resident_bytes, settle
from twistedetcd.testing.bench.rows import (
    BIG_RANGE,
    COMPACTING,
    DELETING,
    GRANT,
    HASHING,
    LARGE_ROWS,
    MEMORY,
    PUT,
    RANGE,
    RESTART,
    REVOKE,
    REVOKING,
    TXN,
    LargeRow,
)
from twistedetcd.testing.bench.servers import Server

PUT_EVERY_SECONDS = 0.01
RESTARTS = 3
WORK_SECONDS_MAX = 600.0
POLL_SECONDS = 0.1
FILL_AT_ONCE = 10_000
FILL_STREAMS = 100
TURN_GOAL_MS = 50.0
LEASE_ID = 1
DELETE, COMPACT = "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Compact"
HASH = "/etcdserverpb.Maintenance/HashKV"


@dataclass
class LargeResult:
    """
    One row on both servers.

    Attributes:
        etcd: Its figures.
        ours: Ours.
        turn_ms: The longest turn of our reactor meanwhile.
        notes: What else there is to say: how long the work took, who was refused.
    """

    row: LargeRow
    etcd: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    turn_ms: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Etcd's figure over ours: above 1 is better than etcd."""
        return statistics.median(self.etcd) / statistics.median(self.ours)

    @property
    def met(self) -> bool:
        if self.row.goal is not None:
            return self.ratio >= self.row.goal
        return self.turn_ms is not None and self.turn_ms <= TURN_GOAL_MS


@dataclass(frozen=True)
class Large:
    """
    What all rows share.

    Attributes:
        children: Has the servers.
        start_etcd: Starts it on the store it had before.
        start_ours: Likewise; with its turns timed, into ``turns``.
        turns: The file that our server writes its longest turn to; ``None`` if it does not.
        keys: In the store.
        tell: Called with a line now and then.
    """

    children: Children
    start_etcd: Callable[[], Server]
    start_ours: Callable[[], Server]
    turns: Path | None
    keys: int
    tell: Callable[[str], None]

    def measure(self, rows: Sequence[LargeRow]) -> list[LargeResult]:
        """
        Measure some rows, one server after the other.

        Raises:
            BenchError: A server does not do what it should.
        """
        results = {row: LargeResult(row) for row in rows}
        for name, start in (("etcd", self.start_etcd), ("ours", self.start_ours)):
            server = self._filled(start())
            for row in LARGE_ROWS:
                if row is RESTART and row in results:
                    server = self._restarted(server, start, results[row])
                elif row in results:
                    self._measure_one(row, server, results[row])
                if row in results:
                    figures = results[row].etcd if name == "etcd" else results[row].ours
                    self.tell(f"{row.name} {row.work}, {name}: {statistics.median(figures):,.1f} {row.unit}")
            server.client.close()
            self.children.end(server.pid)
        return list(results.values())

    def _filled(self, server: Server) -> Server:
        self.tell(f"Putting {self.keys:,} keys into {server.name}, one by one.")
        for start in range(0, self.keys, FILL_AT_ONCE):
            count = min(FILL_AT_ONCE, self.keys - start)
            puts = [messages.put(messages.key(number)) for number in range(start, start + count)]
            for _ in server.client.call_each(PUT.encode(), puts, FILL_STREAMS):
                pass
        settle(server.pid)
        return server

    def _restarted(self, server: Server, start: Callable[[], Server], result: LargeResult) -> Server:
        for _ in range(RESTARTS):
            server.client.close()
            self.children.end(server.pid)
            server = start()
            figures(result, server).append(server.start_seconds)
        return server

    def _measure_one(self, row: LargeRow, server: Server, result: LargeResult) -> None:
        if row is MEMORY:
            figures(result, server).append(resident_bytes(server.pid) / (1 << 20))
            return
        if row is REVOKING:
            self._lease(server)
        self._longest_turn(server)
        works = {
            BIG_RANGE: self._big_range,
            HASHING: self._hash,
            DELETING: self._delete,
            COMPACTING: self._compact,
            REVOKING: self._revoke,
        }
        puts = SmallPuts(server.port)
        puts.start()
        began = time.monotonic()
        try:
            works[row](server)
        finally:
            seconds = time.monotonic() - began
            puts.stop()
        figures(result, server).append(max(puts.milliseconds, default=0.0))
        turn = self._longest_turn(server)
        result.turn_ms = turn if turn is not None else result.turn_ms
        refused = f", {puts.refused} puts refused" if puts.refused else ""
        result.notes.append(f"{server.name}: the work took {seconds:.1f} s{refused}")

    def _longest_turn(self, server: Server) -> float | None:
        """In ms, since the last time that this was asked; ``None`` if it is not ours."""
        if server.name != "ours" or self.turns is None:
            return None
        self.turns.unlink(missing_ok=True)
        os.kill(server.pid, signal.SIGUSR2)
        end = time.monotonic() + WORK_SECONDS_MAX
        while not self.turns.exists():
            if time.monotonic() > end:
                raise BenchError("Our server does not tell its longest turn.")
            time.sleep(POLL_SECONDS)
        return float(self.turns.read_text()) * 1000

    # The works.  Each returns when the server has done it.

    def _big_range(self, server: Server) -> None:
        request = rpc_pb2.RangeRequest(key=messages.key(0), range_end=messages.key(self.keys // 10))
        answer = rpc_pb2.RangeResponse.FromString(self._call(server, RANGE, request))
        if len(answer.kvs) != self.keys // 10:
            raise BenchError(f"{server.name}: the range answered with {len(answer.kvs):,} keys.")

    def _hash(self, server: Server) -> None:
        self._call(server, HASH, rpc_pb2.HashKVRequest())

    def _delete(self, server: Server) -> None:
        first, last = messages.key(0), messages.key(self.keys)
        try:
            self._call(server, DELETE, rpc_pb2.DeleteRangeRequest(key=first, range_end=last))
        except CallError:
            # It took longer than a request may wait, and goes on.
            count = rpc_pb2.RangeRequest(key=first, range_end=last, count_only=True, serializable=True)
            end = time.monotonic() + WORK_SECONDS_MAX
            while rpc_pb2.RangeResponse.FromString(self._call(server, RANGE, count)).count:
                if time.monotonic() > end:
                    raise BenchError(f"{server.name}: the keys are still there.") from None
                time.sleep(POLL_SECONDS)

    def _compact(self, server: Server) -> None:
        request = rpc_pb2.CompactionRequest(revision=server.revision(), physical=True)
        self._call(server, COMPACT, request)

    def _lease(self, server: Server) -> None:
        """Put a fifth as many keys anew, with a lease."""
        self._call(server, GRANT, rpc_pb2.LeaseGrantRequest(ID=LEASE_ID, TTL=messages.LEASE_SECONDS))
        for _ in server.client.call_each(TXN.encode(), list(messages.filling(self.keys // 5, LEASE_ID))):
            pass
        settle(server.pid)

    def _revoke(self, server: Server) -> None:
        self._call(server, REVOKE, rpc_pb2.LeaseRevokeRequest(ID=LEASE_ID))
        count = rpc_pb2.RangeRequest(key=messages.key(0), range_end=messages.key(self.keys), count_only=True)
        left = rpc_pb2.RangeResponse.FromString(self._call(server, RANGE, count)).count
        if left > self.keys - self.keys // 5:
            raise BenchError(f"{server.name}: {left:,} keys are there after the revoke.")

    def _call(self, server: Server, path: str, request: Message) -> bytes:
        client = Client(server.port, WORK_SECONDS_MAX)
        try:
            return client.call(path.encode(), request.SerializeToString())
        finally:
            client.close()


def figures(result: LargeResult, server: Server) -> list[float]:
    """Where a server's figures go."""
    return result.etcd if server.name == "etcd" else result.ours


class SmallPuts:
    """
    Somebody who puts a small key now and then.

    Attributes:
        milliseconds: How long each put took, from when it was due.
        refused: How many were answered with an error.
    """

    def __init__(self, port: int) -> None:
        self.milliseconds: list[float] = []
        self.refused = 0
        self._client = Client(port, WORK_SECONDS_MAX)
        self._stopping = False
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the put that is on its way."""
        self._stopping = True
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        request = rpc_pb2.PutRequest(key=b"small", value=b"put").SerializeToString()
        due = time.perf_counter()
        while not self._stopping:
            try:
                self._client.call(PUT.encode(), request)
            except CallError:
                self.refused += 1
            now = time.perf_counter()
            self.milliseconds.append((now - due) * 1000)
            due = max(due + PUT_EVERY_SECONDS, now)
            time.sleep(max(0.0, due - now))
