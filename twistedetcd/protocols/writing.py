"""Writing to a socket at once, and not in the reactor's next turn."""

from __future__ import annotations

from typing import Any


def write_now(transport: Any, data: bytes) -> int:
    """
    Write what a socket takes now.  Only for a transport of TCP, unsecured, in which nothing waits.

    Returns:
        How many bytes it did not take; they wait in the transport, which resumes its producer once the last
        one is sent, however few there are.
    """
    sent, rest = 0, memoryview(data)
    while rest:  # the transport takes so much at a time, the socket perhaps more
        taken = transport.writeSomeData(rest)
        if not isinstance(taken, int) or not taken:
            break  # full; or lost, which the transport finds out and says as always
        sent += taken
        rest = rest[taken:]
    if rest:
        transport.write(data[sent:] if sent else data)
        transport.producerPaused = True
    return len(rest)
