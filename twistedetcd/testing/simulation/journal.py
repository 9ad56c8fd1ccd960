"""An engine for simulated disks: in memory, and durable by way of a journal."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from zope.interface import implementer

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.interfaces import Batch, IBackend, IFiles

_HEAD_BYTES = 12
_GONE = 0xFFFF_FFFF  # stands for the length of a value that is deleted


@implementer(IBackend)
class JournalBackend(MemoryBackend):
    """
    Each batch is one record of a file, written and synced; an engine that is opened reads them all.

    After a crash it holds all batches up to the first that is not whole.

    Args:
        files: The disk.
        directory: Where on it; the file is called ``journal``.
    """

    durable = True

    def __init__(self, files: IFiles, directory: str) -> None:
        super().__init__()
        path = f"{directory}/journal"
        self._file = files.open(path, create=not files.exists(path))
        self._offset = self._count = 0
        while (batch := self._read()) is not None:
            super().write(batch)
        self._file.sync()
        files.sync_directory(directory)

    def _read(self) -> Batch | None:
        head = self._file.read(self._offset, _HEAD_BYTES)
        length, check, count = (int.from_bytes(head[at : at + 4], "big") for at in (0, 4, 8))
        data = self._file.read(self._offset + _HEAD_BYTES, length)
        if not length or len(data) < length or crc32(data) != check or count != self._count:
            return None
        self._offset += _HEAD_BYTES + length
        self._count += 1
        return _decode(data)

    def write(self, batch: Batch) -> None:
        data = _encode(batch)
        head = b"".join(number.to_bytes(4, "big") for number in (len(data), crc32(data), self._count))
        self._file.write(self._offset, head + data)
        self._file.sync()
        self._offset += _HEAD_BYTES + len(data)
        self._count += 1
        super().write(batch)


def _encode(batch: Batch) -> bytes:
    """The same bytes for the same batch, in whatever process."""
    parts: list[bytes] = [b"journal"]
    for bucket, values in batch.items():
        parts += [_sized(bucket), len(values).to_bytes(4, "big")]
        for key, value in values.items():
            parts += [_sized(key), _GONE.to_bytes(4, "big") if value is None else _sized(value)]
    return b"".join(parts)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _decode(data: bytes) -> Batch:
    reader = _Reader(data)
    batch: dict[bytes, dict[bytes, bytes | None]] = {}
    for bucket in reader.pieces():
        assert bucket is not None, "a bucket has a name"
        values = batch[bucket] = {}
        for _ in range(reader.number()):
            key = reader.piece()
            assert key is not None, "a key is there"
            values[key] = reader.piece()
    return batch


class _Reader:
    """Goes through a record."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = len(b"journal")

    def number(self) -> int:
        self._at += 4
        return int.from_bytes(self._data[self._at - 4 : self._at], "big")

    def piece(self) -> bytes | None:
        length = self.number()
        if length == _GONE:
            return None
        self._at += length
        return self._data[self._at - length : self._at]

    def pieces(self) -> Iterator[bytes | None]:
        while self._at < len(self._data):
            yield self.piece()
