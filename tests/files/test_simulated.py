"""SimulatedFiles keeps IFiles, and loses no more and no less than a real disk may."""

from __future__ import annotations

import errno
from itertools import product
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.files.simulated import SECTOR_BYTES, SimulatedFiles
from twistedetcd.testing.files import FilesKit

A, B, C = (letter * SECTOR_BYTES for letter in (b"a", b"b", b"c"))


class SimulatedConformanceTests(FilesKit, SynchronousTestCase):
    """The contract."""

    def make_files(self) -> SimulatedFiles:
        return SimulatedFiles(Random(1))


class CrashTests(SynchronousTestCase):
    """What was synced stays; of the rest, every subset that makes sense may be left."""

    def setUp(self) -> None:
        self.files = SimulatedFiles(Random(7))

    def left(self, path: str, crashes: int = 400) -> set[bytes | None]:
        """All that a crash may make of a file; ``None`` when it has no such name."""
        found: set[bytes | None] = set()
        for _ in range(crashes):
            files = self.files.crashed(0.5)
            found.add(files.open(path).read(0, 9999) if files.exists(path) else None)
        return found

    def test_sectors(self) -> None:
        """Each un-synced sector is the old or the new one, whatever becomes of the others."""
        file = self.files.open("f", create=True)
        self.files.sync_directory(".")
        file.write(0, A * 3)
        file.sync()
        file.write(0, B * 3)
        expected = {b"".join(sectors) for sectors in product((A, B), repeat=3)}
        self.assertEqual(expected, self.left("f"))
        file.sync()
        self.assertEqual({B * 3}, self.left("f"))

    def test_a_sector_written_in_part(self) -> None:
        """A write changes whole sectors: what it left alone in them stays as it was."""
        file = self.files.open("f", create=True)
        self.files.sync_directory(".")
        file.write(0, A * 2)
        file.sync()
        file.write(500, b"x" * 24)
        halves = product((A, A[:500] + b"x" * 12), (A, b"x" * 12 + A[12:]))
        self.assertEqual({first + second for first, second in halves}, self.left("f"))

    def test_length(self) -> None:
        """The length may be lost without the data, and then the data beyond it is."""
        file = self.files.open("f", create=True)
        self.files.sync_directory(".")
        file.write(0, A + B)
        zeros = bytes(SECTOR_BYTES)
        self.assertEqual({b"", A, zeros + B, A + B, zeros * 2, A + zeros}, self.left("f"))
        file.sync()
        file.truncate(SECTOR_BYTES)
        self.assertEqual({A, A + B, A + zeros}, self.left("f"))
        file.sync()
        self.assertEqual({A}, self.left("f"))

    def test_names(self) -> None:
        """Making, renaming and removing a name are each there or not, and later ones need the earlier."""
        self.files.open("old", create=True).close()
        self.files.sync_directory(".")
        self.files.open("tmp", create=True).close()
        self.files.rename("tmp", "new")
        self.files.remove("old")
        found = {tuple(self.files.crashed(0.5).list(".")) for _ in range(300)}
        possible = {(), ("old",), ("new",), ("tmp",), ("new", "old"), ("old", "tmp")}
        self.assertEqual(possible, found)
        self.files.sync_directory(".")
        self.assertEqual({("new",)}, {tuple(self.files.crashed().list(".")) for _ in range(50)})

    def test_replaced(self) -> None:
        """A rename over a file leaves the old or the new one, never none, and a lost one keeps its source."""
        for name, data in (("f", b"old"), ("tmp", b"new")):
            file = self.files.open(name, create=True)
            file.write(0, data)
            file.sync()
        self.files.sync_directory(".")
        self.files.rename("tmp", "f")
        self.assertEqual({b"old", b"new"}, self.left("f"))
        for _ in range(50):
            files = self.files.crashed()
            old = files.open("f").read(0, 9) == b"old"
            self.assertEqual(old, files.exists("tmp"))

    def test_a_name_needs_its_directory(self) -> None:
        """A directory whose own name was not synced is lost with all that was synced in it."""
        self.files.make_directory("a/b")
        self.files.open("a/b/f", create=True).close()
        for path in ("a/b", "a"):
            self.files.sync_directory(path)
        self.assertIn(None, self.left("a/b/f"))
        self.files.sync_directory(".")
        self.assertEqual({b""}, self.left("a/b/f"))

    def test_removed_directory(self) -> None:
        """A directory that was removed may come back, with any of its files."""
        self.files.make_directory("a")
        for name in ("a/1", "a/2"):
            self.files.open(name, create=True).close()
        for path in ("a", "."):
            self.files.sync_directory(path)
        self.files.remove_directory("a")
        found = set()
        for _ in range(200):
            files = self.files.crashed(0.5)
            found.add(tuple(files.list("a")) if files.exists("a") else None)
        self.assertEqual({None, (), ("1",), ("2",), ("1", "2")}, found)

    def test_what_is_left(self) -> None:
        """It is a disk of its own, without locks, and can be crashed itself; the first one goes on."""
        file = self.files.open("f", create=True)
        self.files.sync_directory(".")
        file.lock()
        left = self.files.crashed()
        left.open("f").lock()
        left.open("f").write(0, b"other")
        self.assertEqual(["f"], left.crashed().list("."))
        self.assertEqual(0, file.size())

    def test_by_the_seed(self) -> None:
        """The same seed loses the same; other seeds lose something else."""
        found = []
        for seed in (1, 1, 2, 3, 4):
            files = SimulatedFiles(Random(seed))
            for name in map(str, range(30)):
                files.open(name, create=True).close()
            found.append(tuple(files.crashed(0.5).list(".")))
        self.assertEqual(found[0], found[1])
        self.assertEqual(4, len(set(found)))


class TroubleTests(SynchronousTestCase):
    """What a disk does to us without a crash."""

    def setUp(self) -> None:
        self.files = SimulatedFiles(Random(1))

    def test_full(self) -> None:
        """What fits is written, the rest is refused; removing makes room."""
        self.files.capacity_bytes = 1000
        one, two = self.files.open("1", create=True), self.files.open("2", create=True)
        one.write(0, bytes(700))
        with self.assertRaises(OSError) as caught:
            two.write(0, b"x" * 400)
        self.assertEqual("[Errno 28] No space left on device: '2'", str(caught.exception))
        self.assertEqual(300, two.size())
        one.write(0, b"over what is there")
        with self.assertRaises(OSError):
            one.truncate(701)
        self.files.remove("1")
        two.write(300, bytes(700))
        self.assertEqual(0, self.files.free_bytes)

    def test_refuses(self) -> None:
        """After so many changes, or by rule; reading goes on."""
        file = self.files.open("f", create=True)
        self.files.refuse_after(1)
        file.write(0, b"x")
        for change in (lambda: file.write(1, b"y"), file.sync, lambda: self.files.remove("f")):
            with self.assertRaises(OSError) as caught:
                change()
            self.assertEqual(errno.EIO, caught.exception.errno)
        self.assertEqual(b"x", self.files.open("f").read(0, 9))

    def test_slow(self) -> None:
        """It adds up how long its operations would have taken, and waits for none of them."""
        self.files.seconds = lambda what, path: 1.5 if what == "sync" else 0.25
        file = self.files.open("f", create=True)
        file.write(0, b"x")
        file.sync()
        self.assertEqual(2.0, self.files.busy_seconds)

    def test_one_directory(self) -> None:
        """A rename into another directory is refused: the contract promises nothing about it."""
        self.files.make_directory("d")
        self.files.open("f", create=True).close()
        with self.assertRaises(OSError) as caught:
            self.files.rename("f", "d/f")
        self.assertEqual(errno.EXDEV, caught.exception.errno)
