"""RFC 9113, 8: requests and their header fields."""

from __future__ import annotations

from tests.protocols.client import data, headers, request
from tests.protocols.http2case import ENDED, OPENED, Case
from twistedetcd.protocols.framing import DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, ErrorCode, frame
from twistedetcd.protocols.hpack import Header, encode

PROTOCOL = ErrorCode.PROTOCOL_ERROR
METHOD, SCHEME, PATH = (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")
LEAST = [METHOD, SCHEME, PATH]


class FieldCase(Case):
    """Requests with these fields."""

    def taken(self, *fields: Header) -> None:
        """It is a request."""
        self.assertEqual([(OPENED, 1, None)], self.say(headers(1, list(fields))))

    def malformed(self, *fields: Header) -> None:
        """It is malformed: PROTOCOL_ERROR of its stream (8.1.1); the next request is served."""
        self.setUp()
        self.assertEqual([], self.assert_reset(1, PROTOCOL, headers(1, list(fields))))
        self.assertEqual([(OPENED, 3, None)], self.say(headers(3, request())))


class FramingTests(Case):
    """8.1: how a message is framed."""

    def test_trailers(self) -> None:
        """HEADERS with END_STREAM end a request."""
        self.open(1, ended=False)
        events = self.say(data(1, b"x", end=False), headers(1, [(b"sum", b"1")], end=True))
        self.assertEqual([("DATA", 1, b"x"), (ENDED, 1, None)], events)

    def test_second_headers_without_end_stream(self) -> None:
        """Others are malformed."""
        self.open(1, ended=False)
        self.assert_reset(1, PROTOCOL, headers(1, [(b"a", b"b")]))

    def test_pseudo_header_in_trailers(self) -> None:
        """So are pseudo-headers in trailers (8.3)."""
        self.open(1, ended=False)
        self.assert_reset(1, PROTOCOL, headers(1, [METHOD], end=True))

    def test_no_body(self) -> None:
        """A request may have no body at all."""
        self.assertEqual([(OPENED, 1, None), (ENDED, 1, None)], self.say(headers(1, LEAST, end=True)))


class NameTests(FieldCase):
    """8.2 and 8.2.1: names and values."""

    def test_upper_case(self) -> None:
        """Upper case in a name is malformed."""
        self.malformed(*LEAST, (b"X-Test", b"ok"))

    def test_characters_of_names(self) -> None:
        """So are controls, blanks, colons, octets above ASCII, and no name at all."""
        for name in (b"", b"a b", b"a:b", b"a\x7f", b"a\x80", b"a\0", b"a\n"):
            self.malformed(*LEAST, (name, b""))

    def test_characters_of_values(self) -> None:
        """So are NUL, CR and LF in a value, a pseudo-header's too."""
        for octet in (b"\0", b"\r", b"\n"):
            self.malformed(*LEAST, (b"a", b"b" + octet))
            self.malformed(METHOD, SCHEME, (b":path", b"/" + octet))

    def test_other_octets_in_values(self) -> None:
        """Anything else is not."""
        self.taken(*LEAST, (b"a", bytes(range(0x80, 0x100)) + b"\t \x7f"))


class ConnectionSpecificTests(FieldCase):
    """8.2.2: fields of HTTP/1.1."""

    def test_connection_specific(self) -> None:
        """They are malformed."""
        for name in (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"):
            self.malformed(*LEAST, (name, b"x"))

    def test_te(self) -> None:
        """So is TE, but for trailers; each of several counts."""
        self.malformed(*LEAST, (b"te", b"gzip"))
        self.malformed(*LEAST, (b"te", b"trailers, deflate;q=0.5"))
        self.malformed(*LEAST, (b"te", b"gzip"), (b"te", b"trailers"))
        self.setUp()
        self.taken(*LEAST, (b"te", b"trailers"))


class PseudoHeaderTests(FieldCase):
    """8.3 and 8.3.1: pseudo-headers of requests."""

    def test_unknown(self) -> None:
        """An unknown one is malformed, and so is one of responses."""
        self.malformed(*LEAST, (b":test", b"ok"))
        self.malformed(*LEAST, (b":status", b"200"))

    def test_after_a_regular_field(self) -> None:
        """So is one after a regular field."""
        self.malformed(METHOD, SCHEME, (b"a", b"b"), PATH)

    def test_missing(self) -> None:
        """:method, :scheme and :path must be there."""
        for missing in LEAST:
            self.malformed(*(field for field in LEAST if field != missing))

    def test_repeated(self) -> None:
        """Each may come once."""
        for repeated in LEAST:
            self.malformed(*LEAST, repeated)
        self.malformed(*LEAST, (b":authority", b"a"), (b":authority", b"a"))

    def test_empty_path(self) -> None:
        """:path is not empty."""
        self.malformed(METHOD, SCHEME, (b":path", b""))

    def test_any_order(self) -> None:
        """Their order is free."""
        self.taken(PATH, (b":authority", b"a"), SCHEME, METHOD)


class ContentLengthTests(FieldCase):
    """8.1.1: content-length is the length of all DATA."""

    def body(self, length: bytes, *parts: bytes, padded: bool = False) -> bytes:
        """A request whose body comes in these parts."""
        sent = headers(1, [*LEAST, (b"content-length", length)])
        for number, part in enumerate(parts, 1):
            flags = END_STREAM if number == len(parts) else 0
            if padded:
                flags, part = flags | PADDED, b"\x02" + part + b"\0\0"
            sent += frame(DATA, flags, 1, part)
        return sent

    def test_right(self) -> None:
        """What is right is taken: whole, in parts, padded, and again from memory."""
        self.assertEqual([(OPENED, 1, None), ("WHOLE", 1, b"four")], self.say(self.body(b"4", b"four")))
        for parts, padded in (((b"fo", b"ur"), False), ((b"fou", b"r"), True), ((b"four", b""), False)):
            self.setUp()
            self.assertEqual((ENDED, 1, None), self.say(self.body(b"4", *parts, padded=padded))[-1])
        self.say(headers(3, [*LEAST, (b"content-length", b"4")]))
        self.assertEqual([("WHOLE", 3, b"more")], self.say(data(3, b"more")))

    def test_wrong(self) -> None:
        """Too much or too little is malformed, in one DATA frame or in several."""
        for parts in ((b"thr",), (b"five5",), (b"t", b"hr"), (b"fiv", b"e5"), (b"five5", b""), (b"",)):
            self.setUp()
            self.assert_reset(1, PROTOCOL, self.body(b"4", *parts))

    def test_wrong_from_memory(self) -> None:
        """A remembered header block is held to its length, too."""
        self.say(self.body(b"4", b"four"))
        self.say(headers(3, [*LEAST, (b"content-length", b"4")]))
        self.assert_reset(3, PROTOCOL, data(3, b"three"))

    def test_too_much_is_known_at_once(self) -> None:
        """More than was promised does not wait for the end."""
        self.say(headers(1, [*LEAST, (b"content-length", b"4")]))
        self.assert_reset(1, PROTOCOL, data(1, b"five5", end=False))

    def test_without_a_body(self) -> None:
        """A request that ends with its HEADERS, or trailers, is held to it as well."""
        self.assertEqual(
            [(OPENED, 1, None), (ENDED, 1, None)],
            self.say(headers(1, [*LEAST, (b"content-length", b"0")], end=True)),
        )
        self.setUp()
        self.assert_reset(1, PROTOCOL, headers(1, [*LEAST, (b"content-length", b"4")], end=True))
        self.setUp()
        self.say(headers(1, [*LEAST, (b"content-length", b"4")]))
        self.assert_reset(1, PROTOCOL, headers(1, [(b"sum", b"1")], end=True))

    def test_no_number(self) -> None:
        """What is no number, or two, is malformed; the same one twice is not (RFC 9110, 8.6)."""
        for length in (b"", b"-1", b"+1", b"1 ", b"0x1", b"1,1", "\u0661".encode(), b"1" * 19):
            self.malformed(*LEAST, (b"content-length", length))
        self.malformed(*LEAST, (b"content-length", b"1"), (b"content-length", b"2"))
        self.setUp()
        self.taken(*LEAST, (b"content-length", b"1"), (b"content-length", b"1"))


class BlockTests(Case):
    """4.3: header blocks."""

    def test_invalid_block(self) -> None:
        """A block that cannot be decoded is COMPRESSION_ERROR of the connection."""
        for wrong in (b"\x40", b"\x80", b"\xff\xff\xff\xff\x7f", b"\x41\x8f"):
            self.setUp()
            self.assert_dead(ErrorCode.COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, wrong))

    def test_invalid_block_of_trailers(self) -> None:
        """Also in trailers."""
        self.open(1, ended=False)
        self.assert_dead(ErrorCode.COMPRESSION_ERROR, frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xbe"))

    def test_refused_requests_are_decoded(self) -> None:
        """A request that is refused has changed the table all the same (4.3)."""
        insertion = b"\x40\x01a\x01x"
        self.assert_reset(1, PROTOCOL, frame(HEADERS, END_HEADERS, 1, insertion))
        self.say(frame(HEADERS, END_HEADERS, 3, encode(LEAST) + b"\xbe"))
        self.assertEqual((b"a", b"x"), self.server.streams[3].request[-1])

    def test_list_too_large(self) -> None:
        """A list above MAX_HEADER_LIST_SIZE costs its stream, not the connection (10.5.1)."""
        block = encode(LEAST) + b"\x40\x04name\x7f\x89\x1d" + b"x" * 3848 + b"\xbe" * 20
        self.assert_reset(1, ErrorCode.ENHANCE_YOUR_CALM, frame(HEADERS, END_HEADERS, 1, block))
        self.assertEqual([(OPENED, 3, None)], self.say(headers(3, request())))
