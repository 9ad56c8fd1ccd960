"""
Which version of etcd the members act as: the lowest that all of them know.

What follows an hyphen or a plus sign in a version is read and dropped: nothing here depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twistedetcd.errors import MemberError

_VERSION = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:[-+][0-9A-Za-z.+-]+)?", re.ASCII
)


class Version(NamedTuple):
    """A semantic version; compares as such."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """
        Read one, such as ``3.6.0`` or ``3.6.0-rc.1``.

        Raises:
            ValueError: It is not one.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise ValueError(f"not a version: {text!r}")
        return cls(*map(int, match.groups()))

    @property
    def release(self) -> Version:
        """The first of its minor series, which is what members agree on."""
        return self._replace(patch=0)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


OLDEST = Version(3, 0)
"""What a cluster acts as while nobody knows better, and the oldest that can be joined."""


def decide(servers: Mapping[int, Version | None], current: Version | None) -> Version | None:
    """
    The version that the leader should have the cluster agree on.

    Args:
        servers: The server version of each member by its id; ``None`` for one that did not answer.
        current: What was agreed on before, if anything.

    Returns:
        A version to propose, or ``None`` to leave it at what it is.  Never a lower one: that is a downgrade.
    """
    known = [version for version in servers.values() if version is not None]
    lowest = min(known).release if known and len(known) == len(servers) else None
    if current is None:
        return lowest or OLDEST
    return lowest if lowest is not None and lowest > current else None


def check_joinable(clusters: Sequence[Version | None], own: Version) -> None:
    """
    Refuse to join a cluster that acts as a version that we do not know.

    Args:
        clusters: The cluster version as each other member knows it; ``None`` if it did not answer.
        own: Our server version.

    Raises:
        MemberError: One of them is out of our range, or none is known.
    """
    known = [version for version in clusters if version is not None]
    if not known or min(known) < OLDEST or max(known) > own.release:
        found = ", ".join(sorted(set(map(str, known)))) or "unknown"
        raise MemberError(
            f"incompatible with current running cluster: its version is {found}, and this member "
            f"knows {OLDEST} to {own.release}"
        )


def check_not_older(own: Version, current: Version) -> None:
    """
    Refuse to run in a cluster that acts as a newer version than we know.

    Args:
        own: Our server version.
        current: The cluster version.

    Raises:
        MemberError: It is newer.
    """
    if own.release < current.release:
        raise MemberError(
            f"invalid downgrade; server version {own} is lower than determined cluster version {current}"
        )
