"""
Records to bytes, in etcd's frames; ``scanner.py`` is the way back.  No I/O.

A frame is an 8-byte little-endian length field, the record, and zeros up to a multiple of 8.  The field has
the record's length in its low 56 bits, and 0x80 | padding in its top byte if there is padding.  The record is
proto2 {type=1, crc=2, data=3}; ``crc`` is CRC-32C over the data of all records so far, across segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google_crc32c import extend

from twistedetcd.wire import varint

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

_Shape = tuple[bytes, bytes, bytes]
# What surrounds the crc and the data of a record with a five-byte crc: by type, then by the data's length.
_shapes: dict[int, dict[int, _Shape]] = {METADATA: {}, ENTRY: {}, STATE: {}, SNAPSHOT: {}}
_SHAPES_MAX = 4096

_PARTS = tuple(bytes((part & 0x7F | 0x80, part >> 7 | 0x80)) for part in range(1 << 14))
_TOPS = tuple(bytes((part,)) for part in range(16))


def _shape(kind: int, crc_length: int, data_length: int) -> _Shape:
    middle = b"\x1a" + varint(data_length)
    length = 3 + crc_length + len(middle) + data_length
    padding = -length % 8
    field = length | (0x80 | padding) << 56 if padding else length
    return field.to_bytes(8, "little") + bytes((8, kind, 0x10)), middle, bytes(padding)


def encode_records(crc: int, kind: int, datas: Iterable[bytes]) -> tuple[bytes, int]:
    """
    Frame records of one type, in order.

    Args:
        crc: The running checksum before them.
        kind: Their type: METADATA, ENTRY, STATE or SNAPSHOT.
        datas: Their data.

    Returns:
        The frames, and the running checksum after them.
    """
    pieces: list[bytes] = []
    add = pieces.extend
    shapes, parts, tops = _shapes[kind], _PARTS, _TOPS
    for data in datas:
        crc = extend(crc, data)
        if crc >> 28:
            size = len(data)
            try:
                head, middle, padding = shapes[size]
            except KeyError:
                if len(shapes) >= _SHAPES_MAX:
                    shapes.clear()
                head, middle, padding = shapes[size] = _shape(kind, 5, size)
            add((head, parts[crc & 16383], parts[crc >> 14 & 16383], tops[crc >> 28], middle, data, padding))
        else:
            encoded = varint(crc)
            head, middle, padding = _shape(kind, len(encoded), len(data))
            add((head, encoded, middle, data, padding))
    return b"".join(pieces), crc


def encode_head(crc: int, metadata: bytes, records: Iterable[tuple[int, bytes]]) -> tuple[bytes, int]:
    """
    Frame the head of a segment: the running checksum, the metadata, then other records.

    Args:
        crc: The running checksum of all segments before.
        metadata: The same as in those.
        records: Types and data.

    Returns:
        The frames, and the running checksum after them.
    """
    record = bytes((8, CRC, 0x10)) + varint(crc)
    padding = -len(record) % 8
    field = len(record) | (0x80 | padding) << 56 if padding else len(record)
    frames = [field.to_bytes(8, "little") + record + bytes(padding)]
    for kind, data in ((METADATA, metadata), *records):
        frame, crc = encode_records(crc, kind, (data,))
        frames.append(frame)
    return b"".join(frames), crc
