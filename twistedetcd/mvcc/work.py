"""
Slow work, done a slice at a time.

A million keys cannot be read, deleted or hashed within one reactor turn.  So such work is a generator: each
``next()`` does a slice of it, and what it returns in the end is the result.  Who drives it decides what
happens between two slices; most work is done within its first one.
"""

from __future__ import annotations

from typing import Final, TypeVar

from twistedetcd.interfaces import Work

SLICE_KEYS: Final = 1000
"""Keys that are read or changed in one slice: some milliseconds."""

T = TypeVar("T")


class Pace:
    """
    How much of a slice is done.

    One for all parts of one piece of work, so that many small parts make a slice as well.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = SLICE_KEYS

    def tired(self) -> bool:
        """Whether the slice is done; before anything else is begun, ``yield`` then."""
        if self._left > 0:
            return False
        self._left = SLICE_KEYS
        return True

    def spend(self, keys: int) -> None:
        """So many keys were read or changed."""
        self._left -= keys


def finish(work: Work[T]) -> T:
    """Do all of it now."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def begin(work: Work[T]) -> T | Work[T]:
    """Do the first slice; returns the result if that was all, else the work."""
    try:
        next(work)
    except StopIteration as end:
        result: T = end.value
        return result
    return work
