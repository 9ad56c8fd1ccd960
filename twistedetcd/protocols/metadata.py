"""How gRPC writes its own headers (PROTOCOL-HTTP2.md), with grpc-go's words for what is malformed."""

from __future__ import annotations

STATUS_TEXT_BYTES_MAX = 4096  # encoded it must fit one frame, whatever a client made us quote
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


def timeout_seconds(value: bytes | None) -> tuple[float | None, str | None]:
    """Seconds and a complaint; one of them is ``None`` (both, when no timeout was asked for)."""
    if value is None:
        return None, None
    unit = _TIMEOUT_UNITS.get(value[-1:])
    digits = value[:-1]
    if not digits:
        problem = "transport: timeout string is too short"
    elif len(digits) > 8:
        problem = "transport: timeout string is too long"
    elif unit is None:
        problem = "transport: timeout unit is not recognized"
    elif not digits.isdigit():
        problem = "transport: timeout is not a number"
    else:
        return int(digits) * unit, None
    return None, f'malformed grpc-timeout: {problem}: "{text(value)}"'
