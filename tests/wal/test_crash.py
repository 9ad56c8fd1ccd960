"""The log after a crash or damage: known failures KF-14 to KF-17, and every place a file can be cut at."""

from __future__ import annotations

import contextlib
from itertools import product
from random import Random

from tests.wal.test_log import FIRST, METADATA, OPTIONS, LogCase
from twistedetcd.errors import WALCorruptError, WALError
from twistedetcd.files.simulated import SECTOR_BYTES, SimulatedFiles
from twistedetcd.raft.types import Entry, HardState
from twistedetcd.testing.wal import entry
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
        whole = self.data(FIRST)
        for size in range(ends[0], ends[2] + 1):
            self.put(FIRST, whole[:size])
            self.disk.remove(f"{FIRST}.broken")
            wal, recovered = self.reopen()
            expected = sum(1 for end in ends if end <= size)
            self.assertEqual(expected, len(recovered.entries), size)
            self.assertEqual(size not in ends, recovered.broken_copy is not None, size)
            if recovered.broken_copy:
                self.assertEqual(whole[:size], self.data(recovered.broken_copy))
            self.assertEqual(4096, len(self.data(FIRST)))
            self.save(wal, entry(expected + 1, 30))
            wal.close()
            self.assertEqual(expected + 1, len(self.read().entries), size)

    def test_flipped_byte_in_an_older_record(self) -> None:
        """A record that was durable and does not read back is refused, with file and offset."""
        ends = self.write(100, 60, 700)
        self.flip(FIRST, ends[0] + 30, 1)
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
        data = self.data(FIRST)
        for start in starts[:-1]:
            entry_bytes = int.from_bytes(data[start : start + 7], "little") + 8 + 7 & ~7
            for at in (start + 9, start + entry_bytes + 9):
                for bits in (1 << bit for bit in range(8)):
                    self.flip(FIRST, at, bits)
                    with self.assertRaises(WALCorruptError):
                        self.read()
                    self.flip(FIRST, at, bits)
        self.assertEqual(4, len(self.read().entries))

    def test_flipped_bit_in_the_last_record(self) -> None:
        """Every sector of it arrived, so it was no torn write: refused, and nothing is cut off."""
        ends = self.write(100, 700)
        self.flip(FIRST, ends[0] + 300, 4)
        before = self.data(FIRST)
        with self.assertRaises(WALCorruptError):
            self.read()
        self.assertEqual(before, self.data(FIRST))
        self.assertFalse(self.disk.exists(f"{FIRST}.broken"))

    def test_cut_inside_the_head(self) -> None:
        """A segment has its name only once its head is whole: less of it is damage, and told where."""
        ends = self.write(0)
        whole = self.data(FIRST)
        head_bytes = ends[0] - 24  # less the only entry's frame
        for size in range(1, head_bytes):
            self.put(FIRST, whole[:size])
            with self.assertRaisesRegex(WALCorruptError, f"^{FIRST} is corrupt at offset [0-9]+: "):
                self.read()
        self.put(FIRST, whole[:head_bytes])
        self.assertEqual([], self.read().entries)

    def test_what_was_read_is_synced(self) -> None:
        """After a mere kill the end of the log may not be on the disk, but whoever reads it builds on it."""
        wal = self.create()
        self.save(wal, entry(1))
        self.disk.before.append(refuse_sync)
        self.failureResultOf(wal.save(None, [entry(2)]), OSError)
        self.disk.before.remove(refuse_sync)
        self.disk.killed()
        self.assertEqual([entry(1), entry(2)], self.read().entries)
        self.crash()
        self.assertEqual([entry(1), entry(2)], self.read().entries)

    def test_kf_14_torn_last_record(self) -> None:
        """Whichever sectors of the last record are missing, it is cut off; in earlier segments, refused."""
        ends = self.write(100, 3000)
        whole = self.data(FIRST)
        first, last = ends[0] // SECTOR_BYTES, (ends[1] - 1) // SECTOR_BYTES
        for lost in product((False, True), repeat=last - first + 1):
            data = bytearray(whole)
            for sector, missing in enumerate(lost, first):
                if missing:
                    start = max(sector * SECTOR_BYTES, ends[0])
                    end = min((sector + 1) * SECTOR_BYTES, ends[1])
                    data[start:end] = bytes(end - start)
            self.put(FIRST, bytes(data))
            self.disk.remove(f"{FIRST}.broken")
            self.assertEqual(1 if any(lost) else 2, len(self.read().entries), lost)
        self.use(SimulatedFiles(Random(1)))
        self.filled()
        self.disk.open(self.segments()[0]).write(1024, bytes(512))
        with self.assertRaises(WALCorruptError):
            self.read()

    def test_kf_15_length_beyond_the_file(self) -> None:
        """A hostile length is refused, in the last segment and before, and never repaired away."""
        self.filled()
        for path, length in product(self.segments(), (2**40, 5000, 2**64 - 1)):
            whole = self.data(path)
            size = int.from_bytes(whole[:7], "little") + 7 & ~7
            self.disk.open(path).write(8 + size, length.to_bytes(8, "little"))
            with self.assertRaises(WALCorruptError):
                self.read()
            self.put(path, whole)
        self.assertEqual([], [name for name in self.disk.list("wal") if name.endswith("broken")])

    def test_lost_sectors_of_one_save(self) -> None:
        """Any sectors of a write may be lost; what was acknowledged before stays, with no rubbish after."""
        wal = self.create()
        self.save(wal, *[entry(index, 90) for index in range(1, 6)])
        self.disk.before.append(refuse_sync)
        self.failureResultOf(wal.save(None, [entry(index, 90) for index in range(6, 26)]), OSError)
        before, counts = self.disk, set()
        for _ in range(100):
            self.use(before.crashed(0.5))
            wal, recovered = self.reopen()
            count = len(recovered.entries)
            counts.add(count)
            self.assertGreaterEqual(count, 5)
            self.assertEqual([entry(index, 90) for index in range(1, count + 1)], recovered.entries)
            self.assertFalse(any(self.data(FIRST)[wal._offset :]))
        self.assertGreater(len(counts), 3)

    def test_crash_after_a_repair(self) -> None:
        """A crash in the first save after a repair finds no old sectors that make it look like damage."""
        wal = self.create()
        self.save(wal, entry(1))
        self.disk.before.append(refuse_sync)
        self.failureResultOf(wal.save(None, [entry(2, 2000)]), OSError)
        before = self.disk
        for _ in range(100):
            self.use(before.crashed(0.7))
            wal, recovered = self.reopen()
            self.disk.before.append(refuse_sync)
            self.failureResultOf(wal.save(None, [entry(len(recovered.entries) + 1, 1500, term=2)]), OSError)
            self.crash(0.7)
            self.assertGreaterEqual(len(self.read().entries), len(recovered.entries))

    def test_evidence(self) -> None:
        """Whenever a repair is cut short, the torn end is still there, in its segment or in the copy."""
        self.write(100, 3000)
        self.disk.open(FIRST).write(1024, bytes(512))
        torn = self.data(FIRST)
        self.crash(1.0)
        before = self.disk
        for steps in range(12):
            for chance in (0.0, 0.5, 1.0):
                self.use(before.crashed(1.0))
                self.disk.refuse_after(steps)
                with contextlib.suppress(OSError):
                    self.read()
                self.crash(chance)
                found = [self.data(f"wal/{name}") for name in self.disk.list("wal") if FIRST[4:] in name]
                self.assertIn(torn, found, (steps, chance))
                self.assertEqual([entry(1)], self.read().entries)


def refuse_sync(what: str, path: str) -> None:
    """A rule of a disk: the power fails when something is to be synced."""
    if what == "sync":
        raise OSError("the power fails")


class DurableNameTests(LogCase):
    """A name counts once its directory is synced (KF-16)."""

    def test_kf_16_cut_survives_power_loss(self) -> None:
        """After every save, also one that cut a segment, losing all that was not synced loses nothing."""
        for count in range(1, 70, 3):
            self.use(SimulatedFiles(Random(1)))
            wal = self.create()
            for index in range(1, count + 1):
                self.save(wal, entry(index))
            self.crash()
            self.assertEqual(count, len(self.read().entries))

    def test_kf_16_crash_at_every_step_of_a_cut(self) -> None:
        """Whichever step of a cut is the last, the log opens with all acknowledged entries, and goes on."""
        for steps, chance in product(range(12), (0.0, 0.5, 0.5, 1.0)):
            self.use(SimulatedFiles(Random(steps)))
            wal = self.create()
            self.save(wal, entry(1, 3000))
            self.disk.refuse_after(steps)
            done = wal.save(None, [entry(2, 2000)])
            acknowledged = 2 if self.acknowledged(done) else 1
            self.crash(chance)
            wal, recovered = self.reopen()
            self.assertGreaterEqual(len(recovered.entries), acknowledged, steps)
            self.save(wal, entry(len(recovered.entries) + 1, 5000))
            wal.close()
            self.assertEqual(len(recovered.entries) + 1, len(self.read().entries), steps)

    def test_next_segment_is_synced_ahead(self) -> None:
        """A worker has the zeros on the disk before a segment is begun: no save waits for all of them."""
        wal = self.create()
        for index in range(1, 60):
            self.save(wal, entry(index))
        done: dict[str, list[str]] = {}
        cuts = 0
        for what, path in self.steps:
            if path.endswith(".tmp") and path != "wal.tmp":
                done.setdefault(path, []).append(what)
            if what == "rename" and path != "wal":
                [temporary] = done
                self.assertEqual(["remove", "create", "write", "sync", "write", "sync"], done.pop(temporary))
                cuts += 1
        self.assertGreater(cuts, 0)

    def acknowledged(self, done: object) -> bool:
        results: list[bool] = []
        done.addCallbacks(lambda _: results.append(True), lambda _: results.append(False))  # type: ignore[attr-defined]
        return results[0]

    def test_kf_16_creation_fails_at_every_step(self) -> None:
        """A log that was only partly created is none: it is created again, over what is left."""
        for steps in range(40):
            self.use(SimulatedFiles(Random(steps)))
            self.disk.refuse_after(steps)
            try:
                wal = self.create()
            except OSError:
                self.crash()
                self.assertFalse(exists(self.disk, "wal"), steps)
                wal = self.create()
                self.save(wal, entry(1))
                wal.close()
                self.assertEqual([entry(1)], self.read().entries)
                continue
            wal.close()
            self.crash()
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
        one, other = self.segments()[1:3]
        first = self.data(one)
        self.put(one, self.data(other))
        self.put(other, first)
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
            self.flip(path, 11, 1)
            self.refused()
            self.flip(path, 11, 1)
        self.assertEqual(90, len(self.read().entries))

    def test_other_metadata(self) -> None:
        """The segment of another member is refused."""
        self.filled()
        other = SimulatedFiles(Random(1))
        wal = SegmentedWAL.create(other, "wal", METADATA + b"x", options=OPTIONS)
        self.successResultOf(wal.save(HardState(1, 1, 0), [Entry(1, 1, b"x")]))
        self.put(self.segments()[-1], other.open(FIRST).read(0, 9999))
        self.refused()
