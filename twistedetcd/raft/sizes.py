"""
How large entries are, in two measures never to be mixed: encoded (protobuf), and payload (data alone).

Both run once per batch on the write path, so a batch is measured by C loops over the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from twistedetcd.raft.types import NO_LIMIT, Entry

_DATA = itemgetter(2)
_OVERHEAD_MAX = 3 + 1 + 10 + 10 + 1 + 10
"""Three tags, the type, term and index at their longest, and the data's tag and length."""

_DATA_OVERHEAD = tuple(0 if bits == 0 else 1 + (bits + 6) // 7 for bits in range(64))
"""By the bit length of the data's length: bytes of its tag and length.  Empty data is not encoded at all."""


_WIDTHS = tuple((bits + 6) // 7 or 1 for bits in range(65))


def varint_size(value: int) -> int:
    """Bytes of ``value``, of up to 64 bits, as a protobuf varint."""
    return _WIDTHS[value.bit_length()]


def payload_size(entries: Sequence[Entry]) -> int:
    """Bytes of data in all the entries."""
    return sum(map(len, map(_DATA, entries)))


def entry_size(entry: Entry) -> int:
    """Encoded bytes of one entry."""
    term, index, data, kind = entry
    length = len(data)
    header = 3 + _WIDTHS[kind.bit_length()] + _WIDTHS[term.bit_length()] + _WIDTHS[index.bit_length()]
    return header + _DATA_OVERHEAD[length.bit_length()] + length


def encoded_size(entries: Sequence[Entry]) -> int:
    """
    Encoded bytes of all the entries.

    Args:
        entries: Contiguous by index, terms not decreasing: so if the first and the last have numbers of one
            width, all have.
    """
    if len(entries) < 2:
        return sum(map(entry_size, entries))
    first, last = entries[0], entries[-1]
    numbers = varint_size(first.term) + varint_size(first.index)
    if numbers != varint_size(last.term) + varint_size(last.index):
        return sum(map(entry_size, entries))
    lengths = list(map(len, map(_DATA, entries)))
    overhead = _DATA_OVERHEAD[min(lengths).bit_length()]
    if overhead == _DATA_OVERHEAD[max(lengths).bit_length()]:
        overheads = overhead * len(lengths)
    else:
        overheads = sum(map(_DATA_OVERHEAD.__getitem__, map(int.bit_length, lengths)))
    return (4 + numbers) * len(lengths) + sum(lengths) + overheads


def limit(entries: Sequence[Entry], bytes_max: int) -> Sequence[Entry]:
    """The longest prefix of at most ``bytes_max`` encoded bytes, but one entry if there is any."""
    if len(entries) < 2 or bytes_max >= NO_LIMIT:
        return entries
    if payload_size(entries) + _OVERHEAD_MAX * len(entries) <= bytes_max:
        return entries
    size = 0
    for position, entry in enumerate(entries):
        size += entry_size(entry)
        if size > bytes_max:
            return entries[: max(position, 1)]
    return entries
