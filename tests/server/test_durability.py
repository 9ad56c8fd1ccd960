"""No reply before its record is on the disk, and one save for all that a turn brought."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Client, HeldWAL, Running
from twistedetcd.apply import request as kinds
from twistedetcd.errors import BackendError, Code, RequestTooLargeError, StoppedError, TooManyRequestsError
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, PutResponse
from twistedetcd.raft.types import EntryType
from twistedetcd.server.member import PROPOSALS_MAX
from twistedetcd.server.memorylog import COMPACT_EVERY

STOPPED = (Code.UNAVAILABLE, "etcdserver: server stopped")
TIMED_OUT = (Code.UNAVAILABLE, "etcdserver: request timed out")


def keys(saves: list[Any]) -> list[list[bytes]]:
    """The keys put by each of these saves."""
    return [
        [
            kinds.decode(entry.data).message.key
            for entry in save[1]
            if entry.type == EntryType.NORMAL and entry.data and kinds.decode(entry.data).kind == kinds.PUT
        ]
        for save in saves
    ]


class SavingTests(SynchronousTestCase):
    """Requests wait for the log."""

    def setUp(self) -> None:
        self.running = Running().start()
        self.successResultOf(self.running.ready)
        self.wal = self.running.wal
        self.wal.saves.clear()

    def test_one_save_a_turn(self) -> None:
        """All requests of a turn share one save, and none is proposed before the turn ends."""
        clients = [self.running.put(b"%d" % number) for number in range(3)]
        self.assertEqual([], self.wal.saves)
        self.running.end_turn()
        self.assertEqual([True] * 3, self.running.done(*clients))
        self.assertEqual([[b"0", b"1", b"2"]], self.puts_saved())

    def puts_saved(self) -> list[list[bytes]]:
        """The keys put by each save that has any."""
        return [found for found in keys(self.wal.saves) if found]

    def test_kf_01_no_reply_before_the_save(self) -> None:
        """While the save is under way nobody is answered, and a read does not see what is not durable."""
        self.wal.holding = True
        put = self.running.put(b"k", b"value")
        self.running.end_turn()
        get = self.running.get(b"k")
        self.running.pump(1)
        self.assertEqual([False, False], self.running.done(put, get))
        self.assertEqual(([], 0), self.running.store.range(b"k", None))
        self.wal.release_all()
        self.assertEqual([True], self.running.done(put))
        self.assertIn(b"value", get.outcome)

    def test_meanwhile(self) -> None:
        """What arrives during a save goes into the next one, together, whatever turn brought it."""
        self.wal.holding = True
        first = self.running.put(b"1")
        self.running.end_turn()
        second = self.running.put(b"2")
        self.running.end_turn()
        third = self.running.put(b"3")
        self.running.end_turn()
        self.assertEqual(1, len(self.wal.held))
        self.wal.release()
        self.assertEqual([True, False, False], self.running.done(first, second, third))
        self.assertEqual([[b"2", b"3"]], keys(self.wal.held))
        self.wal.release_all()
        self.assertEqual([True, True, True], self.running.done(first, second, third))

    def test_results_in_order(self) -> None:
        """Results come in the order of the requests, and so do revisions; a refusal keeps its place."""
        told: list[Client] = []
        clients = [
            self.running.put(b"a", client=Client(told)),
            self.running.propose(kinds.PUT, PutRequest(key=b"b", lease=5), Client(told)),
            self.running.propose(kinds.DELETE_RANGE, DeleteRangeRequest(key=b"a"), Client(told)),
            self.running.put(b"c", client=Client(told)),
        ]
        self.running.end_turn()
        self.assertEqual(clients, told)
        self.assertEqual((Code.NOT_FOUND, "etcdserver: requested lease not found"), clients[1].outcome)
        revisions = [
            PutResponse.FromString(client.outcome).header.revision
            for client in clients
            if isinstance(client.outcome, bytes)
        ]
        self.assertEqual([2, 3, 4], revisions)

    def test_propose_inside_a_reply(self) -> None:
        """Whoever proposes on being answered is taken in the next turn, not inside of this one."""
        running, inner = self.running, Client()

        class Chatty(Client):
            def reply(self, message: bytes) -> None:
                super().reply(message)
                running.put(b"second", client=inner)
                running.member.flush()

        running.put(b"first", client=Chatty())
        third = running.put(b"third")
        running.turn.flush()
        self.assertEqual([False, True], running.done(inner, third))
        running.end_turn()
        self.assertEqual([True], running.done(inner))
        self.assertEqual([[b"first", b"third"], [b"second"]], self.puts_saved())

    def test_read_inside_a_reply(self) -> None:
        """A read asked for on being answered sees that answer's effect."""
        running, reads = self.running, []

        class Reader(Client):
            def reply(self, message: bytes) -> None:
                super().reply(message)
                reads.append(running.get(b"k"))

        running.put(b"k", b"value", Reader())
        running.end_turn()
        running.end_turn()
        self.assertIn(b"value", reads[0].outcome)


class FailureTests(SynchronousTestCase):
    """Memory and disk may differ after a failure: the member stops, and says so to everybody."""

    def setUp(self) -> None:
        self.running = Running().start()
        self.successResultOf(self.running.ready)

    def assert_stopped(self, error: type[Exception]) -> None:
        """It told whoever runs it, once; nothing goes on and nothing is taken."""
        [failure] = self.running.failures
        failure.trap(error)
        with self.assertRaises(StoppedError):
            self.running.put(b"late")
        with self.assertRaises(StoppedError):
            self.running.get(b"late")
        with self.assertRaises(StoppedError):
            self.running.member.hash(0)
        batches = len(self.running.backend.batches)
        self.running.pump(1)
        self.successResultOf(self.running.member.stop())
        self.assertEqual(batches, len(self.running.backend.batches), "the open batch was given up")
        self.assertEqual([], self.running.clock.getDelayedCalls())
        self.assertEqual(1, len(self.running.failures))

    def test_save_fails_later(self) -> None:
        """A save that fails after a while tells those in it, those behind it, and the readers."""
        self.running.wal.holding = True
        first = self.running.put(b"1")
        self.running.end_turn()
        second, read = self.running.put(b"2"), self.running.get(b"1")
        self.running.end_turn()
        self.running.wal.refuse(OSError(28, "No space left on device"))
        self.assertEqual([STOPPED] * 3, [client.outcome for client in (first, second, read)])
        self.assertEqual(([], 0), self.running.store.range(b"1", None))
        self.assert_stopped(OSError)

    def test_save_fails_at_once(self) -> None:
        """So does one that fails before `save` returns."""
        self.running.wal.close()
        put = self.running.put(b"1")
        self.running.end_turn()
        self.assertEqual(STOPPED, put.outcome)
        self.assert_stopped(Exception)

    def test_engine_refuses(self) -> None:
        """A batch that the engine refuses stops the member; stopping it does not wait for that batch."""
        put = self.running.put(b"1")
        self.running.end_turn()
        self.assertEqual([True], self.running.done(put))
        self.running.backend.error = OSError(5, "Input/output error")
        self.running.wal.holding = True
        waiting = self.running.put(b"2")
        self.running.end_turn()
        self.running.clock.advance(0.1)
        self.assertEqual(STOPPED, waiting.outcome)
        self.running.backend.error = None
        self.running.wal.release_all()
        self.assert_stopped(OSError)

    def test_applier_raises(self) -> None:
        """An entry that cannot be carried out stops the member before half of it reaches the engine."""

        def break_down(request: Any, entry: Any) -> bytes:
            self.running.store.put(b"half", b"of it")
            raise ZeroDivisionError

        self.running.member.applying._applier.apply = break_down
        first, second = self.running.put(b"1"), self.running.put(b"2")
        self.running.end_turn()
        self.assertEqual([STOPPED, STOPPED], [first.outcome, second.outcome])
        self.assert_stopped(ZeroDivisionError)

    def test_applier_raises_after_a_slow_save(self) -> None:
        """The same when the save took its time."""

        def break_down(request: Any, entry: Any) -> bytes:
            raise ZeroDivisionError

        self.running.member.applying._applier.apply = break_down
        self.running.wal.holding = True
        put = self.running.put(b"1")
        self.running.end_turn()
        self.running.wal.release()
        self.assertEqual(STOPPED, put.outcome)
        self.assert_stopped(ZeroDivisionError)

    def test_read_raises(self) -> None:
        """A read that finds index and engine apart stops the member, rather than leaving it stuck."""

        def break_down(call: Any, request: Any) -> None:
            raise BackendError("no record")

        first, second = Client(), Client()
        self.running.member.read(break_down, first, None)
        self.running.member.read(break_down, second, None)
        self.running.end_turn()
        self.assertEqual([STOPPED, STOPPED], [first.outcome, second.outcome])
        self.assert_stopped(BackendError)

    def test_one_read_raises(self) -> None:
        """A read that cannot be carried out fails alone; those beside it are answered."""

        def run_out(call: Any, request: Any) -> None:
            raise MemoryError

        first, second = Client(), Client()
        self.running.member.read(run_out, first, None)
        self.running.member.read(lambda call, request: call.reply(b"1"), second, None)
        self.running.end_turn()
        self.assertEqual((Code.INTERNAL, "internal error"), first.outcome)
        self.assertEqual(b"1", second.outcome)
        self.assertEqual(1, len(self.flushLoggedErrors(MemoryError)))

    def test_memory_log(self) -> None:
        """A lone member keeps hardly any applied entry in memory: nobody has to catch up."""
        for _ in range(3 * COMPACT_EVERY):
            self.running.put(b"1")
            self.running.end_turn()
        storage = self.running.member.node._storage
        self.assertLessEqual(storage.last_index() - storage.first_index(), COMPACT_EVERY + 1)

    def test_failure_during_a_write(self) -> None:
        """A batch on its way when the member fails is waited for: its engine must not be closed under it."""
        self.running.writer.holding = True
        self.running.put(b"1")
        self.running.end_turn()
        self.running.clock.advance(0.1)
        self.running.wal.close()
        self.running.put(b"2")
        self.running.end_turn()
        self.assertEqual(1, len(self.running.failures))
        stopped = self.running.member.stop()
        self.assertNoResult(stopped)
        self.running.writer.release()
        self.successResultOf(stopped)

    def test_before_ready(self) -> None:
        """A member that fails before it serves says so to whoever waits for it to serve."""
        running = Running(HeldWAL(holding=True)).start()
        self.assertNoResult(running.ready)
        running.wal.refuse(OSError(28, "No space left on device"))
        self.failureResultOf(running.ready, OSError)
        self.assertEqual([], running.failures)
        self.successResultOf(running.member.stop())
        self.assertEqual([], running.clock.getDelayedCalls())


class LimitTests(SynchronousTestCase):
    """What is too large, too much or too slow is refused with etcd's words."""

    def setUp(self) -> None:
        self.running = Running(request_bytes_max=1000).start()

    def test_too_large(self) -> None:
        """The entry counts, not only the value; what fits exactly passes."""
        with self.assertRaises(RequestTooLargeError):
            self.running.put(b"k", bytes(1000))
        fits = max(size for size in range(900, 1000) if self._fits(size))
        self.assertFalse(self._fits(fits + 1))
        self.running.end_turn()

    def _fits(self, size: int) -> bool:
        try:
            self.running.put(b"k", bytes(size))
        except RequestTooLargeError:
            return False
        return True

    def test_stuck_save(self) -> None:
        """Each request waits as long as the others, however long the save before it takes already."""
        self.running.wal.holding = True
        first = self.running.put(b"1")
        self.running.end_turn()
        self.running.pump(3)
        second, read = self.running.put(b"2"), self.running.get(b"1")
        self.running.end_turn()
        self.running.pump(3)
        third, late_read = self.running.put(b"3"), self.running.get(b"1")
        self.running.pump(1.2)
        self.assertEqual(TIMED_OUT, first.outcome)
        self.assertEqual([False] * 4, self.running.done(second, read, third, late_read))
        self.running.pump(2.7)
        self.assertEqual([False] * 4, self.running.done(second, read, third, late_read))
        self.running.pump(0.4)
        self.assertEqual([TIMED_OUT, TIMED_OUT], [second.outcome, read.outcome])
        self.assertEqual([False, False], self.running.done(third, late_read))
        self.running.pump(3)
        self.assertEqual([TIMED_OUT, TIMED_OUT], [third.outcome, late_read.outcome])

    def test_timed_out_is_applied_all_the_same(self) -> None:
        """A request that timed out may still happen: it was in the log, and so it does."""
        self.running.wal.holding = True
        put = self.running.put(b"1")
        self.running.end_turn()
        self.running.pump(7.2)
        self.assertEqual(TIMED_OUT, put.outcome)
        self.running.wal.release_all()
        self.assertEqual(1, self.running.store.range(b"1", None)[1])

    def test_many_wait(self) -> None:
        """Above `PROPOSALS_MAX` in one turn more are refused; after it there is room again."""
        clients = [self.running.put(b"%d" % number) for number in range(PROPOSALS_MAX)]
        with self.assertRaises(TooManyRequestsError):
            self.running.put(b"one more")
        self.running.end_turn()
        self.assertEqual({True}, set(self.running.done(*clients)))
        self.running.put(b"one more")

    def test_batch_full(self) -> None:
        """While the engine falls behind by a full batch, writes are refused and reads are not."""
        self.running.pump(0.2)
        self.running.writer.holding = True
        self.running.pending.operations = 100_000
        with self.assertRaises(TooManyRequestsError):
            self.running.put(b"k")
        read = self.running.get(b"k")
        self.running.clock.advance(0.1)
        self.assertEqual([True], self.running.done(read))
        self.running.writer.release()
        put = self.running.put(b"k")
        self.running.end_turn()
        self.assertEqual([True], self.running.done(put))


class StartTests(SynchronousTestCase):
    """A single member is ready at once, and not before it may be."""

    def test_no_election_timeout(self) -> None:
        """A new member leads as soon as its saves are done, without waiting for a tick."""
        running = Running(HeldWAL(holding=True)).start()
        while running.wal.held:
            self.assertNoResult(running.ready)
            running.wal.release()
            running.end_turn()
        self.successResultOf(running.ready)
        self.assertEqual(0, running.clock.seconds())

    def test_ready_after_a_timeout(self) -> None:
        """A disk that takes longer than a request may wait delays the start; it does not prevent it."""
        running = Running(HeldWAL(holding=True)).start()
        while not running.node.is_leader:
            running.wal.release()
        waited = 0
        while not running.ready.called:
            self.assertTrue(running.wal.held)
            running.pump(8)
            running.wal.release()
            running.end_turn()
            waited += 1
        self.successResultOf(running.ready)
        self.assertGreater(waited, 1)

    def test_large_log(self) -> None:
        """A log that fills the open batch as it is replayed does not keep the member from starting."""
        running = Running().start()
        running.put(b"k")
        running.end_turn()
        self.successResultOf(running.member.stop())
        again = Running(running.wal)
        again.writer.holding = True
        apply = again.applier.apply

        def and_many_more(request: Any, entry: Any) -> Any:
            again.pending.operations += 100_000
            return apply(request, entry)

        again.applier.apply = and_many_more
        again.start()
        self.successResultOf(again.ready)

    def test_stopped_before_ready(self) -> None:
        """Whoever waits for it to serve is told that it never will."""
        running = Running(HeldWAL(holding=True)).start()
        stopped = running.member.stop()
        self.failureResultOf(running.ready, StoppedError)
        self.assertNoResult(stopped)
        running.wal.release()
        self.successResultOf(stopped)
        self.assertEqual([], running.clock.getDelayedCalls())
