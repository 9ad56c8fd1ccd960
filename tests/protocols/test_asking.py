"""asking and metadata: what a header list asks for, and what is said when that cannot be had."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.protocols.client import (
    START,
    data,
    headers,
    message,
    request,
)
from tests.protocols.grpccase import ECHO, REFUSE, WAIT, Case, gzipped
from twistedetcd.errors import Code
from twistedetcd.protocols.grpc import Request
from twistedetcd.protocols.hpack import Header
from twistedetcd.protocols.metadata import STATUS_TEXT_BYTES_MAX, percent_encoded

UNKNOWN = b"/test.Echo/Unknown"


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

    def test_binary_metadata(self) -> None:
        """A header whose name ends with -bin must be base64, padded or not."""
        good = [*request(UNKNOWN), (b"a-bin", b"AAE="), (b"a-bin", b"AAE"), (b"b-bin", b"")]
        self.assertEqual(b"200", self.refused(good)[b":status"])
        answer = self.refused([*request(), (b"a-bin", b"not base64!")])
        self.assertEqual((b"400", b"13"), (answer[b":status"], answer[b"grpc-status"]))
        self.assertIn(b'malformed binary metadata "not base64!" in header "a-bin"', answer[b"grpc-message"])

    def test_hosts(self) -> None:
        """More than one host cannot be served; one is (gRPC's document A41)."""
        hosts = [(b"host", b"a"), (b"host", b"b")]
        answer = self.refused([*request(), *hosts])
        self.assertEqual((b"400", b"13"), (answer[b":status"], answer[b"grpc-status"]))
        self.assertIn(b"num values of host: 2", answer[b"grpc-message"])
        self.assertEqual(b"12", self.refused([*request(UNKNOWN), hosts[0]])[b"grpc-status"])

    def test_timeout_of_what_is_no_grpc(self) -> None:
        """That it is no gRPC is said first."""
        fields = [(name, b"text/plain" if name == b"content-type" else value) for name, value in request()]
        self.assertEqual(b"415", self.refused([*fields, (b"grpc-timeout", b"x")])[b":status"])

    def test_bad_timeout_with_a_message(self) -> None:
        """The message of a request with a bad timeout reaches no handler, whole in one piece or not."""
        for parts in (1, 2):
            self.setUp()
            pieces = [headers(1, request(WAIT, (b"grpc-timeout", b"x"))), data(1, message(b"hello"))]
            for piece in pieces if parts == 2 else [b"".join(pieces)]:
                self.say(piece)
            self.assertEqual(([], Code.INTERNAL), (self.waiting, self.responses[1].status[0]))
            self.assert_quiet()

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
