"""``python -m twistedetcd.testing.simulate``: clusters under load and in trouble, by their seeds."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import nan

from twistedetcd.testing.simulation.nemesis import KINDS, kinds
from twistedetcd.testing.simulation.run import SECONDS, Outcome, run

LINES = 200
"""So much of a transcript is shown."""
MEMBERS_MAX = 9
"""As large as a cluster may be."""
SECONDS_MAX = 86_400.0
"""As long as a run may be."""
COLLECT_AFTER = 50_000
"""So many new objects before the collector looks for garbage: a run is short, and makes little."""
VIOLATIONS_MAX = 10
"""So many broken promises of a seed are shown."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m twistedetcd.testing.simulate",
        description="Simulate clusters of whole servers with clients and faults, and check what clients "
        "saw.  The exit status is 1 if a promise was broken.",
    )
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this seed, and show what happened")
    which.add_argument("--seeds", type=_range, metavar="A-B", help="run these seeds, both ends included")
    options.add_argument(
        "--seconds", type=_seconds, default=SECONDS, help=f"how long things go wrong ({SECONDS:g})"
    )
    options.add_argument("--members", type=_from(1, MEMBERS_MAX), default=3, help="how many members (3)")
    options.add_argument(
        "--nemesis",
        type=_kinds,
        default=tuple(KINDS),
        metavar="KIND,...",
        help=f"all (the default) or none, or some of {', '.join(KINDS)}",
    )
    options.add_argument(
        "--lines", type=_from(0, 10**6), default=LINES, help=f"how much of a transcript to show ({LINES})"
    )
    options.add_argument(
        "--jobs", type=_from(1, 1000), default=1, help="how many seeds to run at the same time (1)"
    )
    return options


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last) + 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 1-500") from error
    if not seeds:
        raise argparse.ArgumentTypeError(f"there is no seed in {text!r}")
    return seeds


def _from(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def parse(text: str) -> int:
        if not text.lstrip("-").isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not 0 < seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time above 0 and up to {SECONDS_MAX:g} seconds")
    return seconds


def _kinds(text: str) -> tuple[str, ...]:
    try:
        return kinds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def describe(outcome: Outcome, lines: int = 0) -> str:
    """One line on a seed, and what was wrong with it, after the end of its transcript."""
    counts = ", ".join(f"{name} {count}" for name, count in outcome.counts.items())
    text = [f"seed {outcome.seed}: {'good' if outcome.good else 'BROKEN'}; {counts}"]
    if outcome.transcript is not None and lines:
        text.insert(0, outcome.transcript.tail(lines))
    text += [f"  {problem}" for problem in outcome.problems]
    text += [f"  {violation}" for violation in outcome.violations[:VIOLATIONS_MAX]]
    if len(outcome.violations) > VIOLATIONS_MAX:
        text.append(f"  and {len(outcome.violations) - VIOLATIONS_MAX} more")
    return "\n".join(text)


def _collect_seldom() -> None:
    """What a process does once that runs seeds and nothing else."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 50, 50)


def _one(arguments: tuple[int, float, int, tuple[str, ...]]) -> tuple[str, bool, Counter[str]]:
    seed, seconds, members, chosen = arguments
    outcome = run(seed, seconds, members, chosen)
    return describe(outcome), outcome.good, outcome.counts


def run_all(options: argparse.Namespace) -> int:
    """Run many seeds, a line for each; the exit status."""
    started, failed, total = time.monotonic(), 0, Counter[str]()
    work = [(seed, options.seconds, options.members, options.nemesis) for seed in options.seeds]
    with ProcessPoolExecutor(options.jobs, initializer=_collect_seldom) as pool:
        for (seed, *_), (text, good, counts) in zip(work, pool.map(_one, work), strict=True):
            print(text, flush=True)
            total += counts
            if not good:
                failed += 1
                again = f"--seconds {options.seconds:g} --members {options.members}"
                again += f" --nemesis {','.join(options.nemesis) or 'none'}"
                print(f"again: python -m twistedetcd.testing.simulate --seed {seed} {again}", flush=True)
    counts_text = ", ".join(f"{name} {count}" for name, count in total.items())
    elapsed = time.monotonic() - started
    print(f"{len(work)} seeds of {options.seconds:g} s in {elapsed:.0f} s, {failed} broken; {counts_text}")
    return int(failed > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit status."""
    options = parser().parse_args(arguments)
    if options.seeds is not None:
        return run_all(options)
    outcome = run(options.seed, options.seconds, options.members, options.nemesis, transcript=True)
    print(describe(outcome, options.lines))
    return int(not outcome.good)


if __name__ == "__main__":
    _collect_seldom()
    sys.exit(main())
