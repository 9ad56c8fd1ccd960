"""
The order of the links.

A link is an `IApplier` that wraps the next one.  Outermost first: alarms before auth, so that a degraded
cluster answers all alike; auth before quota, so that nobody unauthorised raises an alarm; the store last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twistedetcd.interfaces import IApplier

Link = Callable[[IApplier], IApplier]


def chain(store: IApplier, links: Sequence[Link] = ()) -> IApplier:
    """
    Put links before the store.

    Args:
        store: The end of the chain.
        links: Outermost first.  A link whose feature is off is not in the chain and costs nothing; the chain
            is built anew when that changes.
    """
    applier = store
    for link in reversed(links):
        applier = IApplier(link(applier))
    return applier
