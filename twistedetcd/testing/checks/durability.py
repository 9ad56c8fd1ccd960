"""What was acknowledged is on every member that is up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.testing.checks.effects import changed, effects
from twistedetcd.testing.checks.history import Change, Operation, Witness
from twistedetcd.testing.checks.rules import Rule, Violation


def check_durability(operations: Sequence[Operation], members: Mapping[str, Witness]) -> Iterator[Violation]:
    """
    Look for every acknowledged write in every member's history.

    Args:
        operations: All that were recorded.
        members: The history of each member that had time to catch up.  What it compacted is not looked for.
    """
    writes = [operation for operation in operations if changed(operation)]
    for name, history in members.items():
        for write in writes:
            revision = write.revision
            if revision <= history.base_revision:
                continue
            change = history.change(revision)
            if change is None or not _holds(change, write):
                has = "nothing there" if change is None else "something else there"
                text = f"{name} has {has}: revision {revision} was acknowledged"
                yield Violation(Rule.DURABLE, text, [write])
    yield from _same(members)


def _holds(change: Change, write: Operation) -> bool:
    """Whether a change has the puts that were acknowledged, in order, and as many deletes."""
    puts, deleted = effects(write)
    had = [(event.kv.key, event.kv.value) for event in change.events if event.type == Event.PUT]
    return len(change.events) == len(puts) + deleted and all(
        key == put_key and value in (None, put_value)
        for (key, value), (put_key, put_value) in zip(puts, had, strict=False)
    )


def _same(members: Mapping[str, Witness]) -> Iterator[Violation]:
    """Compare each history with that of the first member, where both have not compacted it."""
    first_name, first = next(iter(members.items()), ("", None))
    for name, other in members.items():
        assert first is not None
        if other.revision != first.revision:
            text = f"{first_name} ends at revision {first.revision}, {name} at {other.revision}"
            yield Violation(Rule.SAME_HISTORY, text)
            continue
        for revision in range(max(first.base_revision, other.base_revision) + 1, first.revision + 1):
            mine, theirs = first.change(revision), other.change(revision)
            assert mine is not None and theirs is not None
            if list(mine.events) != list(theirs.events):
                text = f"{first_name} and {name} have different changes at revision {revision}"
                yield Violation(Rule.SAME_HISTORY, text)
                break
