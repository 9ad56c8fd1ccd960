"""The log after a crash or damage: known failures KF-14 to KF-17, and every place a file can be cut at."""

from __future__ import annotations

from itertools import product

from tests.wal.disk import SECTOR, Disk
from tests.wal.test_log import FIRST, METADATA, OPTIONS, LogCase, entry
from twistedetcd.errors import WALCorruptError, WALError
from twistedetcd.raft.types import Entry, HardState
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import exists
from twistedetcd.wal.reading import verify


class TornEndTests(LogCase):
    """The last write may be there in part."""

    def write(self, *sizes: int) -> list[int]:
        """Save one entry of each size; returns where each record ends."""
        wal = self.create()
        ends = []
        for index, size in enumerate(sizes, 1):
            self.save(wal, entry(index, size))
            ends.append(wal._offset)
        wal.close()
        return ends

    def test_cut_at_every_byte(self) -> None:
        """Cut anywhere in the last two records, the log opens with every record that is whole."""
        ends = self.write(100, 60, 700)
        whole = bytes(self.disk.node(FIRST).data)
        for size in range(ends[0], ends[2] + 1):
            self.disk.node(FIRST).data = bytearray(whole[:size])
            self.disk.remove(f"{FIRST}.broken")
            wal, recovered = self.reopen()
            expected = sum(1 for end in ends if end <= size)
            self.assertEqual(expected, len(recovered.entries), size)
            self.assertEqual(size not in ends, recovered.broken_copy is not None, size)
            if recovered.broken_copy:
                self.assertEqual(whole[:size], bytes(self.disk.node(recovered.broken_copy).data))
            self.assertEqual(4096, len(self.disk.node(FIRST).data))
            self.save(wal, entry(expected + 1, 30))
            wal.close()
            self.assertEqual(expected + 1, len(self.read().entries), size)

    def test_flipped_byte_in_an_older_record(self) -> None:
        """A record that was durable and does not read back is refused, with file and offset."""
        ends = self.write(100, 60, 700)
        self.disk.node(FIRST).data[ends[0] + 30] ^= 1
        with self.assertRaisesRegex(WALCorruptError, f"{FIRST} is corrupt at offset {ends[0]}: "):
            self.read()
        self.assertFalse(self.disk.exists(f"{FIRST}.broken"))

    def test_flipped_type_of_a_record(self) -> None:
        """The checksum does not cover the type; a record of another type is refused for what it says."""
        wal = self.create()
        self.save(wal, entry(1, term=3), state=HardState(3, 7, 0))
        starts = [wal._offset]
        for index in (2, 3, 4):
            self.save(wal, entry(index, size=index % 2 * 50, term=3), state=HardState(3, 7, index))
            starts.append(wal._offset)
        wal.close()
        data = self.disk.node(FIRST).data
        for start in starts[:-1]:
            entry_bytes = int.from_bytes(data[start : start + 7], "little") + 8 + 7 & ~7
            for at in (start + 9, start + entry_bytes + 9):
                for bits in (1 << bit for bit in range(8)):
                    data[at] ^= bits
                    with self.assertRaises(WALCorruptError):
                        self.read()
                    data[at] ^= bits
        self.assertEqual(4, len(self.read().entries))

    def test_flipped_bit_in_the_last_record(self) -> None:
        """Every sector of it arrived, so it was no torn write: refused, and nothing is cut off."""
        ends = self.write(100, 700)
        self.disk.node(FIRST).data[ends[0] + 300] ^= 4
        before = bytes(self.disk.node(FIRST).data)
        with self.assertRaises(WALCorruptError):
            self.read()
        self.assertEqual(before, bytes(self.disk.node(FIRST).data))
        self.assertFalse(self.disk.exists(f"{FIRST}.broken"))

    def test_kf_14_torn_last_record(self) -> None:
        """Whichever sectors of the last record are missing, it is cut off; in earlier segments, refused."""
        ends = self.write(100, 3000)
        whole = bytes(self.disk.node(FIRST).data)
        first, last = ends[0] // SECTOR, (ends[1] - 1) // SECTOR
        for lost in product((False, True), repeat=last - first + 1):
            data = bytearray(whole)
            for sector, missing in enumerate(lost, first):
                if missing:
                    start = max(sector * SECTOR, ends[0])
                    end = min((sector + 1) * SECTOR, ends[1])
                    data[start:end] = bytes(end - start)
            self.disk.node(FIRST).data = data
            self.disk.remove(f"{FIRST}.broken")
            self.assertEqual(1 if any(lost) else 2, len(self.read().entries), lost)
        self.disk = Disk()
        self.filled()
        data = self.disk.node(self.segments()[0]).data
        data[1024:1536] = bytes(512)
        with self.assertRaises(WALCorruptError):
            self.read()

    def test_kf_15_length_beyond_the_file(self) -> None:
        """A hostile length is refused, in the last segment and before, and never repaired away."""
        self.filled()
        for path, length in product(self.segments(), (2**40, 5000, 2**64 - 1)):
            data = self.disk.node(path).data
            whole = bytes(data)
            size = int.from_bytes(data[:7], "little") + 7 & ~7
            data[8 + size : 16 + size] = length.to_bytes(8, "little")
            with self.assertRaises(WALCorruptError):
                self.read()
            self.disk.node(path).data = bytearray(whole)
        self.assertEqual([], [name for name in self.disk.list("wal") if name.endswith("broken")])

    def test_lost_sectors_of_one_save(self) -> None:
        """Any sectors of a write may be lost; what was acknowledged before stays, with no rubbish after."""
        for parity in (0, 1):
            self.disk = Disk()
            wal = self.create()
            self.save(wal, *[entry(index, 90) for index in range(1, 6)])
            self.disk.failing = self.refuse_sync
            self.failureResultOf(wal.save(None, [entry(index, 90) for index in range(6, 26)]), OSError)
            self.disk.crash(keep={sector for sector in range(8) if sector % 2 == parity}.__contains__)
            wal, recovered = self.reopen()
            count = len(recovered.entries)
            self.assertGreaterEqual(count, 5)
            self.assertEqual([entry(index, 90) for index in range(1, count + 1)], recovered.entries)
            self.assertFalse(any(self.disk.node(FIRST).data[wal._offset :]))

    def refuse_sync(self, what: str, path: str) -> None:
        if what == "sync":
            raise OSError("the power fails")


class DurableNameTests(LogCase):
    """A name counts once its directory is synced (KF-16)."""

    def test_kf_16_cut_survives_power_loss(self) -> None:
        """After every save, also one that cut a segment, losing all that was not synced loses nothing."""
        for count in range(1, 70, 3):
            self.disk = Disk()
            wal = self.create()
            for index in range(1, count + 1):
                self.save(wal, entry(index))
            self.disk.crash()
            self.assertEqual(count, len(self.read().entries))

    def test_kf_16_crash_at_every_step_of_a_cut(self) -> None:
        """Whichever step of a cut is the last, the log opens with all acknowledged entries, and goes on."""
        for steps in range(12):
            for keep in (False, True):
                self.disk = Disk()
                wal = self.create()
                self.save(wal, entry(1, 3000))
                self.disk.fail_after(steps)
                done = wal.save(None, [entry(2, 2000)])
                acknowledged = 2 if self.acknowledged(done) else 1
                self.disk.crash(keep=(lambda sector: True) if keep else (lambda sector: False))
                wal, recovered = self.reopen()
                self.assertGreaterEqual(len(recovered.entries), acknowledged, steps)
                self.save(wal, entry(len(recovered.entries) + 1, 5000))
                wal.close()
                self.assertEqual(len(recovered.entries) + 1, len(self.read().entries), steps)

    def acknowledged(self, done: object) -> bool:
        results: list[bool] = []
        done.addCallbacks(lambda _: results.append(True), lambda _: results.append(False))  # type: ignore[attr-defined]
        return results[0]

    def test_kf_16_creation_fails_at_every_step(self) -> None:
        """A log that was only partly created is none: it is created again, over what is left."""
        for steps in range(40):
            self.disk = Disk()
            self.disk.fail_after(steps)
            try:
                wal = self.create()
            except OSError:
                self.disk.crash()
                self.assertFalse(exists(self.disk, "wal"), steps)
                wal = self.create()
                self.save(wal, entry(1))
                wal.close()
                self.assertEqual([entry(1)], self.read().entries)
                continue
            wal.close()
            self.disk.crash()
            self.assertTrue(exists(self.disk, "wal"))
            return
        self.fail("creation has no end")


class ChainTests(LogCase):
    """Segments belong together by their checksums (KF-17)."""

    def refused(self) -> None:
        for read in (lambda: verify(self.disk, "wal"), self.read):
            with self.assertRaises(WALError):
                read()

    def test_kf_17_swapped_segments(self) -> None:
        """Two segments of equal length with their contents swapped are refused."""
        self.filled(90)
        one, other = (self.disk.node(path) for path in self.segments()[1:3])
        one.data, other.data = other.data, one.data
        self.refused()

    def test_kf_17_missing_segment(self) -> None:
        """A missing segment in the middle is refused, and named by its neighbours."""
        self.filled(90)
        self.disk.remove(self.segments()[1])
        with self.assertRaisesRegex(WALError, "missing between 0000000000000000-0000000000000000.wal and"):
            self.read()
        self.refused()

    def test_kf_17_altered_checksum_record(self) -> None:
        """A changed checksum record is refused, in each of the segments."""
        self.filled()
        for path in self.segments():
            self.disk.node(path).data[11] ^= 1
            self.refused()
            self.disk.node(path).data[11] ^= 1
        self.assertEqual(90, len(self.read().entries))

    def test_other_metadata(self) -> None:
        """The segment of another member is refused."""
        self.filled()
        other = Disk()
        wal = SegmentedWAL.create(other, "wal", METADATA + b"x", options=OPTIONS)
        self.successResultOf(wal.save(HardState(1, 1, 0), [Entry(1, 1, b"x")]))
        self.disk.node(self.segments()[-1]).data = other.node(FIRST).data
        self.refused()
