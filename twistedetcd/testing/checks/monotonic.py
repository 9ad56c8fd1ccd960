"""Revisions, as one client sees them, go forward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from twistedetcd.testing.checks.effects import is_linearizable
from twistedetcd.testing.checks.history import Operation
from twistedetcd.testing.checks.rules import Rule, Violation
from twistedetcd.testing.checks.timeline import Highest


def check_monotonic(operations: Sequence[Operation]) -> Iterator[Violation]:
    """
    Compare what one client was told with what it had been told before it called.

    Linearizable answers are compared with each other; others, from what a member happens to have, only
    with those of the same member.
    """
    views: defaultdict[tuple[str, str | None], list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.revision and operation.returned_at is not None:
            member = None if is_linearizable(operation.request) else operation.member
            views[operation.client, member].append(operation)
    for view in views.values():
        highest = Highest([(op.returned_at, op.revision) for op in view if op.returned_at is not None])
        for operation in view:
            revision, before = operation.revision, highest.before(operation.called_at)
            if before is not None and revision < before:
                text = f"told of revision {revision} after {before}"
                yield Violation(Rule.MONOTONIC, text, [operation])
