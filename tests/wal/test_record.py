"""Frames and the judgement of broken ones, without a file."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.errors import WALCorruptError
from twistedetcd.pb import record_pb2
from twistedetcd.wal.record import CRC, ENTRY, METADATA, SNAPSHOT, STATE, encode_head, encode_records
from twistedetcd.wal.scanner import RecordScanner, has_zero_sector


def scan(
    data: bytes, crc: int | None = None, last: bool = True
) -> tuple[list[tuple[int, bytes]], RecordScanner]:
    scanner = RecordScanner(
        lambda offset, length: data[offset : offset + length], len(data), crc, "file", last
    )
    return list(scanner), scanner


class FrameTests(SynchronousTestCase):
    """etcd's frames, to the byte."""

    def test_known_frame(self) -> None:
        """The example of the format's description."""
        frame, crc = encode_records(0, METADATA, [bytes.fromhex("08effd02")])
        self.assertEqual(bytes.fromhex("0e00000000000082 08011099b5e4d0031a0408effd02 0000"), frame)
        self.assertEqual(0x3A191A99, crc)

    @given(st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=700), max_size=6))
    @settings(max_examples=60, deadline=None)
    def test_records_are_protobuf(self, crc: int, datas: list[bytes]) -> None:
        """Every record is walpb's, in a frame that is a multiple of 8, with the checksum running on."""
        frames, end = encode_records(crc, ENTRY, datas)
        for data in datas:
            length = int.from_bytes(frames[:7], "little")
            record = frames[8 : 8 + length]
            _, crc = encode_records(crc, ENTRY, [data])
            self.assertEqual(record_pb2.Record(type=ENTRY, crc=crc, data=data).SerializeToString(), record)
            self.assertEqual(0x80 | -length % 8 if length % 8 else 0, frames[7])
            frames = frames[8 + length + -length % 8 :]
        self.assertEqual((b"", end), (frames, crc))

    @given(st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=700), max_size=6))
    @settings(max_examples=60, deadline=None)
    def test_round_trip(self, crc: int, datas: list[bytes]) -> None:
        """What was framed is scanned, up to the zeros or up to the end of the file."""
        head, running = encode_head(crc, b"me", [(STATE, b"state")])
        frames, end = encode_records(running, SNAPSHOT, datas)
        expected = [(CRC, b""), (METADATA, b"me"), (STATE, b"state"), *((SNAPSHOT, data) for data in datas)]
        for tail in (b"", bytes(1000)):
            records, scanner = scan(head + frames + tail, crc or None)
            self.assertEqual(expected, records)
            self.assertEqual((len(head + frames), end, False), (scanner.offset, scanner.crc, scanner.torn))

    def test_longer_than_the_window(self) -> None:
        """A record longer than what is read at a time is read whole."""
        head, crc = encode_head(0, b"me", [])
        frames, _ = encode_records(crc, ENTRY, [b"a" * 700_000, b"b" * 3_000_000, b"c"])
        records, _ = scan(head + frames)
        self.assertEqual([700_000, 3_000_000, 1], [len(data) for _, data in records[2:]])

    def test_zero_sectors(self) -> None:
        """Sectors are those of the file; a record's first and last part of one count as well."""
        self.assertFalse(has_zero_sector(b"x" * 2000, 100))
        self.assertTrue(has_zero_sector(b"x" * 412 + bytes(512) + b"x", 100))
        self.assertFalse(has_zero_sector(b"x" * 411 + bytes(512) + b"x", 100))
        self.assertTrue(has_zero_sector(bytes(12) + b"x" * 512, 500))


class DamageTests(SynchronousTestCase):
    """Only what a crash can leave is taken for one."""

    def setUp(self) -> None:
        self.head, crc = encode_head(0, b"me", [])
        frames = []
        for data in (b"first" * 20, b"second", b"third" * 200):
            frame, crc = encode_records(crc, ENTRY, [data])
            frames.append(frame)
        self.frames = frames
        self.data = self.head + b"".join(frames)

    def test_every_cut_is_torn(self) -> None:
        """Wherever the file ends, the records before are read and the rest is told as torn, or as no rest."""
        ends = [len(self.head) + sum(map(len, self.frames[:count])) for count in range(4)]
        for end in range(len(self.head), len(self.data)):
            records, scanner = scan(self.data[:end])
            whole = sum(1 for at in ends[1:] if at <= end)
            self.assertEqual(2 + whole, len(records), end)
            self.assertEqual((ends[whole], end not in ends), (scanner.offset, scanner.torn), end)

    def test_a_cut_before_the_last_segment_is_corrupt(self) -> None:
        """The next segment was begun only after this one was durable to its end."""
        with self.assertRaisesRegex(WALCorruptError, "file is corrupt at offset"):
            scan(self.data[:-9], last=False)

    def test_every_flipped_byte_is_corrupt(self) -> None:
        """Also in a length field: never does a record that was durable pass for an unfinished write."""
        padding = -int.from_bytes(self.frames[0][:7], "little") % 8
        start = len(self.head)
        # The record's type, at byte 9, has no checksum: what reads the records looks at what they say.
        places = [at for at in range(len(self.frames[0]) - padding) if at != 9]
        for zeros, at, bits in product((b"", bytes(5000)), places, (0xFF, *(1 << bit for bit in range(8)))):
            data = bytearray(self.data + zeros)
            data[start + at] ^= bits
            with self.assertRaisesRegex(WALCorruptError, f"file is corrupt at offset {start}: "):
                scan(bytes(data))

    def test_kf_15_length_beyond_the_file(self) -> None:
        """A hostile length field is an error or the end, and nothing of its size is ever read."""
        at = len(self.head)
        rest = len(self.data) - at - 8
        asked: list[int] = []
        for field in (2**40, rest + 1, 2**64 - 1, 2**56 - 1, 2**63):
            data = self.data[:at] + field.to_bytes(8, "little") + self.data[at + 8 :]

            def read(offset: int, length: int, data: bytes = data) -> bytes:
                asked.append(length)
                return data[offset : offset + length]

            for last in (True, False):
                with self.assertRaises(WALCorruptError, msg=hex(field)):
                    list(RecordScanner(read, len(data), None, "file", last))
        self.assertLessEqual(max(asked), len(self.data))

    def test_the_first_record_is_the_checksum(self) -> None:
        """Without it a segment could stand anywhere."""
        with self.assertRaises(WALCorruptError):
            scan(self.frames[0])
        with self.assertRaises(WALCorruptError):
            scan(self.data, crc=5)
