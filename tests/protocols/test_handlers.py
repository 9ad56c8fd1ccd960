"""handlers: functions and async generators as gRPC methods, with text for messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred

from tests.protocols.client import data, headers, message, request, reset, window
from tests.protocols.client import settings as setting
from tests.protocols.grpccase import Case
from twistedetcd.errors import Code
from twistedetcd.protocols.framing import STREAM_WINDOW
from twistedetcd.protocols.grpc import Call
from twistedetcd.protocols.handlers import (
    ANSWER_BYTES_QUEUED_MAX,
    REQUESTS_QUEUED_MAX,
    StatusError,
    streaming,
    unary,
)

CALL = b"/test.Text/Call"


class HandlerCase(Case):
    """One method at a time."""

    def serve(self, method: Any) -> None:
        self.server = self.connection({CALL: method})
        self.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", setting())

    def flush(self) -> Any:
        """What was answered on stream 1."""
        self.say()
        return self.responses[1]


class UnaryTests(HandlerCase):
    """One request, one answer."""

    def ask(self, body: bytes = b"x") -> Any:
        return self.call(message(body), path=CALL)

    def test_value(self) -> None:
        """What is returned is the answer."""
        self.serve(unary(bytes.decode, lambda text, call: text * 3, str.encode))
        self.assertEqual([b"xxx"], self.ask().messages)

    def test_deferred_and_coroutine(self) -> None:
        """So is what comes of a Deferred or a coroutine."""
        waiting: list[Deferred[str]] = []

        def deferred(text: str, call: Call) -> Deferred[str]:
            waiting.append(Deferred())
            return waiting[-1]

        async def coroutine(text: str, call: Call) -> str:
            return text + await deferred(text, call)

        for handle, answer in ((deferred, b"y"), (coroutine, b"xy")):
            self.setUp()
            self.serve(unary(bytes.decode, handle, str.encode))
            self.assertEqual([], self.ask().messages)
            waiting[-1].callback("y")
            self.assertEqual([answer], self.flush().messages)

    def test_status(self) -> None:
        """A StatusError is told, with its trailers."""

        def handle(text: str, call: Call) -> str:
            raise StatusError(Code.NOT_FOUND, "no such text", [(b"hint", b"h"), (b"raw-bin", b"\xff\0")])

        self.serve(unary(bytes.decode, handle, str.encode))
        response = self.ask()
        self.assert_status(Code.NOT_FOUND, "no such text", response)
        self.assertEqual((b"h", b"/wA"), (response.headers[0][b"hint"], response.headers[0][b"raw-bin"]))

    def test_bug(self) -> None:
        """Anything else is logged, and not told."""
        self.serve(unary(bytes.decode, lambda text, call: 1 // 0, str.encode))
        self.assert_status(Code.UNKNOWN, "internal error", self.ask())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_not_a_message(self) -> None:
        """A request that cannot be parsed is refused in grpc-go's words."""
        self.serve(unary(bytes.decode, lambda text, call: text, str.encode))
        code, text = self.ask(b"\xff").status
        self.assertEqual(Code.INTERNAL, code)
        self.assertTrue(text.startswith("grpc: error unmarshalling request: "), text)

    def test_cancelled(self) -> None:
        """When the client gives up the handler is cancelled; what it says then is heard by nobody."""
        cancelled = []
        waiting: Deferred[str] = Deferred(lambda deferred: cancelled.append(1))
        self.serve(unary(bytes.decode, lambda text, call: waiting, str.encode))
        self.ask()
        self.say(reset(1))
        self.assertEqual([1], cancelled)
        self.assert_quiet()

    def test_metadata(self) -> None:
        """Metadata of the request can be read, and of the answer be given."""
        seen: list[Any] = []

        def handle(text: str, call: Call) -> str:
            seen.append((call.request.metadata(b"a"), call.request.binary_metadata(b"b-bin")))
            call.set_metadata([(b"c", b"d")])
            return text

        self.serve(unary(bytes.decode, handle, str.encode))
        response = self.call(
            message(b"x"), path=CALL, more=((b"a", b"1"), (b"b-bin", b"AAE,/w=="), (b"b-bin", b"Ag"))
        )
        self.assertEqual([(b"1", [b"\0\1", b"\xff", b"\2"])], seen)
        self.assertEqual((b"d", [b"x"]), (response.headers[0][b"c"], response.messages))

    def test_bad_metadata(self) -> None:
        """Metadata that gRPC does not allow is the handler's bug."""
        for name, value in (
            (b"Upper", b""),
            (b"grpc-status", b"0"),
            (b"te", b"x"),
            (b"a", b"\n"),
            (b"a", b"x" * 9000),
        ):
            self.setUp()
            self.serve(
                unary(
                    bytes.decode,
                    lambda text, call, pair=(name, value): call.set_metadata([pair]),
                    str.encode,
                )
            )
            self.assert_status(Code.UNKNOWN, "internal error", self.ask())
            self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_late_metadata(self) -> None:
        """Metadata comes before the first message."""
        self.serve(streaming(bytes.decode, late, str.encode))
        self.say(headers(1, request(CALL)))
        self.assert_status(Code.UNKNOWN, "internal error", self.responses[1])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))


async def late(requests: AsyncIterator[str], call: Call) -> AsyncIterator[str]:
    yield "first"
    call.set_metadata([(b"a", b"b")])


class StreamingTests(HandlerCase):
    """Any number of requests and answers."""

    def begin(self, handle: Any) -> None:
        self.serve(streaming(bytes.decode, handle, str.encode))
        self.say(headers(1, request(CALL)))

    def test_both_ways(self) -> None:
        """Requests come to the iterator, what is yielded goes out, and the end ends both."""

        async def handle(requests: AsyncIterator[str], call: Call) -> AsyncIterator[str]:
            async for text in requests:
                yield text * 2

        self.begin(handle)
        self.say(data(1, message(b"a") + message(b"b"), end=False))
        self.assertEqual([b"aa", b"bb"], self.responses[1].messages)
        self.say(data(1, b""))
        self.assertEqual((0, ""), self.responses[1].status)
        self.assert_quiet()

    def test_status_and_bugs(self) -> None:
        """What is raised ends the call, also after some answers."""
        for error, status in (
            (StatusError(Code.ABORTED, "enough"), (Code.ABORTED, "enough")),
            (ZeroDivisionError(), (Code.UNKNOWN, "internal error")),
        ):

            async def handle(
                requests: AsyncIterator[str], call: Call, error: Exception = error
            ) -> AsyncIterator[str]:
                yield "one"
                raise error

            self.setUp()
            self.begin(handle)
            self.assertEqual([b"one"], self.responses[1].messages)
            self.assertEqual(status, self.responses[1].status)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_not_a_message(self) -> None:
        """A request that cannot be parsed ends the call."""

        async def handle(requests: AsyncIterator[str], call: Call) -> AsyncIterator[str]:
            async for text in requests:
                yield text

        self.begin(handle)
        self.say(data(1, message(b"\xff"), end=False))
        self.assertEqual(Code.INTERNAL, self.responses[1].status[0])

    def test_client_that_does_not_read(self) -> None:
        """The generator is not asked for more than a little while the client does not read."""
        made = []

        async def handle(requests: AsyncIterator[str], call: Call) -> AsyncIterator[str]:
            for number in range(1000):
                made.append(number)
                yield "x" * 1000

        self.begin(handle)
        few = len(made)
        self.assertLess(few * 1000, 65_535 + ANSWER_BYTES_QUEUED_MAX + 2000)
        self.say(window(0, 1 << 24), window(1, 1 << 24))
        self.assertEqual(1000, len(made))
        self.assertEqual(1000, len(self.responses[1].messages))

    def test_handler_that_does_not_read(self) -> None:
        """The client's window is left to close, and opened again when the handler asks for more."""
        go_on: Deferred[None] = Deferred()

        async def handle(requests: AsyncIterator[str], call: Call) -> AsyncIterator[str]:
            await go_on
            yield str([len(text) async for text in requests].count(10_000))

        self.begin(handle)
        stream = self.server.http2.streams[1]
        sent = 0
        while stream.receive_window > 10_005:
            self.say(data(1, message(bytes(10_000)), end=False))
            sent += 1
        self.assertGreater(sent, REQUESTS_QUEUED_MAX)
        self.assertLess(sent * 10_005, STREAM_WINDOW + 1)
        go_on.callback(None)
        self.say()
        self.assertGreater(stream.receive_window, STREAM_WINDOW // 2)
        self.say(data(1, b""))
        self.assertEqual([b"%d" % sent], self.responses[1].messages)

    def test_cancelled(self) -> None:
        """When the client gives up the generator is closed, wherever it waits."""
        closed = []

        async def handle(requests: AsyncIterator[str], call: Call) -> AsyncIterator[str]:
            try:
                async for text in requests:
                    for _ in range(200):
                        yield text * 1000
            finally:
                closed.append(1)

        for said in ((), (data(1, message(b"x"), end=False),)):
            closed.clear()
            self.setUp()
            self.begin(handle)
            self.say(*said)
            self.say(reset(1))
            self.assertEqual([1], closed)
            self.assert_quiet()
