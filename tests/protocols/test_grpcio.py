"""The server as grpcio, the reference client, sees it: real sockets, a service that is not etcd's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from twistedetcd.errors import Code
from twistedetcd.protocols.grpc import Call, Method
from twistedetcd.protocols.port import ClientPortFactory
from twistedetcd.protocols.turn import Turn

try:
    import grpc  # type: ignore[import-untyped]
except ImportError:
    grpc = None

reactor: Any = installed_reactor
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
FLOOD = 200  # messages, too many for windows and sockets
LARGE = bytes(range(256)) * (3 * 4096)  # 3 MB
TIMEOUT_SECONDS = 10.0


class Streaming:
    """Joins what it is sent, counts, or answers each message with itself."""

    def __init__(self, call: Call, kind: str, blocked: threading.Event) -> None:
        self._call, self._kind, self.blocked = call, kind, blocked
        self._received: list[bytes] = []
        self.ended: Deferred[str] = Deferred()

    def message_received(self, message: bytes) -> None:
        self._received.append(message)
        if self._kind == "talk":
            self._call.send(message)

    def half_closed(self) -> None:
        if self._kind == "join":
            self._call.send(b"".join(self._received))
        elif self._kind == "flood":
            for _ in range(FLOOD):
                if self._call.send(bytes(100_000)):
                    self.blocked.set()
        elif self._kind == "count":
            for number in range(int(self._received[0])):
                self._call.send(b"%d" % number)
        self._call.finish()

    def cancelled(self) -> None:
        self.ended.callback("cancelled")

    def writable(self) -> None:
        pass


class GrpcioTests(TestCase):
    """grpcio speaks; all its calls are made in a thread."""

    if grpc is None:
        skip = "grpcio is not installed"

    def setUp(self) -> None:
        self.blocked = threading.Event()
        self.streams: list[Streaming] = []
        self.cancelled: Deferred[None] = Deferred()
        self.factory = ClientPortFactory(
            reactor,
            Turn(reactor),
            {
                b"/test.Echo/Echo": Method(unary=lambda call, body: call.reply(body)),
                b"/test.Echo/Token": Method(unary=self.token),
                b"/test.Echo/Fail": Method(unary=self.fail_politely),
                b"/test.Echo/Wait": Method(unary=self.wait),
                b"/test.Echo/Metadata": Method(unary=self.metadata),
                **{
                    f"/test.Echo/{kind.capitalize()}".encode(): Method(stream=self.streaming(kind))
                    for kind in ("join", "count", "talk", "flood")
                },
            },
            Site(Resource()),
        )
        self.port: Any = reactor.listenTCP(0, self.factory, interface="127.0.0.1")

        self.addCleanup(self.hang_up)

    async def hang_up(self) -> None:
        """The clients have hung up; wait until the server knows."""
        await maybeDeferred(self.port.stopListening)
        while self.factory.connections or self.factory.undecided:
            await deferLater(reactor, 0.001)

    @staticmethod
    def token(call: Call, body: bytes) -> None:
        call.reply(call.request.metadata(body) or b"none")

    @staticmethod
    def fail_politely(call: Call, body: bytes) -> None:
        call.fail(Code.FAILED_PRECONDITION, body.decode())

    @staticmethod
    def metadata(call: Call, body: bytes) -> None:
        """Send back what came, among the headers and in the trailers."""
        sent = [(b"got-bin", value) for value in call.request.binary_metadata(b"sent-bin")]
        call.set_metadata(sent)
        call.send(call.request.metadata(b"large") or b"")
        call.finish([(b"last-bin", b"\0\xff"), (b"last", b"words")])

    def wait(self, call: Call, body: bytes) -> None:
        call.on_cancelled = lambda: self.cancelled.callback(None)

    def streaming(self, kind: str) -> Callable[[Call], Streaming]:
        def begin(call: Call) -> Streaming:
            self.streams.append(Streaming(call, kind, self.blocked))
            return self.streams[-1]

        return begin

    async def talk(self, talk: Callable[[Any], Any], **options: Any) -> Any:
        """What ``talk`` returns when it is called with a channel, in a thread."""

        def in_thread() -> Any:
            limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            address = f"127.0.0.1:{self.port.getHost().port}"
            with grpc.insecure_channel(address, options=limits, **options) as channel:
                return talk(channel)

        return await deferToThread(in_thread)

    async def failure(self, talk: Callable[[Any], Any], **options: Any) -> tuple[Any, str]:
        """The status with which ``talk`` fails."""

        def caught(channel: Any) -> tuple[Any, str]:
            try:
                talk(channel)
            except grpc.RpcError as error:
                status: Any = error
                return status.code(), status.details()
            raise AssertionError("the call did not fail")

        found: tuple[Any, str] = await self.talk(caught, **options)
        return found

    async def test_unary(self) -> None:
        """Many calls over one channel, one after the other and at once."""

        def calls(channel: Any) -> list[bytes]:
            echo = channel.unary_unary("/test.Echo/Echo")
            single = [echo(b"%d" % number, timeout=TIMEOUT_SECONDS) for number in range(20)]
            futures = [echo.future(b"%d" % number, timeout=TIMEOUT_SECONDS) for number in range(300)]
            return single + [future.result() for future in futures]

        expected = [b"%d" % number for number in (*range(20), *range(300))]
        self.assertEqual(expected, await self.talk(calls))

    async def test_large_messages(self) -> None:
        """3 MB each way, which takes flow control in both directions."""
        answer = await self.talk(
            lambda channel: channel.unary_unary("/test.Echo/Echo")(LARGE, timeout=TIMEOUT_SECONDS)
        )
        self.assertEqual(LARGE, answer)

    async def test_too_large(self) -> None:
        """A message above the limit is refused with both numbers."""
        self.assertEqual(
            (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "grpc: received message larger than max (6291456 vs. 4194304)",
            ),
            await self.failure(lambda channel: channel.unary_unary("/test.Echo/Echo")(LARGE * 2)),
        )

    async def test_client_streaming(self) -> None:
        """Many messages in, one out."""
        parts = [b"%d," % number for number in range(500)]
        answer = await self.talk(
            lambda channel: channel.stream_unary("/test.Echo/Join")(iter(parts), timeout=TIMEOUT_SECONDS)
        )
        self.assertEqual(b"".join(parts), answer)

    async def test_server_streaming(self) -> None:
        """One message in, many out."""
        answers = await self.talk(
            lambda channel: list(channel.unary_stream("/test.Echo/Count")(b"5000", timeout=TIMEOUT_SECONDS))
        )
        self.assertEqual([b"%d" % number for number in range(5000)], answers)

    async def test_both_ways(self) -> None:
        """Each message is answered before the next is sent; a large one is among them."""

        def conversation(channel: Any) -> list[bytes]:
            heard: list[bytes] = []
            answered = threading.Semaphore(1)

            def say() -> Iterator[bytes]:
                for message in (b"one", b"", LARGE, b"four"):
                    assert answered.acquire(timeout=TIMEOUT_SECONDS), "no answer"
                    yield message

            for answer in channel.stream_stream("/test.Echo/Talk")(say(), timeout=TIMEOUT_SECONDS):
                heard.append(answer)
                answered.release()
            return heard

        self.assertEqual([b"one", b"", LARGE, b"four"], await self.talk(conversation))

    async def test_metadata(self) -> None:
        """Metadata of any kind arrives, the same one call after the other or not."""

        def calls(channel: Any) -> list[bytes]:
            token = channel.unary_unary("/test.Echo/Token")
            found = [token(b"token")]
            for number in (1, 1, 2, 1, 2):
                found.append(token(b"token", metadata=[("token", f"value {number}"), ("other", "x" * 100)]))
            return found

        expected = [b"none", *(b"value %d" % number for number in (1, 1, 2, 1, 2))]
        self.assertEqual(expected, await self.talk(calls))

    async def test_binary_and_large_metadata(self) -> None:
        """Any octets under a name in -bin, both ways, and thousands of them under another."""
        values = [b"", b"\0", bytes(range(256)), b"\xff,\xfe"]
        large = "x" * 6000

        def call(channel: Any) -> tuple[Any, bytes, Any]:
            ask = channel.unary_unary("/test.Echo/Metadata")
            metadata = [("sent-bin", value) for value in values] + [("large", large)]
            answer, done = ask.with_call(b"", metadata=metadata, timeout=TIMEOUT_SECONDS)
            return done.initial_metadata(), answer, done.trailing_metadata()

        initial, answer, trailing = await self.talk(call)
        self.assertEqual(values, [value for name, value in initial if name == "got-bin"])
        self.assertEqual(large.encode(), answer)
        self.assertEqual({"last-bin": b"\0\xff", "last": "words"}, dict(trailing))

    async def test_one_byte_too_many(self) -> None:
        """The largest message is served, one byte more is refused; after gzip it is the same."""
        largest = MESSAGE_BYTES_MAX

        def echo(channel: Any, length: int) -> int:
            return len(channel.unary_unary("/test.Echo/Echo")(bytes(length), timeout=TIMEOUT_SECONDS))

        self.assertEqual(largest, await self.talk(lambda channel: echo(channel, largest)))
        self.assertEqual(
            (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "grpc: received message larger than max (4194305 vs. 4194304)",
            ),
            await self.failure(lambda channel: echo(channel, largest + 1)),
        )
        gzip = grpc.Compression.Gzip
        self.assertEqual(largest, await self.talk(lambda channel: echo(channel, largest), compression=gzip))
        code, text = await self.failure(lambda channel: echo(channel, largest + 1), compression=gzip)
        self.assertEqual(grpc.StatusCode.RESOURCE_EXHAUSTED, code)
        self.assertEqual("grpc: received message after decompression larger than max 4194304", text)

    async def test_reader_that_stops(self) -> None:
        """What a client does not read waits here, and goes on when it reads again."""

        def read_slowly(channel: Any) -> int:
            answers = channel.unary_stream("/test.Echo/Flood")(b"", timeout=TIMEOUT_SECONDS)
            next(answers)
            self.blocked.wait(TIMEOUT_SECONDS)
            return 1 + sum(1 for _ in answers)

        self.assertEqual(FLOOD, await self.talk(read_slowly))

    async def test_drain(self) -> None:
        """Calls in progress are answered while the server drains; the client's next one goes elsewhere."""

        def call_and_drain(channel: Any) -> tuple[list[bytes], Any]:
            hold = threading.Event()

            def say() -> Iterator[bytes]:
                yield b"before"
                hold.wait(TIMEOUT_SECONDS)
                yield b"after"

            answers = channel.stream_stream("/test.Echo/Talk")(say(), timeout=TIMEOUT_SECONDS)
            heard = [next(answers)]
            blockingCallFromThread(reactor, self.drain)
            hold.set()
            heard += list(answers)
            try:
                channel.unary_unary("/test.Echo/Echo")(b"", timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                status: Any = error
                return heard, status.code()
            return heard, None

        heard, code = await self.talk(call_and_drain)
        self.assertEqual([b"before", b"after"], heard)
        self.assertEqual(grpc.StatusCode.UNAVAILABLE, code)

    async def drain(self) -> None:
        """Close the port, and tell the clients."""
        await self.port.stopListening()
        self.factory.drain()

    async def test_deadline(self) -> None:
        """A call that is not answered in time fails at the client, and is cancelled here."""
        code, _ = await self.failure(
            lambda channel: channel.unary_unary("/test.Echo/Wait")(b"", timeout=0.05)
        )
        self.assertEqual(grpc.StatusCode.DEADLINE_EXCEEDED, code)
        await self.cancelled

    async def test_cancellation(self) -> None:
        """A stream that the client gives up is cancelled here."""

        def begin_and_cancel(channel: Any) -> bytes:
            hold = threading.Event()

            def say() -> Iterator[bytes]:
                yield b"hello"
                hold.wait(TIMEOUT_SECONDS)

            call = channel.stream_stream("/test.Echo/Talk")(say())
            first: bytes = next(call)
            call.cancel()
            hold.set()
            return first

        self.assertEqual(b"hello", await self.talk(begin_and_cancel))
        self.assertEqual("cancelled", await self.streams[0].ended)

    async def test_status(self) -> None:
        """Code and message arrive, whatever characters the message has."""
        for text in (
            "etcdserver: key not found",
            "100 % Gr\u00fc\u00dfe \u4e16\u754c\n\U0001f600",
            "x" * 3000,
        ):

            def ask(channel: Any, body: bytes = text.encode()) -> None:
                channel.unary_unary("/test.Echo/Fail")(body, timeout=TIMEOUT_SECONDS)

            self.assertEqual((grpc.StatusCode.FAILED_PRECONDITION, text), await self.failure(ask))

    async def test_unknown(self) -> None:
        """Methods that are not served."""
        for path, text in (
            ("/test.Echo/Nothing", "unknown method Nothing for service test.Echo"),
            ("/no.Such/Thing", "unknown service no.Such"),
        ):
            for kind in ("unary_unary", "unary_stream"):

                def ask(channel: Any, path: str = path, kind: str = kind) -> None:
                    list(getattr(channel, kind)(path)(b"", timeout=TIMEOUT_SECONDS))

                self.assertEqual((grpc.StatusCode.UNIMPLEMENTED, text), await self.failure(ask))

    async def test_gzip(self) -> None:
        """Messages that the client compressed."""
        answer = await self.talk(
            lambda channel: [
                channel.unary_unary("/test.Echo/Echo")(LARGE, timeout=TIMEOUT_SECONDS),
                *channel.unary_stream("/test.Echo/Count")(b"3", timeout=TIMEOUT_SECONDS),
            ],
            compression=grpc.Compression.Gzip,
        )
        self.assertEqual([LARGE, b"0", b"1", b"2"], answer)
