"""Stores, given while others are taken."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Writer
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import StoppedError
from twistedetcd.interfaces import IBackend, IReadTransaction, Work
from twistedetcd.raft.types import ConfState, Snapshot
from twistedetcd.server.exchange import Exchange
from twistedetcd.server.slices import Slices
from twistedetcd.snap.memory import MemorySnapshotter


class FakeCommitter:
    """Nothing is ever pending."""

    def flush(self, mark: bool = False) -> Deferred[None]:
        return succeed(None)

    def hold(self) -> Deferred[None]:
        return succeed(None)

    def resume(self) -> None:
        """There is nothing to do."""


class FakeImages:
    """An image is what a view has in one bucket; another store comes in two batches."""

    def measure(self, view: IReadTransaction) -> Work[Any]:
        yield
        return dict(view.range(b"b", b"", None))

    def install(self, backend: IBackend, index: int) -> Work[None]:
        for key in (b"k1", b"k2"):
            backend.write({b"b": {key: b"new"}})
            yield

    def installed(self, backend: IBackend, index: int) -> None:
        """There is nothing to remove."""


class FakeReplica:
    """Nothing needs to be read."""

    def read_anew(self) -> Work[Any]:
        yield
        return None


class ImageTests(SynchronousTestCase):
    """Images of the store."""

    def setUp(self) -> None:
        self.clock, self.writer = Clock(), Writer()
        self.backend = MemoryBackend()
        self.backend.write({b"b": {b"k1": b"old", b"k2": b"old"}})
        self.exchange = Exchange(
            backend=self.backend,
            committer=cast(Any, FakeCommitter()),
            images=cast(Any, FakeImages()),
            snapshotter=MemorySnapshotter(),
            slices=Slices(self.clock),
            run_in_writer=self.writer,
            run_in_worker=self.writer,
            mark=lambda view: (5, 1, ConfState((1,))),
            membership=lambda view: b"",
            replica=cast(Any, FakeReplica()),
            replaced=lambda put_in_place: None,
            applied=lambda: 5,
        )

    def test_half_a_store(self) -> None:
        """While the store is being replaced an image waits: there is none of half a store."""
        self.writer.holding = True
        installed = self.exchange.install(Snapshot(9, 1))
        self.writer.release()
        image = self.exchange.image()
        self.clock.advance(0)
        self.assertNoResult(image)
        while self.writer.held:
            self.writer.release()
            self.clock.advance(0)
        self.successResultOf(installed)
        self.clock.advance(0)
        self.assertEqual({b"k1": b"new", b"k2": b"new"}, self.successResultOf(image)[1])

    def test_cancelled(self) -> None:
        """Whoever does without, whenever that is, leaves no view."""
        self.writer.holding = True
        self.exchange.install(Snapshot(9, 1))
        waits = self.exchange.image()
        waits.cancel()
        self.failureResultOf(waits, CancelledError)
        while self.writer.held:
            self.writer.release()
            self.clock.advance(0)
        measured = self.exchange.image()
        self.assertEqual(1, len(self.backend.views))
        measured.cancel()
        self.failureResultOf(measured, CancelledError)
        self.assertEqual(0, len(self.backend.views))

    def test_stopped(self) -> None:
        """When the member stops there is no image any more, and no view."""
        image = self.exchange.image()
        self.successResultOf(self.exchange.stop())
        self.failureResultOf(image, StoppedError)
        self.failureResultOf(self.exchange.image(), StoppedError)
        self.assertEqual(0, len(self.backend.views))
