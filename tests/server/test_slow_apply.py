"""Entries that change more than a turn can: done in slices, and to everybody else done at once."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import TIMEOUT_SECONDS, Client, Running
from twistedetcd.apply import request as kinds
from twistedetcd.cluster.members import Member
from twistedetcd.errors import Code, TooManyRequestsError
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.raft.types import ConfChange, ConfChangeType
from twistedetcd.server import applying

SLICES = 5
KEYS = SLICES * SLICE_KEYS
EVERYTHING = DeleteRangeRequest(key=b"k", range_end=b"l")
KEY_NOT_FOUND = (Code.INVALID_ARGUMENT, "etcdserver: key not found")


class SlowCase(SynchronousTestCase):
    """A member with many keys, all of them in its engine."""

    def setUp(self) -> None:
        self.running = Running(limit=10**6).start()
        self.successResultOf(self.running.ready)
        for start in range(0, KEYS, 100):
            puts = [PutRequest(key=b"k%05d" % number, value=b"v") for number in range(start, start + 100)]
            self.running.propose(kinds.TXN, TxnRequest(success=[RequestOp(request_put=put) for put in puts]))
        self.running.end_turn()
        self.running.pump(0.3)
        self.assertEqual(0, self.running.pending.operations)
        self.store = self.running.store
        self.before = self.store.revision

    def delete_half(self) -> Client:
        """A delete of everything that is somewhere in the middle."""
        deleting = self.running.propose(kinds.DELETE_RANGE, EVERYTHING)
        self.running.one_turn()
        self.running.one_turn()
        self.assertFalse(self.running.pending.whole)
        return deleting

    def end_turns(self) -> None:
        for _ in range(4 * SLICES):
            self.running.one_turn()

    def restarted(self, old: Running) -> Running:
        """The member that comes back with that log and engine."""
        running = Running(wal=old.wal, backend=old.backend, limit=10**6).start()
        for _ in range(4 * SLICES):
            running.end_turn()
        self.successResultOf(running.ready)
        return running


class DeleteTests(SlowCase):
    """A delete of thousands of keys."""

    def test_slices(self) -> None:
        """A turn deletes so many keys and no more; the reply comes with the last of them."""
        deleting = self.running.propose(kinds.DELETE_RANGE, EVERYTHING)
        operations = []
        while deleting.outcome is None:
            self.running.one_turn()
            operations.append(self.running.pending.operations)
        steps = [after - before for before, after in zip([0, *operations], operations, strict=False)]
        self.assertEqual([SLICE_KEYS] * SLICES, [step for step in steps if step])
        assert isinstance(deleting.outcome, bytes)
        self.assertEqual(KEYS, DeleteRangeResponse.FromString(deleting.outcome).deleted)
        self.assertEqual((self.before + 1, 0), (self.store.revision, self.store.count(b"k", b"l")))

    def test_others_see_the_state_before(self) -> None:
        """Until it ends, a read without raft finds every key, at the revision before."""
        self.delete_half()
        self.assertEqual((self.before, KEYS), (self.store.revision, self.store.count(b"k", b"l")))
        self.assertEqual(1, self.store.range(b"k00000", None)[1])
        self.end_turns()
        self.assertEqual(0, self.store.range(b"k00000", None)[1])

    def test_order(self) -> None:
        """What is committed meanwhile is applied after it, in order; a linearizable read waits for both."""
        told: list[Client] = []
        deleting = Client(told)
        self.running.propose(kinds.DELETE_RANGE, EVERYTHING, deleting)
        self.running.one_turn()
        first = self.running.put(b"k1", b"new", Client(told))
        self.running.one_turn()
        second = self.running.put(b"k1", b"newer", Client(told))
        get = self.running.get(b"k1")
        self.running.one_turn()
        self.assertEqual([False] * 4, self.running.done(deleting, first, second, get))
        self.end_turns()
        self.assertEqual([deleting, first, second], told)
        self.assertIn(b"newer", get.outcome)  # type: ignore[arg-type]
        self.assertEqual(self.before + 3, self.store.revision)

    def test_how_far_it_is(self) -> None:
        """A snapshot taken meanwhile would be of the entry before it, however much is committed."""
        node = self.running.node
        before = node.applied_index, node.applied_term
        self.delete_half()
        self.running.put(b"k1")
        self.running.one_turn()
        self.assertEqual(before, (node.applied_index, node.applied_term))
        self.end_turns()
        self.assertEqual(before[0] + 2, node.applied_index)

    def test_not_sealed_half_way(self) -> None:
        """However long it takes, no batch with a part of it goes into the engine."""
        self.delete_half()
        batches = len(self.running.backend.batches)  # type: ignore[attr-defined]
        self.running.committer.flush()
        self.running.committer.check()
        self.assertEqual(batches, len(self.running.backend.batches))  # type: ignore[attr-defined]
        self.running.pump(0.3)
        self.assertEqual(0, self.running.pending.operations)
        self.assertEqual(batches + 1, len(self.running.backend.batches))  # type: ignore[attr-defined]

    def test_stopped_half_way(self) -> None:
        """The engine gets nothing of it, who waits is told, and the next start carries out all of it."""
        deleting = self.delete_half()
        self.successResultOf(self.running.member.stop())
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), deleting.outcome)
        self.assertEqual([], self.running.clock.getDelayedCalls())
        self.running.pending.close()
        again = self.restarted(self.running)
        self.assertEqual((self.before + 1, 0), (again.store.revision, again.store.count(b"k", b"l")))

    def test_killed_half_way(self) -> None:
        """So does the start after a crash, and all members have the same hash."""
        self.delete_half()
        again = self.restarted(self.running)
        self.end_turns()
        self.assertEqual(self.running.hash(), again.hash())

    def test_time_is_up(self) -> None:
        """Who waits for it waits no longer than for any other request; it goes on all the same."""
        deleting = self.delete_half()
        self.running.clock.rightNow += TIMEOUT_SECONDS
        self.running.member._sweep_now()
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: request timed out"), deleting.outcome)
        self.end_turns()
        self.assertEqual((self.before + 1, 0), (self.store.revision, self.store.count(b"k", b"l")))

    def test_given_up_by_its_client(self) -> None:
        """One that nobody waits for any more is carried out all the same."""
        deleting = self.delete_half()
        waiting = self.running.put(b"k1")
        self.running.one_turn()
        self.running.clock.advance(60)
        self.assertEqual([True, True], self.running.done(deleting, waiting))
        self.end_turns()
        self.assertEqual((self.before + 2, 1), (self.store.revision, self.store.count(b"k", b"l")))

    def test_backlog(self) -> None:
        """Behind it only so many entries may wait; more are refused, until it is done."""
        self.patch(applying, "BACKLOG_MAX", 2)
        self.delete_half()
        for _ in range(2):
            self.running.put(b"k1")
        self.running.one_turn()
        self.assertRaises(TooManyRequestsError, self.running.put, b"k1")
        self.end_turns()
        self.running.put(b"k1")

    def test_membership(self) -> None:
        """Raft takes no second change of membership before one that is put off is in force."""
        self.delete_half()
        raft = self.running.raft
        self.running.member.cluster._learners_max = 2

        def learner(number: int) -> ConfChange:
            context = Member(number, (f"http://{number}:2380",), is_learner=True).to_context()
            return ConfChange(number, ConfChangeType.ADD_LEARNER_NODE, number, context)

        raft.propose_conf_change(learner(9))
        self.running.node.flush()
        raft.propose_conf_change(learner(10))
        self.running.node.flush()
        self.assertEqual((), raft.status().configuration.learners)
        self.end_turns()
        self.assertEqual((9,), raft.status().configuration.learners)


class TransactionTests(SlowCase):
    """Transactions that look at, or change, thousands of keys."""

    def txn(self, *operations: RequestOp, compares: list[Compare] | None = None) -> Client:
        client = self.running.propose(kinds.TXN, TxnRequest(compare=compares or [], success=operations))
        self.running.one_turn()
        self.assertIsNone(client.outcome)
        self.end_turns()
        return client

    def response(self, client: Client) -> Any:
        assert isinstance(client.outcome, bytes)
        return TxnResponse.FromString(client.outcome)

    def test_all_kinds(self) -> None:
        """Compared, deleted with what was there, and read again, all at one revision."""
        compare = Compare(target=Compare.VERSION, result=Compare.EQUAL, key=b"k", range_end=b"l", version=1)
        delete = DeleteRangeRequest(key=b"k", range_end=b"k02500", prev_kv=True)
        client = self.txn(
            RequestOp(request_delete_range=delete),
            RequestOp(request_put=PutRequest(key=b"k", value=b"v")),
            compares=[compare],
        )
        response = self.response(client)
        self.assertTrue(response.succeeded)
        gone = response.responses[0].response_delete_range
        self.assertEqual([b"k%05d" % number for number in range(2500)], [kv.key for kv in gone.prev_kvs])
        self.assertEqual(self.before + 1, self.store.revision)
        self.assertEqual(KEYS - 2500 + 1, self.store.count(b"k", b"l"))

    def test_refused_late(self) -> None:
        """One whose compares take many turns may be refused after them; nothing changed."""
        compare = Compare(
            target=Compare.MOD, result=Compare.GREATER, key=b"k", range_end=b"l", mod_revision=0
        )
        keep = PutRequest(key=b"none", ignore_value=True)
        client = self.txn(RequestOp(request_put=keep), compares=[compare])
        self.assertEqual(KEY_NOT_FOUND, client.outcome)
        self.assertEqual(self.before, self.store.revision)
        self.assertIsNotNone(self.running.put(b"k"))
        self.running.one_turn()
        self.assertEqual(self.before + 1, self.store.revision)
