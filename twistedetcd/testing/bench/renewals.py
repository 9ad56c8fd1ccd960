"""
A load generator for streams that keep leases alive, a lease on each; ``h2load`` knows no streams that last.

A process reads jobs as `twistedetcd.testing.bench.generator` does; ``message`` renews the lease of the first
stream, and each further stream has the next id.  A stream sends a renewal when the one before it is answered.
Answers are counted by their frames: one of a lease that is gone is shorter.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from twistedetcd.pb.rpc_pb2 import LeaseKeepAliveRequest, LeaseKeepAliveResponse
from twistedetcd.protocols.framing import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    frame,
    unpack_header,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.testing.bench.client import (
    RECEIVE_BYTES,
    TIMEOUT_SECONDS,
    Inbox,
    ServerFaultError,
    request_headers,
)
from twistedetcd.testing.bench.generator import READY, Job, Tally

PREFIX_BYTES = 5


class Renewals:
    """
    The streams of one connection, as a state machine.

    A server that opens its windows in time is taken for granted: each stream has one renewal on its way.

    Args:
        ids: The lease of each stream.
        renewals: How many to make over all streams; at least one on each.
        block: The header block that begins a stream.

    Attributes:
        out: What must be sent; the owner empties it.
        answered: Renewals that were answered, well or not.
        succeeded: Those after which the lease lasts.
        data_bytes: Of all DATA frames.
    """

    def __init__(self, ids: range, renewals: int, block: bytes) -> None:
        self.out: list[bytes] = []
        self.answered = self.succeeded = self.data_bytes = 0
        self._left = renewals - len(ids)
        self._frames: dict[int, bytes] = {}
        self._sizes: dict[int, int] = {}
        self._rest = b""
        for number, lease_id in enumerate(ids):
            message = LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
            body = b"\0" + len(message).to_bytes(4, "big") + message
            stream_id = 2 * number + 1
            self._frames[stream_id] = frame(DATA, 0, stream_id, body)
            self.out += (frame(HEADERS, END_HEADERS, stream_id, block), self._frames[stream_id])

    def receive(self, data: bytes) -> None:
        """
        Take in the next bytes, cut anywhere.

        Raises:
            ServerFaultError: The server gave up the connection or a stream.
        """
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream_id = unpack_header(data, at)
            start = at + 9
            stop = start + (high << 8 | low)
            if stop > end:
                break
            at = stop
            if kind == DATA:
                self._answer(stream_id, data[start:stop])
            elif flags & END_STREAM and kind == HEADERS:
                raise ServerFaultError("the server ended a stream of renewals")
            elif kind in (GOAWAY, RST_STREAM):
                raise ServerFaultError(f"unexpected frame of type {kind}")
            elif kind in (PING, SETTINGS) and not flags & ACK:
                self.out.append(frame(kind, ACK, 0, data[start:stop] if kind == PING else b""))
        self._rest = data[at:]

    def _answer(self, stream_id: int, body: bytes) -> None:
        self.answered += 1
        self.data_bytes += len(body)
        size = self._sizes.get(stream_id)
        if size is None:
            response = LeaseKeepAliveResponse.FromString(body[PREFIX_BYTES:])
            size = self._sizes[stream_id] = len(body) if response.TTL > 0 else 0
        self.succeeded += len(body) == size
        if self._left:
            self._left -= 1
            self.out.append(self._frames[stream_id])


def run(connection: socket.socket, renewals: Renewals, count: int) -> Tally:
    """
    Make all renewals.

    Raises:
        ServerFaultError: The connection is of no more use.
        OSError: The same.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    while renewals.answered < count:
        if renewals.out:
            connection.sendall(b"".join(renewals.out))
            renewals.out.clear()
        data = connection.recv(RECEIVE_BYTES)
        if not data:
            raise ServerFaultError("the server hung up")
        renewals.receive(data)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return Tally(seconds, cpu_seconds, renewals.succeeded, renewals.data_bytes)


def main() -> None:
    for line in iter(sys.stdin.readline, ""):
        job = Job(**json.loads(line))
        first = LeaseKeepAliveRequest.FromString(bytes.fromhex(job.message)).ID
        block = encode(request_headers(job.path.encode(), b"127.0.0.1:%d" % job.port))
        renewals = Renewals(range(first, first + job.streams), job.requests, block)
        with socket.create_connection(("127.0.0.1", job.port), TIMEOUT_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"".join(Inbox().out))  # the preface, and windows that never fill
            _write(READY)
            sys.stdin.readline()
            _write(json.dumps(run(connection, renewals, job.requests)._asdict()) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
