"""h2spec, a suite of HTTP/2 cases from another hand, where it is installed."""

from __future__ import annotations

import re
import shutil
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import TestCase

from twistedetcd.protocols.framing import EventKind, WholeResponse
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.http2 import ServerConnection

reactor: Any = installed_reactor
HELLO = WholeResponse(encode([(b":status", b"200")]), encode([(b"checksum", b"0")]))
SUMMARY = re.compile(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed")
PASSED_MIN = 140


class Hello(Protocol):
    """Answers every request with a body: the cases about windows need one, and gRPC sends none to a GET."""

    transport: Any

    def connectionMade(self) -> None:
        self.http2 = ServerConnection(tuple)
        self.write()

    def dataReceived(self, data: bytes) -> None:
        for kind, stream, argument in self.http2.receive(data, reactor.seconds()):
            if kind == EventKind.DATA:
                self.http2.consumed(stream, len(argument))
            elif kind in (EventKind.WHOLE, EventKind.ENDED):
                self.http2.respond(stream, HELLO, b"", b"hello")
        self.write()

    def write(self) -> None:
        out, self.http2.out = self.http2.out, []
        self.http2.written()
        self.transport.write(b"".join(out))
        if self.http2.closed:
            self.transport.loseConnection()


class H2SpecTests(TestCase):
    """What RFC 9113 and RFC 7541 ask for, as somebody else has read them."""

    program = shutil.which("h2spec")
    if program is None:
        skip = "h2spec is not here"

    async def test_all(self) -> None:
        """Every case passes, the strict ones too."""
        port: Any = reactor.listenTCP(0, Factory.forProtocol(Hello), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        arguments = ["--strict", "--host", "127.0.0.1", "--port", str(port.getHost().port), "--timeout", "1"]
        assert self.program is not None
        output = (await getProcessOutput(self.program, arguments, errortoo=True)).decode()
        found = SUMMARY.search(output)
        assert found is not None, output
        _, passed, _, failed = map(int, found.groups())
        self.assertEqual(0, failed, output)
        self.assertGreaterEqual(passed, PASSED_MIN, output)
