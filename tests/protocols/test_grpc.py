"""grpc: calls out of bytes, and statuses in the words that grpc-go uses."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any
from unittest import mock

from tests.protocols.client import (
    START,
    data,
    headers,
    message,
    request,
    reset,
    window,
)
from tests.protocols.client import settings as setting
from tests.protocols.grpccase import ECHO, LIMIT, STREAM, WAIT, Case, Recorder, gzipped
from twistedetcd.errors import Code
from twistedetcd.protocols import compression
from twistedetcd.protocols.framing import GOAWAY, PING, frame
from twistedetcd.protocols.grpc import Method


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
        """A request without a message fails, and so does one that ends inside it: with etcd's code."""
        self.assert_status(Code.UNKNOWN, "EOF", self.call(b""))
        self.setUp()
        self.assert_status(Code.UNKNOWN, "unexpected EOF", self.call(message(b"hello")[:-1]))
        self.assert_quiet()
        self.setUp()
        self.say(headers(1, request(), end=True))
        self.assert_status(Code.UNKNOWN, "EOF", self.responses[1])

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
        text = "grpc: received message after decompression larger than max 2097152"
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
