"""LocalFiles keeps IFiles."""

from __future__ import annotations

import os
import stat
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twistedetcd.files.local import LocalFiles
from twistedetcd.interfaces import IFile, IFiles


class LocalFilesTests(SynchronousTestCase):
    """What the contract says, on the operating system."""

    def setUp(self) -> None:
        self.files = LocalFiles()
        self.directory = self.mktemp()
        self.files.make_directory(self.directory)
        self.path = os.path.join(self.directory, "file")

    def test_contracts(self) -> None:
        """Both interfaces are provided."""
        verifyObject(IFiles, self.files)
        file = self.files.open(self.path, create=True)
        self.addCleanup(file.close)
        verifyObject(IFile, file)
        self.assertEqual(self.path, file.name)

    def test_read_and_write(self) -> None:
        """A write past the end leaves zeros between; a read is short only at the end."""
        file = self.files.open(self.path, create=True)
        self.addCleanup(file.close)
        file.write(4, b"abcd")
        file.sync()
        self.assertEqual(b"\0\0\0\0abcd", file.read(0, 100))
        self.assertEqual(b"bc", file.read(5, 2))
        self.assertEqual(b"", file.read(8, 10))
        file.truncate(6)
        file.truncate(7)
        self.assertEqual((7, b"ab\0"), (file.size(), file.read(4, 10)))

    def test_short_calls(self) -> None:
        """The kernel may read and write less than it was asked to."""
        file = self.files.open(self.path, create=True)
        self.addCleanup(file.close)
        pwrite, pread = os.pwrite, os.pread
        with mock.patch("os.pwrite", lambda fd, data, offset: pwrite(fd, bytes(data[:3]), offset)):
            file.write(0, b"0123456789")
        with mock.patch("os.pread", lambda fd, length, offset: pread(fd, min(length, 4), offset)):
            self.assertEqual(b"0123456789", file.read(0, 10))
            self.assertEqual(b"123456789", file.read(1, 100))

    def test_open(self) -> None:
        """Only a new file is created, only an old one is opened."""
        with self.assertRaises(FileNotFoundError):
            self.files.open(self.path)
        self.files.open(self.path, create=True).close()
        with self.assertRaises(FileExistsError):
            self.files.open(self.path, create=True)

    def test_modes(self) -> None:
        """Nobody else may read: directories 0700, their parents too, files 0600."""
        inner = os.path.join(self.directory, "a", "b")
        self.files.make_directory(inner)
        self.files.make_directory(inner)
        self.files.open(self.path, create=True).close()
        modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (os.path.dirname(inner), inner, self.path)]
        self.assertEqual([0o700, 0o700, 0o600], modes)
        with self.assertRaises(FileExistsError):
            self.files.make_directory(self.path)

    def test_lock(self) -> None:
        """Two opens in one process exclude each other until the first is closed, which may be done twice."""
        first, second = self.files.open(self.path, create=True), self.files.open(self.path)
        self.addCleanup(second.close)
        first.lock()
        with self.assertRaises(BlockingIOError):
            second.lock()
        first.close()
        first.close()
        second.lock()

    def test_names(self) -> None:
        """Names are listed in order; what is not there reads as empty and may be removed."""
        missing = os.path.join(self.directory, "missing")
        self.assertEqual([], self.files.list(missing))
        self.files.remove(missing)
        self.files.remove_directory(missing)
        for name in "cab":
            self.files.open(os.path.join(self.directory, name), create=True).close()
        self.files.rename(os.path.join(self.directory, "c"), os.path.join(self.directory, "b"))
        self.files.sync_directory(self.directory)
        self.assertEqual(["a", "b"], self.files.list(self.directory))
        self.assertTrue(self.files.exists(self.directory))
        self.files.remove(os.path.join(self.directory, "a"))
        self.files.remove_directory(self.directory)
        self.assertFalse(self.files.exists(self.directory))

    def test_handle_follows_a_rename(self) -> None:
        """An open file, and its lock, stay when the directory above is renamed: the log is created so."""
        file = self.files.open(self.path, create=True)
        self.addCleanup(file.close)
        file.lock()
        self.files.rename(self.directory, f"{self.directory}.new")
        file.write(0, b"x")
        other = self.files.open(os.path.join(f"{self.directory}.new", "file"))
        self.addCleanup(other.close)
        self.assertEqual(b"x", other.read(0, 1))
        with self.assertRaises(BlockingIOError):
            other.lock()
