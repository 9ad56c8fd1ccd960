"""LocalFiles keeps IFiles, and does what only an operating system needs."""

from __future__ import annotations

import errno
import os
import stat
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.files.local import LocalFiles
from twistedetcd.testing.files import FilesKit


class LocalConformanceTests(FilesKit, SynchronousTestCase):
    """The contract."""

    def make_files(self) -> LocalFiles:
        return LocalFiles()


class LocalFilesTests(SynchronousTestCase):
    """The operating system's ways."""

    def setUp(self) -> None:
        self.files = LocalFiles()
        self.directory = self.mktemp()
        self.files.make_directory(self.directory)
        self.path = os.path.join(self.directory, "file")

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

    def test_modes(self) -> None:
        """Nobody else may read: directories 0700, their parents too, files 0600."""
        inner = os.path.join(self.directory, "a", "b")
        self.files.make_directory(inner)
        self.files.open(self.path, create=True).close()
        modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (os.path.dirname(inner), inner, self.path)]
        self.assertEqual([0o700, 0o700, 0o600], modes)

    def test_errors_name_the_file(self) -> None:
        """The system does not say which file a descriptor is about, so we do."""
        file = self.files.open(self.path, create=True)
        self.addCleanup(file.close)
        for name, call in (
            ("os.pwrite", lambda: file.write(0, b"x")),
            ("os.ftruncate", lambda: file.truncate(0)),
            ("os.fdatasync", file.sync),
        ):
            refuse = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            with mock.patch(name, refuse), self.assertRaises(OSError) as caught:
                call()
            self.assertEqual(f"[Errno 28] No space left on device: '{self.path}'", str(caught.exception))
