"""Locks: of those who stand in a line, only the first holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse
from twistedetcd.testing.checks.history import Operation, Witness
from twistedetcd.testing.checks.rules import Rule, Violation


class Holding(NamedTuple):
    """
    Somebody was told, or concluded, that he holds a lock.

    Attributes:
        line: The prefix that all have who wait for it.
        key: His own.
        revision: That of the answer which made him believe so.
        record: What to show of it.
    """

    line: bytes
    key: bytes
    revision: int
    record: object


def holdings(operations: Sequence[Operation]) -> list[Holding]:
    """What the Lock service told."""
    return [
        Holding(
            operation.request.name + b"/", operation.outcome.key, operation.outcome.header.revision, operation
        )
        for operation in operations
        if isinstance(operation.request, LockRequest) and isinstance(operation.outcome, LockResponse)
    ]


class _Place(NamedTuple):
    """A key's place in a line, as long as it is there."""

    created: int
    key: bytes
    deleted: int | None


def check_locks(held: Sequence[Holding], witness: Witness) -> Iterator[Violation]:
    """
    Check that who holds a lock has, at that revision, the lowest create revision of its line.

    That leaves one holder, unless two were created at once; so it is checked besides that no two hold.
    """
    by_line: defaultdict[bytes, list[Holding]] = defaultdict(list)
    for holding in held:
        if witness.base_revision <= holding.revision <= witness.revision:
            by_line[holding.line].append(holding)
    for line, members in by_line.items():
        places = list(_places(line, witness))
        holders: list[tuple[int, _Place, Holding]] = []
        for holding in members:
            there = [place for place in places if _is_there(place, holding.revision)]
            own = [place for place in there if place.key == holding.key]
            if not own:
                text = f"{holding.key!r} is not there at {holding.revision}"
                yield Violation(Rule.ONE_HOLDER, text, [holding.record])
                continue
            first = min(there, key=lambda place: place.created)
            if first.created < own[0].created:
                text = f"{first.key!r} is before {holding.key!r} at {holding.revision}"
                yield Violation(Rule.ONE_HOLDER, text, [holding.record])
            holders.append((holding.revision, own[0], holding))
        yield from _overlaps(sorted(holders, key=lambda holder: holder[0]))


def _overlaps(holders: Sequence[tuple[int, _Place, Holding]]) -> Iterator[Violation]:
    longest: tuple[int, _Place, Holding] | None = None
    for holder in holders:
        revision, place, holding = holder
        if longest is not None and longest[1] != place and _is_there(longest[1], revision):
            text = f"{longest[1].key!r} and {place.key!r} both hold at {revision}"
            yield Violation(Rule.ONE_HOLDER, text, [longest[2].record, holding.record])
        longest = max(longest or holder, holder, key=lambda one: one[1].deleted or inf)


def _is_there(place: _Place, revision: int) -> bool:
    return place.created <= revision and (place.deleted is None or revision < place.deleted)


def _places(line: bytes, witness: Witness) -> Iterator[_Place]:
    since = {item.key: item.create_revision for item in witness.base if item.key.startswith(line)}
    for change in witness.changes:
        for event in change.events:
            key = event.kv.key
            if not key.startswith(line):
                continue
            if event.type == Event.PUT:
                since.setdefault(key, event.kv.create_revision)
            elif key in since:
                yield _Place(since.pop(key), key, change.revision)
    for key, created in since.items():
        yield _Place(created, key, None)
