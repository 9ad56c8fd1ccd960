"""The log of a real member, cut or damaged: what is torn is forgotten, what is damaged is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import Server, our_server
from twistedetcd.errors import WALCorruptError
from twistedetcd.files.local import LocalFiles
from twistedetcd.pb.rpc_pb2 import PutRequest, RangeRequest
from twistedetcd.raft.types import Entry
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import LogOptions
from twistedetcd.wal.reading import Recovered

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
PUTS = 6
SEGMENT = "0000000000000000-0000000000000000.wal"
ENTRY = 2
SMALL_SEGMENT_BYTES = 16 * 1024
END_SECONDS_MAX = 15.0


class Frame(NamedTuple):
    """Where a record lies in its file, where the padding after it begins and ends, and its type."""

    start: int
    padding: int
    end: int
    kind: int


def frames(data: bytes) -> Iterator[Frame]:
    """The records of a segment, found without the code under test: a length, the record, padding to 8."""
    start = 0
    while (field := int.from_bytes(data[start : start + 8], "little")) != 0:
        length = field & (1 << 56) - 1
        end = start + 8 + (length + 7 & ~7)
        assert data[start + 8] == 0x08, "a record begins with its type"
        yield Frame(start, start + 8 + length, end, data[start + 9])
        start = end


class DamagedLogTests(SynchronousTestCase):
    """A start after damage: with all that was durable, or not at all."""

    def setUp(self) -> None:
        """Have a member write a few keys, and kill it before its backend has any of them."""
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)
        self.server.start("--backend-batch-interval=10m")
        for number in range(PUTS):
            value = b"v" * (number * 40)
            self.server.call(PUT, PutRequest(key=b"k%d" % number, value=value))
        self.server.stop(SIGKILL)
        data = (self.server.data / "member" / "wal" / SEGMENT).read_bytes()
        self.frames = list(frames(data))
        self.entries = [frame for frame in self.frames if frame.kind == ENTRY]
        self.data = data[: self.frames[-1].end]

    def recovered(self, data: bytes) -> Recovered:
        """What a log of one segment gives when it is opened."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        (directory / SEGMENT).write_bytes(data)
        try:
            options = LogOptions(run_in_worker=at_once, segment_bytes=SMALL_SEGMENT_BYTES)
            wal = SegmentedWAL.open(LocalFiles(), str(directory), options=options)
            try:
                return wal.read_all()
            finally:
                wal.close()
        finally:
            shutil.rmtree(directory)

    def restarted_with(self, data: bytes) -> Server:
        """A member, not running yet, with a copy of the data directory whose log is replaced."""
        server = our_server(self.mktemp())
        self.addCleanup(server.clean_up)
        shutil.copytree(self.server.data, server.data, ignore=shutil.ignore_patterns("*.wal", "*.tmp"))
        segment = server.data / "member" / "wal" / SEGMENT
        segment.write_bytes(data)
        return server

    def test_cut_at_every_byte(self) -> None:
        """Cut anywhere in its last two entries, the log opens with every entry that is whole."""
        whole: list[Entry] = self.recovered(self.data).entries
        self.assertEqual(len(self.entries), len(whole))
        for size in range(self.entries[-2].start, len(self.data) + 1):
            expected = sum(1 for frame in self.entries if frame.end <= size)
            found = self.recovered(self.data[:size])
            self.assertEqual(whole[:expected], found.entries, size)
            torn = size not in {end for frame in self.frames for end in (frame.start, frame.end)}
            self.assertEqual(torn, found.broken_copy is not None, size)

    def test_member_starts_with_a_torn_log(self) -> None:
        """A member whose log was cut serves every key whose entry is whole, and takes new ones."""
        last, before = self.entries[-1], self.entries[-2]
        for size, keys in (
            (len(self.data), PUTS),
            (last.end - 1, PUTS - 1),
            (last.start + 1, PUTS - 1),
            (before.start + 8, PUTS - 2),
        ):
            server = self.restarted_with(self.data[:size])
            server.start()
            response = server.call(RANGE, RangeRequest(key=b"k", range_end=b"l"))
            self.assertEqual(
                [b"k%d" % number for number in range(keys)], [kv.key for kv in response.kvs], size
            )
            self.assertEqual(keys + 1, response.header.revision)
            self.assertEqual(keys + 2, server.call(PUT, PutRequest(key=b"new")).header.revision)
            server.clean_up()

    def test_damage_to_an_older_record(self) -> None:
        """A changed byte anywhere in a record that others follow is refused, with file and offset."""
        frame = self.entries[-3]
        for at in range(frame.start, frame.padding):
            for bits in (0x01, 0x80):
                with self.assertRaises(WALCorruptError) as caught:
                    self.recovered(flipped(self.data, at, bits))
                expected = f"{SEGMENT} is corrupt at offset {frame.start}: "
                self.assertIn(expected, str(caught.exception), (at, bits))
        # Padding says nothing, so a change there is none.
        self.assertLess(frame.padding, frame.end)
        for at in range(frame.padding, frame.end):
            self.assertEqual(self.recovered(self.data), self.recovered(flipped(self.data, at, 0x01)), at)

    def test_member_refuses_a_damaged_log(self) -> None:
        """The process says file and offset in one sentence, ends with status 1 and changes nothing."""
        frame = self.entries[-3]
        for at in (frame.start, frame.start + 9, frame.end - 20):
            data = flipped(self.data, at, 0x01)
            server = self.restarted_with(data)
            self.assertEqual(1, server.run().wait(END_SECONDS_MAX), server.log.read_text())
            server.process = None
            output = server.log.read_text()
            self.assertNotIn("Traceback", output)
            [sentence] = [
                line["msg"] for line in map(json.loads, output.splitlines()) if line["level"] == "fatal"
            ]
            segment = server.data / "member" / "wal" / SEGMENT
            self.assertIn(f"{segment} is corrupt at offset {frame.start}: ", sentence)
            self.assertEqual(data, segment.read_bytes())
            self.assertEqual([SEGMENT], os.listdir(segment.parent))


def flipped(data: bytes, at: int, bits: int) -> bytes:
    """The data with some bits of one byte the other way round."""
    return data[:at] + bytes((data[at] ^ bits,)) + data[at + 1 :]


def at_once(work: Callable[[], Any]) -> Deferred[Any]:
    """A worker that does it right now."""
    return execute(work)
