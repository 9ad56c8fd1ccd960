"""grpc: calls out of bytes, and statuses in the words that grpc-go uses."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any
from unittest import mock
from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import (
    START,
    Response,
    Responses,
    data,
    headers,
    message,
    request,
    reset,
    window,
)
from tests.protocols.client import settings as setting
from twistedetcd.errors import Code
from twistedetcd.protocols import calls, compression, grpc
from twistedetcd.protocols.framing import FRAME_BYTES_MAX, GOAWAY, PING, WAITING_BYTES_MAX, frame
from twistedetcd.protocols.grpc import Call, Connection, Method, Request
from twistedetcd.protocols.hpack import Header
from twistedetcd.protocols.metadata import STATUS_TEXT_BYTES_MAX, percent_encoded

ECHO, WAIT, STREAM, REFUSE = (b"/test.Echo/" + name for name in (b"Unary", b"Wait", b"Stream", b"Refuse"))
LIMIT = 2097152


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.told: list[bytes | str] = []
        self.on_message: Callable[[bytes], object] = lambda body: None

    def message_received(self, message: bytes) -> None:
        self.told.append(message)
        self.on_message(message)

    def half_closed(self) -> None:
        self.told.append("half closed")

    def cancelled(self) -> None:
        self.told.append("cancelled")

    def writable(self) -> None:
        self.told.append("writable")


def gzipped(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(body) + packer.flush()


class Case(SynchronousTestCase):
    """A connection that serves an echo, a call that waits, a stream, and a stream that is refused."""

    def setUp(self) -> None:
        self.waiting: list[tuple[Call, bytes]] = []
        self.receivers: list[Recorder] = []
        self.responses = Responses()
        self.wakes = 0
        self.server = self.connection()
        self.say(START)

    def connection(self, methods: dict[bytes, Method] | None = None, **options: Any) -> Any:
        return Connection(
            methods
            or {
                ECHO: Method(unary=lambda call, body: call.reply(body)),
                WAIT: Method(unary=lambda call, body: self.waiting.append((call, body))),
                STREAM: Method(stream=self.record),
                REFUSE: Method(stream=self.refuse),
            },
            self.wake,
            message_bytes_max=LIMIT,
            **options,
        )

    def wake(self) -> None:
        self.wakes += 1

    def record(self, call: Call) -> Recorder:
        self.receivers.append(Recorder(call))
        return self.receivers[-1]

    def refuse(self, call: Call) -> Recorder:
        call.fail(Code.UNAVAILABLE, "not now")
        return self.record(call)

    def say(self, *parts: bytes, now: float = 0.0) -> int:
        served: int = self.server.receive(b"".join(parts), now)
        self.responses.take(b"".join(self.server.taken()))
        return served

    def send_body(self, stream: int, body: bytes, end: bool = True) -> None:
        for at in range(0, len(body), FRAME_BYTES_MAX):
            last = at + FRAME_BYTES_MAX >= len(body)
            self.say(data(stream, body[at : at + FRAME_BYTES_MAX], end and last))

    def call(self, *parts: bytes, path: bytes = ECHO, more: tuple[Header, ...] = ()) -> Response:
        """A call on stream 1 with these DATA frames."""
        self.say(headers(1, request(path, *more)))
        for number, part in enumerate(parts, 1):
            self.say(data(1, part, end=number == len(parts)))
        return self.responses[1]

    def assert_status(self, code: Code, text: str, response: Response) -> None:
        self.assertEqual((code, text), response.status)
        self.assertTrue(response.ended)

    def assert_quiet(self) -> None:
        """Nothing is kept of the calls."""
        self.assertEqual({}, self.server.http2.streams)
        self.assertEqual(
            (0, 0, 0), (self.server.streaming, self.server._partial_bytes, self.server.in_progress)
        )


class UnaryTests(Case):
    """One message in, one out."""

    def test_echo(self) -> None:
        """Head, message and trailers come back."""
        response = self.call(message(b"hello"))
        self.assertEqual([b"hello"], response.messages)
        self.assertEqual({b":status": b"200", b"content-type": b"application/grpc"}, response.headers[0])
        self.assertEqual({b"grpc-status": b"0"}, response.headers[1])
        self.assertTrue(response.ended)
        self.assert_quiet()

    def test_served_is_counted(self) -> None:
        """receive() says how many calls were handed on; those that were refused do not count."""
        self.assertEqual(1, self.say(headers(1, request()), data(1, message(b"one"))))
        both = headers(3, request()) + data(3, message(b"two"))
        both += headers(5, request()) + data(5, b"\0\0\0\0\1", end=False) + data(5, b"3")
        self.assertEqual(2, self.say(both, headers(7, request(b"/no")), data(7, message(b""))))

    def test_message_in_parts(self) -> None:
        """A message may be cut anywhere, also inside its prefix, and END_STREAM may come alone."""
        whole = message(b"0123456789")
        for stream, cut in enumerate(range(len(whole) + 1)):
            stream = 2 * stream + 1
            self.say(
                headers(stream, request()), data(stream, whole[:cut], end=False), data(stream, whole[cut:])
            )
            self.assertEqual([b"0123456789"], self.responses[stream].messages)
        self.assert_quiet()

    def test_empty_message(self) -> None:
        """A message of no octets is a message."""
        self.assertEqual([b""], self.call(message(b"")).messages)

    def test_large_message(self) -> None:
        """A message up to the limit is served, and comes back as the windows let it."""
        body = bytes(range(256)) * (LIMIT // 256)
        self.say(headers(1, request()))
        self.send_body(1, message(body))
        self.say(window(0, LIMIT), window(1, LIMIT))
        self.assertEqual([body], self.responses[1].messages)
        self.assertTrue(self.responses[1].ended)
        self.assert_quiet()

    def test_last_frame_that_looks_like_a_message(self) -> None:
        """What looks like a message at the end of a long body is not taken for one."""
        body = bytes(512 * 1024 - 5) + message(b"inner")
        self.say(headers(1, request(WAIT)))
        self.send_body(1, message(body), end=True)
        [(_, received)] = self.waiting
        self.assertEqual(body, received)

    def test_no_message(self) -> None:
        """A request without a message fails, and so does one that ends inside it."""
        self.assert_status(Code.INTERNAL, "EOF", self.call(b""))
        self.setUp()
        self.assert_status(Code.INTERNAL, "unexpected EOF", self.call(message(b"hello")[:-1]))
        self.assert_quiet()
        self.setUp()
        self.say(headers(1, request(), end=True))
        self.assert_status(Code.INTERNAL, "EOF", self.responses[1])

    def test_two_messages(self) -> None:
        """A unary request has one message."""
        for parts in ([message(b"a") + message(b"b")], [message(b"a"), message(b"b")]):
            self.setUp()
            code, _ = self.call(*parts, path=WAIT).status
            self.assertEqual((Code.INTERNAL, []), (code, self.waiting))
            self.assert_quiet()

    def test_too_large(self) -> None:
        """The prefix alone gets a message above the limit refused, however its frames are cut."""
        text = "grpc: received message larger than max (2097262 vs. 2097152)"
        prefix = b"\0" + (2097262).to_bytes(4, "big")
        for parts in ((prefix,), (prefix[:2], prefix[2:], b"more"), (prefix + b"abc", b"")):
            self.setUp()
            self.assert_status(Code.RESOURCE_EXHAUSTED, text, self.call(*parts))
            self.assert_quiet()

    def test_late_reply_is_ignored(self) -> None:
        """A call answers once; an answer after the client left is nobody's."""
        self.say(headers(1, request(WAIT)), data(1, message(b"")))
        self.say(headers(3, request(WAIT)), data(3, message(b"")), reset(3))
        (first, _), (second, _) = self.waiting
        first.reply(b"one")
        for call in (first, second):
            call.reply(b"two")
            call.fail(Code.INTERNAL, "late")
            call.finish()
            self.assertEqual(0, call.send(b"late"))
        self.say()
        self.assertEqual([b"one"], self.responses[1].messages)
        self.assertNotIn(3, self.responses)

    def test_reset_in_the_same_piece(self) -> None:
        """A request, its reset and another request in one piece: only the other is answered."""
        self.say(
            headers(1, request()),
            data(1, message(b"a")),
            reset(1),
            headers(3, request()),
            data(3, message(b"b")),
        )
        self.assertEqual([3], list(self.responses))
        self.assertFalse(self.server.http2.closed)

    def test_fault_in_the_same_piece(self) -> None:
        """Calls before a fault of the connection get their handlers called, and then cancelled."""
        cancelled = []
        wait = Method(unary=lambda call, body: setattr(call, "on_cancelled", lambda: cancelled.append(1)))
        echo = Method(unary=lambda call, body: call.reply(body))
        self.server = self.connection({ECHO: echo, WAIT: wait, STREAM: Method(stream=self.record)})
        self.say(START)
        self.say(
            headers(1, request()),
            data(1, message(b"a")),
            headers(3, request(WAIT)),
            data(3, message(b"b")),
            headers(5, request(STREAM)),
            frame(PING, 0, 1, bytes(8)),
        )
        self.assertEqual([1], cancelled)
        self.assertEqual(["cancelled"], self.receivers[0].told)
        self.assertEqual(GOAWAY, self.responses.others[-1].kind)
        self.assert_quiet()

    def test_one_wake(self) -> None:
        """The owner is woken once for all output until it took it."""
        self.assertEqual(0, self.wakes)
        self.server.receive(b"".join(headers(n, request()) + data(n, message(b"")) for n in (1, 3, 5)), 0.0)
        self.assertEqual(1, self.wakes)
        self.server.taken()
        self.server.receive(frame(PING, 0, 0, bytes(8)), 0.0)
        self.assertEqual(2, self.wakes)
        self.assertTrue(self.server.has_output)


class CompressionTests(Case):
    """gzip in; gzip out to those who sent it, where that makes a message smaller."""

    gzip = ((b"grpc-encoding", b"gzip"),)

    def test_gzip(self) -> None:
        """A compressed message is decompressed, and its answer compressed; others are left as they are."""
        response = self.call(message(gzipped(b"hello" * 99), 1), more=self.gzip)
        self.assertEqual(b"gzip", response.headers[0][b"grpc-encoding"])
        self.assertEqual(1, response.body[0])
        self.assertEqual([b"hello" * 99], [zlib.decompress(body, wbits=31) for body in response.messages])
        for flag, body, sent in ((0, b"hello" * 99, b"hello" * 99), (1, b"hello", gzipped(b"hello"))):
            self.setUp()
            response = self.call(message(sent, flag), more=self.gzip)
            self.assertEqual((0, [body]), (response.body[0], response.messages))
        self.assert_quiet()

    def test_what_does_not_get_smaller(self) -> None:
        """Answers that are small, very large or random are sent as they are; others are packed."""
        noise = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(10))
        opening = headers(1, request(STREAM, *self.gzip))
        self.say(opening, data(1, message(gzipped(b"hi"), 1), end=False))
        [receiver] = self.receivers
        for answer in (b"few", noise, b"z" * 1000):
            receiver.call.send(answer)
        receiver.call.finish()
        self.say()
        body = self.responses[1].body
        flags, at = [], 0
        while at < len(body):
            flags.append(body[at])
            at += 5 + int.from_bytes(body[at + 1 : at + 5], "big")
        self.assertEqual([0, 0, 1], flags)
        self.assertIsNone(compression.gzip_if_smaller(bytes(compression.COMPRESSED_BYTES_MAX + 1)))

    def test_flag_without_encoding(self) -> None:
        """The flag needs an encoding that is not identity."""
        text = "grpc: compressed flag set with identity or empty encoding"
        for more in ((), ((b"grpc-encoding", b"identity"),)):
            self.setUp()
            self.assert_status(Code.INTERNAL, text, self.call(message(gzipped(b"x"), 1), more=more))
            self.assert_quiet()

    def test_unknown_flag(self) -> None:
        """A flag that means nothing is refused."""
        text = "grpc: received unexpected payload format 2"
        self.assert_status(Code.INTERNAL, text, self.call(message(b"x", 2), more=self.gzip))

    def test_unknown_encoding(self) -> None:
        """An encoding that is not installed is refused, compressed or not."""
        text = 'grpc: Decompressor is not installed for grpc-encoding "snappy"'
        response = self.call(message(b"x"), more=((b"grpc-encoding", b"snappy"),))
        self.assert_status(Code.UNIMPLEMENTED, text, response)
        self.assertEqual(b"gzip", response.headers[0][b"grpc-accept-encoding"])

    def test_bomb(self) -> None:
        """A small message that grows above the limit is refused at the limit; the limit itself is served."""
        self.say(headers(1, request(ECHO, *self.gzip)))
        self.send_body(1, message(gzipped(bytes(50 * LIMIT)), 1))
        response = self.responses[1]
        text = "grpc: received message after decompression larger than max (2097153 vs. 2097152)"
        self.assert_status(Code.RESOURCE_EXHAUSTED, text, response)
        self.setUp()
        self.call(message(gzipped(bytes(LIMIT)), 1), more=self.gzip, path=WAIT)
        self.assertEqual(LIMIT, len(self.waiting[0][1]))

    def test_garbage(self) -> None:
        """What is not gzip, ends early, or has more behind it, is refused."""
        good = gzipped(b"hello")
        for bad in (b"", b"garbage", good[:-3], good[:5], good + b"more", good[:-5] + b"12345"):
            self.setUp()
            code, text = self.call(message(bad, 1), more=self.gzip).status
            self.assertEqual(Code.INTERNAL, code)
            self.assertTrue(text.startswith("grpc: failed to decompress the received message: "), text)
            self.assert_quiet()


class RefusalTests(Case):
    """Requests that reach no handler are answered with headers only."""

    def refused(self, fields: list[Header]) -> dict[bytes, bytes]:
        """The one header block that answers these headers."""
        self.setUp()
        self.say(headers(1, fields), data(1, message(b"x")))
        [answer] = self.responses[1].headers
        self.assertEqual((b"", True), (self.responses[1].body, self.responses[1].ended))
        self.assert_quiet()
        return answer

    def test_unknown_names(self) -> None:
        """Unknown services, unknown methods and malformed paths have their own texts."""
        for path, text in (
            (b"/foo.Bar/Baz", b"unknown service foo.Bar"),
            (b"/test.Echo/Foo", b"unknown method Foo for service test.Echo"),
            (b"/test.Ech/Unary", b"unknown service test.Ech"),
            (b"/test/Echo/Unary", b"unknown service test/Echo"),
            (b"nothing", b'malformed method name: "nothing"'),
            (b"/nothing", b'malformed method name: "/nothing"'),
            ("/gr\u00fc\u00df/Gott".encode(), b"unknown service gr%C3%BC%C3%9F"),
            (b"/\xff/x", b"unknown service %FF"),
        ):
            answer = self.refused(request(path))
            self.assertEqual(
                (b"200", b"12", text), tuple(answer[n] for n in (b":status", b"grpc-status", b"grpc-message"))
            )

    def test_long_names(self) -> None:
        """A path of any length is answered with one frame."""
        answer = self.refused(request(b"/" + b"\xc3\xbc" * 8_000 + b"/x"))
        self.assertLessEqual(len(unquote_to_bytes(answer[b"grpc-message"])), STATUS_TEXT_BYTES_MAX)
        unquote_to_bytes(answer[b"grpc-message"]).decode()

    def test_content_type(self) -> None:
        """Other content is answered 415 with status 3; gRPC's variants are served."""
        for content in (b"text/html", b"application/grpcfoo", b"application/grpc-web", b""):
            answer = self.refused([*request()[:3], (b"content-type", content)])
            text = f'invalid gRPC request content-type "{content.decode()}"'.encode()
            self.assertEqual(
                (b"415", b"3", text), (answer[b":status"], answer[b"grpc-status"], answer[b"grpc-message"])
            )
        self.assertEqual(b"415", self.refused(request()[:3])[b":status"])
        for content in (b"application/grpc+proto", b"application/grpc;v=1", b"Application/GRPC"):
            self.setUp()
            self.say(headers(1, [*request()[:3], (b"content-type", content)]), data(1, message(b"x")))
            self.assertEqual([b"x"], self.responses[1].messages)

    def test_method(self) -> None:
        """Anything but POST is answered 405."""
        answer = self.refused([(b":method", b"GET"), *request()[1:]])
        self.assertEqual(
            (b"405", b'Received a HEADERS frame with :method "GET" which should be POST'),
            (answer[b":status"], answer[b"grpc-message"]),
        )

    def test_timeout(self) -> None:
        """A timeout has one to eight digits and a unit."""
        for value, problem in (
            (b"", "timeout string is too short"),
            (b"S", "timeout string is too short"),
            (b"123456789S", "timeout string is too long"),
            (b"5x", "timeout unit is not recognized"),
            (b"-5S", "timeout is not a number"),
            (b"1.5S", "timeout is not a number"),
        ):
            answer = self.refused(request(ECHO, (b"grpc-timeout", value)))
            text = f'malformed grpc-timeout: transport: {problem}: "{value.decode()}"'
            self.assertEqual(
                (b"400", b"13", text.encode()),
                (answer[b":status"], answer[b"grpc-status"], answer[b"grpc-message"]),
            )

    def test_refused_by_its_factory(self) -> None:
        """A stream that is refused while its receiver is made is over; the receiver hears nothing."""
        self.say(headers(1, request(REFUSE)), data(1, message(b"x"), end=False))
        self.assert_status(Code.UNAVAILABLE, "not now", self.responses[1])
        self.assertEqual([], self.receivers[0].told)
        self.assert_quiet()


class MessageTextTests(SynchronousTestCase):
    """grpc-message is percent-encoded."""

    def test_examples(self) -> None:
        """Printable ASCII is left alone, but for the percent sign."""
        for text, encoded in (
            ("etcdserver: key not found", b"etcdserver: key not found"),
            ("100% ~", b"100%25 ~"),
            ("\u00fc\n\x7f", b"%C3%BC%0A%7F"),
            ("\udcff\ud800", b"??"),
            ("\udcff", b"%FF"),
        ):
            self.assertEqual(encoded, percent_encoded(text))

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=1000))
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, text: str) -> None:
        """Decoded it is the same text, or the beginning of it."""
        encoded = percent_encoded(text)
        self.assertTrue(encoded.isascii() and (not encoded or encoded.decode().isprintable()))
        decoded = unquote_to_bytes(encoded).decode()
        self.assertTrue(text == decoded or (text.startswith(decoded) and len(decoded.encode()) > 4090))


class DeadlineTests(Case):
    """grpc-timeout ends a call here as it does at the client."""

    text = "context deadline exceeded"

    def open(self, path: bytes, timeout: bytes, stream: int = 1, body: bytes = b"") -> None:
        self.say(headers(stream, request(path, (b"grpc-timeout", timeout))), now=100.0)
        if body:
            self.say(data(stream, body), now=100.0)

    def expire(self, now: float) -> None:
        self.server.expire(now)
        self.say()

    def test_units(self) -> None:
        """Each unit is as long as it says."""
        for value, seconds in (
            (b"2H", 7200.0),
            (b"2M", 120.0),
            (b"2S", 2.0),
            (b"2m", 0.002),
            (b"2000000u", 2.0),
            (b"99999999n", 0.099999999),
        ):
            self.setUp()
            self.open(WAIT, value)
            [call] = self.server.http2.streams.values()
            self.assertAlmostEqual(100.0 + seconds, call.deadline)

    def test_unary(self) -> None:
        """A call that is not answered in time is failed, and its handler told once."""
        cancelled: list[str] = []
        self.open(WAIT, b"1S", 1, message(b""))
        self.open(WAIT, b"2S", 3, message(b""))
        for call, _ in self.waiting:
            call.on_cancelled = lambda: cancelled.append("told")
        self.expire(100.9)
        self.assertEqual([], cancelled)
        self.expire(101.0)
        self.assert_status(Code.DEADLINE_EXCEEDED, self.text, self.responses[1])
        self.assertEqual(["told"], cancelled)
        self.waiting[1][0].reply(b"in time")
        self.expire(500.0)
        self.server.lost()
        self.assertEqual(["told"], cancelled)
        self.assertEqual([b"in time"], self.responses[3].messages)
        self.waiting[0][0].reply(b"late")
        self.say(reset(1))
        self.assertEqual([], self.responses[1].messages)
        self.assert_quiet()

    def test_request_that_never_ends(self) -> None:
        """A call whose request is not complete is failed too; what came of it is dropped."""
        self.open(WAIT, b"1S")
        self.say(data(1, b"\0\0\0\1\0part", end=False))
        self.expire(101.0)
        self.assert_status(Code.DEADLINE_EXCEEDED, self.text, self.responses[1])
        self.assertEqual(0, self.responses[1].reset)
        self.say(data(1, b"more"))
        self.assert_quiet()

    def test_stream(self) -> None:
        """A stream that began ends with trailers after what was sent; its receiver is told once."""
        self.open(STREAM, b"1S")
        [receiver] = self.receivers
        receiver.call.send(b"first")
        self.expire(101.0)
        self.assertEqual([b"first"], self.responses[1].messages)
        self.assert_status(Code.DEADLINE_EXCEEDED, self.text, self.responses[1])
        self.say(reset(1))
        self.server.lost()
        self.assertEqual(["cancelled"], receiver.told)
        self.assert_quiet()


class StreamTests(Case):
    """Calls with a receiver."""

    def open(self, stream: int = 1) -> Recorder:
        self.say(headers(stream, request(STREAM)))
        self.assertEqual(len(self.receivers), self.server.streaming)
        return self.receivers[-1]

    def test_client_streaming(self) -> None:
        """Each message as it is complete, then the half-close, then one answer."""
        receiver = self.open()
        body = message(b"one") + message(b"") + message(b"three")
        for at in range(len(body)):
            self.say(data(1, body[at : at + 1], end=False))
        self.assertEqual([b"one", b"", b"three"], receiver.told)
        self.say(data(1, b""))
        self.assertEqual("half closed", receiver.told[-1])
        receiver.call.send(b"sum")
        receiver.call.finish()
        self.say()
        self.assertEqual([b"sum"], self.responses[1].messages)
        self.assert_status(Code.OK, "", self.responses[1])
        self.assert_quiet()

    def test_server_streaming(self) -> None:
        """One request in one frame, then any number of messages under one head."""
        self.say(headers(1, request(STREAM)), data(1, message(b"go")))
        [receiver] = self.receivers
        self.assertEqual([b"go", "half closed"], receiver.told)
        for number in range(5):
            self.assertEqual(0, receiver.call.send(b"%d" % number))
        receiver.call.fail(Code.OUT_OF_RANGE, "no more")
        self.say()
        self.assertEqual([b"0", b"1", b"2", b"3", b"4"], self.responses[1].messages)
        self.assertEqual(2, len(self.responses[1].headers))
        self.assert_status(Code.OUT_OF_RANGE, "no more", self.responses[1])
        self.assertNotIn("cancelled", receiver.told)
        self.assert_quiet()

    def test_both_ways(self) -> None:
        """Messages cross while both sides are open."""
        receiver = self.open()
        receiver.on_message = receiver.call.send
        for body in (b"a", b"b", b"c" * 100_000):
            self.send_body(1, message(body), end=False)
        self.say(window(0, 100_000), window(1, 100_000))
        self.assertEqual([b"a", b"b", b"c" * 100_000], self.responses[1].messages)
        self.assertFalse(self.responses[1].ended)

    def test_finish_without_a_message(self) -> None:
        """A stream that ends without messages is answered with headers only."""
        self.open().call.finish()
        self.say()
        self.assertEqual(1, len(self.responses[1].headers))
        self.assert_status(Code.OK, "", self.responses[1])
        self.assertEqual(0, self.responses[1].reset)

    def test_finish_in_the_middle(self) -> None:
        """Messages behind the one that ended the call are not delivered, nor is the half-close."""
        receiver = self.open()
        receiver.on_message = lambda body: receiver.call.fail(Code.ABORTED, "enough")
        self.say(data(1, message(b"a") + message(b"b")))
        self.assertEqual([b"a"], receiver.told)
        self.assert_status(Code.ABORTED, "enough", self.responses[1])
        self.assert_quiet()

    def test_flow_control(self) -> None:
        """send() says how much waits, and writable() comes once it went."""
        receiver = self.open()
        self.say(setting((4, 100)))
        self.assertEqual(0, receiver.call.send(bytes(95)))
        self.assertEqual(55, receiver.call.send(bytes(50)))
        self.assertEqual(60, receiver.call.send(b""))
        self.say(window(1, 59))
        self.assertEqual([], receiver.told)
        self.say(window(1, 1))
        self.assertEqual(["writable"], receiver.told)
        self.say()
        self.assertEqual([bytes(95), bytes(50), b""], self.responses[1].messages)

    def test_finish_behind_a_closed_window(self) -> None:
        """A finished stream goes on sending; its receiver hears no more, not even of the reset."""
        receiver = self.open()
        self.say(setting((4, 10)))
        receiver.call.send(bytes(50))
        receiver.call.finish()
        self.assertEqual(0, self.server.streaming)
        self.say(window(1, 20))
        self.assertFalse(self.responses[1].ended)
        self.say(window(1, 100))
        self.assert_status(Code.OK, "", self.responses[1])
        self.assertEqual([], receiver.told)
        self.assert_quiet()

    def test_hold(self) -> None:
        """While the transport takes nothing messages stay here, and writable() tells when it does again."""
        receiver = self.open()
        self.server.hold()
        self.assertEqual(105, receiver.call.send(bytes(100)))
        self.server.release()
        self.assertEqual(["writable"], receiver.told)
        self.assertTrue(self.server.has_output)
        self.say()
        self.assertEqual([bytes(100)], self.responses[1].messages)

    def test_reset_cancels(self) -> None:
        """RST_STREAM is told once."""
        receiver = self.open()
        self.say(reset(1))
        self.server.lost()
        self.assertEqual(["cancelled"], receiver.told)
        self.assert_quiet()

    def test_malformed_cancels(self) -> None:
        """A receiver also hears when we end its call for what the client sent."""
        for body, end, code in (
            (message(b"x")[:-1], True, Code.INTERNAL),
            (b"\0\xff\0\0\0", False, Code.RESOURCE_EXHAUSTED),
            (message(b"x", 1), False, Code.INTERNAL),
            (message(b"x", 9), False, Code.INTERNAL),
        ):
            self.setUp()
            receiver = self.open()
            self.say(data(1, body, end))
            self.assertEqual(code, self.responses[1].status[0])
            self.assertEqual(["cancelled"], receiver.told)
            self.assert_quiet()

    def test_lost(self) -> None:
        """A lost connection cancels each call, also when one of them cannot bear it."""
        receivers = [self.open(stream) for stream in (1, 3, 5)]
        self.say(headers(7, request(WAIT)), data(7, message(b"")))
        told: list[str] = []
        self.waiting[0][0].on_cancelled = lambda: told.append("unary")
        with mock.patch.object(receivers[1], "cancelled", side_effect=ZeroDivisionError):
            self.assertRaises(ZeroDivisionError, self.server.lost)
        self.assertEqual([["cancelled"], [], ["cancelled"]], [receiver.told for receiver in receivers])
        self.assertEqual(["unary"], told)
        self.assert_quiet()
        receivers[0].call.send(b"late")
        self.server.lost()


class BugTests(Case):
    """A handler that raises."""

    def fail_badly(self, *arguments: Any) -> Any:
        raise ZeroDivisionError

    def test_without_anybody_to_tell(self) -> None:
        """It is told to the caller, if to nobody else."""
        self.server = self.connection({ECHO: Method(unary=self.fail_badly)})
        self.say(START)
        self.assertRaises(ZeroDivisionError, self.call, message(b""))

    def test_streams_never_acted_on(self) -> None:
        """Streams that came behind it in one piece can be cancelled, though nobody heard of them."""
        self.server = self.connection({STREAM: Method(stream=self.fail_badly)})
        self.say(START)
        piece = b"".join(headers(n, request(STREAM)) + data(n, message(b"")) for n in (1, 3, 5))
        self.assertRaises(ZeroDivisionError, self.say, piece)
        self.server.expire(1.0)
        self.server.lost()
        self.assert_quiet()


class LimitTests(Case):
    """What calls may keep of us."""

    def test_unfinished_bodies(self) -> None:
        """Bodies that are not complete share one limit; the call that goes above it is ended."""
        self.patch(grpc, "PARTIAL_BYTES_MAX", 50_000)
        part = b"\0\0\1\0\0" + bytes(9_995)
        for stream in (1, 3, 5, 7, 9):
            self.say(headers(stream, request(STREAM if stream == 3 else WAIT)), data(stream, part, end=False))
        self.assertEqual({}, self.responses)
        self.say(data(3, b"x", end=False))
        code, text = self.responses[3].status
        self.assertEqual(
            (Code.RESOURCE_EXHAUSTED, "grpc: too many unfinished messages on this connection"), (code, text)
        )
        self.assertEqual(["cancelled"], self.receivers[0].told)
        self.assertEqual(40_000, self.server._partial_bytes)
        self.say(reset(1), data(5, bytes(55_541)[:10_000]))
        self.assertEqual(20_000, self.server._partial_bytes)

    def test_limit_is_64_mib(self) -> None:
        """The limit is 64 MiB for a connection; so is that for responses that wait."""
        self.assertEqual(64 << 20, grpc.PARTIAL_BYTES_MAX)
        self.assertEqual(64 << 20, WAITING_BYTES_MAX)

    def ask(self, *streams: int, path: bytes = WAIT) -> None:
        """Calls, in one piece."""
        self.say(b"".join(headers(n, request(path)) + data(n, message(b"x")) for n in streams))

    def codes(self) -> dict[int, int]:
        """How the calls that ended did."""
        return {n: response.status[0] for n, response in self.responses.items() if response.ended}

    def test_unread_in_one_turn(self) -> None:
        """Large answers stop at the limit though nothing was taken yet; small ones and errors pass."""
        for length in (3000, 50_000):
            self.setUp()
            self.server.unread_bytes_max = 100_000
            self.say(setting((4, 2**31 - 1)), window(0, 2**31 - 1 - 65535))
            self.ask(*range(1, 101, 2))
            for call, _ in self.waiting[:-1]:
                call.reply(bytes(length))
            self.waiting[-1][0].reply(bytes(100))
            self.responses.take(b"".join(self.server.taken()))
            codes = list(self.codes().values())
            passed = 100_000 // length + 1
            self.assertEqual([0] * passed + [8] * (49 - passed) + [0], codes)
            self.assertEqual(
                (Code.RESOURCE_EXHAUSTED, "grpc: too many bytes of responses unread on this connection"),
                self.responses[97].status,
            )
            self.assert_quiet()

    def test_unread_for_a_window(self) -> None:
        """Above the limit the handlers are not even asked, until the client took what there is."""
        self.server.unread_bytes_max = 72_000
        self.ask(*range(1, 11, 2))
        for call, _ in self.waiting[:4]:
            call.reply(bytes(70_000))
        self.say()
        self.assertEqual({5: 8, 7: 8}, self.codes())
        self.ask(11, 13)
        self.say(headers(15, request(WAIT)), data(15, message(b"x"), end=False), data(15, b""))
        self.assertEqual(5, len(self.waiting))
        self.assertEqual({5: 8, 7: 8, 11: 8, 13: 8, 15: 8}, self.codes())
        self.say(window(0, 1 << 20), window(1, 1 << 20), window(3, 1 << 20))
        self.ask(17)
        self.assertEqual(6, len(self.waiting))
        self.ask(19, path=ECHO)
        self.assertEqual(0, self.codes()[19])
        self.assertEqual(0, self.server.unread_bytes())

    def test_held_bytes_count(self) -> None:
        """So does what the owner could not write."""
        self.server.unread_bytes_max = 100_000
        self.server.held_bytes = 100_001
        self.ask(1)
        self.waiting[0][0].reply(bytes(3000))
        self.say()
        self.assertEqual({1: 8}, self.codes())

    def test_answer_too_large(self) -> None:
        """An answer above the limit is an error like any other."""
        self.assertEqual(2**31 - 1, grpc.SENT_MESSAGE_BYTES_MAX)
        self.patch(calls, "SENT_MESSAGE_BYTES_MAX", 5000)
        self.ask(1, 3)
        self.say(headers(5, request(STREAM)), headers(7, request(STREAM)))
        self.waiting[0][0].reply(bytes(5001))
        self.waiting[1][0].reply(bytes(5000))
        self.assertEqual(0, self.receivers[0].call.send(bytes(5001)))
        self.receivers[1].call.send(bytes(5000))
        self.assertEqual(0, self.receivers[1].call.send(bytes(5001)))
        self.say()
        too_large = (
            Code.RESOURCE_EXHAUSTED,
            "grpc: trying to send message larger than max (5001 vs. 5000)",
        )
        for stream in (1, 5, 7):
            self.assertEqual(too_large, self.responses[stream].status)
        self.assertEqual([bytes(5000)] * 2, [self.responses[n].messages[0] for n in (3, 7)])
        self.assertEqual(["cancelled"] * 2, [told for receiver in self.receivers for told in receiver.told])
        self.assert_quiet()

    def test_busy(self) -> None:
        """Busy are the calls that the application has, not those that wait for the client."""
        for stream in (1, 3, 5):
            self.say(headers(stream, request(WAIT)), data(stream, message(b"x")))
        self.say(headers(7, request(WAIT)), headers(9, request(STREAM)))
        self.assertEqual(3, self.server.in_progress)
        self.waiting[0][0].reply(bytes(100_000))
        self.assertIn(1, self.server.http2.streams)
        self.assertEqual(2, self.server.in_progress)

    steps = st.sampled_from(["open", "message", "large", "half", "end", "reset", "reply", "fail", "expire"])

    @given(st.lists(st.tuples(steps, st.integers(0, 3)), max_size=25), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_busy_count(self, steps: list[tuple[str, int]], one_piece: bool) -> None:
        """However calls begin and end, the count is of those the application has."""
        waiting: dict[int, Call] = {}

        def wait(call: Call, body: bytes) -> None:
            waiting[call.id] = call
            call.on_cancelled = lambda: waiting.pop(call.id) and None

        server = self.connection({WAIT: Method(unary=wait)})
        server.receive(START, 0.0)
        opened: list[int] = []
        said = []
        for step, which in steps:
            if step == "open":
                opened.append(2 * len(opened) + 1)
                said.append(headers(opened[-1], request(WAIT, (b"grpc-timeout", b"%dS" % (which + 1)))))
            elif not opened:
                continue
            stream = opened[which % len(opened)]
            said += {
                "message": [data(stream, message(b"x"))],
                "large": [data(stream, message(bytes(5000))[:100], end=False), data(stream, b"")],
                "half": [data(stream, message(b"x")[:3], end=False)],
                "end": [data(stream, b"")],
                "reset": [reset(stream)],
            }.get(step, [])
            if not one_piece or step in ("reply", "fail", "expire"):
                server.receive(b"".join(said), 0.0)
                said = []
            if step == "expire":
                server.expire(float(which + 1))
            elif step in ("reply", "fail") and stream in waiting:
                call = waiting.pop(stream)
                if step == "reply":
                    call.reply(b"y")
                else:
                    call.fail(Code.ABORTED, "no")
            if not server.http2.closed and not said:
                self.assertEqual(len(waiting), server.in_progress)


class MetadataTests(Case):
    """Headers, for handlers."""

    def test_look_up(self) -> None:
        """The first value of a name, or None."""
        self.say(headers(1, request(WAIT, (b"token", b"a"), (b"token", b"b"))), data(1, message(b"")))
        [(call, _)] = self.waiting
        self.assertEqual(b"a", call.request.metadata(b"token"))
        self.assertIsNone(call.request.metadata(b"other"))

    def test_first_value_wins(self) -> None:
        """Of a repeated name that matters to gRPC the first counts too; of timeouts, as in Go, the last."""
        self.say(
            headers(1, request(WAIT, (b"grpc-timeout", b"x"), (b"grpc-timeout", b"5S"))),
            data(1, message(b"")),
        )
        self.assertEqual(5.0, self.waiting[0][0].deadline)
        self.call(
            message(gzipped(b"x"), 1), more=((b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"unknown"))
        )

    def test_terms(self) -> None:
        """terms is asked once for each distinct header block, and its answer is with each call."""
        asked: list[Request] = []

        def terms(request: Request) -> str:
            asked.append(request)
            return f"terms {len(asked)}"

        self.server = self.connection(terms=terms)
        self.say(START)
        for stream, token in ((1, b"a"), (3, b"a"), (5, b"b"), (7, b"a")):
            self.say(headers(stream, request(WAIT, (b"token", token))), data(stream, message(b"")))
        self.assertEqual(
            ["terms 1", "terms 1", "terms 2", "terms 1"], [call.request.terms for call, _ in self.waiting]
        )
        self.assertEqual(2, len(asked))
