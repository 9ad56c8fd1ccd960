"""What clients asked, and what they were told: values that say nothing of how it was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString

from twistedetcd.errors import Code
from twistedetcd.pb.kv_pb2 import Event, KeyValue
from twistedetcd.pb.rpc_pb2 import WatchCreateRequest, WatchResponse

TEXT_MAX = 200


class Refused(NamedTuple):
    """An error that says that nothing was done."""

    code: Code
    text: str


class Unknown(NamedTuple):
    """No answer, or an error that does not say so: what was asked for happens once at most, at any time."""

    text: str


def brief(message: Message) -> str:
    """A message on one line, cut where it gets long."""
    text = MessageToString(message, as_one_line=True)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "..."


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """
    One call.  Each is only itself, however much another looks like it.

    Attributes:
        client: Who called; one client may have several calls on their way.
        called_at: When, by the clock of the one who records.
        returned_at: When the outcome was there; ``None`` if the client gave up waiting, or waits still.
        request: What was asked.
        outcome: What came of it.
        member: Who was asked.  A member that starts again may answer serializable reads with less than
            before, so it needs a new name then.
        revision: That of the answer's header; 0 if there is none.
    """

    client: str
    called_at: float
    returned_at: float | None
    request: Message
    outcome: Message | Refused | Unknown
    member: str = ""
    revision: int = field(init=False)

    def __post_init__(self) -> None:
        header = getattr(self.outcome, "header", None)
        object.__setattr__(self, "revision", 0 if header is None else header.revision)

    @property
    def kind(self) -> str:
        """Which request, as ``Put`` for a ``PutRequest``."""
        return str(type(self.request).__name__).removesuffix("Request")

    def __str__(self) -> str:
        outcome = self.outcome
        if isinstance(outcome, Refused):
            told = f"refused: {outcome.text}"
        elif isinstance(outcome, Unknown):
            told = f"unknown: {outcome.text}"
        else:
            told = brief(outcome)
        asked = f"{self.kind} {brief(self.request)}".rstrip()
        place = f"@{self.member}" if self.member else ""
        until = "" if self.returned_at is None else f"{self.returned_at:g}"
        return f"{self.client}{place} {self.called_at:g}..{until} {asked} -> {told}"


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """
    One watch, of one stream, until it is cancelled or its stream breaks.

    Attributes:
        client: Who watched.
        request: What he asked for.
        called_at: When.
        received: Each response in the order of arrival, with its time.  One for all watches of a stream, with
            watch id -1, is a response to each of them.
        ended_at: When the client stopped listening or his stream broke; ``None`` if he listens to the end.
        continues: The watch that this one goes on for, after a broken stream or a compaction.
    """

    client: str
    request: WatchCreateRequest
    called_at: float
    received: Sequence[tuple[float, WatchResponse]]
    ended_at: float | None = None
    continues: Watch | None = None

    @property
    def start_revision(self) -> int:
        """The first revision that it is to tell of; 0 if that was never settled."""
        if self.request.start_revision:
            return self.request.start_revision
        first = self.received[0][1] if self.received else None
        return first.header.revision + 1 if first is not None and first.created and not first.canceled else 0

    @property
    def next_revision(self) -> int:
        """Where another watch has to begin to go on for this one; 0 to begin as this one did, from now on."""
        following = self.start_revision
        for _, response in self.received:
            if response.compact_revision:
                return response.compact_revision
            if response.events and not response.fragment:
                following = max(following, response.events[-1].kv.mod_revision + 1)
            elif is_progress(response):
                following = max(following, response.header.revision + 1)
        return following

    def __str__(self) -> str:
        return f"{self.client} {self.called_at:g} Watch {brief(self.request)}: {len(self.received)} responses"


def is_progress(response: WatchResponse) -> bool:
    """Whether a response only says how far the watch was told everything."""
    return not (response.events or response.created or response.canceled)


class Change(NamedTuple):
    """
    A revision.

    Attributes:
        revision: Its number.
        events: What changed, in order; no event carries the record before it.
        at: When the first member applied it, if that is known.
    """

    revision: int
    events: Sequence[Event]
    at: float | None = None


class Witness:
    """
    The history that the cluster ended up with: every change, in order, without a gap.

    Attributes:
        changes: The changes.
        base: The records that lived before them.
        base_revision: The revision of those; 1, that of an empty store, when nothing is missing.
    """

    def __init__(
        self, changes: Sequence[Change], base: Sequence[KeyValue] = (), base_revision: int = 1
    ) -> None:
        """
        Raises:
            ValueError: A revision is missing, or has no events.
        """
        for revision, change in enumerate(changes, base_revision + 1):
            if change.revision != revision or not change.events:
                raise ValueError(f"revision {revision} expected, not {change.revision} of {change.events}")
        self.changes = changes
        self.base = base
        self.base_revision = base_revision

    @property
    def revision(self) -> int:
        """The last revision."""
        return self.base_revision + len(self.changes)

    def change(self, revision: int) -> Change | None:
        """The change that made a revision, if it is one of these."""
        if self.base_revision < revision <= self.revision:
            return self.changes[revision - self.base_revision - 1]
        return None


class History(NamedTuple):
    """All that was seen."""

    operations: Sequence[Operation]
    watches: Sequence[Watch] = ()
