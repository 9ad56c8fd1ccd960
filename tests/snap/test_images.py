"""Images on their way in: durable under their name, or not there."""

from __future__ import annotations

import errno
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.snap.bboltfile import INDEX, MARK, SMALL, image_of
from twistedetcd.errors import SnapshotImageError
from twistedetcd.files.local import LocalFiles
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.interfaces import IFiles
from twistedetcd.schema import CONSISTENT_INDEX, META
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.snap.images import ImageFiles, Receiving

NAME = "0000000000001234.snap.db"
IMAGE = image_of(SMALL)
OTHER = image_of({META: MARK})
BYTES_MAX = 10 * len(IMAGE)


def feed(receiving: Receiving, data: bytes) -> None:
    """Let an image come in pieces."""
    for at in range(0, len(data), 5000):
        receiving.write(data[at : at + 5000])


class ReceivingTests(SynchronousTestCase):
    """One image after another."""

    def setUp(self) -> None:
        self.files = SimulatedFiles(Random(1))
        self.files.make_directory("snap")
        self.files.sync_directory(".")
        self.images = ImageFiles(self.files, "snap")

    def receive(self, data: bytes = IMAGE, index: int = INDEX) -> None:
        """All of an image."""
        receiving = self.images.receive(index, BYTES_MAX)
        feed(receiving, data)
        receiving.finish()

    def content(self, files: IFiles | None = None) -> bytes:
        """What is stored under the name."""
        file = (files or self.files).open(f"snap/{NAME}")
        return file.read(0, file.size())

    def test_received(self) -> None:
        """It has etcd's name and the bytes that came, and can be read."""
        self.receive()
        self.assertEqual([NAME], self.files.list("snap"))
        self.assertEqual(IMAGE, self.content())
        self.assertEqual([INDEX], self.images.list())
        self.assertEqual(INDEX, ImageFile(self.images.open(INDEX)).consistent_index)

    def test_durable(self) -> None:
        """No crash takes away what is finished."""
        self.receive()
        for _ in range(20):
            crashed = self.files.crashed()
            self.assertEqual(IMAGE, self.content(crashed))

    def test_local_files(self) -> None:
        """So it is with the operating system's files."""
        directory = self.mktemp()
        LocalFiles().make_directory(directory)
        images = ImageFiles(LocalFiles(), directory)
        receiving = images.receive(INDEX, BYTES_MAX)
        feed(receiving, IMAGE)
        receiving.finish()
        self.assertEqual([INDEX], images.list())
        file = images.open(INDEX)
        self.addCleanup(file.close)
        ImageFile(file).check()

    def test_not_synced_when_told_so(self) -> None:
        """Without syncs it is stored all the same."""
        syncs: list[str] = []
        self.files.before.append(lambda what, path: syncs.append(what) if what.startswith("sync") else None)
        self.images = ImageFiles(self.files, "snap", sync=False)
        self.receive()
        self.assertEqual(([], IMAGE), (syncs, self.content()))

    def test_refused(self) -> None:
        """What is cut short, damaged, of another index or too long is not kept; all else is left alone."""
        self.receive()
        damaged = bytearray(IMAGE)
        damaged[4 * 4096] ^= 1
        lacking = IMAGE.replace(b"members_removed", b"members_removes")
        wrong = image_of({META: {CONSISTENT_INDEX: (INDEX + 1).to_bytes(8, "big")}})
        for data, reason in (
            (b"", "is cut short"),
            (IMAGE[:-1], "is cut short"),
            (bytes(damaged), "at page 4"),
            (lacking, "lacks the bucket members_removed"),
            (wrong, f"is of index {INDEX + 1}, not of {INDEX}"),
            (IMAGE * 11, f"longer than {BYTES_MAX} bytes"),
        ):
            error = self.assertRaises(SnapshotImageError, self.receive, data)
            self.assertIn(reason, str(error))
            self.assertEqual([NAME], self.files.list("snap"))
            self.assertEqual(IMAGE, self.content())

    def test_abort(self) -> None:
        """One that is given up leaves nothing."""
        receiving = self.images.receive(INDEX, BYTES_MAX)
        receiving.write(IMAGE[:5000])
        receiving.abort()
        receiving.abort()
        self.assertEqual([], self.files.list("snap"))

    def test_full_disk(self) -> None:
        """What does not fit is refused, and removed."""
        self.files.capacity_bytes = len(IMAGE) - 1
        self.assertEqual(errno.ENOSPC, self.assertRaises(OSError, self.receive).errno)
        self.assertEqual([], self.files.list("snap"))
        self.files.capacity_bytes = None
        self.receive()

    def test_two_at_once(self) -> None:
        """Two senders of one index do not disturb each other; the last one's is kept."""
        one, two = (self.images.receive(INDEX, BYTES_MAX) for _ in range(2))
        feed(one, IMAGE)
        feed(two, OTHER[:5000])
        one.finish()
        self.assertEqual(IMAGE, self.content())
        two.write(OTHER[5000:])
        two.finish()
        self.assertEqual(OTHER, self.content())

    def test_crash_at_every_step(self) -> None:
        """Whichever step is the last, there is a whole image, old or new; the rest is cleared away."""
        self.receive(OTHER)
        before, finished = self.files, False
        for steps in range(14 + len(IMAGE) // 5000):
            for _ in range(10):
                self.files = before.crashed()
                self.images = ImageFiles(self.files, "snap")
                self.files.refuse_after(steps)
                try:
                    self.receive(IMAGE)
                    expected = [IMAGE]
                    finished = True
                except OSError:
                    expected = [IMAGE, OTHER]
                self.files = self.files.crashed()
                self.images = ImageFiles(self.files, "snap")
                self.images.clear()
                self.assertEqual([NAME], self.files.list("snap"))
                self.assertIn(self.content(), expected)
        self.assertTrue(finished)


class DirectoryTests(SynchronousTestCase):
    """What is kept."""

    def setUp(self) -> None:
        self.files = SimulatedFiles(Random(1))
        self.files.make_directory("snap")
        self.images = ImageFiles(self.files, "snap")
        others = ("db.lmdb", "0000000000000003-000000000000000a.snap", "3.snap.db", "x.snap.db.tmp")
        for name in (*others, *(f"{index:016x}.snap.db" for index in (3, 10, 2**64 - 1))):
            self.files.open(f"snap/{name}", create=True).close()

    def test_list(self) -> None:
        """The newest first; other files are none of ours."""
        self.assertEqual([2**64 - 1, 10, 3], self.images.list())

    def test_purge(self) -> None:
        """What is older than an index goes, and only that."""
        self.assertEqual(0, self.images.purge(3))
        self.assertEqual(1, self.images.purge(10))
        self.assertEqual([2**64 - 1, 10], self.images.list())
        self.assertEqual(1, self.images.purge(11))
        self.assertEqual(5, len(self.files.list("snap")))

    def test_clear(self) -> None:
        """What was not received to its end goes, and only that."""
        self.images.clear()
        self.assertEqual(6, len(self.files.list("snap")))
        self.assertFalse(self.files.exists("snap/x.snap.db.tmp"))

    def test_not_there(self) -> None:
        """One that is not there is said not to be."""
        self.assertRaises(FileNotFoundError, self.images.open, 4)
