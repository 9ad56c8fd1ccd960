"""
Header blocks decoded as RFC 7541 says, fast enough for a client whose headers change on every call.

The RFC's table comes from the ``hpack`` library.  Its decoder is general and takes some 18 µs for a gRPC
request; this one leaves out what a gRPC server never needs (names as text, sensitivity).  `Decoder.touched`
says whether the dynamic table moved, hence how long a decoded block may be remembered.
"""

from __future__ import annotations

from hpack.table import HeaderTable

from twistedetcd.protocols.huffman import HuffmanError, decode_huffman

Header = tuple[bytes, bytes]

_STATIC: tuple[Header, ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_STATIC_INDEX = {header: index for index, header in enumerate(_STATIC) if index}
_STATIC_LAST = len(_STATIC) - 1
_FIRST_DYNAMIC_OCTET = 0x80 | (_STATIC_LAST + 1)  # an indexed field, the newest in the dynamic table
_ENTRY_OVERHEAD = 32  # RFC 7541, 4.1
_STATIC_BYTES_MAX = max(len(name) + len(value) for name, value in _STATIC)
_INTEGER_OCTETS_MAX = 5  # enough for 2**31; a longer encoding is an attack or a bug (RFC 7541, 5.1)


class HeaderBlockError(ValueError):
    """A block that breaks RFC 7541: the connection's compression state is lost (RFC 9113, 4.3)."""


class HeaderListTooLargeError(ValueError):
    """A block that decodes to more than the limit.  The compression state is still good."""


class Decoder:
    """
    One connection's decoding state.

    Args:
        table_bytes_max: The SETTINGS_HEADER_TABLE_SIZE that this side announced.
        list_bytes_max: Largest header list, counted as RFC 9113, 6.5.2 counts it.
    """

    def __init__(self, table_bytes_max: int = 4096, list_bytes_max: int = 65536) -> None:
        self._table: list[Header] = []  # newest last, so that index 62 is [-1]; a hundred at most
        self._table_bytes = 0
        self._capacity = table_bytes_max
        self._capacity_max = table_bytes_max
        self._list_bytes_max = list_bytes_max
        self._field_bytes_max = max(table_bytes_max, _STATIC_BYTES_MAX) + _ENTRY_OVERHEAD
        self.touched = False
        """Whether the last block told us to insert (even if the entry was too large to stay) or to resize."""

    def decode(self, block: bytes) -> list[Header]:
        """
        Decode one whole header block.

        A field costs one reference while the block is read, whatever it stands for.

        Raises:
            HeaderBlockError: The block is malformed.
            HeaderListTooLargeError: It is well-formed but too large; the dynamic table has moved on.
        """
        self.touched = False
        headers: list[Header] = []
        table = self._table
        at, end = 0, len(block)
        try:
            while at < end:
                octet = block[at]
                at += 1
                if octet > 0x80:  # indexed field: static, dynamic and near, or further
                    if octet < _FIRST_DYNAMIC_OCTET:
                        headers.append(_STATIC[octet & 0x7F])
                    elif octet < 0xFF:
                        headers.append(table[_FIRST_DYNAMIC_OCTET - 1 - octet])
                    else:
                        index, at = self._integer(block, at, 0x7F)
                        headers.append(table[_STATIC_LAST - index])
                elif octet >= 0x40:  # literal with incremental indexing
                    if octet == 0x80:
                        raise HeaderBlockError("header field index 0")
                    header, at = self._literal(block, at, octet & 0x3F, 0x3F)
                    headers.append(header)
                    self._insert(header)
                elif octet < 0x20:  # literal, not to be indexed
                    header, at = self._literal(block, at, octet & 0x0F, 0x0F)
                    headers.append(header)
                else:  # table size update
                    if headers:
                        raise HeaderBlockError("table size update after a header field")
                    size = octet & 0x1F
                    if size == 0x1F:
                        size, at = self._integer(block, at, 0x1F)
                    self._resize(size)
        except IndexError:
            raise HeaderBlockError(
                "header block ends in the middle of a field, or refers to one that is not in the table"
            ) from None
        except HuffmanError as error:
            raise HeaderBlockError(str(error)) from error
        # What came from a table fits into it; what came as literals (5 bits an octet), into twice the block.
        if len(headers) * self._field_bytes_max + 2 * end > self._list_bytes_max:
            self._check_list(headers)
        return headers

    def _check_list(self, headers: list[Header]) -> None:
        list_bytes = sum([len(name) + len(value) for name, value in headers])
        list_bytes += len(headers) * _ENTRY_OVERHEAD
        if list_bytes > self._list_bytes_max:
            raise HeaderListTooLargeError(
                f"header list of {list_bytes} bytes; {self._list_bytes_max} allowed"
            )

    def _literal(self, block: bytes, at: int, index: int, mask: int) -> tuple[Header, int]:
        """A literal field whose first octet, with this index in it, was read."""
        if index == mask:
            index, at = self._integer(block, at, mask)
        if index > _STATIC_LAST:
            name = self._table[_STATIC_LAST - index][0]
        elif index:
            name = _STATIC[index][0]
        else:
            name, at = self._string(block, at)
        value, at = self._string(block, at)
        return (name, value), at

    @staticmethod
    def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
        for shift in range(0, 7 * _INTEGER_OCTETS_MAX, 7):
            octet = block[at]
            at += 1
            value += (octet & 0x7F) << shift
            if octet < 0x80:
                return value, at
        raise HeaderBlockError("integer too long")

    def _string(self, block: bytes, at: int) -> tuple[bytes, int]:
        octet = block[at]
        at += 1
        length = octet & 0x7F
        if length == 0x7F:
            length, at = self._integer(block, at, 0x7F)
        end = at + length
        raw = block[at:end]
        if len(raw) != length:
            raise HeaderBlockError("string longer than its block")
        return decode_huffman(raw) if octet >= 0x80 else raw, end

    def _insert(self, header: Header) -> None:
        self.touched = True
        name, value = header
        size = len(name) + len(value) + _ENTRY_OVERHEAD
        if self._table_bytes + size > self._capacity:
            self._evict(self._capacity - size)
            if size > self._capacity:
                return
        self._table.append(header)
        self._table_bytes += size

    def _resize(self, capacity: int) -> None:
        if capacity > self._capacity_max:
            raise HeaderBlockError(f"table size {capacity} above the announced {self._capacity_max}")
        self.touched = True
        self._capacity = capacity
        self._evict(capacity)

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until at most ``room`` bytes are left (all of them if it is negative)."""
        table = self._table
        while table and self._table_bytes > room:
            name, value = table[0]
            self._table_bytes -= len(name) + len(value) + _ENTRY_OVERHEAD
            del table[0]


def encode(headers: list[Header]) -> bytes:
    """
    A header block of literal fields that leaves the peer's table alone, so that it may be a constant.

    Names must be lower case already.  Strings are not Huffman-coded.
    """
    parts = []
    for name, value in headers:
        index = _STATIC_INDEX.get((name, value))
        if index:
            parts.append(bytes([0x80 | index]))
        else:
            parts += [b"\x00", _length(len(name)), name, _length(len(value)), value]
    return b"".join(parts)


def _length(value: int) -> bytes:
    if value < 0x7F:
        return bytes([value])
    octets = bytearray([0x7F])
    value -= 0x7F
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
