"""
A member under attack: other clients are served, and it does not grow.

What each attack is answered with is shown without a network in tests/protocols/test_floods.py.  Here the
attacks are real, on the loopback interface, each of a bounded number of pieces, while another client puts and
gets.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Semaphore

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import our_server
from tests.protocols.client import START, data, headers, message, request, reset, window
from tests.protocols.client import settings as setting
from twistedetcd.pb.rpc_pb2 import PutRequest, RangeRequest
from twistedetcd.protocols.framing import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    WAITING_BYTES_MAX,
    frame,
)
from twistedetcd.protocols.hpack import encode

PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
GROWTH_BYTES_MAX = 64 << 20
SOCKET_SECONDS_MAX = 5.0
CALLS_MIN = 20  # of the other client, for each attack
PIECES = 30_000
PIECES_AT_ONCE = 500
LARGE = b"large"
LARGE_BYTES = 1 << 20

FIELDS = request(RANGE.encode())
ASK = message(RangeRequest(key=b"k", serializable=True).SerializeToString())
ASK_LARGE = message(RangeRequest(key=LARGE, serializable=True).SerializeToString())
BOMB = b"\xbe" * 4000  # stands for 16 MB once the table has an entry of 4 kB
Piece = Callable[[int], bytes]

# Each ends the connection it comes on: what comes first, then piece after piece.
ATTACKS: dict[str, tuple[bytes, Piece]] = {
    "rapid reset": (b"", lambda stream: headers(stream, FIELDS) + data(stream, ASK) + reset(stream)),
    "made you reset": (b"", lambda stream: headers(stream, FIELDS, end=True) + window(stream, 0)),
    "malformed requests": (b"", lambda stream: headers(stream, [(b"a", b"b")])),
    "continuations": (frame(HEADERS, 0, 1), lambda _: frame(CONTINUATION, 0, 1, b"\x00")),
    "pings": (b"", lambda _: frame(PING, 0, 0, bytes(8))),
    "settings": (b"", lambda stream: setting((4, stream))),
    "empty data": (headers(1, FIELDS), lambda _: frame(DATA, 0, 1)),
    "priorities": (b"", lambda stream: frame(PRIORITY, 0, stream, bytes(5))),
    "unknown frames": (b"", lambda stream: frame(0xFA, 0, stream, bytes(20))),
    "window updates": (b"", lambda _: window(0, 1)),
    "data dribble": (
        setting((4, 0)) + headers(1, FIELDS) + data(1, ASK_LARGE),
        lambda _: window(1, 1),
    ),
    "header bombs": (
        frame(HEADERS, END_HEADERS, 1, encode(FIELDS) + b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968),
        lambda stream: frame(HEADERS, END_HEADERS, stream + 2, BOMB),
    ),
}


class FloodTests(SynchronousTestCase):
    """One member for all attacks."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)
        self.server.start()
        self.server.call(PUT, PutRequest(key=b"k", value=b"v" * 100))
        self.server.call(PUT, PutRequest(key=LARGE, value=bytes(LARGE_BYTES)))
        self.calls_made = Semaphore(0)
        self.threads = ThreadPoolExecutor(1)
        self.addCleanup(self.threads.shutdown)

    def resident_bytes(self) -> int:
        """The memory of the member."""
        assert self.server.process is not None
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.server.port), SOCKET_SECONDS_MAX)
        self.addCleanup(client.close)
        return client

    def under(self, attack: Callable[[], None], growth_bytes_max: int = GROWTH_BYTES_MAX) -> None:
        """Put and get while an attack goes on; every call must succeed, and the member must not grow."""
        before = most = self.resident_bytes()
        attacking = self.threads.submit(attack)
        calls = 0
        while calls < CALLS_MIN or not attacking.done():
            calls += 1
            value = b"%d" % calls
            self.server.call(PUT, PutRequest(key=b"other", value=value))
            answer = self.server.call(RANGE, RangeRequest(key=b"other"))
            self.assertEqual(value, answer.kvs[0].value)
            most = max(most, self.resident_bytes())
            if calls == CALLS_MIN:
                self.calls_made.release()
        attacking.result()
        self.assertLess(most - before, growth_bytes_max)

    def flood(self, first: bytes, piece: Piece) -> None:
        """Send pieces until the member hangs up, which it must."""
        client = self.connect()
        client.sendall(START + first)
        with contextlib.suppress(ConnectionError):
            for number in range(0, PIECES, PIECES_AT_ONCE):
                client.sendall(b"".join(piece(2 * n + 1) for n in range(number, number + PIECES_AT_ONCE)))
        with contextlib.suppress(ConnectionError):
            while client.recv(1 << 16):
                pass
        client.close()

    def test_attacks(self) -> None:
        """Each attack ends its own connection."""
        for name, (first, piece) in ATTACKS.items():
            with self.subTest(name):
                self.under(partial(self.flood, first, piece))

    def large_answers(self) -> bytes:
        """Requests whose answers are more than may wait."""
        streams = range(1, 4 * WAITING_BYTES_MAX // LARGE_BYTES, 2)
        return b"".join(headers(stream, FIELDS) + data(stream, ASK_LARGE) for stream in streams)

    def test_closed_windows(self) -> None:
        """A client that opens no window has as many answers kept for it as the limit says."""

        def attack() -> None:
            client = self.connect()
            client.sendall(START + setting((4, 0)) + self.large_answers())
            self.calls_made.acquire(timeout=SOCKET_SECONDS_MAX)
            client.close()

        self.under(attack)

    def test_client_that_does_not_read(self) -> None:
        """One that opens its windows and reads nothing, neither."""

        def attack() -> None:
            client = self.connect()
            client.sendall(START + setting((4, 2**31 - 1)) + window(0, 2**30) + self.large_answers())
            self.calls_made.acquire(timeout=SOCKET_SECONDS_MAX)
            client.close()

        self.under(attack)

    def test_clients_that_do_nothing(self) -> None:
        """Hundreds of connections, idle or in the middle of a word, cost little."""
        beginnings = (
            b"",
            PREFACE[:5],
            START,
            START + headers(1, FIELDS),
            START + headers(1, FIELDS)[:7],
            b"GET /",
        )

        def attack() -> None:
            clients = [self.connect() for _ in range(300)]
            for number, client in enumerate(clients):
                client.sendall(beginnings[number % len(beginnings)])
            for client in clients:
                client.close()

        self.under(attack)
