"""
The guarantees of a watch: ordered, unique, reliable, atomic, resumable, bookmarkable.

Each watch is compared with what the witness says it must be told, event by event; and those that go on for
each other, that one begins where the other ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import inf

from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import CompactionRequest, WatchResponse
from twistedetcd.testing.checks.history import History, Refused, Watch, Witness, is_progress
from twistedetcd.testing.checks.rules import Rule, Violation
from twistedetcd.testing.checks.timeline import Highest
from twistedetcd.testing.checks.wanted import Everything, Wanted


def check_watches(history: History, witness: Witness | None, settled: bool) -> Iterator[Violation]:
    """
    Check all watches, and who goes on for whom.

    Args:
        history: What was seen.
        witness: What happened; without it only the order of events is checked.
        settled: Whether the cluster was given time at the end, so that all has been told to those who listen.
    """
    compactions = Highest(
        [
            (operation.called_at, operation.request.revision)
            for operation in history.operations
            if isinstance(operation.request, CompactionRequest) and not isinstance(operation.outcome, Refused)
        ]
    )
    everything = Everything(witness)
    for watch in history.watches:
        told = _Told(watch, witness, everything.of(watch.request), compactions)
        yield from told.check()
        if settled and watch.ended_at is None:
            yield from told.check_finished()
        yield from _check_resumed(watch)


def _check_resumed(watch: Watch) -> Iterator[Violation]:
    before, start = watch.continues, watch.request.start_revision
    if before is None:
        return
    compacted = any(response.compact_revision for _, response in before.received)
    following = before.next_revision
    # Behind a compaction the client reads what is there, and goes on behind that.
    if start < following or (start > following and not compacted):
        yield Violation(Rule.RESUMABLE, f"goes on at {start}, not at {following}", [before, watch])


class _Told:
    """One watch, response by response."""

    def __init__(
        self, watch: Watch, witness: Witness | None, wanted: Sequence[Wanted], compactions: Highest
    ) -> None:
        self._watch, self._witness, self._compactions = watch, witness, compactions
        self._wanted = wanted
        # How much of that was told, or was not there any more.
        self._at = bisect_left(wanted, watch.start_revision or inf, key=lambda wanted: wanted.revision)
        self._last = 0  # the last revision told
        self._told: set[tuple[int, int, bytes, int]] = set()
        self._bookmark = 0
        self._whole = True  # whether the last revision may be told no more of
        self._ended = ""
        self._compacted: int | None = None

    def _broken(self, rule: Rule, text: str) -> Violation:
        return Violation(rule, text, [self._watch])

    def check(self) -> Iterator[Violation]:
        """Check all that was told; of what does not fit only the first is reported."""
        created = False
        for at, response in self._watch.received:
            # A call at this very moment may have been before it.
            self._compacted = self._compactions.upto(at)
            found = None
            if self._ended and not response.canceled:
                found = self._broken(Rule.ENDED, f"told of {_brief(response)} after {self._ended}")
            elif not created and not response.created and response.watch_id != -1:
                found = self._broken(Rule.CREATED_FIRST, f"told of {_brief(response)} before that")
            elif response.canceled:
                found = None if self._ended else self._cancel(response)
            elif response.events:
                found = self._tell(response)
            elif created and is_progress(response):
                found = self._progress(response.header.revision)
            created = created or response.created
            if found is not None:
                yield found
                return

    def check_finished(self) -> Iterator[Violation]:
        """Check that there is no more to tell."""
        wanted = self._following()
        if wanted is not None and not self._ended:
            yield self._broken(Rule.RELIABLE, f"never told of {_short(wanted.event)}")

    def _following(self) -> Wanted | None:
        """What must be told next."""
        place = self._place_of(None)
        return self._wanted[place] if place < len(self._wanted) else None

    def _place_of(self, event: Event | None) -> int:
        """Where the next event to be told is, if not this very one: a compaction may have removed others."""
        place = self._at
        while place < len(self._wanted):
            wanted = self._wanted[place]
            compacted = self._compacted is not None and wanted.revision <= self._compacted
            if wanted.event == event or not (wanted.superseded and compacted):
                break
            place += 1
        return place

    def _tell(self, response: WatchResponse) -> Violation | None:
        if self._whole and response.events[0].kv.mod_revision == self._last and self._last:
            rule = Rule.UNIQUE if _identity(response.events[0]) in self._told else Rule.ATOMIC
            return self._broken(rule, f"revision {self._last} was told of before")
        for event in response.events:
            found = self._tell_one(event)
            if found is not None:
                return found
        if response.header.revision < self._last:
            text = f"told of revision {self._last} at {response.header.revision}"
            return self._broken(Rule.NOT_AHEAD, text)
        self._whole = not response.fragment
        following = self._following()
        if self._whole and following is not None and following.revision == self._last:
            return self._broken(Rule.ATOMIC, f"{_short(following.event)} did not come with its revision")
        return None

    def _tell_one(self, event: Event) -> Violation | None:
        revision = event.kv.mod_revision
        if self._witness is not None and revision > self._witness.base_revision:
            bare = Event(type=event.type, kv=event.kv)
            place = self._place_of(bare)
            wanted = self._wanted[place] if place < len(self._wanted) else None
            if wanted is None or wanted.event != bare:
                return self._unexpected(event) or self._missed(bare, wanted)
            self._at = place + 1
            found = self._check_previous(event, wanted)
            if revision <= self._bookmark:
                found = self._unexpected(event)
        else:
            found = self._unexpected(event) if revision < self._last else None
        self._told.add(_identity(event))
        self._last = revision
        return found

    def _unexpected(self, event: Event) -> Violation | None:
        what = _short(event)
        if _identity(event) in self._told:
            return self._broken(Rule.UNIQUE, f"{what} came again")
        if event.kv.mod_revision < self._last:
            return self._broken(Rule.ORDERED, f"{what} came after revision {self._last}")
        if event.kv.mod_revision <= self._bookmark:
            return self._broken(Rule.BOOKMARKABLE, f"{what} came after progress to {self._bookmark}")
        return None

    def _missed(self, bare: Event, wanted: Wanted | None) -> Violation:
        """An event is not the one to be told next: it comes too early, or never should."""
        if wanted is None or bare not in [later.event for later in self._wanted[self._at :]]:
            return self._broken(Rule.TRUE_EVENTS, f"{_short(bare)} did not happen so, or was not asked for")
        rule = Rule.ORDERED if self._comes_later(wanted) else Rule.RELIABLE
        return self._broken(rule, f"{_short(bare)} came before {_short(wanted.event)}")

    def _comes_later(self, wanted: Wanted) -> bool:
        """Whether an event comes yet that should have come by now."""
        return any(
            _identity(event) == _identity(wanted.event)
            for _, response in self._watch.received
            for event in response.events
        )

    def _check_previous(self, event: Event, wanted: Wanted) -> Violation | None:
        previous = wanted.previous if self._watch.request.prev_kv else None
        told = event.prev_kv if event.HasField("prev_kv") else None
        if told == previous:
            return None
        # It may be gone: what was compacted is left out silently.
        if told is None and self._compacted is not None and wanted.revision - 1 < self._compacted:
            return None
        return self._broken(Rule.TRUE_EVENTS, f"{_short(event)} came with a wrong record before it")

    def _progress(self, revision: int) -> Violation | None:
        wanted = self._following()
        if wanted is not None and wanted.revision <= revision:
            text = f"progress to {revision} was told before {_short(wanted.event)}"
            return self._broken(Rule.BOOKMARKABLE, text)
        first = self._watch.start_revision - 1
        if revision < max(self._last, self._bookmark, first):
            text = f"progress to {revision}, having been told up to {max(self._last, self._bookmark, first)}"
            return self._broken(Rule.BOOKMARKABLE, text)
        if self._witness is not None and revision > self._witness.revision:
            return self._broken(Rule.NOT_AHEAD, f"progress to {revision}, which never was")
        self._bookmark = revision
        return None

    def _cancel(self, response: WatchResponse) -> Violation | None:
        compacted = response.compact_revision
        self._ended = f"it was compacted away at {compacted}" if compacted else "it was cancelled"
        if not compacted:
            return None
        needed = max(self._watch.start_revision, self._last + 1, self._bookmark + 1)
        if needed >= compacted:
            text = f"compacted away at {compacted}, needing no more than {needed}"
            return self._broken(Rule.COMPACTED_WATCH, text)
        if self._compacted is None or self._compacted < compacted:
            return self._broken(Rule.COMPACTED_WATCH, f"nobody had asked to compact to {compacted}")
        return None


def _identity(event: Event) -> tuple[int, int, bytes, int]:
    return event.kv.mod_revision, event.type, event.kv.key, event.kv.version


def _short(event: Event) -> str:
    return f"{Event.EventType.Name(event.type)} {event.kv.key!r} of revision {event.kv.mod_revision}"


def _brief(response: WatchResponse) -> str:
    return ", ".join(map(_short, response.events)) or f"progress to {response.header.revision}"
