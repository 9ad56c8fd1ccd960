"""Who watches a member is told when its entries are applied, and from then on between turns."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mvcc.watching import Receiver
from tests.server.harness import Running
from twistedetcd.apply import request as kinds
from twistedetcd.errors import BackendError
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest

KEYS = 2 * SLICE_KEYS + 1


class WatchedMemberTests(SynchronousTestCase):
    """A member with one who watches."""

    def setUp(self) -> None:
        self.running = Running(limit=10**6).start()
        self.receiver = Receiver()

    def test_in_its_turn(self) -> None:
        """What a turn applied is told in that turn, after all of it counts as applied."""
        member = self.running.member
        seen: list[tuple[int, int]] = []
        self.patch(
            self.receiver,
            "changed",
            lambda watches, batch: seen.append((batch.revision, member.applied_index)) or (),
        )
        self.running.watches.watch(b"a", None, self.receiver)
        before = member.applied_index
        clients = [self.running.put(b"a") for _ in range(3)]
        self.running.one_turn()
        self.assertEqual([True] * 3, self.running.done(*clients))
        self.assertEqual([(revision, before + 3) for revision in (2, 3, 4)], seen)

    def test_a_slow_entry(self) -> None:
        """A delete that takes many turns is told when it is over, at once, and between what surrounds it."""
        for start in range(0, KEYS, 100):
            puts = [PutRequest(key=b"k%05d" % number) for number in range(start, min(start + 100, KEYS))]
            self.running.propose(kinds.TXN, TxnRequest(success=[RequestOp(request_put=put) for put in puts]))
        self.running.end_turn()
        revision = self.running.store.revision
        watch = self.running.watches.watch(b"k", b"l", self.receiver)
        self.running.put(b"k00000")
        self.running.propose(kinds.DELETE_RANGE, DeleteRangeRequest(key=b"k", range_end=b"l"))
        self.running.put(b"k00000")
        self.running.one_turn()
        self.assertEqual([("PUT", b"k00000", revision + 1)], self.receiver.events(watch))
        for _ in range(10):
            self.running.end_turn()
        events = self.receiver.events(watch)
        self.assertEqual(KEYS + 2, len(events))
        self.assertEqual({("DELETE", revision + 2)}, {(kind, at) for kind, _, at in events[1:-1]})
        self.assertEqual(("PUT", b"k00000", revision + 3), events[-1])
        told = self.receiver.told(watch)
        self.assertEqual(1, len([batch for batch in told if any(kind == "DELETE" for kind, _, _ in batch)]))

    def test_history_that_cannot_be_read(self) -> None:
        """The engine has lost a record: nothing else it says can be trusted, and the member stops."""

        def broken(*arguments: object) -> None:
            raise BackendError("the disk")

        self.running.put(b"a")
        self.running.end_turn()
        self.patch(self.running.store, "history", broken)
        self.running.watches.watch(b"a", None, self.receiver, start=1)
        self.running.end_turn()
        [failure] = self.running.failures
        self.assertEqual("the disk", failure.getErrorMessage())

    def test_the_member_stops(self) -> None:
        """What was not told yet is given up; clients ask another member, or again."""
        self.running.put(b"a")
        self.running.end_turn()
        watch = self.running.watches.watch(b"a", None, self.receiver, start=1)
        self.running.member.stop()
        self.running.pump(1.0)
        self.assertEqual([], self.receiver.told(watch))
        self.assertEqual([], self.running.failures)
