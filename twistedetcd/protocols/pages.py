"""A page got over HTTP/1.1: a short one, soon, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

PAGE_BYTES_MAX = 1 << 20
PAGE_SECONDS = 10.0
"""How long to wait for a page."""


_UNANSWERED = (
    CancelledError,
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
    TLSError,
)


class Page(NamedTuple):
    """What somebody answered."""

    body: bytes
    headers: Mapping[str, str]
    """The first of each name, in lower case."""


class UnreachedError(Exception):
    """Nobody answered, or with something else than a page; the text says why."""


def _why(error: Exception) -> str:
    reasons: list[Failure] = getattr(error, "reasons", [])  # of several that Twisted tells together
    text = "; ".join(reason.getErrorMessage() for reason in reasons) or str(error)
    return text or type(error).__name__


def _too_late(result: object, seconds: float) -> Failure:
    return Failure(UnreachedError(f"no answer within {seconds:g} s"))


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, endpoint: Callable[[str], IStreamClientEndpoint]) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint(uri.toBytes().decode())


class Pages:
    """
    Gets pages.

    Args:
        reactor: For how long.
        endpoint: Where a URL leads.
    """

    def __init__(self, reactor: IReactorTime, endpoint: Callable[[str], IStreamClientEndpoint]) -> None:
        self._reactor: Any = reactor
        self._agent = Agent.usingEndpointFactory(
            reactor, _Endpoints(endpoint), HTTPConnectionPool(reactor, persistent=False)
        )

    async def get(self, url: str) -> Page:
        """
        Get one.

        Raises:
            UnreachedError: There was no answer in time, or not a page of bounded length.
        """
        getting: Deferred[Page] = Deferred.fromCoroutine(self._get(url))
        return await getting.addTimeout(PAGE_SECONDS, self._reactor, _too_late)

    async def _get(self, url: str) -> Page:
        try:
            response: IResponse = await self._agent.request(b"GET", url.encode())
        except _UNANSWERED as error:
            raise UnreachedError(_why(error)) from error
        body: Deferred[bytes] = Deferred()
        response.deliverBody(_Body(body))
        data = await body
        if response.code != 200:
            raise UnreachedError(f"status {response.code}: {data[:200].decode(errors='replace').strip()}")
        headers = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Page(data, headers)


class _Body(Protocol):
    transport: Any

    def __init__(self, done: Deferred[bytes]) -> None:
        self._done: Deferred[bytes] | None = done
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > PAGE_BYTES_MAX and self._done is not None:
            done, self._done = self._done, None
            self.transport.loseConnection()
            done.errback(UnreachedError(f"a page of more than {PAGE_BYTES_MAX} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._done is None:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._done.callback(bytes(self._data))
        elif reason.check(ConnectionDone):
            self._done.errback(UnreachedError("the answer breaks off"))
        else:
            self._done.errback(UnreachedError(reason.getErrorMessage()))
