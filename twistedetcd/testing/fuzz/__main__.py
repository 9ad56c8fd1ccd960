"""``python -m twistedetcd.testing.fuzz``: every target for some time, or one case again."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from twistedetcd.testing.fuzz.run import run
from twistedetcd.testing.fuzz.targets import TARGETS

SECONDS = 60.0


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m twistedetcd.testing.fuzz",
        description="Send what nobody would send.  If something is found, the exit status is 1, and the seed "
        "that is printed replays it, with --target and --cases 1.",
    )
    options.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    options.add_argument("--seconds", type=float, default=SECONDS, help=f"for each target ({SECONDS:g})")
    options.add_argument("--seed", type=int, default=0, help="of the first case (0)")
    options.add_argument("--cases", type=int, help="so many, instead of --seconds")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = parser().parse_args(arguments)
    found = False
    for name, target in TARGETS.items():
        if options.target not in (None, name):
            continue
        end = time.monotonic() + options.seconds

        def go_on(cases: int, end: float = end) -> bool:
            return time.monotonic() < end if options.cases is None else cases < options.cases

        cases, finding = run(name, target, options.seed, go_on)
        print(f"{name}: {cases:,} cases from seed {options.seed}", flush=True)
        if finding is not None:
            found = True
            print(finding.report)
            print(f"Again: --target {name} --seed {finding.seed} --cases 1", flush=True)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
