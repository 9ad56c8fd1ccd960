"""hpack: RFC 7541's own examples, then whatever the hpack library encodes."""

from __future__ import annotations

from typing import Any

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.protocols.hpack import (
    Decoder,
    Header,
    HeaderBlockError,
    HeaderListTooLargeError,
    encode,
)

texts = st.one_of(
    st.sampled_from([b"", b"a", b"gzip", b"/etcdserverpb.KV/Put", b"x" * 130]), st.binary(max_size=60)
)
names = st.one_of(st.sampled_from([b":path", b"te", b"content-type", b"token", b"n" * 200]), texts)
header_lists = st.lists(st.tuples(names, texts), max_size=8)
several = settings(max_examples=150, deadline=None)


def fields(text: str) -> list[Header]:
    """A header list as the RFC prints it."""
    pairs = [line.strip().split(": ") for line in text.strip().splitlines()]
    return [(name.encode(), value.encode()) for name, value in pairs]


FIRST = """
    :method: GET
    :scheme: http
    :path: /
    :authority: www.example.com
"""
SECOND = FIRST + "    cache-control: no-cache\n"
THIRD = """
    :method: GET
    :scheme: https
    :path: /index.html
    :authority: www.example.com
    custom-key: custom-value
"""
RESPONSES = [
    """
    :status: 302
    cache-control: private
    date: Mon, 21 Oct 2013 20:13:21 GMT
    location: https://www.example.com
    """,
    """
    :status: 307
    cache-control: private
    date: Mon, 21 Oct 2013 20:13:21 GMT
    location: https://www.example.com
    """,
    """
    :status: 200
    cache-control: private
    date: Mon, 21 Oct 2013 20:13:22 GMT
    location: https://www.example.com
    content-encoding: gzip
    set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1
    """,
]


class ExampleTests(SynchronousTestCase):
    """RFC 7541, appendix C."""

    def check(self, decoder: Decoder, blocks: list[str], lists: list[str]) -> None:
        for block, expected in zip(blocks, lists, strict=True):
            self.assertEqual(fields(expected), decoder.decode(bytes.fromhex(block)))
            self.assertTrue(decoder.touched)

    def test_literal_forms(self) -> None:
        """C.2: only the literal with indexing and nothing else touches the table."""
        decoder = Decoder()
        for block, header, touched in (
            ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), True),
            ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), False),
            ("100870617373776f726406736563726574", (b"password", b"secret"), False),
            ("82", (b":method", b"GET"), False),
        ):
            self.assertEqual([header], decoder.decode(bytes.fromhex(block)))
            self.assertEqual(touched, decoder.touched)

    def test_requests(self) -> None:
        """C.3: three requests of one connection, strings as they are."""
        blocks = [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ]
        self.check(Decoder(), blocks, [FIRST, SECOND, THIRD])

    def test_requests_with_huffman(self) -> None:
        """C.4: the same, Huffman-coded."""
        blocks = [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ]
        self.check(Decoder(), blocks, [FIRST, SECOND, THIRD])

    def test_responses_evict(self) -> None:
        """C.5: a table of 256 octets evicts the oldest entries, also while a header refers to one."""
        blocks = [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d"
            "4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b20766572"
            "73696f6e3d31",
        ]
        self.check(Decoder(table_bytes_max=256), blocks, RESPONSES)

    def test_responses_evict_with_huffman(self) -> None:
        """C.6: the same, Huffman-coded."""
        blocks = [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b"
            "97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdf"
            "cd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ]
        self.check(Decoder(table_bytes_max=256), blocks, RESPONSES)


class MalformedTests(SynchronousTestCase):
    """A malformed block is a HeaderBlockError, whatever is wrong with it."""

    def refused(self, block: bytes) -> None:
        self.assertRaises(HeaderBlockError, Decoder().decode, block)

    def test_index_out_of_range(self) -> None:
        """Index 0 means nothing, and an empty table has no index 62; names follow the same rule."""
        for block in (b"\x80", b"\xbe", b"\xff\xff\xff\xff\x0f", b"\x7f\x80\x01\x00", b"\x0f\xff\x01\x00"):
            self.refused(block)

    def test_integers_are_bounded(self) -> None:
        """An integer of more than five continuation octets is refused, zeros or not (5.1)."""
        self.refused(b"\xff" + b"\x80" * 5 + b"\x00")
        self.refused(b"\x00\x7f" + b"\xff" * 10)

    def test_every_cut(self) -> None:
        """A block that ends early is refused, wherever it was cut between two headers."""
        block = bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572")
        for end in range(1, len(block)):
            self.refused(block[:end])

    def test_huffman_padding(self) -> None:
        """Padding of Huffman strings is ones, less than an octet; the EOS symbol must not occur (5.2)."""
        self.refused(b"\x00\x81\x00\x00")  # "0" and padding of zeros
        self.refused(b"\x00\x82\x1f\xff\x00")  # "a" and more than seven ones
        self.refused(b"\x00\x84\xff\xff\xff\xff\x00")  # EOS
        self.assertEqual([(b"a", b"")], Decoder().decode(b"\x00\x81\x1f\x80"))

    def test_table_size(self) -> None:
        """A table size update comes first in its block and never above what was announced (6.3)."""
        self.refused(b"\x82\x20")
        self.refused(b"\x3f\xe2\x1f")
        decoder = Decoder()
        self.assertEqual([(b":method", b"GET")], decoder.decode(b"\x20\x3f\xe1\x1f\x82"))
        self.assertTrue(decoder.touched)

    def test_table_size_after_an_oversized_header(self) -> None:
        """It comes too late also after a header that was too large to be kept."""
        decoder = Decoder(list_bytes_max=40)
        self.assertRaises(HeaderBlockError, decoder.decode, encode([(b"name", b"x" * 40)]) + b"\x20")

    @given(st.lists(st.binary(max_size=50), max_size=4))
    @several
    def test_random_bytes(self, blocks: list[bytes]) -> None:
        """Any bytes decode or raise one of the two errors, and the table stays within its size."""
        decoder: Any = Decoder(table_bytes_max=200, list_bytes_max=300)
        for block in blocks:
            try:
                decoder.decode(block)
            except HeaderBlockError:
                break
            except HeaderListTooLargeError:
                pass
            used = sum(len(name) + len(value) + 32 for name, value in decoder._table)
            self.assertEqual(used, decoder._table_bytes)
            self.assertLessEqual(used, decoder._capacity)


class TooLargeTests(SynchronousTestCase):
    """A list above the limit is refused without losing the compression state."""

    def test_state_survives(self) -> None:
        """What an oversized block inserted is there for the next."""
        decoder, encoder = Decoder(list_bytes_max=200), hpack.Encoder()
        large = [(b"first", b"1"), (b"x" * 100, b"y" * 100), (b"last", b"2")]
        self.assertRaises(HeaderListTooLargeError, decoder.decode, encoder.encode(large))
        again = encoder.encode([(b"last", b"2")])
        self.assertEqual(1, len(again))
        self.assertEqual([(b"last", b"2")], decoder.decode(again))

    def test_limit_counts_the_overhead(self) -> None:
        """Name, value and 32 octets a header count (RFC 9113, 6.5.2); the limit itself is allowed."""
        block = encode([(b"ab", b"cd"), (b"ab", b"cd")])
        self.assertEqual(2, len(Decoder(list_bytes_max=72).decode(block)))
        self.assertRaises(HeaderListTooLargeError, Decoder(list_bytes_max=71).decode, block)

    def test_small_block_large_list(self) -> None:
        """A few octets that stand for megabytes are never laid out."""
        decoder = Decoder()
        decoder.decode(b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968)
        error = self.assertRaises(HeaderListTooLargeError, decoder.decode, b"\xbe" * 10_000)
        self.assertIn("40010000", str(error))


class AgreementTests(SynchronousTestCase):
    """We and the hpack library understand each other."""

    @given(st.lists(st.tuples(header_lists, st.booleans(), st.sampled_from([None, 0, 60, 200, 4096]))))
    @several
    def test_decodes_what_the_library_encodes(
        self, blocks: list[tuple[list[Header], bool, int | None]]
    ) -> None:
        """Over a connection with table size changes, Huffman on and off, both decoders see the same."""
        encoder, theirs, ours = hpack.Encoder(), hpack.Decoder(), Decoder()
        inner: Any = ours
        for block, huffman, size in blocks:
            if size is not None:
                encoder.header_table_size = size
            encoded = encoder.encode(block, huffman=huffman)
            before = list(inner._table), inner._capacity
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(encoded, raw=True)]
            self.assertEqual(expected, ours.decode(encoded))
            self.assertEqual(block, expected)
            if (list(inner._table), inner._capacity) != before:
                self.assertTrue(ours.touched)

    @given(st.lists(header_lists, max_size=4))
    @several
    def test_library_decodes_what_we_encode(self, blocks: list[list[Header]]) -> None:
        """Our blocks mean the same to the library and to us, and touch no table."""
        theirs, ours = hpack.Decoder(), Decoder()
        for block in blocks:
            encoded = encode(block)
            self.assertEqual(block, [(bytes(n), bytes(v)) for n, v in theirs.decode(encoded, raw=True)])
            self.assertEqual(block, ours.decode(encoded))
            self.assertFalse(ours.touched)

    def test_long_strings(self) -> None:
        """Lengths of one, two and three octets."""
        for length in (126, 127, 128, 254, 255, 16510, 16511):
            block = [(b"n", b"v" * length)]
            self.assertEqual(block, Decoder().decode(encode(block)))

    def test_touched_is_per_block(self) -> None:
        """A block that only refers to the table leaves it untouched; so does an unindexed literal."""
        decoder, encoder = Decoder(), hpack.Encoder()
        block = [(b"name", b"value")]
        for touched in (True, False, False):
            self.assertEqual(block, decoder.decode(encoder.encode(block)))
            self.assertEqual(touched, decoder.touched)
        decoder.decode(encode(block))
        self.assertFalse(decoder.touched)
        decoder.decode(b"\x20")
        self.assertTrue(decoder.touched)
        self.assertRaises(HeaderBlockError, decoder.decode, b"\xbe")
