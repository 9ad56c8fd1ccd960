"""Frames that wait for a connection: so many, and so long together, and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

BYTES_MAX = 32 << 20
"""No more bytes than these are kept,"""
FRAMES_MAX = 4096
"""and no more frames."""


class Waiting:
    """Frames in their order."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, frames: Sequence[bytes]) -> bool:
        """Keep frames; false if there was no room for all of them, and the last ones are lost."""
        for one in frames:
            if self._bytes + len(one) > BYTES_MAX or len(self._frames) >= FRAMES_MAX:
                return False
            self._frames.append(one)
            self._bytes += len(one)
        return True

    def take(self) -> bytes:
        """The first one; there must be one."""
        first = self._frames.popleft()
        self._bytes -= len(first)
        return first

    def take_all(self) -> Sequence[bytes]:
        """All of them."""
        frames, self._frames, self._bytes = self._frames, deque(), 0
        return frames
