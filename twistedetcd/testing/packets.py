"""What travels on the simulated network."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from twistedetcd.raft.types import Message
from twistedetcd.wire import decode_message


class Lane(IntEnum):
    """What overtakes what: packets of one lane wait for each other, those of another do not."""

    URGENT = 0
    """Heartbeats and votes; questions and answers."""
    BULK = 1
    """All else that raft says."""
    STREAM = 2
    """Images of stores."""


class Packet(NamedTuple):
    """
    What travels.

    Attributes:
        sender: From whom.
        to: For whom.
        lane: See `Lane`.
        kind: A word that says what ``body`` is; ``message`` for a raft message.
        body: The bytes.
        number: Which question, or which image.
        part: Which part of an image.
        cluster: The sender's.
    """

    sender: int
    to: int
    lane: Lane
    kind: str
    body: bytes = b""
    number: int = 0
    part: int = 0
    cluster: int = 0

    @property
    def message(self) -> Message | None:
        """The raft message that it carries, if it does."""
        return decode_message(self.body) if self.kind == "message" else None
