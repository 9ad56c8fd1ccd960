"""A store replaced by an image: all of it, or marked as half of it."""

from __future__ import annotations

import os
from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from tests.snap.bboltfile import INDEX, MARK, SMALL, Content, backend_of, file_of, image_of, stored
from twistedetcd.backends.lmdb import LMDBFactory
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import BackendError, SnapshotImageError
from twistedetcd.interfaces import Batch
from twistedetcd.mvcc.work import finish
from twistedetcd.schema import CONSISTENT_INDEX, INSTALLING, META, TERM
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.snap.install import install, installing

BEFORE: Content = {
    b"key": {b"old%03d" % number: b"old" for number in range(30)} | {b"00000000000000007": b"old"},
    b"members": {b"1": b"old"},
    b"of our own": {b"k": b"old"},
    META: {CONSISTENT_INDEX: bytes(8), TERM: b"old", b"other": b"old"},
}
EXPECTED = {bucket: dict(pairs) for bucket, pairs in SMALL.items()}


class CrashError(Exception):
    """Here it ends."""


class Mortal(MemoryBackend):
    """A backend that refuses after some batches."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.left = 1
        self.write(content)
        self.batches.clear()

    def write(self, batch: Batch) -> None:
        if not self.left:
            raise CrashError
        self.left -= 1
        self.batches.append(batch)
        super().write(batch)


def image(content: Content = SMALL) -> ImageFile:
    """The image of a store, to be read."""
    return ImageFile(file_of(image_of(content)))


def mark_of(backend: MemoryBackend) -> int | None:
    """The index of what is being installed, if anything is."""
    return installing(backend.read())


class InstallTests(SynchronousTestCase):
    """The whole store is the image's, in the end."""

    def test_replaces_everything(self) -> None:
        """Nothing of the old store stays, in whatever bucket, and all of the image is there."""
        backend = backend_of(BEFORE)
        self.assertIsNone(finish(install(backend, image())))
        self.assertEqual(EXPECTED, stored(backend))
        self.assertIsNone(mark_of(backend))

    def test_lmdb(self) -> None:
        """So it is on a disk, also after it is opened again; an open view keeps what it sees."""
        directory = self.mktemp()
        os.makedirs(directory)
        backend = LMDBFactory().open(directory)
        backend.write(BEFORE)
        view = backend.read()
        finish(install(backend, image(), operations_max=50))
        self.assertEqual(BEFORE[b"key"], dict(view.range(b"key", b"", None)))
        view.close()
        backend.close()
        backend = LMDBFactory().open(directory)
        self.addCleanup(backend.close)
        self.assertEqual(EXPECTED, stored(backend))

    def test_crash_between_any_two_batches(self) -> None:
        """
        Before the first batch the old store is whole, after the last one the new one is, and in between the
        mark says what must be installed again; to do that gives the new store, wherever it ended before.
        """
        steps = 0
        while True:
            backend = Mortal(BEFORE)
            backend.left = steps
            try:
                finish(install(backend, image(), operations_max=20))
            except CrashError:
                if steps:
                    self.assertEqual(INDEX, mark_of(backend))
                else:
                    self.assertIsNone(mark_of(backend))
                    self.assertEqual(BEFORE, stored(backend))
            else:
                break
            backend.left = 1000
            finish(install(backend, image(), operations_max=20))
            self.assertEqual(EXPECTED, stored(backend))
            steps += 1
        self.assertGreater(steps, 25)

    def test_order_of_batches(self) -> None:
        """The mark is first and alone; the consistent index comes when it ends, and not before."""
        backend = Mortal(BEFORE)
        backend.left = 1000
        slices = sum(1 for _ in install(backend, image(), operations_max=20))
        first, *others, last = backend.batches
        self.assertEqual({META: {INSTALLING: INDEX.to_bytes(8, "big")}}, first)
        self.assertEqual({META: {**MARK, INSTALLING: None}}, last)
        self.assertEqual(len(backend.batches), slices + 1, "each slice is a batch")
        self.assertTrue(all(len(values) <= 20 for batch in others for values in batch.values()))
        written = [key for batch in others for key, value in batch.get(META, {}).items() if value is not None]
        self.assertEqual([], written)

    def test_batches_by_bytes(self) -> None:
        """Batches have a limit in bytes, as well when they delete; one large value has a batch to itself."""
        content = {b"key": {b"%d" % number: bytes(1000 * number) for number in range(1, 6)}, META: MARK}
        backend = Mortal(content)
        backend.left = 1000
        finish(install(backend, image(content), bytes_max=3500))
        keys = [[*batch[b"key"]] for batch in backend.batches if b"key" in batch]
        deleted, put = [[b"1", b"2", b"3"], [b"4"], [b"5"]], [[b"1", b"2"], [b"3"], [b"4"], [b"5"]]
        self.assertEqual([*deleted, *put], keys)

    def test_given_up(self) -> None:
        """An installation that is not gone on with leaves the mark."""
        backend = backend_of(BEFORE)
        work = install(backend, image(), operations_max=20)
        list(islice(work, 3))
        work.close()
        self.assertEqual(INDEX, mark_of(backend))

    def test_mark_in_an_image(self) -> None:
        """A mark that is in the image itself means nothing."""
        backend = backend_of(BEFORE)
        forged = image_of({META: {**MARK, b"installinx": bytes(8)}}).replace(b"installinx", INSTALLING)
        finish(install(backend, ImageFile(file_of(forged))))
        self.assertEqual({META: MARK}, stored(backend))

    def test_damaged_image(self) -> None:
        """Damage that shows half-way is told, and the store stays marked."""
        data = bytearray(image_of(SMALL))
        data[4 * 4096] ^= 1
        backend = backend_of(BEFORE)
        damaged = ImageFile(file_of(bytes(data)))
        self.assertRaises(SnapshotImageError, finish, install(backend, damaged))
        self.assertEqual(INDEX, mark_of(backend))

    def test_too_much_meta(self) -> None:
        """An image that has no room for its meta in the last batch is refused before anything is written."""
        content = {META: {**MARK, **{b"%d" % number: b"" for number in range(20)}}}
        backend = backend_of(BEFORE)
        work = install(backend, image(content), operations_max=20)
        self.assertIn("the bucket meta", str(self.assertRaises(SnapshotImageError, finish, work)))
        self.assertEqual(BEFORE, stored(backend))

    def test_damaged_mark(self) -> None:
        """A mark that is none is damage."""
        backend = backend_of({META: {INSTALLING: b"x"}})
        self.assertRaises(BackendError, mark_of, backend)
