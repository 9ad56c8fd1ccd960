"""RFC 7541: header compression, as a decoder must see it."""

from __future__ import annotations

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.protocols.hpack import Decoder, Header, HeaderBlockError, HeaderListTooLargeError
from twistedetcd.protocols.huffman import HuffmanError, decode_huffman

huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
NEW = b"\x40\x01a\x01b"  # inserts a: b
INSERTED: Header = (b"a", b"b")


class Case(SynchronousTestCase):
    """A fresh decoder."""

    def setUp(self) -> None:
        self.decoder = Decoder()

    def refused(self, block: bytes) -> None:
        """The block breaks a rule."""
        self.assertRaises(HeaderBlockError, Decoder().decode, block)

    def read(self, block: bytes) -> list[Header]:
        """What a block says."""
        return self.decoder.decode(block)


class TableTests(Case):
    """2.3 and 4: the two tables."""

    def test_2_3_1_static(self) -> None:
        """1 to 61 are in the static table."""
        self.assertEqual([(b":authority", b""), (b"www-authenticate", b"")], self.read(b"\x81\xbd"))

    def test_2_3_2_first_in_first_out(self) -> None:
        """The newest entry is 62; entries may be duplicates."""
        self.read(NEW + b"\x40\x01c\x01d" + NEW)
        self.assertEqual([INSERTED, (b"c", b"d"), INSERTED], self.read(b"\xbe\xbf\xc0"))

    def test_2_3_3_beyond_the_tables(self) -> None:
        """An index beyond both tables is an error, as a field and as a name."""
        self.read(NEW)
        for block in (b"\xbe", b"\xfe", b"\xff\x00", b"\xff\x80\x80\x01", b"\x7f\x00\x01x", b"\x0f\x2f\x01x"):
            self.refused(block)
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbf")

    def test_4_1_size_of_an_entry(self) -> None:
        """An entry counts its name, its value and 32 octets."""
        self.read(b"\x3f\x03" + NEW)  # a table of 34 octets
        self.assertEqual([INSERTED], self.read(b"\xbe"))
        self.read(b"\x3f\x02")
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbe")

    def test_4_2_update_at_the_beginning(self) -> None:
        """Size updates come first in a block; several may."""
        self.assertEqual([(b":method", b"GET")], self.read(b"\x20\x3f\xe1\x1f\x82"))
        self.refused(b"\x82\x20")
        self.refused(NEW + b"\x20")

    def test_4_3_shrinking_evicts(self) -> None:
        """A smaller table keeps the newest entries only."""
        self.read(NEW + b"\x40\x01c\x01d")
        self.read(b"\x3f\x03")
        self.assertEqual([(b"c", b"d")], self.read(b"\xbe"))
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbf")

    def test_4_4_oversized_entry(self) -> None:
        """An entry larger than the table empties it, and is no error."""
        self.read(NEW)
        self.read((b"\x40\x01c\x7f\xa1\x1e" + b"x" * 4000) * 2)
        self.assertEqual([(b"c", b"x" * 4000)], self.read(b"\xbe"))
        self.read(b"\x40\x01c\x7f\xa1\x1f" + b"x" * 4128)
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbe")

    def test_4_4_name_of_an_evicted_entry(self) -> None:
        """A new entry may take its name from one that it evicts."""
        name = b"n" * 3000
        self.read(b"\x40\x7f\xb9\x16" + name + b"\x01x")
        self.assertEqual([(name, b"y" * 1000)], self.read(b"\x7e\x7f\xe9\x06" + b"y" * 1000))
        self.assertEqual([(name, b"y" * 1000)], self.read(b"\xbe"))
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbf")


class IntegerTests(Case):
    """5.1: integers."""

    def test_c_1(self) -> None:
        """The examples of C.1: 10 and 1337 in five bits, here as table sizes."""
        self.read(b"\x2a")
        self.read(b"\x3f\x9a\x0a")
        self.assertTrue(self.decoder.touched)

    def test_cut_short(self) -> None:
        """An integer whose end is missing is an error."""
        for block in (b"\xff", b"\xff\x80", b"\x3f", b"\x7f\xff", b"\x0f", b"\x00\x7f", b"\x00\x7f\xff"):
            self.refused(block)

    def test_overflow(self) -> None:
        """One that does not come to an end is an error, though it were of zeros."""
        self.refused(b"\xff" + b"\x80" * 9 + b"\x00")
        self.refused(b"\x3f" + b"\xff" * 9 + b"\x7f")
        self.refused(b"\x00\x7f" + b"\xff" * 9 + b"\x7f")

    def test_redundant_zeros(self) -> None:
        """Zeros that say nothing are allowed within the limit."""
        self.assertEqual([(b"a", b"")], self.read(b"\x00\x01a\x00"))
        self.assertEqual([(b"x", b"y" * 127)], self.read(b"\x00\x01x\x7f\x80\x00" + b"y" * 127))


class StringTests(Case):
    """5.2: strings."""

    def test_cut_short(self) -> None:
        """A string longer than its block is an error, plain or coded, name or value."""
        for block in (b"\x40", b"\x40\x02a", b"\x40\x01a", b"\x40\x01a\x05abc", b"\x41\x8f\x1f", b"\x00\x81"):
            self.refused(block)

    def test_huffman(self) -> None:
        """Every octet survives the code."""
        for value in (bytes(range(256)), b"", b"302", b"\xff" * 50, b"www.example.com"):
            self.assertEqual(value, decode_huffman(huffman.encode(value)))

    def test_padding_of_ones(self) -> None:
        """Padding is the beginning of EOS: ones, seven at most."""
        self.assertEqual(b"a", decode_huffman(b"\x1f"))
        for wrong in (b"\x18", b"\x1e", b"\x1f\xff", b"\xff", b"\x1f\xff\xff"):
            self.assertRaises(HuffmanError, decode_huffman, wrong)
        self.refused(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")

    def test_eos(self) -> None:
        """A string with EOS in it is an error."""
        self.assertRaises(HuffmanError, decode_huffman, b"\xff\xff\xff\xff")
        self.refused(b"\x00\x85\x1f\xff\xff\xff\xff\x00")

    def test_one_octet_short(self) -> None:
        """A code that was cut off is an error, unless what is left looks like padding."""
        coded = huffman.encode(b"\x00\x01")
        self.assertRaises(HuffmanError, decode_huffman, coded[:4])


class FieldTests(Case):
    """6: fields."""

    def test_6_1_index_zero(self) -> None:
        """Index 0 is an error."""
        self.refused(b"\x80")

    def test_6_2_1_incremental(self) -> None:
        """With incremental indexing a field is inserted; its name may come from the table."""
        self.assertEqual([(b":path", b"/x")], self.read(b"\x44\x02/x"))
        self.assertEqual([(b":path", b"/x"), INSERTED], self.read(b"\xbe" + NEW))

    def test_6_2_2_without_indexing(self) -> None:
        """Without indexing it is not."""
        self.assertEqual([(b":path", b"/x"), INSERTED], self.read(b"\x04\x02/x\x00\x01a\x01b"))
        self.assertFalse(self.decoder.touched)
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbe")

    def test_6_2_3_never_indexed(self) -> None:
        """Never indexed, neither."""
        self.assertEqual([(b":path", b"/x"), INSERTED], self.read(b"\x14\x02/x\x10\x01a\x01b"))
        self.assertRaises(HeaderBlockError, self.decoder.decode, b"\xbe")

    def test_6_3_size_update(self) -> None:
        """An update up to the announced size is obeyed, and one octet more is an error."""
        self.read(b"\x3f\xe1\x1f")
        self.refused(b"\x3f\xe2\x1f")
        small = Decoder(table_bytes_max=0)
        self.assertEqual([INSERTED], small.decode(b"\x20" + NEW))
        self.assertRaises(HeaderBlockError, small.decode, b"\x21")


class LimitTests(Case):
    """7.3: what memory a decoder may be made to use."""

    def test_list_size(self) -> None:
        """A list above the limit is refused, and the table has followed."""
        decoder = Decoder(list_bytes_max=100)
        decoder.decode(NEW + b"\xbe")
        self.assertRaises(HeaderListTooLargeError, decoder.decode, b"\x40\x01c\x01d" + b"\xbe" * 3)
        self.assertEqual([(b"c", b"d"), INSERTED], decoder.decode(b"\xbe\xbf"))

    def test_size_of_the_static_table(self) -> None:
        """Fields of the static table count, also where the dynamic one may hold nothing."""
        decoder = Decoder(table_bytes_max=0, list_bytes_max=1000)
        decoder.decode(b"\x90" * 16)
        self.assertRaises(HeaderListTooLargeError, decoder.decode, b"\x90" * 17)
