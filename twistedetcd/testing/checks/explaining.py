"""Whose effect is a revision that no answer claims?  Each request at most once, and each after its call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from google.protobuf.message import Message

from twistedetcd.errors import CompactedError, EtcdError
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import LeaseRevokeRequest
from twistedetcd.pb.v3lock_pb2 import LockRequest
from twistedetcd.testing.checks.effects import Reach, reaches, unplaced_writes
from twistedetcd.testing.checks.history import Change, Operation
from twistedetcd.testing.checks.model import Model
from twistedetcd.testing.checks.ranges import inside


class Candidate(NamedTuple):
    """
    A write that may have happened at a revision which its answer does not tell.

    Attributes:
        operation: Whose.
        request: What it would have done.
        after: The order's end, as far as it was known when it was called.
        revision: The only one that it can have; 0 if any may be.
    """

    operation: Operation
    request: Message
    after: int
    revision: int


class Candidates:
    """All of them, found by a key that they may change."""

    def __init__(self, operations: Sequence[Operation], known: Callable[[float], int]) -> None:
        """
        Args:
            operations: All that were recorded.
            known: The highest revision that anybody knew of before a time.
        """
        self._by_key: dict[tuple[bytes, bytes | None], list[Candidate]] = {}
        self._by_range: list[tuple[Reach, Candidate]] = []
        self._by_lease: dict[int, list[Candidate]] = {}
        for operation in operations:
            for request in unplaced_writes(operation):
                # A lock's answer comes long after its place in the line.
                told = 0 if isinstance(operation.request, LockRequest) else operation.revision
                candidate = Candidate(operation, request, known(operation.called_at), told)
                if isinstance(request, LeaseRevokeRequest):
                    self._by_lease.setdefault(request.ID, []).append(candidate)
                for reach in dict.fromkeys(reaches(request)):
                    if reach.range_end:
                        self._by_range.append((reach, candidate))
                    else:
                        self._by_key.setdefault((reach.key, reach.value), []).append(candidate)

    def _near(self, model: Model, event: Event) -> Iterator[Candidate]:
        """Those that may do this first; only deletes have ranges."""
        key = event.kv.key
        if event.type == Event.PUT:
            yield from self._by_key.get((key, event.kv.value), ())
        yield from self._by_key.get((key, None), ())
        if event.type == Event.DELETE:
            yield from self._by_lease.get(lease_of(model, key), ())
            for reach, candidate in self._by_range:
                if inside(key, reach.key, reach.range_end):
                    yield candidate

    def of(self, model: Model, change: Change) -> list[Candidate]:
        """Those whose effect a revision can be, on top of a model of all before it."""
        found: dict[int, Candidate] = {}
        for candidate in self._near(model, change.events[0]):
            possible = candidate.after < change.revision and candidate.revision in (0, change.revision)
            if possible and id(candidate) not in found and _does(model, candidate.request, change):
                found[id(candidate)] = candidate
        return list(found.values())


def _does(model: Model, request: Message, change: Change) -> bool:
    try:
        _, events = model.evaluate(request)
    except CompactedError:
        return True  # It reads what is before the witness, so nobody can say what it would do.
    except EtcdError:
        return False
    return events == list(change.events)


def assign(options: dict[int, list[Candidate]]) -> dict[int, Candidate]:
    """
    Give each revision a candidate of its own, as far as that is possible.

    Args:
        options: For each revision those that it can be the effect of.  (Augmenting paths: Kuhn's matching.)
    """
    holder: dict[int, int] = {}  # id of a candidate: the revision that has it
    chosen: dict[int, Candidate] = {}
    for wanting in options:
        # Breadth first: from a revision to its candidates, from each to the revision that has it.
        came_from: dict[int, tuple[int, Candidate]] = {}
        queue, free = [wanting], None
        for revision in queue:
            for candidate in options[revision]:
                if id(candidate) in came_from:
                    continue
                came_from[id(candidate)] = revision, candidate
                if id(candidate) not in holder:
                    free = candidate
                    break
                queue.append(holder[id(candidate)])
            if free is not None:
                break
        while free is not None:
            revision, _ = came_from[id(free)]
            before = chosen.get(revision)
            holder[id(free)], chosen[revision] = revision, free
            free = before
    return chosen


def ended_lease(model: Model, events: Sequence[Event]) -> int:
    """The lease whose end a revision looks like, as it only deletes keys of one lease; or 0."""
    leases = {0 if event.type == Event.PUT else lease_of(model, event.kv.key) for event in events}
    return leases.pop() if len(leases) == 1 else 0


def lease_of(model: Model, key: bytes) -> int:
    """The lease that a key is attached to, or 0."""
    item = model.get(key)
    return item.lease if item is not None else 0
