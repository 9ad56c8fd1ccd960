"""A page over HTTP: a short one, soon, or not at all."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.memorynet import MemoryNetwork
from twistedetcd.protocols.pages import PAGE_BYTES_MAX, PAGE_SECONDS, Page, Pages, UnreachedError
from twistedetcd.testing.clock import SimulatedClock

URL = "http://10.0.0.1:2380/2"


class Server(Protocol):
    """Says one thing to whoever asks."""

    transport: Any
    asked = b""
    answer = b""
    stays = False

    def dataReceived(self, data: bytes) -> None:
        type(self).asked += data
        if self.asked.endswith(b"\r\n\r\n"):
            self.transport.write(self.answer)
            if not self.stays:
                self.transport.loseConnection()


class PageTests(SynchronousTestCase):
    """Somebody is asked for a page."""

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.network = MemoryNetwork(self.clock)
        self.pages = Pages(self.clock, self.network.at(1).endpoint)

    def get(self, answer: bytes, stays: bool = False) -> Deferred[Page]:
        served = type("Served", (Server,), {"answer": answer, "stays": stays})
        self.served = served
        self.network.listen(2, Factory.forProtocol(served))
        self.addCleanup(self.network.stop_listening, 2)
        getting = Deferred.fromCoroutine(self.pages.get(URL))
        self.clock.advance(1.0)
        return getting

    def refused(self, getting: Deferred[Page]) -> str:
        return str(self.failureResultOf(getting, UnreachedError).value)

    def test_got(self) -> None:
        """Its body and headers come back, and the connection is not kept."""
        page = self.successResultOf(
            self.get(b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: abc\r\nContent-Length: 4\r\n\r\npage")
        )
        self.assertEqual((b"page", "abc"), (page.body, page.headers["x-etcd-cluster-id"]))
        self.assertTrue(self.served.asked.startswith(b"GET /2 HTTP/1.1\r\n"), self.served.asked)
        self.assertEqual([], self.network.ends)

    def test_another_status(self) -> None:
        """A status other than 200 is no page; what it says is told."""
        text = self.refused(self.get(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"))
        self.assertEqual("status 404: none", text)

    def test_breaks_off(self) -> None:
        """Half a page is none."""
        self.refused(self.get(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nhalf"))

    def test_no_http(self) -> None:
        """Nor is something else than HTTP."""
        self.refused(self.get(b"\0\0\0\5nope"))

    def test_too_long(self) -> None:
        """One without end is not read to it."""
        answer = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(PAGE_BYTES_MAX + 1)
        self.assertIn("more than 1048576 bytes", self.refused(self.get(answer, stays=True)))
        self.clock.advance(1.0)
        self.assertEqual([], self.network.ends)

    def test_too_late(self) -> None:
        """An answer that takes too long is not waited for."""
        getting = self.get(b"", stays=True)
        self.clock.advance(PAGE_SECONDS)
        self.assertEqual("no answer within 10 s", self.refused(getting))
        self.clock.advance(1.0)
        self.assertEqual([], self.network.ends)

    def test_nobody(self) -> None:
        """Nobody there is told as that."""
        self.refused(Deferred.fromCoroutine(self.pages.get("http://10.0.0.1:2380/3")))
