"""
The frames that members exchange: a length, a kind, a body.  No I/O.

A length is four bytes, big-endian, and counts the kind's byte and the body.  The first frame of whoever dials
is short, so its first byte is zero: neither HTTP nor TLS begins like that.

Yours to change: add a kind; numbers that were in use once are not used again.
Never: what a message or an image means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

PROTOCOL: Final = 1
"""The version of this protocol: members that speak another one do not understand each other."""
HELLO_BYTES_MAX: Final = 4096
"""No frame is longer before both ends know whom they talk to."""
HEAD_BYTES: Final = 5


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 0
    """From whoever dials, first: a `Hello`."""
    WELCOME = 1
    """The answer: a `Hello` of the other end."""
    REFUSED = 2
    """Or this, and the end: a word, a space, and a sentence."""
    PING = 3
    """Eight bytes that come back."""
    PONG = 4
    MESSAGE = 5
    """A raft message."""
    ASK = 6
    """A question: eight bytes of its number, a byte of the length of a word, the word, the body."""
    ANSWER = 7
    """Eight bytes of the question's number, the answer."""
    NO_ANSWER = 8
    """Eight bytes of the question's number, a byte of the error's code, its text."""
    REMOVED = 9
    """You are no member any more."""
    IMAGE = 10
    """An image of a store begins: the snapshot's message."""
    PIECE = 11
    """What comes next of it."""
    IMAGE_END = 12
    """That was all: eight bytes of its length, four of its CRC-32C."""
    TAKEN = 13
    """It is durable at the other end."""
    NOT_TAKEN = 14
    """It is not wanted, or of no use: a sentence."""


_KINDS: Final = tuple(Kind)


class FrameError(Exception):
    """The other end does not speak this protocol; the text is a sentence."""


class Frames:
    """
    Bytes in, frames out.

    Attributes:
        bytes_max: The longest frame, counted as its length is.
    """

    def __init__(self, bytes_max: int = HELLO_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """
        Take in what came.

        Yields:
            The frames that are complete now, in order; `bytes_max` may be changed in between.

        Raises:
            FrameError: A frame is longer than `bytes_max`, or of no known kind.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            data = buffer  # type: ignore[assignment]  # a bytearray, of which only copies leave
        at, end = 0, len(data)
        try:
            while end - at >= HEAD_BYTES:
                length = int.from_bytes(data[at : at + 4], "big")
                if not 0 < length <= self.bytes_max:
                    raise FrameError(f"a frame of {length} bytes, where 1 to {self.bytes_max} are allowed")
                number = data[at + 4]
                if number >= len(_KINDS):
                    raise FrameError(f"a frame of kind {number}, which is not known")
                if end - at - 4 < length:
                    break
                start, at = at + HEAD_BYTES, at + 4 + length
                yield _KINDS[number], bytes(data[start:at])
        finally:
            if data is buffer:
                del buffer[:at]
            else:
                buffer += data[at:]


def frame(kind: Kind, *parts: bytes) -> bytes:
    """One frame; its body is all parts together."""
    return b"".join(((1 + sum(map(len, parts))).to_bytes(4, "big"), bytes((kind,)), *parts))


class Lane(IntEnum):
    """What a connection is for: what travels on one waits for nothing on another."""

    URGENT = 0
    """Heartbeats and votes; questions and answers."""
    BULK = 1
    """All else that raft says."""
    IMAGE = 2
    """One image of a store."""


class Hello(NamedTuple):
    """What either end says of itself, and whom it wants to talk to."""

    cluster: int
    sender: int
    to: int
    lane: Lane
    server: str
    """The version of its server, for the log."""
    protocol: int = PROTOCOL

    def encode(self) -> bytes:
        """As JSON, so that later versions may say more."""
        return json.dumps(
            {
                "protocol": self.protocol,
                "cluster": f"{self.cluster:x}",
                "from": f"{self.sender:x}",
                "to": f"{self.to:x}",
                "lane": self.lane.name.lower(),
                "server": self.server,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """
        Read one.

        Raises:
            FrameError: It is not one.
        """
        try:
            fields = json.loads(data)
            protocol = fields["protocol"]
            cluster, sender, to = (int(fields[name], 16) for name in ("cluster", "from", "to"))
            hello = cls(cluster, sender, to, Lane[fields["lane"].upper()], str(fields["server"]), protocol)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise FrameError(f"what it says of itself cannot be read: {error!r}") from error
        if not all(0 < number < 1 << 64 for number in hello[:3]):
            raise FrameError("what it says of itself cannot be read: an id is not of 64 bits")
        return hello
