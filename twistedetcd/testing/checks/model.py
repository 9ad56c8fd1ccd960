"""What etcd means, with nothing but dictionaries: every record ever written, never forgotten."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Sequence

from google.protobuf.message import Message

from twistedetcd.errors import CompactedError, EtcdError, FutureRevisionError, LeaseExistError
from twistedetcd.pb.kv_pb2 import Event, KeyValue
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    ResponseHeader,
)
from twistedetcd.testing.checks.attempt import Attempt
from twistedetcd.testing.checks.ranges import slice_of


class Model:
    """
    One store, without members.

    Attributes:
        revision: The current one; 1 when nothing was ever written.
        compact_revision: Below it nothing may be asked for; -1 when nothing was compacted.
    """

    def __init__(
        self, base: Iterable[KeyValue] = (), revision: int = 1, *, strict_leases: bool = True
    ) -> None:
        """
        Args:
            base: The records that live at ``revision``.
            revision: The first revision that is known of.
            strict_leases: Whether only leases that were granted exist.  Otherwise any does: one who replays a
                history of keys does not know between which revisions a lease was granted.
        """
        self.revision = revision
        self.compact_revision = -1 if revision == 1 else revision
        self._granted: set[int] | None = set() if strict_leases else None
        self._names: list[bytes] = []
        self._revisions: dict[bytes, list[int]] = {}
        self._records: dict[bytes, list[KeyValue | None]] = {}
        self._attached: dict[int, set[bytes]] = {}
        for item in base:
            self._record(item.key, item.mod_revision, item)

    # What it is asked.

    def get(self, key: bytes) -> KeyValue | None:
        """The record of a key, if it lives."""
        records = self._records.get(key)
        return records[-1] if records else None

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        """The record of a key at an earlier revision."""
        place = bisect_right(self._revisions.get(key, ()), revision)
        return self._records[key][place - 1] if place else None

    def scan(self, key: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        """The records of a range at a revision, in the order of keys."""
        names = slice_of(self._names, key, range_end) if range_end else [key]
        if revision >= self.revision:
            found = [self.get(name) for name in names]
        else:
            found = [self.at(name, revision) for name in names]
        return [item for item in found if item is not None]

    def has_lease(self, lease: int) -> bool:
        """Whether there is such a lease."""
        return self._granted is None or lease in self._granted

    def keys_of(self, lease: int) -> Collection[bytes]:
        """The keys that are attached to a lease."""
        return self._attached.get(lease, ())

    # What it is told.

    def evaluate(self, request: Message) -> tuple[Message, list[Event]]:
        """
        Say what a Range, Put, DeleteRange, Txn or LeaseRevoke would do now.

        Returns:
            The response, whose header has only a revision; and the events of the next revision, if any.

        Raises:
            EtcdError: It would be refused.
        """
        attempt = Attempt(self)
        response = attempt.run(request)
        return response, attempt.events

    def commit(self, events: Sequence[Event]) -> None:
        """Let a revision happen, unless there are no events."""
        self.revision += bool(events)
        for event in events:
            self._record(event.kv.key, self.revision, None if event.type == Event.DELETE else event.kv)

    def apply(self, request: Message) -> Message:
        """
        Carry a request out: one of those of `evaluate`, a Compaction or a LeaseGrant.

        Returns:
            The response, whose header has only a revision.

        Raises:
            EtcdError: It is refused, and nothing was done.
        """
        if isinstance(request, CompactionRequest):
            return self._compact(request.revision)
        if isinstance(request, LeaseGrantRequest):
            return self._grant(request)
        response, events = self.evaluate(request)
        self.commit(events)
        if isinstance(request, LeaseRevokeRequest) and self._granted is not None:
            self._granted.discard(request.ID)
        return response

    def _compact(self, revision: int) -> CompactionResponse:
        error: type[EtcdError] | None = None
        if revision <= self.compact_revision:
            error = CompactedError
        elif revision > self.revision:
            error = FutureRevisionError
        if error is not None:
            raise error
        self.compact_revision = revision
        return CompactionResponse(header=ResponseHeader(revision=self.revision))

    def _grant(self, request: LeaseGrantRequest) -> LeaseGrantResponse:
        if self._granted is not None:
            if request.ID in self._granted:
                raise LeaseExistError
            self._granted.add(request.ID)
        return LeaseGrantResponse(
            header=ResponseHeader(revision=self.revision), ID=request.ID, TTL=request.TTL
        )

    def _record(self, key: bytes, revision: int, item: KeyValue | None) -> None:
        before = self.get(key)
        if key not in self._records:
            insort(self._names, key)
            self._records[key], self._revisions[key] = [], []
        if before is not None and before.lease:
            self._attached[before.lease].discard(key)
        if item is not None and item.lease:
            self._attached.setdefault(item.lease, set()).add(key)
        self._records[key].append(item)
        self._revisions[key].append(revision)
