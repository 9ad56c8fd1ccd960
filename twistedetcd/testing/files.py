"""
The conformance kit of `IFiles`: a file system that passes it can carry a log and its snapshots.

Mix it into a trial test case and say which file system it is about::

    from twisted.trial.unittest import SynchronousTestCase
    from twistedetcd.testing.files import FilesKit

    class MyFilesTests(FilesKit, SynchronousTestCase):
        def make_files(self):
            return MyFiles()

What a crash leaves cannot be tried from here: only a simulated one happens on demand.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from twistedetcd.interfaces import IFile, IFiles

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Case
else:
    _Case = object  # so that trial does not take the kit itself for a test case

_PIECE = bytes(range(256)) * 1000  # more than a sector, a page and a pipe


class FilesKit(_Case):
    """
    Tests of a file system; see the module's text.

    Attributes:
        files: The file system under test.
        directory: A directory in it, new and empty for each test.
    """

    files: IFiles
    directory: str

    def setUp(self) -> None:
        self.files = self.make_files()
        self.directory = os.path.abspath(self.mktemp())
        self.files.make_directory(self.directory)

    def make_files(self) -> IFiles:
        """The file system under test."""
        raise NotImplementedError

    def path(self, *names: str) -> str:
        """A path below the directory."""
        return os.path.join(self.directory, *names)

    def opened(self, name: str, create: bool = False) -> IFile:
        """An open file, closed when the test ends."""
        file = self.files.open(self.path(name), create)
        self.addCleanup(file.close)
        return file

    def test_contracts(self) -> None:
        """Both interfaces are provided, and a file says what it was opened as."""
        verifyObject(IFiles, self.files)
        file = self.opened("file", create=True)
        verifyObject(IFile, file)
        self.assertEqual(self.path("file"), file.name)

    def test_read_and_write(self) -> None:
        """A write past the end leaves zeros between; a read is short only at the end."""
        file = self.opened("file", create=True)
        file.write(4, b"abcd")
        file.sync()
        self.assertEqual(b"\0\0\0\0abcd", file.read(0, 100))
        self.assertEqual(b"bc", file.read(5, 2))
        self.assertEqual(b"", file.read(8, 10))
        self.assertEqual(b"", file.read(800, 10))
        file.write(1, b"xy")
        self.assertEqual((8, b"\0xy\0abcd"), (file.size(), file.read(0, 8)))

    def test_large(self) -> None:
        """A large piece comes back as it was, at any offset."""
        file = self.opened("file", create=True)
        file.write(700, _PIECE)
        file.write(100, b"z")
        self.assertEqual(_PIECE[5000:60000], file.read(5700, 55000))
        self.assertEqual(700 + len(_PIECE), file.size())

    def test_truncate(self) -> None:
        """Cut off is gone, and what is added later is zero."""
        file = self.opened("file", create=True)
        file.write(0, b"abcdefgh")
        file.truncate(2)
        self.assertEqual((2, b"ab"), (file.size(), file.read(0, 10)))
        file.truncate(5)
        self.assertEqual(b"ab\0\0\0", file.read(0, 10))

    def test_open(self) -> None:
        """Only a new file is created, only an old one is opened, and in a directory that is there."""
        with self.assertRaises(FileNotFoundError):
            self.opened("file")
        self.opened("file", create=True)
        with self.assertRaises(FileExistsError):
            self.opened("file", create=True)
        with self.assertRaises(FileNotFoundError):
            self.opened("missing/file", create=True)

    def test_two_handles(self) -> None:
        """What one handle writes, another one reads at once; one may be closed twice."""
        first, second = self.opened("file", create=True), self.opened("file")
        first.write(0, b"abc")
        self.assertEqual(b"abc", second.read(0, 3))
        first.close()
        first.close()
        self.assertEqual(3, second.size())

    def test_lock(self) -> None:
        """Two opens in one process exclude each other until the first is closed."""
        first, second = self.opened("file", create=True), self.opened("file")
        first.lock()
        with self.assertRaises(BlockingIOError):
            second.lock()
        first.close()
        second.lock()

    def test_handle_follows_a_rename(self) -> None:
        """An open file, and its lock, stay when the directory above is renamed: the log is created so."""
        self.files.make_directory(self.path("old"))
        file = self.opened("old/file", create=True)
        file.lock()
        self.files.rename(self.path("old"), self.path("new"))
        file.write(0, b"x")
        other = self.opened("new/file")
        self.assertEqual(b"x", other.read(0, 1))
        with self.assertRaises(BlockingIOError):
            other.lock()

    def test_handle_outlives_its_name(self) -> None:
        """An open file may be removed or replaced, and goes on."""
        file = self.opened("file", create=True)
        file.write(0, b"old")
        self.opened("other", create=True).write(0, b"other")
        self.files.rename(self.path("other"), self.path("file"))
        self.assertEqual(b"old", file.read(0, 3))
        self.assertEqual(b"other", self.opened("file").read(0, 10))
        self.files.remove(self.path("file"))
        file.write(3, b"er")
        self.assertEqual(b"older", file.read(0, 10))
        self.assertFalse(self.files.exists(self.path("file")))

    def test_names(self) -> None:
        """Names are listed in order; what is not there reads as empty and may be removed."""
        missing = self.path("missing")
        self.assertEqual([], self.files.list(missing))
        self.assertFalse(self.files.exists(missing))
        self.files.remove(missing)
        self.files.remove_directory(missing)
        for name in "cab":
            self.opened(name, create=True)
        self.files.rename(self.path("c"), self.path("b"))
        self.files.sync_directory(self.directory)
        self.assertEqual(["a", "b"], self.files.list(self.directory))
        self.files.remove(self.path("a"))
        self.assertEqual(["b"], self.files.list(self.directory))
        with self.assertRaises(FileNotFoundError):
            self.files.rename(missing, self.path("d"))
        with self.assertRaises(FileNotFoundError):
            self.files.sync_directory(missing)

    def test_directories(self) -> None:
        """Parents are made too; one that is there is no error, a file in its place is."""
        inner = self.path("a", "b", "c")
        self.files.make_directory(inner)
        self.files.make_directory(inner)
        self.opened("a/b/c/file", create=True)
        self.assertEqual(["file"], self.files.list(inner))
        with self.assertRaises(FileExistsError):
            self.files.make_directory(os.path.join(inner, "file"))
        self.files.remove_directory(self.path("a"))
        self.assertFalse(self.files.exists(inner))
        self.assertEqual([], self.files.list(self.directory))
