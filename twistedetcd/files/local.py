"""The operating system's files, for `IFiles`."""

from __future__ import annotations

import fcntl
import os
import shutil

from zope.interface import implementer

from twistedetcd.interfaces import IFile, IFiles

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


@implementer(IFile)
class LocalFile:
    """
    One open descriptor.

    It stays with its file when the file, or a directory above it, is renamed; ``name`` does not change.
    A call on a descriptor does not know which file it is about, so its errors are told.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        """See `IFile.read`."""
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        # One call may return less than is there (a signal, or the kernel's limit of about 2 GiB).
        parts = [data]
        missing = length - len(data)
        while missing:
            part = os.pread(self._descriptor, missing, offset + length - missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """See `IFile.write`."""
        try:
            written = os.pwrite(self._descriptor, data, offset)
            if written == len(data):
                return
            rest = memoryview(data)
            while written < len(data):
                written += os.pwrite(self._descriptor, rest[written:], offset + written)
        except OSError as error:
            error.filename = self.name
            raise

    def truncate(self, size: int) -> None:
        """See `IFile.truncate`."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            error.filename = self.name
            raise

    def size(self) -> int:
        """See `IFile.size`."""
        return os.fstat(self._descriptor).st_size

    def sync(self) -> None:
        """See `IFile.sync`.  ``fdatasync`` covers the length, which a reader needs, and skips the times."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            error.filename = self.name
            raise

    def lock(self) -> None:
        """See `IFile.lock`.  It belongs to this open: a second one in this process is shut out too."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """See `IFile.close`."""
        # Forgotten first: the kernel may give the number to somebody else, even when close() fails.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@implementer(IFiles)
class LocalFiles:
    """Files of the operating system.  Every call may block; all of them may be made on any thread."""

    def open(self, path: str, create: bool = False) -> LocalFile:
        """See `IFiles.open`."""
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return LocalFile(path, os.open(path, flags, FILE_MODE))

    def exists(self, path: str) -> bool:
        """See `IFiles.exists`."""
        return os.path.exists(path)

    def list(self, directory: str) -> list[str]:
        """See `IFiles.list`."""
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []

    def make_directory(self, path: str) -> None:
        """See `IFiles.make_directory`."""
        # os.makedirs() gives its mode to the last directory only, so the parents are made one by one.
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            self.make_directory(parent)
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def rename(self, source: str, target: str) -> None:
        """See `IFiles.rename`."""
        os.replace(source, target)

    def remove(self, path: str) -> None:
        """See `IFiles.remove`."""
        try:
            os.remove(path)
        except FileNotFoundError:
            return

    def remove_directory(self, path: str) -> None:
        """See `IFiles.remove_directory`."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return

    def sync_directory(self, path: str) -> None:
        """See `IFiles.sync_directory`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
