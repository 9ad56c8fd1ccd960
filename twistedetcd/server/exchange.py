"""
Whole stores, given to members that fell behind and taken from others.

What is given is the store as the engine has it at a moment: a view that nobody else notices.  What is taken
replaces this member's own: batch by batch in the engine, while everybody still reads the old store through a
view of before; then the new one is read in, slice by slice, and takes the old one's place in one turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from zope.interface import implementer

from twistedetcd.errors import StoppedError, TooManyRequestsError
from twistedetcd.interfaces import (
    IBackend,
    IImage,
    IImageSink,
    IReadTransaction,
    ISnapshotter,
    RunInThread,
    Work,
)
from twistedetcd.raft.types import ConfState, Message, Snapshot
from twistedetcd.server.committer import Committer
from twistedetcd.server.slices import Slices

COMING_MAX = 4  # stores on their way in; there is one leader, and now and then another one before it
IMAGE_BYTES_MAX = 100 * 1024**3  # of a store that another member sends


class Receiving(Protocol):
    """An image on its way to the disk; see `twistedetcd.snap.images.Receiving`."""

    def write(self, chunk: bytes) -> None:
        """Take in what comes next."""

    def finish(self) -> None:
        """All has come: check it and make it durable.  Blocks."""

    def abort(self) -> None:
        """Give it up."""


class Images(Protocol):
    """Images of stores: made, kept and read by whoever knows their format."""

    def measure(self, view: IReadTransaction) -> Work[IImage]:
        """An image of what a view shows; it closes the view in the end."""

    def receive(self, index: int, bytes_max: int) -> Receiving:
        """Begin to take one in."""

    def install(self, backend: IBackend, index: int) -> Work[None]:
        """Replace all that a backend has by what came; each slice is one batch, and blocks."""

    def installed(self, backend: IBackend, index: int) -> None:
        """It was, durably if the engine is durable: remove what is not needed any more.  Blocks."""

    def too_late(self, index: int) -> None:
        """Remove those up to an index.  Blocks."""


class Replica(Protocol):
    """What of a member is another one after a store was installed."""

    def read_anew(self) -> Work[Callable[[], tuple[int, int]]]:
        """
        Read the engine's new content.

        Returns:
            Puts it in place, at once; returns the index and term that it is at.
        """


class Exchange:
    """
    A member's stores, in and out.

    Args:
        backend: The engine.
        committer: Moves writes into it.
        images: See there.
        snapshotter: Keeps the snapshots that raft knows.
        slices: Runs slow work.
        run_in_writer: The engine's thread.
        run_in_worker: For files.
        mark: Index, term and configuration that a view of the engine is at.
        membership: That of a view, as etcd puts it into a snapshot, for members of other versions.
        replica: What is read anew.
        replaced: Called with what puts the new store in place, once that is ready.
        applied: The last entry whose effects are there.
    """

    _log = Logger()

    def __init__(
        self,
        backend: IBackend,
        committer: Committer,
        images: Images,
        snapshotter: ISnapshotter,
        slices: Slices,
        run_in_writer: RunInThread,
        run_in_worker: RunInThread,
        mark: Callable[[IReadTransaction], tuple[int, int, ConfState]],
        membership: Callable[[IReadTransaction], bytes],
        replica: Replica,
        replaced: Callable[[Callable[[], tuple[int, int]]], None],
        applied: Callable[[], int],
    ) -> None:
        self._backend = backend
        self._committer = committer
        self._images = images
        self._snapshotter = ISnapshotter(snapshotter)
        self._slices = slices
        self._run_in_writer = run_in_writer
        self._run_in_worker = run_in_worker
        self._mark = mark
        self._membership = membership
        self._replica = replica
        self._replaced = replaced
        self._applied = applied
        self._one_at_a_time = DeferredLock()
        self._coming = 0

    def stop(self) -> Deferred[None]:
        """Give up what is under way; fires once the engine and the disk are at rest."""
        self._slices.stop()
        return self._one_at_a_time.run(lambda: None)

    # Out.

    def image(self) -> Deferred[tuple[Snapshot, IImage]]:
        """
        The store as it is now, with the snapshot that says which entry that is.

        Cancel it to do without; whoever gets an image closes it.

        Raises:
            StoppedError: The member stops.
            BackendError: The engine refused.
        """
        return Deferred.fromCoroutine(self._image())

    async def _image(self) -> tuple[Snapshot, IImage]:
        view: IReadTransaction = await self._one_at_a_time.run(self._view)  # never of half a store
        try:
            index, term, conf_state = self._mark(view)
            snapshot = Snapshot(index, term, conf_state, self._membership(view))
            image: IImage = await self._slices.run(self._images.measure(view))
        except BaseException:
            view.close()
            raise
        return snapshot, image

    def _view(self) -> Deferred[IReadTransaction]:
        return self._committer.flush(mark=True).addCallback(lambda _: self._backend.read())

    # In.

    def sink(self, message: Message, arrived: Callable[[Message], None]) -> IImageSink:
        """
        Take in a store.

        Args:
            message: Announces it.
            arrived: Called with the message once the image is durable.

        Raises:
            TooManyRequestsError: As many as there may be are on their way.
            OSError: The disk refused.
        """
        assert message.snapshot is not None, "it announces none"
        if self._coming >= COMING_MAX:
            raise TooManyRequestsError
        receiving = self._images.receive(message.snapshot.index, IMAGE_BYTES_MAX)
        self._coming += 1
        return Sink(receiving, self._run_in_worker, lambda: arrived(message), self._came)

    def _came(self) -> None:
        self._coming -= 1

    def keep(self, snapshot: Snapshot) -> Deferred[None]:
        """Make a received snapshot one that a restart may begin at, once the log vouches for it."""
        return self._run_in_worker(lambda: self._snapshotter.save(snapshot))

    def install(self, snapshot: Snapshot) -> Deferred[None]:
        """
        Have the store be what the image at a snapshot is.

        Returns:
            Fires once it is, durably, and everybody reads it.

        Raises:
            MemberError: The image cannot be used, or the engine refused; the member must stop.
            StoppedError: The member stops; the next start goes on with it.
        """
        return self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._install(snapshot)))

    async def _install(self, snapshot: Snapshot) -> None:
        self._log.info("Install the snapshot at {index}", index=snapshot.index)
        await self._committer.hold()
        batches = self._images.install(self._backend, snapshot.index)
        try:
            while await self._run_in_writer(lambda: next(batches, self) is not self):
                if self._slices.stopped:
                    raise StoppedError
        finally:
            batches.close()
        in_place = await self._slices.run(self._replica.read_anew())
        self._replaced(in_place)
        self._committer.resume()
        await self._run_in_worker(lambda: self._images.installed(self._backend, snapshot.index))
        self._log.info("Installed the snapshot at {index}", index=snapshot.index)

    def purge(self) -> Deferred[None]:
        """
        Remove images that came too late, so that raft did not take them.

        Raises:
            OSError: The disk refused.
        """
        return self._one_at_a_time.run(self._purge)

    def _purge(self) -> Deferred[None]:
        if not self._backend.durable:
            return succeed(None)  # one of them is needed at the next start
        return self._run_in_worker(lambda: self._images.too_late(self._applied()))


@implementer(IImageSink)
class Sink:
    """
    Takes in one image.

    Args:
        receiving: Where it goes.
        run_in_worker: Runs what blocks for long.
        arrived: Called once it is durable.
        over: Called once, when no more comes.
    """

    def __init__(
        self,
        receiving: Receiving,
        run_in_worker: RunInThread,
        arrived: Callable[[], None],
        over: Callable[[], None],
    ) -> None:
        self._receiving = receiving
        self._run_in_worker = run_in_worker
        self._arrived = arrived
        self._over: Callable[[], None] | None = over

    def write(self, chunk: bytes) -> None:
        """See `IImageSink.write`."""
        try:
            self._receiving.write(chunk)
        except BaseException:
            self._end()
            raise

    def finish(self) -> Deferred[None]:
        """See `IImageSink.finish`."""
        finished = self._run_in_worker(self._receiving.finish).addBoth(self._finished)
        return finished.addCallback(lambda _: self._arrived())

    def _finished(self, result: Any) -> Any:
        self._end()
        return result

    def abort(self) -> None:
        """See `IImageSink.abort`."""
        self._end()
        self._receiving.abort()

    def _end(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over()
