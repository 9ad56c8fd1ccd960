"""Batches go into the engine one at a time, whole, and stamped with what they hold."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RecordingBackend, Running, Writer
from twistedetcd.errors import BackendError
from twistedetcd.mvcc import pending as pending_module
from twistedetcd.mvcc.pending import Pending
from twistedetcd.schema import CONSISTENT_INDEX, META
from twistedetcd.server import committer
from twistedetcd.server.committer import Committer

BUCKET = b"b"


class CommitterTests(SynchronousTestCase):
    """When batches are sealed, and who is told."""

    def setUp(self) -> None:
        self.clock, self.writer = Clock(), Writer()
        self.backend = RecordingBackend()
        self.pending = Pending(self.backend)
        self.failures: list[Failure] = []
        self.stamps = 0
        self.committer = Committer(
            clock=self.clock,
            pending=self.pending,
            backend=self.backend,
            run_in_writer=self.writer,
            stamp=self._stamp,
            failed=self.failures.append,
            interval_seconds=0.1,
            operations_max=3,
        )

    def _stamp(self) -> None:
        self.stamps += 1
        self.pending.put(META, b"stamp", b"%d" % self.stamps)

    def put(self, *keys: bytes) -> None:
        """Write these, each by itself."""
        for key in keys:
            self.pending.put(BUCKET, key, b"")

    @property
    def written(self) -> list[list[bytes]]:
        """The keys of each batch in the engine."""
        return [sorted(batch[BUCKET]) for batch in self.backend.batches]

    def test_interval(self) -> None:
        """Every interval what is open is sealed, with one stamp; without anything open, nothing is."""
        self.committer.start()
        self.clock.advance(0.1)
        self.assertEqual(([], 0), (self.written, self.stamps))
        self.put(b"a")
        self.clock.advance(0.09)
        self.assertEqual([], self.written)
        self.clock.advance(0.01)
        self.assertEqual([[b"a"]], self.written)
        self.assertEqual(b"1", self.backend.batches[0][META][b"stamp"])
        self.clock.pump([0.1] * 3)
        self.assertEqual(1, self.stamps)

    def test_limit(self) -> None:
        """A full batch does not wait for the interval, nor is it cut inside a turn."""
        self.put(b"a", b"b")
        self.committer.check()
        self.assertEqual([], self.written)
        self.put(b"c", b"d")
        self.committer.check()
        self.assertEqual([[b"a", b"b", b"c", b"d"]], self.written)

    def test_large_batches_are_freed_elsewhere(self) -> None:
        """A batch of very many records keeps the disk busy; it is forgotten in parts, in the writer."""
        self.patch(pending_module, "PART_RECORDS_MAX", 5)
        returned: list[list[pending_module.Values]] = []
        committed = self.pending.committed

        def noted() -> list[pending_module.Values]:
            returned.append(committed())
            return returned[-1]

        self.patch(self.pending, "committed", noted)
        self.writer.holding = True
        self.patch(committer, "BUSY_OPERATIONS", 10)
        for count, freeing in ((4, 0), (12, 1)):
            for number in range(count):
                self.pending.put_record(b"%017d" % number, b"record")
            self.committer.flush()
            self.assertEqual(freeing == 1, self.committer.busy)
            self.writer.release()
            self.assertFalse(self.committer.busy)
            self.assertEqual(freeing, len(self.writer.held))
        self.assertEqual([1, 3], list(map(len, returned)))
        self.writer.release()
        self.assertEqual([1, 0], list(map(len, returned)))

    def test_one_at_a_time(self) -> None:
        """While a batch is on its way the next one grows; it follows at once if it is full by then."""
        self.writer.holding = True
        self.put(b"a", b"b", b"c")
        self.committer.check()
        self.put(b"d", b"e", b"f")
        self.committer.check()
        self.put(b"g")
        self.assertEqual((1, []), (len(self.writer.held), self.written))
        self.writer.release()
        self.assertEqual([[b"a", b"b", b"c"]], self.written)
        self.assertEqual(1, len(self.writer.held))
        self.writer.release()
        self.assertEqual([b"d", b"e", b"f", b"g"], self.written[1])
        self.assertEqual([], self.writer.held)

    def test_flush(self) -> None:
        """It fires when all that was pending at the call is in the engine; at once when nothing was."""
        self.successResultOf(self.committer.flush())
        self.writer.holding = True
        self.put(b"a")
        first = self.committer.flush()
        again = self.committer.flush()
        self.put(b"b")
        second = self.committer.flush()
        self.put(b"c")
        third = self.committer.flush()
        self.assertEqual(1, len(self.writer.held))
        self.writer.release()
        self.successResultOf(first)
        self.successResultOf(again)
        self.assertNoResult(second)
        self.assertNoResult(third)
        self.writer.release()
        self.successResultOf(second)
        self.successResultOf(third)
        self.assertEqual([[b"a"], [b"b", b"c"]], self.written)

    def test_hold(self) -> None:
        """Also during a write: what was pending at the call goes in, and nothing after it until `resume`."""
        self.writer.holding = True
        self.put(b"a")
        self.committer.flush()
        self.put(b"b")
        at_rest = self.committer.hold()
        self.writer.release()
        self.assertNoResult(at_rest)
        self.writer.release()
        self.successResultOf(at_rest)
        self.put(b"c", b"d", b"e")
        self.committer.check()
        waiting = self.committer.flush()
        self.assertEqual([[b"a"], [b"b"]], self.written)
        self.committer.resume()
        self.writer.release()
        self.successResultOf(waiting)
        self.assertEqual([b"c", b"d", b"e"], self.written[2])

    def test_flush_with_a_writer_that_is_done_at_once(self) -> None:
        """A writer without a thread changes nothing for those who wait."""
        self.put(b"a")
        self.successResultOf(self.committer.flush())
        self.assertEqual([[b"a"]], self.written)

    def test_refused(self) -> None:
        """The engine's refusal is told once, also to those who wait, and nothing is written after it."""
        self.committer.start()
        self.writer.holding = True
        self.put(b"a")
        first = self.committer.flush()
        self.put(b"b")
        second = self.committer.flush()
        self.backend.error = BackendError("no space")
        self.writer.release()
        self.backend.error = None
        [failure] = self.failures
        failure.trap(BackendError)
        for waiting in (first, second, self.committer.flush()):
            self.failureResultOf(waiting, BackendError)
        self.clock.pump([0.1] * 3)
        self.successResultOf(self.committer.stop())
        self.assertEqual([], self.written)
        self.assertEqual([], self.writer.held + self.clock.getDelayedCalls())

    def test_stop(self) -> None:
        """The last batches go in, what is on its way first; then nothing runs any more."""
        self.committer.start()
        self.writer.holding = True
        self.put(b"a")
        self.clock.advance(0.1)
        self.put(b"b")
        stopped = self.committer.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.writer.release()
        self.assertNoResult(stopped)
        self.writer.release()
        self.successResultOf(stopped)
        self.assertEqual([[b"a"], [b"b"]], self.written)

    def test_refused_at_the_end(self) -> None:
        """Stopping fails when the engine refuses the last batch."""
        self.committer.start()
        self.put(b"a")
        self.backend.error = BackendError("no space")
        self.failureResultOf(self.committer.stop(), BackendError)

    def test_give_up_during_a_write(self) -> None:
        """Giving up ends what is open; stopping then waits for what is on its way, however that ends."""
        for error in (None, BackendError("no space")):
            self.setUp()
            self.writer.holding = True
            self.put(b"a")
            first = self.committer.flush()
            self.put(b"b")
            second = self.committer.flush()
            self.committer.give_up(Failure(ZeroDivisionError()))
            self.failureResultOf(second, ZeroDivisionError)
            stopped = self.committer.stop()
            self.assertNoResult(stopped)
            self.backend.error = error
            self.writer.release()
            self.successResultOf(stopped)
            if error is None:
                self.successResultOf(first)
            else:
                self.failureResultOf(first, BackendError)
            self.assertEqual([], self.writer.held)


class StampTests(SynchronousTestCase):
    """The consistent index in a batch is that of the last entry whose effects the batch has."""

    def test_sealed_inside_a_reply(self) -> None:
        """Also when whoever is answered has the batch sealed while more entries are to be applied."""
        running = Running().start()
        running.pump(0.2)

        class Sealing:
            def reply(self, message: bytes) -> None:
                running.committer.flush()

        running.put(b"a", client=Sealing())
        running.put(b"b")
        running.end_turn()
        batch = running.backend.batches[-1]
        self.assertEqual(1, len(batch[b"key"]))
        self.assertEqual(
            running.member.applied_index - 1, int.from_bytes(batch[META][CONSISTENT_INDEX], "big")
        )
