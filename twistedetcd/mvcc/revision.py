"""A revision as the backend's key: main, ``_``, sub, all big-endian, and ``t`` behind it for a tombstone."""

from __future__ import annotations

from struct import Struct

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
