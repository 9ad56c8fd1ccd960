"""
images: whole stores, as they come from other members and go to them, on one member's disk.

Yours to change: nothing that is not about where they are kept.
With care: when a file may go; until its store is whole in the engine it is all there is.
Never: what an image holds; that is snap's.
Imports snap and what is below it.  Imported by disk and assembly.
"""

from __future__ import annotations

from collections.abc import Iterator

from zope.interface import implementer

from twistedetcd.errors import MemberError
from twistedetcd.interfaces import IBackend, IFiles, IImage, IReadTransaction, Work
from twistedetcd.mvcc.work import finish
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.snap.bbolt.writing import Image, measure
from twistedetcd.snap.images import ImageFiles, Receiving
from twistedetcd.snap.install import install, installing

_ALL = 1 << 64  # an index above all others


class Images:
    """
    The images of one member.

    Args:
        files: The file system.
        directory: Where they are kept.
        sync: Whether they are synced.
    """

    def __init__(self, files: IFiles, directory: str, sync: bool) -> None:
        self._directory = directory
        self._files = ImageFiles(files, directory, sync)

    def recover(self, backend: IBackend, snapshot_index: int, applied_index: int) -> None:
        """
        Install, or install again, what the last life could not finish, or what the engine has forgotten.

        Then no image is left that is not needed.  Blocks.

        Args:
            backend: Nobody uses it yet.
            snapshot_index: The snapshot that the log is read from.
            applied_index: What the backend says that it has applied.

        Raises:
            MemberError: The image that is needed is not there, or cannot be used.
            OSError: The disk refused.
        """
        self._files.clear()
        view = backend.read()
        try:
            index = installing(view)
        finally:
            view.close()
        if index is None and snapshot_index > applied_index and snapshot_index in self._files.list():
            index = snapshot_index
        if index is not None:
            finish(self.install(backend, index))
        self._files.purge(_ALL if backend.durable or index is None else index)

    # See `twistedetcd.server.exchange.Images`.

    def measure(self, view: IReadTransaction) -> Work[IImage]:
        """An image of what a view shows, which it closes in the end."""
        return Outgoing((yield from measure(view)), view)

    def receive(self, index: int, bytes_max: int) -> Receiving:
        """Begin to take one in."""
        return self._files.receive(index, bytes_max)

    def install(self, backend: IBackend, index: int) -> Work[None]:
        """
        Replace all that a backend has by what came; each slice is one batch.

        Raises:
            MemberError: There is no such image, or it cannot be used.
            BackendError: The engine refused.
        """
        if index not in self._files.list():
            raise MemberError(
                f"the store is half replaced, and the image at index {index} that it needs is not in "
                f"{self._directory}"
            )
        file = self._files.open(index)
        try:
            yield from install(backend, ImageFile(file))
        finally:
            file.close()

    def installed(self, backend: IBackend, index: int) -> None:
        """Remove the one that was installed, unless the engine forgets it, and those that are older."""
        self._files.purge(index + 1 if backend.durable else index)

    def too_late(self, index: int) -> None:
        """Remove those up to an index that an engine is at, which does not forget."""
        self._files.purge(index + 1)


@implementer(IImage)
class Outgoing:
    """An image that holds a view of the engine while it is sent."""

    def __init__(self, image: Image, view: IReadTransaction) -> None:
        self._image = image
        self._view = view
        self.size_bytes = image.size_bytes

    def chunks(self) -> Iterator[bytes]:
        """See `IImage.chunks`."""
        return self._image.chunks()

    def close(self) -> None:
        """See `IImage.close`."""
        self._view.close()
