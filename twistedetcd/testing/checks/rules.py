"""What a cluster promises its clients, each promise by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Rule(Enum):
    """The promises.  The value says what holds."""

    # Keys and their order.
    ONE_WRITE = "a revision is the effect of one write"
    KEPT = "an acknowledged write is in the history at the revision of its answer, with just its effect"
    EXPLAINED = "every revision is the effect of one request, made once at most, or the end of a lease"
    REAL_TIME = "a write comes after all that was known before it was called"
    FRESH = "a linearizable answer is as new as anything known before it was asked for"
    NOT_AHEAD = "an answer shows no revision whose write had not been called yet"
    ANSWER = "an answer is what the model says at its revision"
    COMPACTED = "what was compacted before a linearizable read was called is refused to it"
    MONOTONIC = (
        "revisions never go back for one client: all linearizable answers, and all of one member's others"
    )

    # Watches.
    ORDERED = "events come in the order of their revisions"
    UNIQUE = "no event comes twice"
    RELIABLE = "no event is left out"
    ATOMIC = "the events of one revision come together"
    RESUMABLE = "a watch that goes on for another begins right behind what that one was told"
    BOOKMARKABLE = "a progress revision promises that everything up to it was told"
    TRUE_EVENTS = "an event happened just so, and was asked for"
    CREATED_FIRST = "a watch is told first that it was created"
    ENDED = "nothing is told to a watch after it was told that it is cancelled or compacted away"
    COMPACTED_WATCH = "only a watch that needs what was compacted is told so"

    # Leases and locks.
    LEASE_KEPT = "a lease lives for its TTL from its last acknowledged renewal on, unless it is revoked"
    LEASE_ENDS = "a lease that nobody renews is gone soon after its TTL while somebody leads"
    LEASE_KEYS = "with a lease all its keys go, and none is attached to it afterwards"
    ONE_HOLDER = "a lock has one holder, who is first in its line"

    # Members.
    DURABLE = "every acknowledged write is in the history of every member that is up to date"
    SAME_HISTORY = "all members hold the same history"
    SAME_HASH = "hashes at one revision and one compact revision are equal"


@dataclass(frozen=True)
class Violation:
    """
    A promise was broken.

    Attributes:
        rule: Which.
        text: What happened.
        records: The operations or watches concerned, for a transcript.
    """

    rule: Rule
    text: str
    records: Sequence[object] = ()

    def __str__(self) -> str:
        lines = [f"{self.rule.name}: {self.text} (the rule: {self.rule.value})"]
        return "\n    ".join([*lines, *map(str, self.records)])
