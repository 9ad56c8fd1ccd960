"""SegmentedWAL keeps the contract, on a disk in memory and on a real one."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.files.local import LocalFiles
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.interfaces import IWAL, IFiles
from twistedetcd.testing.wal import WALKit
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import LogOptions
from twistedetcd.wal.reading import Recovered

METADATA = b"\x08\x01\x10\x02"
OPTIONS = LogOptions(run_in_worker=execute, segment_bytes=4096)


class SimulatedConformanceTests(WALKit, SynchronousTestCase):
    """The contract, with small segments."""

    files: IFiles

    def make(self) -> SegmentedWAL:
        self.files = SimulatedFiles(Random(1))
        return SegmentedWAL.create(self.files, "wal", METADATA, options=OPTIONS)

    def open_again(self, wal: IWAL, index: int, term: int) -> SegmentedWAL:
        return SegmentedWAL.open(self.files, "wal", index, term, options=OPTIONS)

    def read_again(self, index: int = 0, term: int = 1) -> Recovered:
        recovered = super().read_again(index, term)
        self.assertEqual(METADATA, recovered.metadata)
        return recovered


class LocalConformanceTests(SimulatedConformanceTests):
    """The contract, on files of the operating system."""

    def make(self) -> SegmentedWAL:
        self.files, self.directory = LocalFiles(), f"{self.mktemp()}.wal"
        return SegmentedWAL.create(self.files, self.directory, METADATA, options=OPTIONS)

    def open_again(self, wal: IWAL, index: int, term: int) -> SegmentedWAL:
        return SegmentedWAL.open(self.files, self.directory, index, term, options=OPTIONS)
