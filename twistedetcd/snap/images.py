"""
Images of stores in files, as etcd keeps those that it received: ``%016x.snap.db``, named by index.

A file has its name only once all of it was there, was read to its end, and is durable.
"""

from __future__ import annotations

import os.path
import re
from typing import Final

from twistedetcd.errors import SnapshotImageError
from twistedetcd.interfaces import IFile, IFiles
from twistedetcd.snap.bbolt.reading import ImageFile

_NAME: Final = re.compile(r"([0-9a-f]{16})\.snap\.db")
_TEMPORARY: Final = ".snap.db.tmp"


class ImageFiles:
    """
    The images in one directory, which may hold other files too.  Every call blocks.

    Args:
        files: The file system.
        directory: Where; it must be there.
        sync: Whether what is written is synced; a machine that stops may otherwise lose it.
    """

    def __init__(self, files: IFiles, directory: str, sync: bool = True) -> None:
        self._files = files
        self._directory = directory
        self._sync = sync
        self._received = 0

    def clear(self) -> None:
        """
        Remove what an earlier life was still receiving.  Call it before the first `receive`.

        Raises:
            OSError: The disk refused.
        """
        for name in self._files.list(self._directory):
            if name.endswith(_TEMPORARY):
                self._files.remove(os.path.join(self._directory, name))

    def receive(self, index: int, bytes_max: int) -> Receiving:
        """
        Begin to take in an image; any number of them may come at once, and may be of one index.

        Args:
            index: The index of the last log entry that it must have.
            bytes_max: Its length at most.

        Raises:
            OSError: The disk refused.
        """
        self._received += 1
        temporary = os.path.join(self._directory, f"{self._received}{_TEMPORARY}")
        return Receiving(self._files, temporary, self._path(index), index, bytes_max, self._sync)

    def list(self) -> list[int]:
        """The index of each, the newest first."""
        found = filter(None, map(_NAME.fullmatch, self._files.list(self._directory)))
        return sorted((int(match[1], 16) for match in found), reverse=True)

    def open(self, index: int) -> IFile:
        """
        Open one, for `ImageFile`.

        Raises:
            FileNotFoundError: There is none.
            OSError: The disk refused.
        """
        return self._files.open(self._path(index))

    def purge(self, index: int) -> int:
        """
        Remove those that are older than ``index``; a crash may bring them back.

        Args:
            index: None below it is needed any more: also none that waits to be installed, or is half.

        Returns:
            How many are gone.

        Raises:
            OSError: The disk refused.
        """
        surplus = [one for one in self.list() if one < index]
        for one in reversed(surplus):
            self._files.remove(self._path(one))
        return len(surplus)

    def _path(self, index: int) -> str:
        return os.path.join(self._directory, f"{index:016x}.snap.db")


class Receiving:
    """
    An image on its way in; made by `ImageFiles.receive`.  Ends with `finish` or `abort`.

    When a call fails, it is over, and what had come is removed, if the disk lets us.
    """

    def __init__(
        self, files: IFiles, temporary: str, path: str, index: int, bytes_max: int, sync: bool
    ) -> None:
        self._files = files
        self._temporary = temporary
        self._path = path
        self._index = index
        self._bytes_max = bytes_max
        self._sync = sync
        files.remove(temporary)
        self._file: IFile | None = files.open(temporary, create=True)
        self.size_bytes = 0
        """How much has come."""

    def write(self, chunk: bytes) -> None:
        """
        Take in what comes next.

        Raises:
            SnapshotImageError: That is more than was to come.
            OSError: The disk refused.
        """
        assert self._file is not None, "it is over"
        try:
            if self.size_bytes + len(chunk) > self._bytes_max:
                raise SnapshotImageError(f"the image {self._path} is longer than {self._bytes_max} bytes")
            self._file.write(self.size_bytes, chunk)
        except BaseException:
            self.abort()
            raise
        self.size_bytes += len(chunk)

    def finish(self) -> None:
        """
        All has come: read it to its end, and give it its name.  It is durable on return.

        One of the same index that is there already is replaced.  Takes its time, since every record is read.

        Raises:
            SnapshotImageError: It is damaged, incomplete, or has another index.
            OSError: The disk refused.
        """
        file = self._file
        assert file is not None, "it is over"
        try:
            image = ImageFile(file)
            if image.consistent_index != self._index:
                raise SnapshotImageError(
                    f"the image {file.name} is of index {image.consistent_index}, not of {self._index}"
                )
            image.check()
            if self._sync:
                file.sync()
            self._files.rename(self._temporary, self._path)
        except BaseException:
            self.abort()
            raise
        self._file = None
        file.close()
        if self._sync:
            self._files.sync_directory(os.path.dirname(self._path))

    def abort(self) -> None:
        """
        Give it up.

        Raises:
            OSError: The disk refused to remove what had come; `ImageFiles.clear` will.
        """
        if self._file is not None:
            self._file.close()
            self._file = None
            self._files.remove(self._temporary)
