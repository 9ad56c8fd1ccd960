"""
wire: raft values to raftpb bytes and back, the one place that knows both.

By hand, because every log entry passes here.  The bytes are proto2's as upstream writes them: fields in the
order of their numbers, scalars also when they are zero, bytes only when there are any.

Yours to change: add a message; its field numbers are upstream's and never change.
With care: `encode_entries`, the hot path; time it before and after.
Never: I/O, a clock, a random number, or a guess about malformed input.
Imports raft's types only.  Imported by wal, snap, protocols and server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from twistedetcd.raft.types import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)

_UINT64_BITS = 64
_SMALL = 1 << 14
_LOW = _SMALL - 1
_MEDIUM = 1 << 28
# Wire types 1 and 5.  None of these messages has such a field: read only to be skipped.
_FIXED_SIZES = {1: 8, 5: 4}
# Entries, snapshot, context; field 14 is read only to be passed over.
_MESSAGE_PAYLOADS = frozenset({7, 9, 12, 14})
_ENTRY_TAG = 7 << 3 | 2
_MESSAGE_NUMBERS = {number << 3: number for number in range(1, 14) if number not in _MESSAGE_PAYLOADS}
"""By the tag, a byte."""
_TYPES = tuple(MessageType)
_HEAD = re.compile(
    b"".join(tag + rb"[\x80-\xff]{0,9}[\0-\x7f]" for tag in (b"\x08", rb"\x10", rb"\x18", rb"\x20", rb"\x28"))
)
"""How most messages begin: type, to, from, term, log term."""


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_VARINTS = tuple(_encode_varint(number) for number in range(_SMALL))
# The low 14 bits of a longer number: two bytes, each saying that more follows.
_PARTS = tuple(bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(_SMALL))


def varint(number: int) -> bytes:
    """
    Encode an unsigned number of up to 64 bits as a protobuf varint.

    Raises:
        ValueError: The number is negative or has more than 64 bits.
    """
    if 0 <= number < _SMALL:
        return _VARINTS[number]
    if 0 < number < _MEDIUM:  # the same as below, without the call
        return _PARTS[number & _LOW] + _VARINTS[number >> 14]
    if number < 0 or number >> _UINT64_BITS:
        raise ValueError(f"not an unsigned 64-bit number: {number}")
    return _PARTS[number & _LOW] + varint(number >> 14)


def encode_entry(entry: Entry) -> bytes:
    """Encode one entry, as `encode_entries` does many."""
    return encode_entries((entry,))[0]


def encode_entries(entries: Sequence[Entry]) -> list[bytes]:
    """
    Encode entries, each by itself, in their order.

    Raises:
        ValueError: A number is negative or has more than 64 bits.
    """
    encoded: list[bytes] = []
    append, join = encoded.append, b"".join
    varints, parts = _VARINTS, _PARTS
    run_term = run_type = run_high = -1
    head = high_bits = b""
    for term, index, data, kind in entries:
        high = index >> 14
        if high != run_high or term != run_term or kind != run_type:
            # Type and term hardly ever change, the upper bits of the index once in 16384 entries: what is
            # the same for all of a run is put together once.
            head = b"\x08" + varint(kind) + b"\x10" + varint(term) + b"\x18"
            high_bits = varint(high) if high else b""
            run_term, run_type, run_high = term, kind, high
        number = parts[index & _LOW] if high else varints[index]
        if data:
            size = len(data)
            length = varints[size] if size < _SMALL else varint(size)
            append(join((head, number, high_bits, b"\x22", length, data)))
        else:
            append(head + number + high_bits)
    return encoded


def decode_entry(data: bytes) -> Entry:
    """
    Decode an entry.

    Raises:
        ValueError: The bytes are not an entry; the text says what is wrong.
    """
    # Whoever writes entries writes each field once, in order: tried first, because boot reads a whole log.
    if data[:1] == b"\x08" and data[2:3] == b"\x10" and data[1] < 0x80:
        term, position = _read_varint(data, 3, "entry")
        if data[position : position + 1] == b"\x18":
            index, position = _read_varint(data, position + 1, "entry")
            if position == len(data):
                return Entry(term, index, b"", data[1])
            if data[position] == 0x22:
                size, position = _read_varint(data, position + 1, "entry")
                if position + size == len(data):
                    return Entry(term, index, data[position:], data[1])
    (kind, term, index), payload = _decode(data, "entry", numbers=3, payload=True)
    return Entry(term, index, payload or b"", kind)


def _decode_entries(data: bytes, position: int, entries: list[Entry]) -> int:
    """
    Decode the entries of a message that follow each other; returns where they end.

    Most follow upon the one before as a leader numbers and writes them: what stands before their size is
    known then, and compared instead of read.
    """
    append, new, end = entries.append, tuple.__new__, len(data)
    term = kind = index = 0
    head = high_bits = b""
    while position < end and data[position] == _ENTRY_TAG:
        size, position = _read_size(data, position + 1)
        stop = position + size
        if stop > end:
            raise ValueError(f"message: field 7 has {size} bytes, {end - position} are left")
        index += 1
        low = index & _LOW
        if low and high_bits:
            known = head + _PARTS[low] + high_bits
            if data.startswith(known, position, stop):
                size, start = _read_size(data, position + len(known))
                if start + size == stop:
                    append(new(Entry, (term, index, data[start:stop], kind)))
                    position = stop
                    continue
        entry = decode_entry(data[position:stop])
        append(entry)
        position = stop
        if position == end or data[position] != _ENTRY_TAG:
            break  # a lone one: nothing needs to be known for the next
        term, index, _, kind = entry
        head = b"\x08" + varint(kind) + b"\x10" + varint(term) + b"\x18"
        high_bits = varint(index >> 14) + b"\x22" if index >= _SMALL else b""
    return position


def _read_size(data: bytes, position: int) -> tuple[int, int]:
    """As `_read_varint`, for what most often has two bytes."""
    if position + 1 < len(data):
        low, high = data[position], data[position + 1]
        if low < 0x80:
            return low, position + 1
        if high < 0x80:
            return low & 0x7F | high << 7, position + 2
    return _read_varint(data, position, "message")


def encode_hard_state(state: HardState) -> bytes:
    """Encode term, vote and commit index."""
    return b"\x08" + varint(state.term) + b"\x10" + varint(state.vote) + b"\x18" + varint(state.commit)


def decode_hard_state(data: bytes) -> HardState:
    """
    Decode a hard state.

    Raises:
        ValueError: The bytes are not a hard state.
    """
    (term, vote, commit), _ = _decode(data, "hard state", numbers=3)
    return HardState(term, vote, commit)


def encode_conf_state(state: ConfState) -> bytes:
    """Encode a configuration."""
    *groups, auto_leave = state
    tags = (b"\x08", b"\x10", b"\x18", b"\x20")
    parts = [tag + varint(member) for tag, members in zip(tags, groups, strict=True) for member in members]
    return b"".join((*parts, b"\x28\x01" if auto_leave else b"\x28\x00"))


def decode_conf_state(data: bytes) -> ConfState:
    """
    Decode a configuration; its ids may be packed or not.

    Raises:
        ValueError: The bytes are not a configuration.
    """
    groups: tuple[list[int], ...] = ([], [], [], [])
    auto_leave = False
    for number, value in _fields(data, "conf state"):
        if number == 5:
            if not isinstance(value, int):
                raise ValueError("conf state: field 5 is not a number")
            auto_leave = bool(value)
        elif number <= 4:
            groups[number - 1].extend([value] if isinstance(value, int) else _packed(value))
    voters, learners, outgoing, following = map(tuple, groups)
    return ConfState(voters, learners, outgoing, following, auto_leave)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Encode a snapshot with its data."""
    index, term, conf_state, data = snapshot
    about = _field(b"\x0a", encode_conf_state(conf_state)) + b"\x10" + varint(index) + b"\x18" + varint(term)
    return (_field(b"\x0a", data) if data else b"") + _field(b"\x12", about)


def decode_snapshot(data: bytes) -> Snapshot:
    """
    Decode a snapshot.

    Raises:
        ValueError: The bytes are not a snapshot.
    """
    parts = _by_number(data, "snapshot", {1: bytes, 2: bytes})
    about = _by_number(parts.get(2, b""), "snapshot", {1: bytes, 2: int, 3: int})
    conf_state = decode_conf_state(about.get(1, b""))
    return Snapshot(about.get(2, 0), about.get(3, 0), conf_state, parts.get(1, b""))


_PLAIN = (None, False, 0, b"", 0)
"""What most messages have from their snapshot to their vote, inclusive: nothing;"""
_PLAIN_FIELDS = b"\x50\x00\x58\x00\x68\x00"
"""which is written so, and ends the message."""


@lru_cache(256)
def _message_head(kind: int, to: int, sender: int, term: int, log_term: int) -> bytes:
    """What hardly changes from one message to the next."""
    numbers = (b"\x08", kind), (b"\x10", to), (b"\x18", sender), (b"\x20", term), (b"\x28", log_term)
    return b"".join([tag + varint(number) for tag, number in numbers])


@lru_cache(256)
def _read_head(head: bytes) -> tuple[int, ...]:
    """The same, read: what `_HEAD` matches."""
    return tuple(_decode(head, "message", numbers=5)[0])


def encode_entry_fields(entries: Sequence[Entry]) -> list[bytes]:
    """
    Encode the entries of a message, as `encode_message` takes them.

    Raises:
        ValueError: A number is negative or has more than 64 bits.
    """
    return [_field(b"\x3a", entry) for entry in encode_entries(entries)]


def encode_message(message: Message, entry_fields: Sequence[bytes] | None = None) -> bytes:
    """
    Encode what one member says to another; ``responses``, which never leave a member, are left out.

    Args:
        message: The message.
        entry_fields: Its entries, if `encode_entry_fields` was asked already.

    Raises:
        ValueError: A number is negative or has more than 64 bits.
    """
    parts = [
        _message_head(message.type, message.to, message.sender, message.term, message.log_term),
        b"\x30" + varint(message.index),
    ]
    if message.entries:
        parts += encode_entry_fields(message.entries) if entry_fields is None else entry_fields
    parts.append(b"\x40" + varint(message.commit))
    if message[8:13] == _PLAIN:
        parts.append(_PLAIN_FIELDS)
        return b"".join(parts)
    if message.snapshot is not None:
        parts.append(_field(b"\x4a", encode_snapshot(message.snapshot)))
    parts.append(b"\x50\x01" if message.reject else b"\x50\x00")
    parts.append(b"\x58" + varint(message.reject_hint))
    if message.context:
        parts.append(_field(b"\x62", message.context))
    parts.append(b"\x68" + varint(message.vote))
    return b"".join(parts)


def decode_message(data: bytes) -> Message:
    """
    Decode what another member says.

    Raises:
        ValueError: The bytes are not a message, or of a type that this version does not know.
    """
    values: list[int] = [0] * 14
    payloads: dict[int, bytes] = {}
    entries: list[Entry] = []
    # Numbers, most of them small, and entries are all that most messages have: those are read here.
    position, end = 0, len(data)
    head = _HEAD.match(data)
    if head is not None:
        values[1:6] = _read_head(head[0])
        position = head.end()
    while position + 1 < end:
        number = _MESSAGE_NUMBERS.get(data[position])
        if number is not None:
            value = data[position + 1]
            position += 2
            if value >= 0x80:
                value, position = _read_varint(data, position - 1, "message")
            values[number] = value
            if number == 8 and end - position == len(_PLAIN_FIELDS) and data.endswith(_PLAIN_FIELDS):
                values[10] = values[11] = values[13] = 0  # whatever was said before
                position = end
        elif data[position] == _ENTRY_TAG:
            position = _decode_entries(data, position, entries)
        else:
            break
    rest = data[position:] if position else data
    for number, field in _fields(rest, "message") if rest else ():
        if number in _MESSAGE_PAYLOADS:
            if not isinstance(field, bytes):
                raise ValueError(f"message: field {number} is not bytes")
            if number == 7:
                entries.append(decode_entry(field))
            else:
                payloads[number] = field
        elif number < len(values):
            if not isinstance(field, int):
                raise ValueError(f"message: field {number} is not a number")
            values[number] = field
    _, kind, to, sender, term, log_term, index, _, commit, _, reject, reject_hint, _, vote = values
    # In the order of the fields: names would take twice as long.
    return Message(
        _TYPES[kind] if kind < len(_TYPES) else MessageType(kind),
        to,
        sender,
        term,
        log_term,
        index,
        tuple(entries),
        commit,
        decode_snapshot(payloads[9]) if 9 in payloads else None,
        bool(reject),
        reject_hint,
        payloads.get(12, b""),
        vote,
    )


class SnapshotEnvelope(NamedTuple):
    """What a snapshot file holds (snappb.snapshot): ``crc`` is CRC-32C of ``data``, an encoded snapshot."""

    crc: int
    data: bytes


def encode_snapshot_envelope(envelope: SnapshotEnvelope) -> bytes:
    """Encode the content of a snapshot file."""
    return b"\x08" + varint(envelope.crc) + _field(b"\x12", envelope.data)


def decode_snapshot_envelope(data: bytes) -> SnapshotEnvelope:
    """
    Decode the content of a snapshot file.

    Raises:
        ValueError: The bytes are not that.
    """
    (crc,), payload = _decode(data, "snapshot file", numbers=1, payload=True)
    return SnapshotEnvelope(crc, payload or b"")


class SnapshotRecord(NamedTuple):
    """What the log keeps of a snapshot (walpb.Snapshot); ``conf_state`` is ``None`` only at index 0."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    term: int
    conf_state: ConfState | None = None


def encode_snapshot_record(record: SnapshotRecord) -> bytes:
    """
    Encode the log's record of a snapshot.

    Raises:
        ValueError: The index is above 0 and there is no configuration.
    """
    encoded = b"\x08" + varint(record.index) + b"\x10" + varint(record.term)
    if record.conf_state is not None:
        return encoded + _field(b"\x1a", encode_conf_state(record.conf_state))
    if record.index:
        raise ValueError(f"the record of snapshot {record.index} has no configuration")
    return encoded


def decode_snapshot_record(data: bytes) -> SnapshotRecord:
    """
    Decode the log's record of a snapshot.

    Raises:
        ValueError: The bytes are not such a record.
    """
    (index, term), payload = _decode(data, "snapshot record", numbers=2, payload=True)
    return SnapshotRecord(index, term, None if payload is None else decode_conf_state(payload))


class Metadata(NamedTuple):
    """Whose log it is; the same in every segment."""

    node_id: int
    cluster_id: int


def encode_metadata(metadata: Metadata) -> bytes:
    """Encode the log's metadata."""
    return b"\x08" + varint(metadata.node_id) + b"\x10" + varint(metadata.cluster_id)


def decode_metadata(data: bytes) -> Metadata:
    """
    Decode the log's metadata.

    Raises:
        ValueError: The bytes are not metadata.
    """
    (node_id, cluster_id), _ = _decode(data, "metadata", numbers=2)
    return Metadata(node_id, cluster_id)


def _field(tag: bytes, data: bytes) -> bytes:
    return tag + varint(len(data)) + data


def _fields(data: bytes, what: str) -> Iterator[tuple[int, int | bytes]]:
    """Every field, the unknown ones too, but none of fixed width: no message here has one."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position, what)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"{what}: field number {number} before byte {position}")
        if wire_type == 0:
            value, position = _read_varint(data, position, what)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _read_varint(data, position, what)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"{what}: wire type {wire_type} before byte {position}")
        if size > end - position:
            raise ValueError(f"{what}: field {number} has {size} bytes, {end - position} are left")
        if wire_type == 2:
            yield number, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int, what: str) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    number = shift = 0
    try:
        while True:
            byte = data[position]
            position += 1
            if byte < 0x80:
                number |= byte << shift
                break
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift == 70:
                raise ValueError(f"{what}: a number of more than 10 bytes before byte {position}")
    except IndexError:
        raise ValueError(f"{what}: ends inside a number, at byte {position}") from None
    if number >> _UINT64_BITS:
        raise ValueError(f"{what}: a number of more than 64 bits before byte {position}")
    return number, position


def _decode(data: bytes, what: str, numbers: int, payload: bool = False) -> tuple[list[int], bytes | None]:
    """The fields 1 to ``numbers``, and the bytes of the field after them; all others are skipped."""
    values = [0] * numbers
    content = None
    for number, value in _fields(data, what):
        if number <= numbers:
            if not isinstance(value, int):
                raise ValueError(f"{what}: field {number} is not a number")
            values[number - 1] = value
        elif payload and number == numbers + 1:
            if not isinstance(value, bytes):
                raise ValueError(f"{what}: field {number} is not bytes")
            content = value
    return values, content


def _by_number(data: bytes, what: str, kinds: Mapping[int, type]) -> dict[int, Any]:
    """The fields of these numbers and kinds, the last one of each; all others are skipped."""
    found: dict[int, Any] = {}
    for number, value in _fields(data, what):
        if number in kinds:
            if not isinstance(value, kinds[number]):
                raise ValueError(f"{what}: field {number} is of another type")
            found[number] = value
    return found


def _packed(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        number, position = _read_varint(data, position, "conf state")
        yield number
