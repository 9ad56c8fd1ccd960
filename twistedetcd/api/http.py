"""What the client port says to HTTP/1.1: ``/health`` and ``/version``."""

from __future__ import annotations

import json

from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twistedetcd.config import ETCD_VERSION
from twistedetcd.errors import Code
from twistedetcd.schema import STORAGE_FORMAT
from twistedetcd.server.member import EtcdServer

_CORS = {
    b"Access-Control-Allow-Methods": b"POST, GET, OPTIONS, PUT, DELETE",
    b"Access-Control-Allow-Origin": b"*",
    b"Access-Control-Allow-Headers": b"accept, content-type, authorization",
}


class _Page(Resource):
    """A page that is read with GET; any other method but OPTIONS is refused."""

    isLeaf = True

    def __init__(self, member: EtcdServer) -> None:
        super().__init__()
        self._member = member

    def render(self, request: Request) -> bytes | int:
        for name, value in _CORS.items():
            request.setHeader(name, value)
        if request.path not in (b"/health", b"/version"):
            return _not_found(request)  # no trailing slash, nothing below
        if request.method == b"OPTIONS":
            return b""
        if request.method != b"GET":
            request.setResponseCode(405)
            request.setHeader(b"Allow", b"GET")
            return _text(request, b"Method Not Allowed\n")
        return self.get(request)

    def get(self, request: Request) -> bytes | int:
        """Answer a GET."""
        return _not_found(request)


class _Version(_Page):
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

    def get(self, request: Request) -> bytes | int:
        if request.args.get(b"serializable") == [b"true"]:
            return self._healthy(request)
        if not self._member.node.raft.lead:
            return self._unhealthy(request, "RAFT NO LEADER")
        self._member.read(self._read, _HealthRead(self, request), None)
        return NOT_DONE_YET

    def _read(self, call: _HealthRead, _: None) -> None:
        call.done()

    def _healthy(self, request: Request) -> bytes:
        return _text(request, b'{"health":"true","reason":""}')

    def _unhealthy(self, request: Request, reason: str) -> bytes:
        request.setResponseCode(503)
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        body = json.dumps({"health": "false", "reason": reason}, separators=(",", ":"))
        return _text(request, body.encode() + b"\n")


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


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NotFound()


class _NotFound(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        return _not_found(request)


def _text(request: Request, body: bytes) -> bytes:
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def _not_found(request: Request) -> bytes:
    request.setResponseCode(404)
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return _text(request, b"404 page not found\n")


def site(member: EtcdServer) -> Site:
    """The HTTP/1.1 side of the client port."""
    root = _Root()
    root.putChild(b"health", _Health(member))
    root.putChild(b"version", _Version(member))
    return Site(root)
