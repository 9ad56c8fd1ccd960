"""The order of the links."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twistedetcd.apply.chain import chain
from twistedetcd.interfaces import IApplier


@implementer(IApplier)
class Link:
    """Says its name, then passes on."""

    def __init__(self, name: str, following: IApplier | None = None) -> None:
        self.name, self.following = name, following

    def apply(self, request: Any, context: Any) -> Any:
        return [
            self.name,
            *(self.following.apply(request, context) if self.following else [request, context]),
        ]


class ChainTests(SynchronousTestCase):
    """Links before a store."""

    def test_order(self) -> None:
        """Outermost first, the store last; each sees the same request."""
        applier = chain(Link("store"), [lambda following: Link("one", following), lambda f: Link("two", f)])
        self.assertEqual(["one", "two", "store", "request", "context"], applier.apply("request", "context"))

    def test_no_links(self) -> None:
        """Without links the store itself is the chain."""
        store = Link("store")
        self.assertIs(store, chain(store))

    def test_no_applier(self) -> None:
        """What does not provide the contract is refused when the chain is built."""
        links: Any = [lambda following: object()]
        self.assertRaises(TypeError, chain, Link("store"), links)
