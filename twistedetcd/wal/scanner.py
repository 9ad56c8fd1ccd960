"""
Bytes to records, and the judgement of what does not read.  No I/O: it is handed a function that reads.

When the power fails, any 512-byte sector written since the last sync may still hold what it held before:
zeros, as segments are filled with zeros.  So a record whose length can be read but which is broken is the
torn end of the log only if one of its sectors is wholly zero; else it was durable once, and is corrupt.

A frame starts at a multiple of 8, so its length field lies in one sector and is whole or zero.  A wrong one
is never the work of a torn write.  Its padding, the record's own length, or what follows it give it away;
upstream does not look there, and takes such a record for the end of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from google_crc32c import extend

from twistedetcd.errors import WALCorruptError
from twistedetcd.wal.record import CRC

SECTOR_BYTES: Final = 512
WINDOW_BYTES: Final = 1 << 20
"""How much is read at a time.  A longer record is read whole, and is never longer than its file."""

_LENGTH_BYTES = 8
_LENGTH_MASK = (1 << 56) - 1
_CRC_MAX = (1 << 32) - 1


class _Header(NamedTuple):
    """The start of a record: ``length`` is what the whole record must have by it."""

    kind: int
    crc: int
    data_start: int
    length: int


class _MalformedError(Exception):
    """A header that no writer wrote."""


def _parse_header(buffer: bytes, start: int, end: int, length: int) -> _Header | None:
    """
    Read the header of a record that has ``length`` bytes by its length field.

    Returns:
        The header; ``None`` when it does not end before ``end``.

    Raises:
        _MalformedError: Not the start of a record.
    """
    if end - start < 3:
        return None
    kind = buffer[start + 1]
    if buffer[start] != 0x08 or kind > 0x7F or buffer[start + 2] != 0x10:
        raise _MalformedError
    crc, position = _parse_varint(buffer, start + 3, end)
    if position < 0:
        return None
    if crc > _CRC_MAX:
        raise _MalformedError
    if position - start == length:
        return _Header(kind, crc, position, length)
    if position >= end:
        return None
    if buffer[position] != 0x1A:
        raise _MalformedError
    size, position = _parse_varint(buffer, position + 1, end)
    if position < 0:
        return None
    return _Header(kind, crc, position, position - start + size)


def _parse_varint(buffer: bytes, position: int, end: int) -> tuple[int, int]:
    """A number and the position after it; the position is -1 when the number does not end before ``end``."""
    number = shift = 0
    while position < end:
        byte = buffer[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift == 63:
            raise _MalformedError
    return 0, -1


class RecordScanner:
    """
    The records of one segment, in order: iterate once, then ask how it ended.

    Attributes:
        offset: Where the last whole record ended, in bytes; the next one would start there.
        crc: The running checksum there; ``None`` before any record was read.
        torn: Whether an unfinished write follows, which a repair may cut off; only in the last segment.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], size: int, crc: int | None, name: str, last: bool
    ) -> None:
        """
        Args:
            read: Reads up to so many bytes, from an offset on: `IFile.read`.
            size: The file's length in bytes.
            crc: The running checksum before the segment; ``None`` when reading starts here.
            name: What an error calls the file.
            last: Whether no segment follows.
        """
        self._read = read
        self._size = size
        self._name = name
        self._last = last
        self._buffer = b""
        self._start = 0
        self.offset = 0
        self.crc = crc
        self.torn = False

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """
        Type and data of each record.

        Raises:
            WALCorruptError: What is there was not left by an unfinished write; the text has file and offset.
        """
        while (length := self._next_length()) is not None:
            frame_bytes = _LENGTH_BYTES + length + -length % 8
            if frame_bytes > self._size - self.offset:
                self._end_early(length, self._size - self.offset)
                return
            at = self._window(frame_bytes)
            if len(self._buffer) - at < frame_bytes:
                self._end_early(length, len(self._buffer) - at)
                return
            start = at + _LENGTH_BYTES
            try:
                header = _parse_header(self._buffer, start, start + length, length)
            except _MalformedError:
                header = None
            if header is None or header.length != length:
                self._end_broken(length, "the record does not decode")
                return
            data = self._buffer[header.data_start : start + length]
            if header.kind == CRC:
                if data or self.crc not in (None, header.crc):
                    raise self.corrupt("the checksum does not continue the segment before")
                self.crc = header.crc
            else:
                if self.crc is None or self.offset == 0:
                    raise self.corrupt("the segment does not begin with its checksum record")
                crc = extend(self.crc, data)
                if crc != header.crc:
                    self._end_broken(length, "the checksum does not match")
                    return
                self.crc = crc
            yield header.kind, data
            self.offset += frame_bytes

    def corrupt(self, reason: str) -> WALCorruptError:
        """An error that names the file and the place of the record last yielded."""
        return WALCorruptError(f"{self._name} is corrupt at offset {self.offset}: {reason}")

    def _window(self, length: int) -> int:
        """Have ``length`` bytes from `offset` on in the buffer, if the file has them; returns where."""
        at = self.offset - self._start
        if len(self._buffer) - at < length:
            self._start = self.offset
            self._buffer = self._read(self.offset, min(max(length, WINDOW_BYTES), self._size - self.offset))
            at = 0
        return at

    def _next_length(self) -> int | None:
        """The length of the record at `offset`; ``None`` at the end, torn or not."""
        if self.offset >= self._size:
            return None
        at = self._window(_LENGTH_BYTES)
        field_bytes = self._buffer[at : at + _LENGTH_BYTES]
        if len(field_bytes) < _LENGTH_BYTES:
            self._end_torn("the file ends inside a length field")
            return None
        field = int.from_bytes(field_bytes, "little")
        if field == 0:
            # The sectors of a write that never arrived are zero to their ends.
            if any(self._read(self.offset, SECTOR_BYTES - self.offset % SECTOR_BYTES)):
                raise self.corrupt("the length field is zero, and what follows it is not")
            return None
        length = field & _LENGTH_MASK
        padding = -length % 8
        if field >> 56 != (0x80 | padding if padding else 0):
            raise self.corrupt(f"the length field is malformed: {field:#018x}")
        return length

    def _end_early(self, length: int, available: int) -> None:
        """The file ends inside the record."""
        self._check_header(length, available - _LENGTH_BYTES)
        self._end_torn(f"a record of {length} bytes does not fit into the file")

    def _end_broken(self, length: int, reason: str) -> None:
        """All of the record is there, and something in it is wrong."""
        record_offset = self.offset + _LENGTH_BYTES
        start = record_offset - self._start
        if not has_zero_sector(memoryview(self._buffer)[start : start + length], record_offset):
            raise self.corrupt(reason)
        self._check_header(length, length)
        self._end_torn(reason)

    def _end_torn(self, reason: str) -> None:
        if not self._last:
            raise self.corrupt(reason)
        self.torn = True

    def _check_header(self, length: int, available: int) -> None:
        """A length field that its own record contradicts was not left by an unfinished write."""
        record_offset = self.offset + _LENGTH_BYTES
        head = self._read(record_offset, min(available, 2 * SECTOR_BYTES))
        boundary = -record_offset % SECTOR_BYTES
        first, second = head[:boundary], head[boundary : boundary + SECTOR_BYTES]
        if not any(second):
            head = first
        if not any(head):
            return
        try:
            header = _parse_header(head, 0, len(head), length)
        except _MalformedError:
            raise self.corrupt("the record does not decode") from None
        if header is not None and header.length != length:
            raise self.corrupt(f"the length field says {length}, the record {header.length}")


def has_zero_sector(record: bytes | memoryview, offset: int) -> bool:
    """Whether any sector's part of a record is wholly zero; ``offset`` is the record's place in its file."""
    start = 0
    while start < len(record):
        end = min(start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES, len(record))
        if not any(record[start:end]):
            return True
        start = end
    return False
