"""SnapshotFiles: etcd's bytes, never half a file, and damage set aside."""

from __future__ import annotations

import errno
from random import Random

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.files.local import LocalFiles
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.interfaces import ISnapshotter
from twistedetcd.raft.types import ConfState, Snapshot
from twistedetcd.snap.files import SnapshotFiles
from twistedetcd.testing.snapshotter import SnapshotterKit

SNAPSHOT = Snapshot(10, 3, ConfState((1,)))
PATH = "snap/0000000000000003-000000000000000a.snap"
# crc=1 of what follows; data=2: {metadata=2: {conf_state=1: {voters=[1], auto_leave=false}, index=2, term=3}}
CONTENT = bytes.fromhex("08afd7fee603" + "120c120a" + "0a0408012800" + "100a1803")


class LocalConformanceTests(SnapshotterKit, SynchronousTestCase):
    """The contract, on files of the operating system."""

    def make(self) -> SnapshotFiles:
        self.directory = self.mktemp()
        LocalFiles().make_directory(self.directory)
        return SnapshotFiles(LocalFiles(), self.directory)

    def open_again(self, snapshotter: ISnapshotter) -> SnapshotFiles:
        return SnapshotFiles(LocalFiles(), self.directory)


class SimulatedConformanceTests(SnapshotterKit, SynchronousTestCase):
    """The contract, on a disk that is crashed whenever it is opened again."""

    def make(self) -> SnapshotFiles:
        self.files = SimulatedFiles(Random(1))
        self.files.make_directory("snap")
        self.files.sync_directory(".")
        return SnapshotFiles(self.files, "snap")

    def open_again(self, snapshotter: ISnapshotter) -> SnapshotFiles:
        self.files = self.files.crashed(0.0)
        return SnapshotFiles(self.files, "snap")


class FileTests(SynchronousTestCase):
    """What is in the directory."""

    def setUp(self) -> None:
        self.use(SimulatedFiles(Random(1)))
        self.files.make_directory("snap")
        self.files.sync_directory(".")

    def use(self, files: SimulatedFiles) -> None:
        """Another disk."""
        self.files = files
        self.snapshotter = SnapshotFiles(files, "snap")

    def test_bytes(self) -> None:
        """Name and content are etcd's: a checksum, and a raftpb.Snapshot."""
        self.snapshotter.save(SNAPSHOT)
        self.assertEqual([PATH[5:]], self.files.list("snap"))
        self.assertEqual(CONTENT, self.files.open(PATH).read(0, 100))

    def test_other_files(self) -> None:
        """The engine's files in the same directory are none of ours."""
        for name in ("db.lmdb", "0000000000000003-000000000000000a.snap.broken", "3-a.snap"):
            self.files.open(f"snap/{name}", create=True).close()
        self.assertEqual([], self.snapshotter.list())
        self.assertEqual([], list(self.snapshotter.load()))

    def test_damaged(self) -> None:
        """One with any byte changed, empty, or under another's name is set aside, and said to be so."""
        older = Snapshot(5, 3, ConfState((1,)))
        self.snapshotter.save(older)
        wrong_name = CONTENT[:-1] + b"\x04"
        flipped = [CONTENT[:at] + bytes((CONTENT[at] ^ 1,)) + CONTENT[at + 1 :] for at in range(len(CONTENT))]
        for content in (b"", CONTENT[:9], wrong_name, *flipped):
            self.snapshotter.save(SNAPSHOT)
            file = self.files.open(PATH)
            file.truncate(0)
            file.write(0, content)
            with capturedLogs() as events:
                self.assertEqual([older], list(self.snapshotter.load()), content)
            [event] = events
            self.assertEqual(("warn", PATH), (event["log_level"].name, event["path"]))
            self.assertEqual(content, self.files.open(f"{PATH}.broken").read(0, 100))
            self.assertEqual([(5, 3)], self.snapshotter.list())

    def test_name_of_another(self) -> None:
        """A whole snapshot under the name of another one is damage, too."""
        self.snapshotter.save(SNAPSHOT)
        self.files.rename(PATH, PATH.replace("a.snap", "b.snap"))
        self.assertEqual([], list(self.snapshotter.load()))
        self.assertTrue(self.files.exists(PATH.replace("a.snap", "b.snap.broken")))

    def test_crash_at_every_step(self) -> None:
        """Whichever step of a save is the last, the old one is there, and the new one wholly or not."""
        older = Snapshot(5, 3, ConfState((1,)))
        self.snapshotter.save(older)
        before = self.files
        finished = False
        for steps in range(8):
            for _ in range(20):
                self.use(before.crashed())
                self.files.refuse_after(steps, errno.ENOSPC)
                try:
                    self.snapshotter.save(SNAPSHOT)
                    expected = [[SNAPSHOT, older]]
                    finished = True
                except OSError:
                    expected = [[SNAPSHOT, older], [older]]
                self.use(self.files.crashed())
                with capturedLogs() as events:
                    self.assertIn(list(self.snapshotter.load()), expected)
                self.assertEqual([], events, "nothing was damaged")
        self.assertTrue(finished)

    def test_full_disk(self) -> None:
        """What does not fit is refused, and named; once there is room, it is saved."""
        self.files.capacity_bytes = 10
        with self.assertRaises(OSError) as caught:
            self.snapshotter.save(SNAPSHOT)
        self.assertEqual("[Errno 28] No space left on device: 'snap/snap.tmp'", str(caught.exception))
        self.assertEqual([], list(self.snapshotter.load()))
        self.files.capacity_bytes = 100
        self.snapshotter.save(SNAPSHOT)
        self.assertEqual([SNAPSHOT], list(self.snapshotter.load()))

    def test_never_synced_when_told_so(self) -> None:
        """Without syncs it is written all the same."""
        syncs: list[str] = []
        self.files.before.append(lambda what, path: syncs.append(what) if what.startswith("sync") else None)
        SnapshotFiles(self.files, "snap", sync=False).save(SNAPSHOT)
        self.assertEqual([], syncs)
        self.assertEqual([SNAPSHOT], list(self.snapshotter.load()))
