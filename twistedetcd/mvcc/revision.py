"""
Revisions and the records they name.

A revision as the backend's key: main, ``_``, sub, all big-endian, and ``t`` behind it for a tombstone.  A
record is an encoded ``mvccpb.KeyValue``; a tombstone's has the key only.
"""

from __future__ import annotations

from struct import Struct

from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.wire import varint

_PACKED = Struct(">QBQ")
_UNDERSCORE = 0x5F

RECORD_KEY_BYTES = 17
TOMBSTONE = b"t"


def record_key(main: int, sub: int) -> bytes:
    """The key of a record that is not a tombstone; byte order is revision order."""
    return _PACKED.pack(main, _UNDERSCORE, sub)


def parse(key: bytes) -> tuple[int, int, bool]:
    """
    Main and sub revision of a record's key, and whether the record is a tombstone.

    Raises:
        ValueError: The key is no revision; the store is damaged.
    """
    tombstone = key[RECORD_KEY_BYTES:] == TOMBSTONE
    if len(key) != RECORD_KEY_BYTES + tombstone:
        raise ValueError(f"record key {key!r} is not a revision")
    main, separator, sub = _PACKED.unpack_from(key)
    if separator != _UNDERSCORE or main >> 63 or sub >> 63:
        raise ValueError(f"record key {key!r} is not a revision")
    return main, sub, tombstone


def main_of(key: bytes) -> int:
    """The main revision of a record's key."""
    return int.from_bytes(key[:8], "big")


def record(key: bytes, created: bytes, modified: bytes, version: int, value: bytes, lease: int) -> bytes:
    """
    A put's record; the revisions come encoded, since many records share them.

    By hand, and byte-equal to what protobuf writes: every put passes here.
    """
    length = len(key)
    start = b"\n%b%b\x10%b\x18%b\x20%b" % (
        _LENGTHS[length] if length < 1024 else varint(length),
        key,
        created,
        modified,
        _LENGTHS[version] if version < 1024 else varint(version),
    )
    if value:
        length = len(value)
        start = b"%b*%b%b" % (start, _LENGTHS[length] if length < 1024 else varint(length), value)
    return start + b"\x30" + varint(lease & _UINT64) if lease else start


def key_of(record: bytes) -> bytes:
    """
    The key of a record.

    Raises:
        google.protobuf.message.DecodeError: It is none; the store is damaged.
    """
    if record[:1] == b"\n" and record[1] < 0x80:  # short, and in front, as it is where we wrote it
        return record[2 : 2 + record[1]]
    key: bytes = KeyValue.FromString(record).key
    return key


_LENGTHS = tuple(varint(length) for length in range(1024))
_UINT64 = 2**64 - 1
