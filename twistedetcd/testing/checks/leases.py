"""
Leases: neither gone before their time, nor there long after it.

Nobody but the leader's clock knows when a lease was renewed; a client knows that it was between call and
answer.  So he may rely on the TTL from the call on, and must wait for it from the answer on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from twistedetcd.errors import LeaseNotFoundError
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
)
from twistedetcd.testing.checks.history import Change, Operation, Refused, Unknown, Witness
from twistedetcd.testing.checks.rules import Rule, Violation
from twistedetcd.testing.checks.timeline import Timeline


class LeaseTerms(NamedTuple):
    """
    How exactly leases can be held to their time.

    Attributes:
        drift: By how much a server's clock may be faster or slower than the recorder's: 0.01 is a hundredth.
        grace: How many seconds after its TTL a lease may still be there: rounds of expiry, commits, and what
            a new leader adds.  ``None``: any number.
        led: From when until when the cluster had one leader, and could commit.
    """

    drift: float = 0.0
    grace: float | None = None
    led: Sequence[tuple[float, float]] = ()


class Renewal(NamedTuple):
    """A grant or an acknowledged renewal: between call and answer a TTL began anew."""

    called_at: float
    returned_at: float
    ttl: int
    operation: Operation


@dataclass
class _Lease:
    """What clients did with one lease."""

    renewals: list[Renewal] = field(default_factory=list)
    grants: int = 0  # that may have happened
    revoked_at: float = inf  # the first call that may have revoked it
    last_renewed_at: float = -inf  # when it may have been renewed last; infinite if nobody knows


class _Attached(NamedTuple):
    """A record of a lease: from which revision on, and the one that changed it, if any did."""

    key: bytes
    since: Change
    until: Change | None


def check_leases(
    operations: Sequence[Operation],
    witness: Witness,
    timeline: Timeline,
    ended: Mapping[int, int],
    terms: LeaseTerms,
) -> Iterator[Violation]:
    """
    Check leases that were granted, renewed and revoked.

    Args:
        operations: All that were recorded.
        witness: What happened.
        timeline: Made of the same operations.
        ended: The leases that ended by themselves, by revision.
        terms: How exactly.
    """
    leases = _leases(operations)
    yield from _check_keys(operations, witness, ended, leases)
    for revision, lease in ended.items():
        change = witness.change(revision)
        if lease in leases and change is not None:
            yield from _kept(leases[lease], change, timeline, terms)
    for operation in operations:
        yield from _missed(operation, leases, terms)
    if terms.grace is not None:
        attached = _attached(witness)
        for lease, history in leases.items():
            yield from _ends(history, attached.get(lease, ()), timeline, terms)


def _leases(operations: Sequence[Operation]) -> dict[int, _Lease]:
    leases: defaultdict[int, _Lease] = defaultdict(_Lease)
    for operation in operations:
        request, answer = operation.request, operation.outcome
        if isinstance(answer, Refused):
            continue
        if isinstance(request, LeaseGrantRequest):
            lease = leases[answer.ID if isinstance(answer, LeaseGrantResponse) else request.ID]
            lease.grants += 1
        elif isinstance(request, LeaseKeepAliveRequest):
            lease = leases[request.ID]
        elif isinstance(request, LeaseRevokeRequest):
            lease = leases[request.ID]
            lease.revoked_at = min(lease.revoked_at, operation.called_at)
            continue
        else:
            continue
        returned_at = inf if operation.returned_at is None else operation.returned_at
        if isinstance(answer, Unknown):
            lease.last_renewed_at = inf
        elif isinstance(answer, LeaseGrantResponse | LeaseKeepAliveResponse) and answer.TTL > 0:
            lease.renewals.append(Renewal(operation.called_at, returned_at, answer.TTL, operation))
            lease.last_renewed_at = max(lease.last_renewed_at, returned_at)
    return dict(leases)


def _kept(lease: _Lease, change: Change, timeline: Timeline, terms: LeaseTerms) -> Iterator[Violation]:
    """What ended by itself had not been renewed for its TTL."""
    ended_by = timeline.there_by(change.revision) if change.at is None else change.at
    ended_after = timeline.there_after(change.revision) if change.at is None else change.at
    for renewal in lease.renewals:
        # One that was granted again may have been renewed after this end.
        before = renewal.called_at < ended_by if lease.grants < 2 else renewal.returned_at < ended_after
        if before and ended_by < renewal.called_at + renewal.ttl / (1 + terms.drift):
            text = f"revision {change.revision}, there by {ended_by:g}, ends a lease that was renewed"
            yield Violation(Rule.LEASE_KEPT, text, [renewal.operation])


def _missed(operation: Operation, leases: Mapping[int, _Lease], terms: LeaseTerms) -> Iterator[Violation]:
    """Nobody is told that a lease is gone before its time."""
    request, answer = operation.request, operation.outcome
    gone = 0
    if isinstance(answer, Refused) and answer.text == LeaseNotFoundError.message:
        if isinstance(request, PutRequest):
            gone = request.lease
        elif isinstance(request, LeaseRevokeRequest):
            gone = request.ID
    elif isinstance(answer, LeaseKeepAliveResponse | LeaseTimeToLiveResponse) and answer.TTL <= 0:
        # 0 seconds are left of a lease that is there; -1 says that it is not.
        gone = 0 if isinstance(answer, LeaseTimeToLiveResponse) and answer.TTL == 0 else answer.ID
    lease, returned_at = leases.get(gone), operation.returned_at
    if not gone or lease is None or returned_at is None or lease.revoked_at <= returned_at:
        return
    for renewal in lease.renewals:
        until = renewal.called_at + renewal.ttl / (1 + terms.drift)
        if renewal.returned_at < operation.called_at and returned_at < until:
            text = f"told at {returned_at:g} that a lease is gone which had until {until:g}"
            yield Violation(Rule.LEASE_KEPT, text, [renewal.operation, operation])
            return


def _attached(witness: Witness) -> dict[int, list[_Attached]]:
    """All records that had a lease."""
    beginning = Change(witness.base_revision, ())
    open_since: dict[bytes, tuple[int, Change]] = {
        item.key: (item.lease, beginning) for item in witness.base if item.lease
    }
    attached: defaultdict[int, list[_Attached]] = defaultdict(list)
    for change in witness.changes:
        for event in change.events:
            before = open_since.pop(event.kv.key, None)
            if before is not None:
                attached[before[0]].append(_Attached(event.kv.key, before[1], change))
            if event.type == Event.PUT and event.kv.lease:
                open_since[event.kv.key] = event.kv.lease, change
    for key, (lease, since) in open_since.items():
        attached[lease].append(_Attached(key, since, None))
    return dict(attached)


def _ends(
    lease: _Lease, records: Sequence[_Attached], timeline: Timeline, terms: LeaseTerms
) -> Iterator[Violation]:
    """Nothing is attached to a lease long after it should have ended."""
    assert terms.grace is not None
    if not lease.renewals:
        return
    ttl = max(renewal.ttl for renewal in lease.renewals)
    for led_from, led_until in terms.led:
        deadline = max(led_from, lease.last_renewed_at) + ttl * (1 + terms.drift) + terms.grace
        if deadline >= led_until:
            continue
        for record in records:
            if record.until is None:
                there_until = inf
            elif record.until.at is not None:
                there_until = record.until.at
            else:
                there_until = timeline.there_after(record.until.revision)
            if there_until > deadline:
                text = f"{record.key!r} was there after {deadline:g}, though its lease should have ended"
                yield Violation(Rule.LEASE_ENDS, text, [lease.renewals[-1].operation])
                return


def _check_keys(
    operations: Sequence[Operation],
    witness: Witness,
    ended: Mapping[int, int],
    leases: Mapping[int, _Lease],
) -> Iterator[Violation]:
    """With a lease all its keys go, and none comes again."""
    ends: defaultdict[int, list[tuple[int, Operation | None]]] = defaultdict(list)
    for revision, lease in ended.items():
        ends[lease].append((revision, None))
    for operation in operations:
        request = operation.request
        revision = operation.revision
        if isinstance(request, LeaseRevokeRequest) and witness.base_revision <= revision:
            ends[request.ID].append((revision, operation))
    if not ends:
        return
    attached = _attached(witness)
    for lease, places in ends.items():
        for revision, revoke in places:
            again = lease not in leases or leases[lease].grants > 1
            for record in attached.get(lease, ()):
                left = record.since.revision <= revision
                left = left and (record.until is None or record.until.revision > revision)
                if left or (record.since.revision > revision and not again):
                    text = f"{record.key!r} is attached to lease {lease:x}, which ended at {revision}"
                    yield Violation(Rule.LEASE_KEYS, text, [revoke] if revoke is not None else [])
