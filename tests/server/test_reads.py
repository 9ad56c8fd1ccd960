"""A linearizable read sees all that was acknowledged before it came, or fails."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Client, HeldWAL, Running
from twistedetcd.errors import Code, EtcdError, TimeoutError
from twistedetcd.raft.types import HardState, ReadState
from twistedetcd.server.readindex import RETRY_SECONDS, ReadIndex

TIMED_OUT = (Code.UNAVAILABLE, "etcdserver: request timed out")


class RestartTests(SynchronousTestCase):
    """The commit index on the disk may be older than what was acknowledged (KF-04)."""

    def test_kf_04_waits_for_the_first_commit_of_the_term(self) -> None:
        """A read between the election and the first commit of the term waits for that commit."""
        before = Running().start()
        before.put(b"k", b"acknowledged")
        before.end_turn()
        wal = HeldWAL()
        wal.entries = list(before.wal.entries)
        wal.hard_state = before.wal.hard_state._replace(commit=1)  # moved without a sync, and lost
        wal.saves = list(before.wal.saves)
        wal.holding = True
        after = Running(wal).start()
        while not after.node.is_leader:
            after.wal.release()
        self.assertEqual(0, after.store.range(b"k", None)[1], "not known to be committed yet")
        early = after.get(b"k")
        after.end_turn()
        later = after.get(b"k")
        after.pump(0.3)
        self.assertEqual([False, False], after.done(early, later))
        after.wal.release()
        self.assertIn(b"acknowledged", early.outcome)
        self.assertIn(b"acknowledged", later.outcome, "asked for as soon as the first question was answered")


class FakeRaft:
    """Takes questions, and answers none of them by itself."""

    def __init__(self) -> None:
        self.contexts: list[bytes] = []
        self.reads = ReadIndex(100, self.contexts.append)

    def read(self, name: str, done: list[str], until: float = 7.0) -> Client:
        """A read that notes its name when it is carried out."""
        client = Client()
        self.reads.arrived.append((lambda call, request: done.append(request), client, name, until))
        return client

    def answer(self, context: bytes, index: int = 1, applied: int = 1) -> None:
        """Raft's answer to one question."""
        self.reads.confirmed([ReadState(index, context)], applied)


class RoundTests(SynchronousTestCase):
    """One question is out at a time, and an answer holds only for those who were there when it was asked."""

    def setUp(self) -> None:
        self.raft = FakeRaft()
        self.reads = self.raft.reads
        self.done: list[str] = []

    def test_shared(self) -> None:
        """All that arrived share one question and are carried out in their order."""
        self.raft.read("a", self.done)
        self.raft.read("b", self.done)
        self.reads.ask(0)
        [context] = self.raft.contexts
        self.raft.answer(context)
        self.assertEqual(["a", "b"], self.done)

    def test_later_ones_wait_for_the_next(self) -> None:
        """A read that comes while a question is out is not served by its answer."""
        self.raft.read("a", self.done)
        self.reads.ask(0)
        self.raft.read("b", self.done)
        self.reads.ask(0)
        [context] = self.raft.contexts
        self.raft.answer(context)
        self.assertEqual(["a"], self.done)
        self.reads.ask(0)
        self.raft.answer(self.raft.contexts[1])
        self.assertEqual(["a", "b"], self.done)

    def test_applied(self) -> None:
        """A confirmed read is carried out once this member has applied so far, in order of the rounds."""
        self.raft.read("a", self.done)
        self.reads.ask(0)
        self.raft.answer(self.raft.contexts[0], index=5, applied=3)
        self.raft.read("b", self.done)
        self.reads.ask(0)
        self.raft.answer(self.raft.contexts[1], index=6, applied=4)
        self.assertEqual([], self.done)
        self.reads.applied_to(5)
        self.assertEqual(["a"], self.done)
        self.reads.applied_to(9)
        self.assertEqual(["a", "b"], self.done)

    def test_retry(self) -> None:
        """After half a second it asks again, under a new name; either answer will do, but only one counts."""
        self.raft.read("a", self.done)
        self.reads.ask(0)
        self.reads.retry(RETRY_SECONDS - 0.01, TimeoutError())
        self.assertEqual(1, len(self.raft.contexts))
        self.reads.retry(RETRY_SECONDS, TimeoutError())
        self.reads.retry(RETRY_SECONDS + 0.1, TimeoutError())
        self.reads.retry(2 * RETRY_SECONDS, TimeoutError())
        first, second, third = self.raft.contexts
        self.assertEqual(3, len({first, second, third}))
        self.raft.answer(second)
        self.assertEqual(["a"], self.done)
        self.raft.read("b", self.done)
        self.reads.ask(2)
        for late in (first, third, b"a stranger's"):
            self.raft.answer(late)
        self.assertEqual(["a"], self.done, "an answer to an older question says nothing to this one")
        self.raft.answer(self.raft.contexts[3])
        self.assertEqual(["a", "b"], self.done)

    def test_timeout(self) -> None:
        """Time is up for each read by itself, whether it was asked for, confirmed, or not even asked for."""
        confirmed = self.raft.read("a", self.done, until=7)
        self.reads.ask(0)
        self.raft.answer(self.raft.contexts[0], index=5, applied=1)
        asked = self.raft.read("b", self.done, until=7)
        younger = self.raft.read("c", self.done, until=8)
        self.reads.ask(0)
        arrived = self.raft.read("d", self.done, until=7.5)
        self.reads.retry(6.99, TimeoutError())
        self.assertEqual([None] * 4, [each.outcome for each in (confirmed, asked, younger, arrived)])
        self.reads.retry(7.5, TimeoutError())
        self.assertEqual([TIMED_OUT] * 3, [each.outcome for each in (confirmed, asked, arrived)])
        self.raft.answer(self.raft.contexts[-1], applied=9)
        self.assertEqual(["c"], self.done)

    def test_answer_after_the_timeout(self) -> None:
        """When all who asked have gone, their answer is not taken for that of those who came later."""
        self.raft.read("a", self.done, until=7)
        self.reads.ask(0)
        self.reads.retry(7, TimeoutError())
        self.raft.read("b", self.done, until=14)
        self.reads.ask(7)
        for late in self.raft.contexts[:-1]:
            self.raft.answer(late)
        self.assertEqual([], self.done)

    def test_leader_changed(self) -> None:
        """What the old leader was asked fails at once, so that the client can ask again."""
        asked = self.raft.read("a", self.done)
        self.reads.ask(0)
        self.reads.leader_changed()
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: leader changed"), asked.outcome)
        self.raft.answer(self.raft.contexts[0])
        self.assertEqual([], self.done)

    def test_stop(self) -> None:
        """A member that stops tells everybody, wherever they wait."""
        clients = [self.raft.read("a", self.done)]
        self.reads.ask(0)
        self.raft.answer(self.raft.contexts[0], index=5)
        clients.append(self.raft.read("b", self.done))
        self.reads.ask(0)
        clients.append(self.raft.read("c", self.done))
        self.reads.fail_all(EtcdError("stop"))
        self.assertEqual([(Code.UNKNOWN, "stop")] * 3, [client.outcome for client in clients])
        self.reads.applied_to(9)
        self.assertEqual([], self.done)


class MemberReadTests(SynchronousTestCase):
    """Reads through a whole member."""

    def test_one_question_a_turn(self) -> None:
        """All reads of a turn put one question to raft."""
        running = Running().start()
        asked: list[bytes] = []
        ask = running.node.reads._ask

        def counting(context: bytes) -> None:
            asked.append(context)
            ask(context)

        running.node.reads._ask = counting
        clients = [running.get(b"k") for _ in range(10)]
        running.end_turn()
        self.assertEqual({True}, set(running.done(*clients)))
        self.assertEqual(1, len(asked))

    def test_sees_the_puts_of_its_turn(self) -> None:
        """A read of the turn that also brings a put may come before or after it, but is answered."""
        running = Running().start()
        read, put = running.get(b"k"), running.put(b"k", b"value")
        running.end_turn()
        self.assertEqual([True, True], running.done(read, put))

    def test_lost_question(self) -> None:
        """A question that raft lost is asked again half a second later."""
        running = Running().start()
        ask: Any = running.node.reads._ask
        running.node.reads._ask = lambda context: None
        read = running.get(b"k")
        running.end_turn()
        running.node.reads._ask = ask
        running.pump(0.4)
        self.assertEqual([False], running.done(read))
        running.pump(0.4)
        self.assertEqual([True], running.done(read))

    def test_no_leader(self) -> None:
        """Without a leader a read fails when its time is up: it is not even asked for before."""
        wal = HeldWAL(holding=True)
        wal.hard_state = HardState()
        running = Running(wal).start()
        read = running.get(b"k")
        running.pump(6.9)
        self.assertEqual([False], running.done(read))
        running.pump(0.3)
        self.assertEqual(TIMED_OUT, read.outcome)
