"""
The leases (upstream's server/lease/lessor.go).

Two kinds of state.  What every member has alike, changed by committed entries only: the leases, their TTL,
what remained of it at the last checkpoint, and their keys.  And what only the leader has, from `promote` to
`demote`: when each lease ends on its own clock.  Each term of office is an *era*; a time noted in another era
says nothing, so that nobody needs to go through a million leases when the leader changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError
from zope.interface import implementer

from twistedetcd.errors import BackendError, LeaseExistError, LeaseNotFoundError, LeaseTTLTooLargeError
from twistedetcd.interfaces import ILessor, IOverlay, Work
from twistedetcd.lease.attached import Attached
from twistedetcd.lease.deadlines import Deadlines
from twistedetcd.lease.ordering import Spacing, in_order
from twistedetcd.pb.lease_pb2 import Lease as LeaseRecord
from twistedetcd.schema import LEASE

TTL_MAX_SECONDS = 9_000_000_000
LOOKED_AT_MAX = 5000  # leases that one look for those that ended goes through
SPREAD_FROM = 1000  # leases of a new leader: with fewer it does not matter if all end at once
ENDING_PER_SECOND_MAX = 750  # of those leases; three quarters of what the leader has revoked in a second
_COUNTED_IN_SLICE = 1000
_NEVER: Final = 0  # the era of a lease whose time no leader of here has counted


class _Lease:
    """
    One lease.

    Attributes:
        ttl: In seconds, as granted.
        remaining_ttl: At the last checkpoint; 0 if there was none since it was granted or renewed.
        noted: Whether there was one, or one is on its way through the log.
        era: That in which ``expiry``, ``queued`` and ``checkpoint_at`` hold; negative while a lease granted
            in it is not counted yet.
        expiry: When it ends.
        queued: Where it stands among the deadlines: at or before ``expiry``, so that a renewal moves nothing.
        checkpoint_at: When to look whether it needs a checkpoint; ``None`` if it is too short for one.
    """

    __slots__ = ("checkpoint_at", "era", "expiry", "id", "noted", "queued", "remaining_ttl", "ttl")

    def __init__(self, lease_id: int, ttl: int, remaining_ttl: int = 0) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.remaining_ttl = remaining_ttl
        self.noted = remaining_ttl != 0
        self.era = _NEVER
        self.expiry = math.inf
        self.queued = math.inf
        self.checkpoint_at: float | None = None


@implementer(ILessor)
class Lessor:
    """
    All leases of the cluster.

    Args:
        overlay: Where they are kept.
        ttl_min_seconds: A shorter TTL is raised to this; the same on all members.
        checkpoint_seconds: How often what remains of a long lease is noted; ``None`` for never.
    """

    def __init__(
        self, overlay: IOverlay, ttl_min_seconds: int, checkpoint_seconds: float | None = None
    ) -> None:
        self._overlay = overlay
        self._ttl_min_seconds = ttl_min_seconds
        self._checkpoint_seconds = checkpoint_seconds
        self._leases: dict[int, _Lease] = {}
        self._attached = Attached()
        self.lease_of: Mapping[bytes, int] = self._attached.lease_of
        self.primary = False
        self._era = _NEVER + 1
        self._extended_to = 0.0  # when a lease of no TTL would end that this leader found
        self._expiring = Deadlines()
        self._checkpointing = Deadlines()
        self.granted: list[int] = []

    # What every member has alike.

    def restore(self) -> None:
        for key, value in self._overlay.range(LEASE, b"", None):
            try:
                record = LeaseRecord.FromString(value)
            except DecodeError as error:
                raise BackendError(f"the store is damaged at lease {key.hex()}: {error}") from error
            if key != _key(record.ID):
                raise BackendError(f"the store is damaged: lease {key.hex()} says that it is {record.ID:x}")
            ttl = max(record.TTL, self._ttl_min_seconds)
            self._leases[record.ID] = _Lease(record.ID, ttl, record.RemainingTTL)

    def become(self, other: Lessor) -> None:
        """Have what ``other`` has, which is not used any more.  Not on a primary."""
        assert not self.primary, "a primary counts by what it has"
        self._leases = other._leases
        self._attached = other._attached
        self.lease_of = other.lease_of
        self.granted = []

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def __len__(self) -> int:
        return len(self._leases)

    def grant(self, lease_id: int, ttl_seconds: int) -> int:
        if lease_id == 0:
            raise LeaseNotFoundError  # the API has chosen an id; upstream says the same
        if ttl_seconds > TTL_MAX_SECONDS:
            raise LeaseTTLTooLargeError
        if lease_id in self._leases:
            raise LeaseExistError
        lease = self._leases[lease_id] = _Lease(lease_id, max(ttl_seconds, self._ttl_min_seconds))
        if self.primary:
            lease.era = -self._era
            self.granted.append(lease_id)
        self._write(lease)
        return lease.ttl

    def revoke(self, lease_id: int) -> None:
        lease = self._get(lease_id)
        assert not self._attached.keys(lease_id, 1), "its keys go first"
        del self._leases[lease_id]
        if lease.era == self._era:
            self._expiring.remove(lease.queued, lease_id)
            if lease.checkpoint_at is not None:
                self._checkpointing.remove(lease.checkpoint_at, lease_id)
        self._overlay.delete(LEASE, _key(lease_id))

    def checkpoint(self, lease_id: int, remaining_ttl_seconds: int) -> None:
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.remaining_ttl = remaining_ttl_seconds
            lease.noted = remaining_ttl_seconds != 0
            self._write(lease)

    def _write(self, lease: _Lease) -> None:
        record = LeaseRecord(ID=lease.id, TTL=lease.ttl, RemainingTTL=lease.remaining_ttl)
        self._overlay.put(LEASE, _key(lease.id), record.SerializeToString())

    def attach(self, key: bytes, lease_id: int) -> bool:
        if lease_id in self._leases:
            self._attached.attach(key, lease_id)
            return True
        self._attached.detach(key)
        return not lease_id

    def detach(self, key: bytes) -> None:
        self._attached.detach(key)

    def keys(self, lease_id: int, limit: int) -> list[bytes]:
        self._get(lease_id)
        return self._attached.keys(lease_id, limit)

    def _get(self, lease_id: int) -> _Lease:
        try:
            return self._leases[lease_id]
        except KeyError:
            raise LeaseNotFoundError from None

    # What the leader has.

    def promote(self, now: float, extend_seconds: float) -> Work[None]:
        self.demote()
        self.primary = True
        self._extended_to = now + extend_seconds
        return self._count_all(now, self._era)

    def demote(self) -> None:
        self.primary = False
        self._era += 1
        self._expiring, self._checkpointing = Deadlines(), Deadlines()
        self.granted.clear()

    def _count_all(self, now: float, era: int) -> Work[None]:
        leases = self._leases
        space = Spacing(ENDING_PER_SECOND_MAX) if len(leases) >= SPREAD_FROM else None
        found = list(leases.values())
        endings = yield from in_order((self._promised(lease), lease.id) for lease in found)
        for number, (expiry, lease_id) in enumerate(endings, 1):
            if self._era != era:
                return  # it leads no more, or again
            lease = leases.get(lease_id)
            if space is not None:
                expiry = space.put_off(expiry)
            if lease is not None and abs(lease.era) != era:
                self._count(lease, expiry, now)
            if number % _COUNTED_IN_SLICE == 0:
                yield

    def _promised(self, lease: _Lease) -> float:
        """When a lease ends that this leader found, if it is not renewed."""
        return self._extended_to + (lease.remaining_ttl or lease.ttl)

    def _count(self, lease: _Lease, expiry: float, now: float) -> None:
        """Have a lease end at ``expiry``, which is never before what it was in this era."""
        if lease.era != self._era:
            lease.era = self._era
            lease.queued = expiry
            lease.checkpoint_at = None
            self._expiring.add(expiry, lease.id)
        lease.expiry = expiry
        if self._checkpoint_seconds is not None and lease.checkpoint_at is None:
            self._look_for_checkpoint(lease, now, now + self._checkpoint_seconds)

    def count_granted(self, now: float) -> None:
        for lease_id in self.granted:
            lease = self._leases.get(lease_id)
            if lease is not None and lease.era == -self._era:
                self._count(lease, now + lease.ttl, now)
        self.granted.clear()

    def renew(self, lease_id: int, now: float) -> int | None:
        lease = self._leases.get(lease_id)
        if lease is None:
            return 0
        if self._expiry(lease) <= now:
            return None
        if lease.noted:
            self._put_off_checkpoint(lease, now)
            return None
        self._count(lease, now + lease.ttl, now)
        return lease.ttl

    def _put_off_checkpoint(self, lease: _Lease, now: float) -> None:
        """None may follow the one of 0 that comes now: renewed, the lease would lose what it was promised."""
        if lease.era == self._era and lease.checkpoint_at is not None:
            self._checkpointing.remove(lease.checkpoint_at, lease.id)
            self._look_for_checkpoint(lease, now, now + (self._checkpoint_seconds or 0.0))

    def ended(self, lease_id: int, now: float) -> bool:
        lease = self._leases.get(lease_id)
        return lease is None or self._expiry(lease) <= now

    def time_to_live(self, lease_id: int, now: float) -> tuple[float, int]:
        lease = self._get(lease_id)
        left = self._expiry(lease) - now
        return float(lease.ttl) if left == math.inf else left, lease.ttl

    def _expiry(self, lease: _Lease) -> float:
        if lease.era == self._era:
            return lease.expiry
        return math.inf if lease.era == -self._era else self._promised(lease)

    def due(self, now: float, limit: int, again_seconds: float) -> tuple[list[int], bool]:
        ended: list[int] = []
        looked_at = self._expiring.due(now, LOOKED_AT_MAX)
        for at, lease_id in looked_at:
            if len(ended) == limit:
                break
            lease = self._leases[lease_id]
            if lease.expiry <= now:
                ended.append(lease_id)
                lease.queued = now + again_seconds
            else:
                lease.queued = lease.expiry
            self._expiring.remove(at, lease_id)
            self._expiring.add(lease.queued, lease_id)
        return ended, len(looked_at) < LOOKED_AT_MAX or len(ended) == limit

    def checkpoints(self, now: float, limit: int) -> list[tuple[int, int]]:
        interval = self._checkpoint_seconds
        if interval is None:
            return []
        found: list[tuple[int, int]] = []
        for at, lease_id in self._checkpointing.due(now, limit):
            self._checkpointing.remove(at, lease_id)
            lease = self._leases[lease_id]
            left = lease.expiry - now
            used = (lease.remaining_ttl or lease.ttl) - left
            if used >= interval and left > 0:
                found.append((lease_id, math.ceil(left)))
                lease.noted = True
                used = 0.0
            self._look_for_checkpoint(lease, now, now + min(interval, interval - used))
        return found

    def _look_for_checkpoint(self, lease: _Lease, now: float, at: float) -> None:
        lease.checkpoint_at = None
        # Towards its end a lease needs none: what may be lost is less than the interval.
        if self._checkpoint_seconds is not None and lease.expiry - now > self._checkpoint_seconds:
            lease.checkpoint_at = at
            self._checkpointing.add(at, lease.id)

    def by_expiry(self) -> Work[list[int]]:
        if not self.primary:
            return list(self._leases)
        leases = list(self._leases.values())
        endings = yield from in_order((self._expiry(lease), lease.id) for lease in leases)
        found: list[int] = []
        for number, (_, lease_id) in enumerate(endings, 1):
            if lease_id in self._leases:
                found.append(lease_id)
            if number % _COUNTED_IN_SLICE == 0:
                yield
        return found


def _key(lease_id: int) -> bytes:
    """Eight bytes; those of a negative id come last."""
    return lease_id.to_bytes(8, "big", signed=True)
