"""``python -m twistedetcd.testing.raftsim``: many seeds, or one of them once more."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from twistedetcd.testing.raftsim.simulation import STEPS, run
from twistedetcd.testing.raftsim.world import COUNTERS

PROGRESS_SEEDS = 100
"""A line of progress after so many seeds."""

FAILURES_MAX = 10
"""So many failures are enough to stop."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m twistedetcd.testing.raftsim",
        description="Simulate clusters of raft members, and check what raft promises after every call.  "
        "The exit status is 1 if a promise was broken.",
    )
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this seed, and show how it ended")
    which.add_argument("--seeds", type=_range, metavar="A..B", help="run these seeds, both ends included")
    options.add_argument("--steps", type=int, default=STEPS, help=f"of each seed ({STEPS})")
    options.add_argument(
        "--transcript", action="store_true", help="show everything that happened, not the end"
    )
    return options


def _range(text: str) -> range:
    first, _, last = text.partition("..")
    try:
        return range(int(first), int(last) + 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 0..1999") from error


def replay(seed: int, steps: int, *, everything: bool) -> int:
    """Run one seed with its transcript; the exit status."""
    outcome = run(seed, steps, transcript=True)
    print(outcome.describe(sys.maxsize) if everything else outcome.describe())
    return int(outcome.broken is not None)


def run_all(seeds: range, steps: int) -> int:
    """Run many seeds, say how far it is, and what they reached; the exit status."""
    coverage, failures, started = Counter[str](), 0, time.monotonic()
    count = 0
    for count, seed in enumerate(seeds, 1):
        outcome = run(seed, steps)
        coverage += outcome.coverage
        if outcome.broken is not None:
            failures += 1
            print(run(seed, steps, transcript=True).describe(), flush=True)
            print(f"again: python -m twistedetcd.testing.raftsim --seed {seed} --steps {steps}", flush=True)
            if failures == FAILURES_MAX:
                print("enough failures: stopped", flush=True)
                break
        if count % PROGRESS_SEEDS == 0:
            print(f"{count} seeds, {time.monotonic() - started:.0f} s, {failures} failed", flush=True)
    elapsed = time.monotonic() - started
    reached = ", ".join(f"{name} {coverage[name]}" for name in COUNTERS)
    print(f"{count} seeds of {steps} steps in {elapsed:.0f} s, {failures} failed; {reached}")
    return int(failures > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit status."""
    options = parser().parse_args(arguments)
    if options.seed is not None:
        return replay(options.seed, options.steps, everything=options.transcript)
    return run_all(options.seeds, options.steps)


if __name__ == "__main__":
    sys.exit(main())
