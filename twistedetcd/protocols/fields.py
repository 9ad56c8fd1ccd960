"""The rules for the header fields of a request and its trailers (RFC 9113, 8.1 to 8.3)."""

from __future__ import annotations

import re
from functools import lru_cache

from twistedetcd.protocols.hpack import Header

_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_NAMES_REMEMBERED_MAX = 256  # lists of names
_NAMES_MAX = 64  # in a list that is remembered, each of what a frame may hold
_LENGTH_DIGITS_MAX = 18

# Visible ASCII without capitals and without the colon.
_NAME = re.compile(rb"[!-9;-@\[-~]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\n\r\0]")


def request_problem(headers: list[Header]) -> str | None:
    """What RFC 9113, 8.2 and 8.3 forbid in a request, or ``None``."""
    names = tuple([name for name, _ in headers])
    problem = _names_problem(names) if len(names) <= _NAMES_MAX else _names_problem.__wrapped__(names)
    return problem or _values_problem(headers) or _length_problem(headers)


def trailers_problem(headers: list[Header]) -> str | None:
    """What RFC 9113, 8.1 and 8.2 forbid after a body, or ``None``."""
    for name, _ in headers:
        problem = "pseudo-header in trailers" if name[:1] == b":" else _name_problem(name)
        if problem:
            return problem
    return _values_problem(headers)


def value_problem(value: bytes) -> str | None:
    """
    What RFC 9113, 8.2.1 forbids in the value of any field, or ``None``.

    Blanks around it, which are forbidden too, are let through: grpc-go's servers let them.
    """
    return "malformed header value" if not value.isalnum() and _FORBIDDEN_IN_VALUE.search(value) else None


def content_length(headers: list[Header]) -> int | None:
    """How long a valid request says that its body is, if it does."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None


@lru_cache(maxsize=_NAMES_REMEMBERED_MAX)  # a client that changes values still sends the same names
def _names_problem(names: tuple[bytes, ...]) -> str | None:
    seen = set()
    regular = False
    for name in names:
        if name[:1] == b":":
            if regular or name in seen or name not in _PSEUDO:
                return "misplaced, repeated or unknown pseudo-header"
            seen.add(name)
        else:
            regular = True
            problem = _name_problem(name)
            if problem:
                return problem
    if not {b":method", b":scheme", b":path"} <= seen:
        return "missing pseudo-header"
    return None


def _name_problem(name: bytes) -> str | None:
    if name in _CONNECTION_SPECIFIC:
        return "connection-specific header"
    return None if _NAME.fullmatch(name) else "malformed header name"


def _values_problem(headers: list[Header]) -> str | None:
    problem = value_problem(b"".join([value for _, value in headers]))
    if problem:
        return problem
    for name, value in headers:
        if name == b":path" and not value:
            return "empty path"
        if name == b"te" and value != b"trailers":
            return "connection-specific header"
    return None


def _length_problem(headers: list[Header]) -> str | None:
    """RFC 9110, 8.6: one number, though it may be said more than once."""
    lengths = {value for name, value in headers if name == b"content-length"}
    if not lengths:
        return None
    [length, *more] = lengths
    good = not more and length.isdigit() and len(length) <= _LENGTH_DIGITS_MAX
    return None if good else "malformed content-length"
