"""
Many watches on a few connections, by one process that counts events and decodes none.

Each event carries the same marker in its value; how often that came is how many events came, however a server
cuts them into messages and frames.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from twistedetcd.pb.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from twistedetcd.protocols.framing import DATA, END_HEADERS, HEADERS, frame
from twistedetcd.protocols.hpack import encode
from twistedetcd.testing.bench.client import RECEIVE_BYTES, Inbox, ServerFaultError, request_headers
from twistedetcd.testing.bench.processes import BenchError

WATCH = b"/etcdserverpb.Watch/Watch"
MARKER = b"<one event>"
SECONDS_MAX = 60.0


def create(key: bytes) -> bytes:
    """A wish to watch a key, with its prefix."""
    request = WatchRequest(create_request=WatchCreateRequest(key=key)).SerializeToString()
    return b"\0" + len(request).to_bytes(4, "big") + request


class EventCounter:
    """Counts the markers in what comes on streams, cut anywhere."""

    def __init__(self) -> None:
        self._tails: dict[int, bytes] = {}

    def count(self, bodies: Mapping[int, bytes]) -> int:
        """How many are complete with these next bytes of some streams."""
        count = 0
        for stream_id, body in bodies.items():
            body = self._tails.get(stream_id, b"") + body
            count += body.count(MARKER)
            # The next piece may complete one that is cut; none is whole in so few bytes.
            self._tails[stream_id] = body[1 - len(MARKER) :]
        return count


class _Connection:
    """One connection with some streams."""

    def __init__(self, port: int, streams: Sequence[Sequence[bytes]]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbox = Inbox()
        self.counter = EventCounter()
        self.created = 0
        self._partial: dict[int, bytes] = {}
        self._pending: deque[tuple[int, bytes]] = deque()
        block = encode(request_headers(WATCH, b"127.0.0.1:%d" % port))
        for number, keys in enumerate(streams):
            stream_id = 2 * number + 1
            self._pending.append((0, frame(HEADERS, END_HEADERS, stream_id, block)))
            for key in keys:
                body = create(key)
                self._pending.append((len(body), frame(DATA, 0, stream_id, body)))
        self.flush()

    def flush(self) -> None:
        """Send what the server takes."""
        out, self.inbox.out = self.inbox.out, []
        while self._pending and self._pending[0][0] <= self.inbox.window:
            size, data = self._pending.popleft()
            self.inbox.window -= size
            out.append(data)
        if out:
            self.socket.sendall(b"".join(out))

    def receive(self) -> dict[int, bytes]:
        """What is there, by stream."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ServerFaultError("the server hung up")
        if self.inbox.receive(data):
            raise ServerFaultError("the server ended a watch stream")
        if self.inbox.out or self._pending:
            self.flush()
        return self.inbox.take_bodies()

    def receive_created(self) -> None:
        """Count the watches that the server says it created."""
        for stream_id, body in self.receive().items():
            body = self._partial.pop(stream_id, b"") + body
            at = 0
            while len(body) >= at + 5:
                end = at + 5 + int.from_bytes(body[at + 1 : at + 5], "big")
                if len(body) < end:
                    break
                response = WatchResponse.FromString(body[at + 5 : end])
                if not response.created or response.canceled:
                    raise BenchError("The server refused a watch.")
                self.created += 1
                at = end
            if at < len(body):
                self._partial[stream_id] = body[at:]


class Watchers:
    """
    Watches of some keys.

    Args:
        port: Of the server.
        keys: Of the watches, by stream, by connection.

    Raises:
        BenchError: The server did not create all of them.
        OSError: Nobody listens.
    """

    def __init__(self, port: int, keys: Sequence[Sequence[Sequence[bytes]]]) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections = [_Connection(port, streams) for streams in keys]
        for connection in self._connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        wanted = sum(len(stream) for streams in keys for stream in streams)
        while (created := sum(connection.created for connection in self._connections)) < wanted:
            for connection in self._ready():
                connection.receive_created()
            if created > wanted:
                raise BenchError("The server created more watches than were asked for.")

    def close(self) -> None:
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()

    def _ready(self) -> Iterator[_Connection]:
        found = self._selector.select(SECONDS_MAX)
        if not found:
            raise BenchError(f"A watch heard nothing for {SECONDS_MAX:.0f} s.")
        for key, _ in found:
            yield key.data

    def events(self) -> Iterator[tuple[int, float]]:
        """Wait for events, again and again: how many more have come, and when."""
        while True:
            for connection in self._ready():
                yield connection.counter.count(connection.receive()), time.perf_counter()
