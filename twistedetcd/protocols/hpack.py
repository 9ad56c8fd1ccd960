"""
Header blocks decoded as RFC 7541 says, fast enough for a client whose headers change on every call.

The tables of the RFC come from the ``hpack`` library.  Its decoder is general and takes some 18 µs for a gRPC
request; this one leaves out what a gRPC server never needs (names as text, sensitivity).  `Decoder.touched`
says whether the dynamic table moved, hence how long a decoded block may be remembered.
"""

from __future__ import annotations

from collections import deque

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Header = tuple[bytes, bytes]

_STATIC: tuple[Header, ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_STATIC_INDEX = {header: index for index, header in enumerate(_STATIC) if index}
_STATIC_LAST = len(_STATIC) - 1
_ENTRY_OVERHEAD = 32  # RFC 7541, 4.1
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
        self._table: deque[Header] = deque()  # newest first, so that index 62 is [0]
        self._table_bytes = 0
        self._capacity = table_bytes_max
        self._capacity_max = table_bytes_max
        self._list_bytes_max = list_bytes_max
        self.touched = False
        """Whether the last block told us to insert (even if the entry was too large to stay) or to resize."""

    def decode(self, block: bytes) -> list[Header]:
        """
        Decode one whole header block.

        Raises:
            HeaderBlockError: The block is malformed.
            HeaderListTooLargeError: It is well-formed but too large; the dynamic table has moved on.
        """
        self.touched = False
        headers: list[Header] = []
        append = headers.append
        at, end = 0, len(block)
        list_bytes = 0
        try:
            while at < end:
                octet = block[at]
                at += 1
                if octet >= 0x80:  # indexed field
                    index = octet & 0x7F
                    if index == 0x7F:
                        index, at = self._integer(block, at, 0x7F)
                    header = self._lookup(index) if index > _STATIC_LAST else _STATIC[index]
                    if not index:
                        raise HeaderBlockError("header field index 0")
                elif octet & 0xE0 == 0x20:  # table size update
                    if list_bytes:
                        raise HeaderBlockError("table size update after a header field")
                    size = octet & 0x1F
                    if size == 0x1F:
                        size, at = self._integer(block, at, 0x1F)
                    self._resize(size)
                    continue
                else:  # literal; with incremental indexing if bit 6 is set
                    mask = 0x3F if octet & 0x40 else 0x0F
                    index = octet & mask
                    if index == mask:
                        index, at = self._integer(block, at, mask)
                    if index:
                        name = (self._lookup(index) if index > _STATIC_LAST else _STATIC[index])[0]
                    else:
                        name, at = self._string(block, at)
                    value, at = self._string(block, at)
                    header = (name, value)
                    if octet & 0x40:
                        self._insert(header)
                list_bytes += len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
                if list_bytes <= self._list_bytes_max:  # else go on, only for the table's sake
                    append(header)
        except IndexError:
            raise HeaderBlockError("header block ends in the middle of a field") from None
        if list_bytes > self._list_bytes_max:
            raise HeaderListTooLargeError(
                f"header list of {list_bytes} bytes; {self._list_bytes_max} allowed"
            )
        return headers

    def _lookup(self, index: int) -> Header:
        try:
            return self._table[index - _STATIC_LAST - 1]
        except IndexError:
            raise HeaderBlockError(f"header field index {index} is not in the table") from None

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
        if octet >= 0x80 and raw:
            try:
                raw = decode_huffman(raw)
            except HPACKDecodingError as error:
                raise HeaderBlockError(str(error)) from error
        return raw, end

    def _insert(self, header: Header) -> None:
        self.touched = True
        size = len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
        self._evict(self._capacity - size)
        if size <= self._capacity:
            self._table.appendleft(header)
            self._table_bytes += size

    def _resize(self, capacity: int) -> None:
        if capacity > self._capacity_max:
            raise HeaderBlockError(f"table size {capacity} above the announced {self._capacity_max}")
        self.touched = True
        self._capacity = capacity
        self._evict(capacity)

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until at most ``room`` bytes are left (all of them if it is negative)."""
        while self._table and self._table_bytes > room:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + _ENTRY_OVERHEAD


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
