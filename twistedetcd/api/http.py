"""
What ports say to HTTP/1.1.

Clients get ``/health``, ``/version`` and ``/metrics``, other members ``/members`` and ``/version``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.server import Request as SiteRequest
from zope.interface import implementer

from twistedetcd.api.metrics import CONTENT_TYPE, Metrics
from twistedetcd.config import ETCD_VERSION
from twistedetcd.errors import Code, EtcdError
from twistedetcd.schema import STORAGE_FORMAT
from twistedetcd.server.member import EtcdServer

BODY_BYTES_MAX = 64 * 1024  # no page reads a body: a small one is let pass, a larger one ends the connection

_CORS = {
    b"Access-Control-Allow-Methods": b"POST, GET, OPTIONS, PUT, DELETE",
    b"Access-Control-Allow-Origin": b"*",
    b"Access-Control-Allow-Headers": b"accept, content-type, authorization",
}


class _Page(Resource):
    """What stands at no path of ours; pages that do override `path` and `get`."""

    isLeaf = True
    path: bytes | None = None
    cors = False
    """Whether a browser may show the answer to pages of others."""
    methods: tuple[bytes, ...] | None = (b"GET",)
    """Those that are allowed; ``None`` for all."""

    def __init__(self, member: EtcdServer) -> None:
        super().__init__()
        self._member = member

    def render(self, request: Request) -> bytes | int:
        body = self._body(request)
        if request.method != b"HEAD" or isinstance(body, int):
            return body
        # Site would log that it drops the body.
        request.write(body)
        request.finish()
        return NOT_DONE_YET

    def _body(self, request: Request) -> bytes | int:
        if self.cors:
            for name, value in _CORS.items():
                request.setHeader(name, value)
            if request.method == b"OPTIONS":
                return b""
        if request.path != self.path:  # no trailing slash, nothing below
            return _error(request, 404, b"404 page not found\n")
        if self.methods is not None and request.method not in self.methods:
            request.setHeader(b"Allow", b"GET")
            return _error(request, 405, b"Method Not Allowed\n")
        return self.get(request)

    def get(self, request: Request) -> bytes | int:
        """Answer a GET."""
        raise NotImplementedError


class _Version(_Page):
    path = b"/version"

    def get(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", b"application/json")
        versions = {
            "etcdserver": ETCD_VERSION,
            "etcdcluster": self._member.cluster.version or "not_decided",
            "storage": STORAGE_FORMAT.decode(),
        }
        return json.dumps(versions, separators=(",", ":")).encode()


class _Health(_Page):
    """Healthy while there is a leader and, unless ``serializable=true``, a linearizable read comes back."""

    path = b"/health"

    def get(self, request: Request) -> bytes | int:
        if request.args.get(b"serializable") == [b"true"]:
            return self._healthy(request)
        if not self._member.node.raft.lead:
            return self._unhealthy(request, "RAFT NO LEADER")
        try:
            self._member.read(self._read, _HealthRead(self, request), None)
        except EtcdError as error:
            return self._unhealthy(request, f"RANGE ERROR:{error.message}")
        return NOT_DONE_YET

    def _read(self, call: _HealthRead, _: None) -> None:
        call.done()

    def _healthy(self, request: Request) -> bytes:
        return _text(request, b'{"health":"true","reason":""}')

    def _unhealthy(self, request: Request, reason: str) -> bytes:
        body = json.dumps({"health": "false", "reason": reason}, separators=(",", ":"))
        return _error(request, 503, body.encode() + b"\n")


class _MetricsPage(_Page):
    """Any method is answered, as by etcd."""

    path = b"/metrics"
    methods = None

    def __init__(self, member: EtcdServer) -> None:
        super().__init__(member)
        self._metrics = Metrics(member)

    def get(self, request: Request) -> bytes:
        body = self._metrics.text()
        request.setHeader(b"Content-Type", CONTENT_TYPE)
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body


class _HealthRead:
    """The read behind one ``/health``."""

    def __init__(self, page: _Health, request: Request) -> None:
        self._page, self._request = page, request
        self._gone = False
        request.notifyFinish().addErrback(self._hung_up)

    def _hung_up(self, _: object) -> None:
        self._gone = True

    def done(self) -> None:
        """It came back."""
        self._finish(self._page._healthy(self._request))

    def fail(self, code: Code, message: str) -> None:
        """It did not."""
        self._finish(self._page._unhealthy(self._request, f"RANGE ERROR:{message}"))

    def _finish(self, body: bytes) -> None:
        if not self._gone:
            self._request.write(body)
            self._request.finish()


class _Members(_Page):
    """Who the members are: read by those who join."""

    path = b"/members"

    def get(self, request: Request) -> bytes:
        cluster = self._member.cluster
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"X-Etcd-Cluster-ID", b"%x" % self._member.cluster_id)
        return b"[" + b",".join([member.to_json() for member in cluster.members]) + b"]\n"


class _Root(Resource):
    def __init__(self, member: EtcdServer, pages: Iterable[type[_Page]], cors: bool) -> None:
        super().__init__()
        self._elsewhere = _Page(member)
        self._elsewhere.cors = cors
        for page in [page(member) for page in pages]:
            assert page.path is not None, "it stands somewhere"
            page.cors = cors
            self.putChild(page.path[1:], page)

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._elsewhere


def _text(request: Request, body: bytes) -> bytes:
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def _error(request: Request, status: int, body: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return _text(request, body)


class _Request(SiteRequest):
    """A request whose body is counted and dropped: nothing is kept of it, and no form is parsed."""

    received = False
    _refused = False
    _body_bytes = 0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()  # stays empty
        if length is not None and length > BODY_BYTES_MAX:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > BODY_BYTES_MAX:
            self._refuse()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            self.received = True
            super().requestReceived(command, path, version)

    def setHeader(self, name: Any, value: Any) -> None:
        if name != b"Server":  # etcd does not say what it is made of
            super().setHeader(name, value)

    def _refuse(self) -> None:
        """Answer before the body is there, and hang up: that stops the reading."""
        if not self._refused:
            self._refused = True
            self.requestHeaders.removeHeader(b"Expect")
            self.channel.write(
                b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            self.channel.loseConnection()


@implementer(IHalfCloseableProtocol)
class _Channel(HTTPChannel):
    def readConnectionLost(self) -> None:
        """The client will send no more; it may still wait for the answer to what it sent."""
        if self.requests and self.requests[0].received:
            self.persistent = False
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never: we close both sides at once."""


class _Site(Site):
    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # without the road to HTTP/2
    requestFactory = _Request

    def log(self, request: Request) -> None:
        """No line for a request, as in etcd: probes come every few seconds."""


def site(member: EtcdServer, clock: IReactorTime) -> Site:
    """The HTTP/1.1 side of the client port."""
    return _Site(_Root(member, (_Health, _Version, _MetricsPage), cors=True), reactor=clock)


def peer_site(member: EtcdServer, clock: IReactorTime) -> Site:
    """The HTTP/1.1 side of the peer port."""
    return _Site(_Root(member, (_Members, _Version), cors=False), reactor=clock)
