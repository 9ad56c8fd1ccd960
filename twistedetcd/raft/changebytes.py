"""
A change of membership as the data of a log entry: raftpb.ConfChange and raftpb.ConfChangeV2.

Raft reads the changes in its own log (a leader checks them before it appends them), so these two messages,
and no others, are read and written here.
"""

from __future__ import annotations

from collections.abc import Iterator

from twistedetcd.raft.errors import ConfChangeError
from twistedetcd.raft.types import ConfChange, ConfChangeSingle, ConfChangeV2, Entry, EntryType

_VARINT, _BYTES = 0, 2
_BITS = 2**64 - 1


def encode_change(change: ConfChange | ConfChangeV2) -> tuple[EntryType, bytes]:
    """The entry type and the data that carry ``change``."""
    if isinstance(change, ConfChange):
        data = _number(1, change.id) + _number(2, change.type) + _number(3, change.node_id)
        return EntryType.CONF_CHANGE, data + _block(4, change.context)
    data = _number(1, change.transition)
    for single in change.changes:
        body = _number(1, single.type) + _number(2, single.node_id)
        data += _tag(2, _BYTES) + _varint(len(body)) + body
    return EntryType.CONF_CHANGE_V2, data + _block(3, change.context)


def decode_change(entry: Entry) -> ConfChange | ConfChangeV2:
    """
    The change that a committed entry asks for.

    Args:
        entry: Of type CONF_CHANGE or CONF_CHANGE_V2.  Empty data reads as the empty change.

    Raises:
        ConfChangeError: The data is no such message.
    """
    numbers: dict[int, int] = {}
    blocks: dict[int, list[bytes]] = {}
    for field, value in _fields(entry.data):
        if isinstance(value, int):
            numbers[field] = value
        else:
            blocks.setdefault(field, []).append(value)
    if entry.type == EntryType.CONF_CHANGE:
        context = blocks.get(4, [b""])[-1]
        return ConfChange(numbers.get(1, 0), numbers.get(2, 0), numbers.get(3, 0), context)
    if entry.type != EntryType.CONF_CHANGE_V2:
        raise ConfChangeError(f"entry {entry.index} is not a configuration change")
    singles = tuple(_single(body) for body in blocks.get(2, ()))
    return ConfChangeV2(numbers.get(1, 0), singles, blocks.get(3, [b""])[-1])


def _single(body: bytes) -> ConfChangeSingle:
    numbers = {field: value for field, value in _fields(body) if isinstance(value, int)}
    return ConfChangeSingle(numbers.get(1, 0), numbers.get(2, 0))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _number(field: int, value: int) -> bytes:
    return _tag(field, _VARINT) + _varint(value)


def _block(field: int, value: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(value)) + value if value else b""


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if offset >= len(data) or shift > 63:
            raise ConfChangeError("configuration change: broken number")
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _BITS, offset
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    offset = 0
    while offset < len(data):
        tag, offset = _read_varint(data, offset)
        value, offset = _read_varint(data, offset)
        if tag & 7 == _VARINT:
            yield tag >> 3, value
        elif tag & 7 == _BYTES:
            if offset + value > len(data):
                raise ConfChangeError("configuration change: cut short")
            yield tag >> 3, data[offset : offset + value]
            offset += value
        else:
            raise ConfChangeError(f"configuration change: wire type {tag & 7}")
