"""How gRPC writes its own headers (PROTOCOL-HTTP2.md), with grpc-go's words for what is malformed."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable

from twistedetcd.protocols.hpack import Header

METADATA_BYTES_MAX = 8192  # of one header block, which must fit one frame
STATUS_TEXT_BYTES_MAX = 4096  # encoded it must fit one frame, whatever a client made us quote
_BINARY = b"-bin"
_NAME = re.compile(rb"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[ -~]*")
_RESERVED = re.compile(rb"grpc-.*|content-type|te")
_TIMEOUT_DIGITS_MAX = 8
_TIMEOUT_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def percent_encoded(message: str) -> bytes:
    """A status message for the wire: printable ASCII but ``%`` as it is, the rest as %XX; cut if long."""
    try:
        raw = message.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which no byte stands for
        raw = message.encode("utf-8", "replace")
    if len(raw) > STATUS_TEXT_BYTES_MAX:
        raw = raw[:STATUS_TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()
    if all(0x20 <= octet <= 0x7E and octet != 0x25 for octet in raw):
        return raw
    return b"".join(
        bytes((octet,)) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet for octet in raw
    )


def text(value: bytes) -> str:
    """A header's value, to be quoted in a status message."""
    return value.decode("utf-8", "surrogateescape")


def is_grpc(content_type: bytes) -> bool:
    """Whether a content-type is gRPC's, whatever the message format."""
    rest = content_type.lower().removeprefix(b"application/grpc")
    return len(rest) < len(content_type) and rest[:1] in (b"", b"+", b";")


def timeout_seconds(value: bytes) -> tuple[float, str | None]:
    """Seconds, and a complaint if there is reason for one."""
    digits = value[:-1]
    unit = _TIMEOUT_UNITS.get(value[-1:])
    if unit is not None and digits.isdigit() and len(digits) <= _TIMEOUT_DIGITS_MAX:
        return int(digits) * unit, None
    if not digits:
        problem = "transport: timeout string is too short"
    elif len(digits) > _TIMEOUT_DIGITS_MAX:
        problem = "transport: timeout string is too long"
    elif unit is None:
        problem = "transport: timeout unit is not recognized"
    else:
        problem = "transport: timeout is not a number"
    return 0.0, f'malformed grpc-timeout: {problem}: "{text(value)}"'


def binary_values(coded: bytes) -> list[bytes] | None:
    """The values in one ``-bin`` header, base64 joined by commas; ``None`` if they are not that."""
    try:
        return [b64decode(value + b"=" * (-len(value) % 4), validate=True) for value in coded.split(b",")]
    except binascii.Error:
        return None


def binary_problem(headers: list[Header]) -> str | None:
    """What is wrong with the first ``-bin`` header that is not base64, or ``None``."""
    for name, value in headers:
        if name.endswith(_BINARY) and binary_values(value) is None:
            return f'malformed binary metadata "{text(value)}" in header "{text(name)}": illegal base64 data'
    return None


def checked_metadata(metadata: Iterable[Header]) -> tuple[Header, ...]:
    """
    An application's metadata as it goes on the wire.

    Raises:
        ValueError: A name or value that gRPC does not allow, or too much of it.
    """
    headers = tuple(
        [
            (name, b64encode(value).rstrip(b"=") if name.endswith(_BINARY) else value)
            for name, value in metadata
        ]
    )
    for name, value in headers:
        if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
            raise ValueError(f"metadata cannot be called {name!r}")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"metadata that is not printable ASCII needs a name in -bin: {name!r}")
    if sum([len(name) + len(value) for name, value in headers]) > METADATA_BYTES_MAX:
        raise ValueError(f"metadata of more than {METADATA_BYTES_MAX} bytes")
    return headers
