"""Compressed messages, unpacked up to a limit."""

from __future__ import annotations

import zlib

from twistedetcd.errors import Code


class MessageError(Exception):
    """A message cannot be unpacked; `code` is the status that its call ends with, the text its message."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def gunzip(message: bytes, bytes_max: int) -> bytes:
    """
    Unpack at most one byte more than is allowed, whatever the client promised.

    Raises:
        MessageError: It is no gzip, not all of it, followed by something, or too large.
    """
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(message, bytes_max + 1)
    except zlib.error as error:
        raise MessageError(
            Code.INTERNAL, f"grpc: failed to decompress the received message: {error}"
        ) from error
    if len(plain) > bytes_max:
        raise MessageError(
            Code.RESOURCE_EXHAUSTED,
            f"grpc: received message after decompression larger than max ({len(plain)} vs. {bytes_max})",
        )
    if not unzip.eof or unzip.unused_data:
        raise MessageError(Code.INTERNAL, "grpc: failed to decompress the received message: unexpected EOF")
    return plain
