"""Readers that stop reading: they cost little, hold back nobody, and learn of all that they miss."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.requests import KV
from tests.interop.servers import Server, our_server
from tests.interop.watching import WATCH, Stream
from twistedetcd.pb import rpc_pb2
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from twistedetcd.protocols.framing import (
    ACK,
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_MAX,
    WINDOW_UPDATE,
    frame,
    unpack_header,
)
from twistedetcd.protocols.hpack import encode
from twistedetcd.testing.bench.client import request_headers

# As many as the tests have time for; a million with WATCH_EVENTS=1000000.
EVENTS = int(os.environ.get("WATCH_EVENTS", "200000"))
KEYS = [b"key/%02d" % number for number in range(100)]  # all are written in each revision
GROWTH_BYTES_MAX = 64 * 1024 * 1024
EVERYTHING = WatchRequest(create_request=WatchCreateRequest(key=b"key/", range_end=b"key0"))
_INITIAL_WINDOW = 4


class Socket:
    """A watch on a bare connection: its windows are as wide as can be, and nothing is read unless asked."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), 30.0)
        request = EVERYTHING.SerializeToString()
        head = encode(request_headers(WATCH.encode(), server.endpoint.encode()))
        self._socket.sendall(
            PREFACE
            + frame(SETTINGS, 0, 0, struct.pack(">HL", _INITIAL_WINDOW, WINDOW_MAX))
            + frame(SETTINGS, ACK, 0)
            + frame(WINDOW_UPDATE, 0, 0, (WINDOW_MAX - 65535).to_bytes(4, "big"))
            + frame(HEADERS, END_HEADERS, 1, head)
            + frame(DATA, 0, 1, b"\0" + len(request).to_bytes(4, "big") + request)
        )

    def responses(self) -> Iterator[WatchResponse]:
        """Read on, message by message."""
        data, body = b"", bytearray()
        while True:
            received = self._socket.recv(1 << 18)
            assert received, "the server hung up"
            data += received
            at = 0
            while at + 9 <= len(data):
                high, low, kind, _, _ = unpack_header(data, at)
                end = at + 9 + (high << 8 | low)
                if end > len(data):
                    break
                if kind == DATA:
                    body += data[at + 9 : end]
                at = end
            data = data[at:]
            while len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big"):
                length = int.from_bytes(body[1:5], "big")
                yield WatchResponse.FromString(bytes(body[5 : 5 + length]))
                del body[: 5 + length]

    def close(self) -> None:
        self._socket.close()


def heap_bytes(server: Server) -> int:
    """What a process has for itself.  Pages of the store's file are the kernel's, to be dropped at will."""
    assert server.process is not None
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


class SlowReaderTests(SynchronousTestCase):
    """Two that stop reading, one behind a closed window and one behind a full socket, and one that reads."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)
        self.server.start("--unsafe-no-fsync")

    def check(self, events: list[Event], expected: int) -> int:
        """Events must go on where the last ones ended, whole revisions at a time; returns what follows."""
        self.assertEqual(0, len(events) % len(KEYS), "a revision in parts")
        for at in range(0, len(events), len(KEYS)):
            part = events[at : at + len(KEYS)]
            self.assertEqual({expected}, {event.kv.mod_revision for event in part})
            self.assertEqual(KEYS, [event.kv.key for event in part])
            expected += 1
        return expected

    def test_reading_stops(self) -> None:
        """
        Memory grows by less than 64 MiB, others are told of each revision before the next one, and then the
        slow ones get everything without a gap, or learn that it was compacted.
        """
        stalled, full, quick = Stream(self.server), Socket(self.server), Stream(self.server)
        self.addCleanup(full.close)
        stalled.reading.clear()
        for stream in (stalled, quick):
            stream.send(EVERYTHING)
            self.assertTrue(stream.next().created)
        request = rpc_pb2.TxnRequest(
            success=[
                rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=b"v" * 20)) for key in KEYS
            ]
        )
        before = heap_bytes(self.server)
        last = 1
        for _ in range(EVENTS // len(KEYS)):
            self.server.call(f"{KV}Txn", request)
            last = self.check(list(quick.next().events), last + 1) - 1
        grown = heap_bytes(self.server) - before
        self.assertLess(grown, GROWTH_BYTES_MAX, "bytes")

        stalled.reading.set()
        expected = 2
        while expected <= last:
            expected = self.check(list(stalled.next().events), expected)
        quick.close()
        stalled.close()

        self.server.call(f"{KV}Compact", rpc_pb2.CompactionRequest(revision=last))
        expected = 2
        for response in full.responses():
            if response.created:
                continue
            if response.canceled:
                break
            expected = self.check(list(response.events), expected)
        self.assertEqual(last, response.compact_revision)
        self.assertLess(2, expected)
        self.assertLess(expected, last, "it was not slow")
