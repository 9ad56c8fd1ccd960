"""
Header blocks as Go's clients send them: every field that is new goes into the dynamic table.

A ``grpc-timeout`` that changes on every call then moves the table on every call, pushes the other fields out
of it, and so no block is like the one before.  The rules are those of golang.org/x/net/http2/hpack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from twistedetcd.protocols.hpack import Header

TABLE_BYTES_MAX = 4096
TIMEOUT_MICROSECONDS_MAX = 9_999_999
TIMEOUTS = 900_000  # how many different ones there are
_STRIDE = 7919  # has no factor in common with TIMEOUTS
_ENTRY_OVERHEAD = 32  # RFC 7541, 4.1

_STATIC = {header: number for number, header in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES = {name: number for (name, _), number in reversed(_STATIC.items())}
_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


class ChangingEncoder:
    """One connection's encoding state."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Header, int]] = deque()  # oldest first, each with its number
        self._numbers: dict[Header, int] = {}
        self._names: dict[bytes, int] = {}
        self._inserted = 0
        self._bytes = 0

    def encode(self, headers: Sequence[Header]) -> bytes:
        """The next header block of the connection."""
        return b"".join(map(self._field, headers))

    def _field(self, header: Header) -> bytes:
        if header in _STATIC:
            return integer(_STATIC[header], 7, 0x80)
        if header in self._numbers:
            return integer(self._index(self._numbers[header]), 7, 0x80)
        name, value = header
        if name in _STATIC_NAMES:
            start = integer(_STATIC_NAMES[name], 6, 0x40)
        elif name in self._names:
            start = integer(self._index(self._names[name]), 6, 0x40)
        else:
            start = b"\x40" + _string(name)
        self._insert(header)
        return start + _string(value)

    def _index(self, number: int) -> int:
        return len(HeaderTable.STATIC_TABLE) + self._inserted - number

    def _insert(self, header: Header) -> None:
        size = _size(header)
        while self._entries and self._bytes + size > TABLE_BYTES_MAX:
            oldest, number = self._entries.popleft()
            self._bytes -= _size(oldest)
            del self._numbers[oldest]
            if self._names[oldest[0]] == number:
                del self._names[oldest[0]]
        self._numbers[header] = self._names[header[0]] = self._inserted
        self._entries.append((header, self._inserted))
        self._inserted += 1
        self._bytes += size


def _size(header: Header) -> int:
    return len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD


def integer(value: int, bits: int, first: int) -> bytes:
    """An integer with a prefix of so many bits (RFC 7541, 5.1); ``first`` fills the bits before it."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    octets = bytearray([first | limit])
    value -= limit
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


@lru_cache(maxsize=256)
def _string(value: bytes) -> bytes:
    coded = _huffman.encode(value)
    if len(coded) < len(value):
        return integer(len(coded), 7, 0x80) + coded
    return integer(len(value), 7, 0) + value


def timeouts() -> Iterator[bytes]:
    """Values of ``grpc-timeout`` around ten seconds, none like one of those shortly before it."""
    number = 0
    while True:
        yield b"%du" % (TIMEOUT_MICROSECONDS_MAX - number)
        number = (number + _STRIDE) % TIMEOUTS
