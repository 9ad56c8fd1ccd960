"""Compressed messages, packed and unpacked, both up to a limit."""

from __future__ import annotations

import zlib

from twistedetcd.errors import Code

GZIP = b"gzip"
COMPRESSED_BYTES_MAX = 256 * 1024  # larger answers go out as they are: a few milliseconds of one turn
COMPRESSED_BYTES_MIN = 256  # smaller ones do not get smaller
_LEVEL = 1
_WBITS = 31  # gzip's header and trailer


class MessageError(Exception):
    """A message cannot be unpacked; `code` is the status that its call ends with, the text its message."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def gzip_if_smaller(message: bytes) -> bytes | None:
    """The message packed, unless that is not worth it."""
    if not COMPRESSED_BYTES_MIN <= len(message) <= COMPRESSED_BYTES_MAX:
        return None
    packed = zlib.compress(message, _LEVEL, wbits=_WBITS)
    return packed if len(packed) < len(message) else None


def gunzip(message: bytes, bytes_max: int) -> bytes:
    """
    Unpack at most one byte more than is allowed, whatever the client promised.

    Raises:
        MessageError: It is no gzip, not all of it, followed by something, or too large.
    """
    unzip = zlib.decompressobj(wbits=_WBITS)
    try:
        plain = unzip.decompress(message, bytes_max + 1)
    except zlib.error as error:
        raise MessageError(
            Code.INTERNAL, f"grpc: failed to decompress the received message: {error}"
        ) from error
    if len(plain) > bytes_max:
        raise MessageError(
            Code.RESOURCE_EXHAUSTED,
            f"grpc: received message after decompression larger than max {bytes_max}",
        )
    if not unzip.eof or unzip.unused_data:
        raise MessageError(Code.INTERNAL, "grpc: failed to decompress the received message: unexpected EOF")
    return plain
