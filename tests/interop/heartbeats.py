"""
``python -m tests.interop.heartbeats FLAGS``: a member as ``twistedetcd`` starts it, its heartbeats watched.

Upon SIGUSR1 the longest time between two of them to the same member since the last time is written, in
seconds, to the file ``heartbeats`` in the current directory.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from twistedetcd.protocols.peers import PeerTransport
from twistedetcd.raft.types import Message, MessageType

FILE = "heartbeats"


def watch() -> None:
    """Watch all that this process sends."""
    last: dict[int, float] = {}
    longest = [0.0]
    send = PeerTransport.send

    def watched(self: PeerTransport, messages: Sequence[Message]) -> None:
        now = time.monotonic()
        for message in messages:
            if message.type is MessageType.HEARTBEAT:
                longest[0] = max(longest[0], now - last.get(message.to, now))
                last[message.to] = now
        send(self, messages)

    def report(number: int, frame: object) -> None:
        new = Path(f"{FILE}.new")
        new.write_text(repr(longest[0]))
        os.replace(new, FILE)
        longest[0] = 0.0
        last.clear()

    PeerTransport.send = watched  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, report)


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    watch()
    sys.argv[1:1] = ["-n", "--pidfile=", "etcd"]
    run()
