"""How a target is run: case after case, each from a seed of its own, until the time is over or one fails."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from typing import NamedTuple

Target = Callable[[random.Random], object]
"""Draws one case and tries it; raises what it finds, `AssertionError` for a broken rule."""


class Finding(NamedTuple):
    """
    A case that failed.

    Attributes:
        target: The target's name.
        seed: Replays the case.
        report: The traceback.
    """

    target: str
    seed: int
    report: str


def run(name: str, target: Target, seed: int, go_on: Callable[[int], bool]) -> tuple[int, Finding | None]:
    """
    Try cases until one fails or it is enough.

    Args:
        name: The target's.
        target: Tries one case.
        seed: Of the first case; the next ones follow.
        go_on: Told how many cases were tried; whether to try another.

    Returns:
        How many were tried, and what was found.
    """
    cases = 0
    while go_on(cases):
        try:
            target(random.Random(f"{name} {seed + cases}"))
        except Exception:
            return cases + 1, Finding(name, seed + cases, traceback.format_exc())
        cases += 1
    return cases, None


def mutated(draw: random.Random, data: bytes, changes_max: int = 4) -> bytes:
    """A few octets changed, left out, put in or repeated."""
    found = bytearray(data)
    for _ in range(draw.randint(0, changes_max)):
        at = draw.randint(0, len(found))
        change = draw.randrange(4)
        if change == 0 and at < len(found):
            found[at] ^= 1 << draw.randrange(8)
        elif change == 1:
            del found[at : at + draw.randint(1, 4)]
        elif change == 2:
            found[at:at] = draw.randbytes(draw.randint(1, 4))
        else:
            found[at:at] = found[at : at + draw.randint(1, 16)]
    return bytes(found)


def chunks(draw: random.Random, data: bytes) -> list[bytes]:
    """The same bytes, cut anywhere."""
    cuts = sorted(draw.randint(0, len(data)) for _ in range(draw.randint(0, 8)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
