"""HTTP/1.1 on the client port."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Running
from twistedetcd.api.http import BODY_BYTES_MAX, site


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class HTTPCase(SynchronousTestCase):
    """A member's pages."""

    def setUp(self) -> None:
        self.running = Running().start()
        self.site = site(self.running.member, self.running.clock)
        self.site.doStart()
        self.addCleanup(self._stop)

    def _stop(self) -> None:
        self.site.doStop()
        for call in self.running.clock.getDelayedCalls():
            call.cancel()

    def connect(self) -> tuple[Any, StringTransport]:
        """A new connection."""
        transport = StringTransport()
        protocol: Any = self.site.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        return protocol, transport

    def send(self, path: str, method: str = "GET") -> StringTransport:
        """A request; the turn does not end yet."""
        protocol, transport = self.connect()
        protocol.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return transport

    def fetch(self, path: str, method: str = "GET") -> Response:
        """A request that is answered in its turn."""
        transport = self.send(path, method)
        self.running.end_turn()
        head, _, body = transport.value().partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        self.assertEqual(b"*", headers[b"Access-Control-Allow-Origin"])
        self.assertEqual(
            b"POST, GET, OPTIONS, PUT, DELETE", headers[b"Access-Control-Allow-Methods"], "on every response"
        )
        self.assertEqual(b"accept, content-type, authorization", headers[b"Access-Control-Allow-Headers"])
        if method != "HEAD":
            self.assertEqual(len(body), int(headers[b"Content-Length"]))
        self.assertNotIn(b"Server", headers)
        return Response(int(first.split()[1]), headers, body)


class HTTPTests(HTTPCase):
    """Paths, methods, headers and bodies are etcd's, to the byte."""

    def test_healthy(self) -> None:
        """Healthy is a linearizable read that came back; with ``serializable=true`` nothing is waited for."""
        for path in ("/health", "/health?serializable=true", "/health?exclude=NOSPACE&exclude=CORRUPT"):
            response = self.fetch(path)
            self.assertEqual((200, b'{"health":"true","reason":""}'), (response.status, response.body))
            self.assertEqual(b"text/plain; charset=utf-8", response.headers[b"Content-Type"])
        self.assertEqual(b"", self.send("/health").value())
        self.assertNotEqual(b"", self.send("/health?serializable=true").value())

    def assert_unhealthy(self, reason: str, response: Response) -> None:
        """It is, for this reason."""
        self.assertEqual(503, response.status)
        self.assertEqual({"health": "false", "reason": reason}, json.loads(response.body))
        self.assertTrue(response.body.endswith(b'"}\n'))
        self.assertEqual(b"nosniff", response.headers[b"X-Content-Type-Options"])

    def test_no_leader(self) -> None:
        """Without a leader it is not; the local check does not mind."""
        self.running.raft._raft.lead = 0
        self.assert_unhealthy("RAFT NO LEADER", self.fetch("/health"))
        self.assertEqual(200, self.fetch("/health?serializable=true").status)

    def test_stopping(self) -> None:
        """A member that stops is not healthy, whether the read was under way or not."""
        waiting = self.send("/health")
        self.successResultOf(self.running.member.stop())
        self.assertIn(
            b'{"health":"false","reason":"RANGE ERROR:etcdserver: server stopped"}\n', waiting.value()
        )
        self.assert_unhealthy("RANGE ERROR:etcdserver: server stopped", self.fetch("/health"))

    def test_hung_up(self) -> None:
        """Who hangs up while the read is under way costs nothing more."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        protocol.connectionLost(Failure(ConnectionDone()))
        self.running.end_turn()
        self.assertEqual(b"", transport.value())

    def test_version(self) -> None:
        """Versions of the server, the cluster and the storage, in etcd's order."""
        response = self.fetch("/version")
        self.assertEqual(b'{"etcdserver":"3.6.14","etcdcluster":"3.6.0","storage":"3.6.0"}', response.body)
        self.assertEqual(b"application/json", response.headers[b"Content-Type"])
        self.running.member.cluster.version = ""
        self.assertEqual("not_decided", json.loads(self.fetch("/version").body)["etcdcluster"])

    def test_not_found(self) -> None:
        """Any other path, also with a slash more, is Go's 404."""
        for path in ("/", "/nope", "/health/", "/version/", "/version/x", "/v2/keys", "/healthy", "//health"):
            response = self.fetch(path)
            self.assertEqual((404, b"404 page not found\n"), (response.status, response.body), path)
            self.assertEqual(b"text/plain; charset=utf-8", response.headers[b"Content-Type"])
            self.assertEqual(b"nosniff", response.headers[b"X-Content-Type-Options"])
        self.assertEqual(404, self.fetch("/nope", "POST").status)

    def test_wrong_method(self) -> None:
        """The pages are for GET only."""
        for path in ("/health", "/version"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                response = self.fetch(path, method)
                self.assertEqual((405, b"Method Not Allowed\n"), (response.status, response.body))
                self.assertEqual(b"GET", response.headers[b"Allow"])

    def test_head(self) -> None:
        """HEAD too: the same headers, no body, and no line in the log."""
        for path, status in (("/health", 405), ("/nope", 404)):
            with capturedLogs() as events:
                response = self.fetch(path, "HEAD")
            self.assertEqual((status, b""), (response.status, response.body))
            self.assertEqual(b"19", response.headers[b"Content-Length"])
            self.assertEqual([], list(events))

    def test_options(self) -> None:
        """OPTIONS is answered on every path, for browsers that ask first."""
        for path in ("/health", "/version", "/nope", "/"):
            response = self.fetch(path, "OPTIONS")
            self.assertEqual((200, b""), (response.status, response.body), path)

    def test_no_access_log(self) -> None:
        """Probes come every few seconds: they leave no line."""
        with capturedLogs() as events:
            self.fetch("/health")
        self.assertEqual([], list(events))


class BodyTests(HTTPCase):
    """No page takes a body."""

    def assert_refused(self, transport: StringTransport) -> None:
        """413, and no more."""
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 413 "), transport.value())
        self.assertEqual(1, transport.value().count(b"HTTP/1.1"))
        self.assertTrue(transport.disconnecting)

    def test_small(self) -> None:
        """A small body is read over, a form is not parsed, and the next request is heard."""
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            protocol, transport = self.connect()
            body = b"a=" + bytes(BODY_BYTES_MAX - 2)
            head = f"POST /version HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
            protocol.dataReceived(head.encode() + b"\r\n\r\n")
            self.assertEqual(b"", transport.value())
            protocol.dataReceived(body)
            self.assertTrue(transport.value().startswith(b"HTTP/1.1 405 "))
            protocol.dataReceived(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b"HTTP/1.1 200 ", transport.value())
            self.assertFalse(transport.disconnecting)

    def test_form_is_no_query(self) -> None:
        """What a body says counts for nothing."""
        protocol, _ = self.connect()
        seen: list[Any] = []
        self.patch(
            self.site, "getResourceFor", lambda request: seen.append(request.args) or self.site.resource
        )
        body = b"serializable=true"
        protocol.dataReceived(
            b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        self.assertEqual([{}], seen)

    def test_large(self) -> None:
        """A larger one is refused before any of it is there, whatever is said about waiting."""
        for more in (b"", b"Expect: 100-continue\r\n"):
            protocol, transport = self.connect()
            protocol.dataReceived(
                b"POST /health HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n"
                % (more, BODY_BYTES_MAX + 1)
            )
            self.assert_refused(transport)

    def test_large_in_one_piece(self) -> None:
        """Nothing that comes behind is answered either."""
        protocol, transport = self.connect()
        protocol.dataReceived(
            b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)
            + bytes(BODY_BYTES_MAX + 1)
            + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        self.assert_refused(transport)

    def test_chunked(self) -> None:
        """A body that does not say how large it is is counted."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
        for _ in range(BODY_BYTES_MAX // 0x4000):
            protocol.dataReceived(chunk)
        self.assertEqual(b"", transport.value())
        protocol.dataReceived(b"1\r\nx\r\n0\r\n\r\n")
        self.assert_refused(transport)


class HalfCloseTests(HTTPCase):
    """A client may close its side once it has asked."""

    def test_answer_comes(self) -> None:
        """It gets the answer; then the connection is closed."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        protocol.readConnectionLost()
        self.assertFalse(transport.disconnecting)
        self.running.end_turn()
        self.assertIn(b'"health":"true"', transport.value())
        self.assertTrue(transport.disconnecting)

    def test_nothing_asked(self) -> None:
        """With no whole request, or all of them answered, there is nothing to wait for."""
        for sent in (b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            protocol, transport = self.connect()
            protocol.dataReceived(sent)
            protocol.readConnectionLost()
            self.assertTrue(transport.disconnecting)
