"""All checks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twistedetcd.testing.checks.durability import check_durability
from twistedetcd.testing.checks.hashes import check_hashes
from twistedetcd.testing.checks.history import History, Witness
from twistedetcd.testing.checks.leases import LeaseTerms, check_leases
from twistedetcd.testing.checks.linearizable import check_order
from twistedetcd.testing.checks.locks import Holding, check_locks, holdings
from twistedetcd.testing.checks.monotonic import check_monotonic
from twistedetcd.testing.checks.rules import Violation
from twistedetcd.testing.checks.timeline import Timeline
from twistedetcd.testing.checks.watches import check_watches


def check(
    history: History,
    witness: Witness | None = None,
    *,
    members: Mapping[str, Witness] | None = None,
    terms: LeaseTerms | None = None,
    held: Sequence[Holding] = (),
    settled: bool = False,
) -> list[Violation]:
    """
    Look for broken promises.

    Args:
        history: What clients saw.  Every write belongs into it, the Compact requests that servers make by
            themselves included; no matter what of the rest is left out.
        witness: What happened.  Without it leases and locks are not checked, and little of the rest is.
        members: What each member that is up to date holds at the end.
        terms: How exactly leases can be held to their time.
        held: Locks that clients took without the Lock service.
        settled: Whether all that happened had time to get to those who still watch.

    Returns:
        All that was found: one broken promise often shows in several ways.
    """
    operations = history.operations
    timeline = Timeline(history)
    order = check_order(operations, witness, timeline)
    found = [*order.violations, *check_monotonic(operations), *check_hashes(operations)]
    found += check_watches(history, witness, settled)
    found += check_durability(operations, members or {})
    if witness is not None:
        found += check_leases(operations, witness, timeline, order.ended, terms or LeaseTerms())
        found += check_locks([*holdings(operations), *held], witness)
    return found
