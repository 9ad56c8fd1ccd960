"""Each way to break the one order is noticed."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.testing.checks.mutations import (
    Case,
    MutationCase,
    at_revision,
    copy_of,
    exchange,
    first,
    put_event,
)
from twistedetcd.errors import CompactedError
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.testing.checks import Change, History, Operation, Refused, Rule, Unknown, check, outcome
from twistedetcd.testing.checks.effects import changed, is_linearizable
from twistedetcd.testing.checks.explaining import Candidate, assign
from twistedetcd.testing.checks.timeline import Timeline


def acknowledged(case: Case) -> list[Operation]:
    """Writes that were acknowledged, by revision."""
    return sorted(filter(changed, case.operations), key=lambda operation: operation.revision)


def puts(case: Case) -> list[Operation]:
    """Plain puts of values that nobody else puts."""
    return [
        operation
        for operation in acknowledged(case)
        if isinstance(operation.request, PutRequest) and operation.request.value not in (b"", b"x")
    ]


def with_change(case: Case, revision: int, events: list[Event]) -> Case:
    """Another thing happened at a revision."""
    changes = list(case.changes)
    changes[revision - 2] = changes[revision - 2]._replace(events=events)
    return case._replace(changes=changes)


def reads(case: Case) -> list[Operation]:
    """Linearizable reads of the present that were answered."""
    return [
        operation
        for operation in case.operations
        if isinstance(operation.request, RangeRequest)
        and isinstance(operation.outcome, RangeResponse)
        and is_linearizable(operation.request)
        and not operation.request.revision
    ]


def read_at(case: Case, read: Operation, revision: int) -> Case:
    """A read is answered from the state at another revision, and truly."""
    answer = case.model(revision).apply(read.request)
    return case._replace(operations=exchange(case.operations, read, outcome=answer))


class WriteTests(MutationCase):
    """What happens to acknowledged writes, and where others come from."""

    def test_lost(self) -> None:
        """An acknowledged write is not in the history."""

        def mutate(case: Case) -> Case | None:
            last = acknowledged(case)[-1]
            return case._replace(changes=case.changes[: last.revision - 2])

        self.assertCaught(Rule.KEPT, mutate)

    def test_replaced(self) -> None:
        """At the revision of an acknowledged write there is something else."""

        def mutate(case: Case) -> Case | None:
            revision = acknowledged(case)[-5].revision
            return with_change(case, revision, [put_event(b"z", b"else", revision)])

        self.assertCaught(Rule.KEPT, mutate)

    def test_half_a_transaction(self) -> None:
        """Of an acknowledged transaction one change is missing."""

        def mutate(case: Case) -> Case | None:
            many = [
                case.changes[write.revision - 2]
                for write in acknowledged(case)
                if isinstance(write.request, TxnRequest)
            ]
            change = first([change for change in many if len(change.events) > 1])
            return change and with_change(case, change.revision, list(change.events[:-1]))

        self.assertCaught(Rule.KEPT, mutate)

    def test_half_a_transaction_of_unknown_outcome(self) -> None:
        """A write that nobody was told of happens as a whole, or not at all."""

        def mutate(case: Case) -> Case | None:
            told = {write.revision for write in acknowledged(case)}
            half = [
                change
                for change in case.changes
                if change.revision not in told
                and len(change.events) > 1
                and any(event.type == Event.PUT for event in change.events)
            ]
            change = first(half)
            return change and with_change(case, change.revision, list(change.events[:-1]))

        self.assertCaught(Rule.EXPLAINED, mutate)

    def test_two_at_one_revision(self) -> None:
        """Two writes were told the same revision."""

        def mutate(case: Case) -> Case | None:
            write = puts(case)[-1]
            other = replace(write, client="other", request=PutRequest(key=b"z", value=b"other"))
            return case._replace(operations=[*case.operations, other])

        self.assertCaught(Rule.ONE_WRITE, mutate)

    def test_twice(self) -> None:
        """An acknowledged write happens once more."""

        def mutate(case: Case) -> Case | None:
            model = case.model(len(case.changes) + 1)
            again = next(write for write in puts(case) if not write.request.ignore_lease)
            _, events = model.evaluate(again.request)
            return case._replace(changes=[*case.changes, Change(model.revision + 1, events)])

        self.assertCaught(Rule.EXPLAINED, mutate)

    def test_unknown_twice(self) -> None:
        """So does a write of unknown outcome that happened already."""

        def mutate(case: Case) -> Case | None:
            happened = {event.kv.value for change in case.changes for event in change.events}
            unknown = [
                operation
                for operation in case.operations
                if isinstance(operation.outcome, Unknown)
                and isinstance(operation.request, PutRequest)
                and operation.request.value in happened - {b"", b"x"}
                and not operation.request.ignore_lease
            ]
            if not unknown:
                return None
            model = case.model(len(case.changes) + 1)
            _, events = model.evaluate(unknown[0].request)
            return case._replace(changes=[*case.changes, Change(model.revision + 1, events)])

        self.assertCaught(Rule.EXPLAINED, mutate)

    def test_refused(self) -> None:
        """A write was refused, and happened."""

        def mutate(case: Case) -> Case | None:
            error = outcome(CompactedError.code, CompactedError.message)
            self.assertIsInstance(error, Refused)
            return case._replace(operations=exchange(case.operations, puts(case)[3], outcome=error))

        self.assertCaught(Rule.EXPLAINED, mutate)

    def test_nobody(self) -> None:
        """A key appears that nobody has put."""

        def mutate(case: Case) -> Case | None:
            revision = len(case.changes) + 2
            change = Change(revision, [put_event(b"z", b"from nowhere", revision)])
            return case._replace(changes=[*case.changes, change])

        self.assertCaught(Rule.EXPLAINED, mutate)

    def test_before_its_call(self) -> None:
        """A write has a revision that others knew before it was called."""

        def mutate(case: Case) -> Case | None:
            late = max(operation.called_at for operation in case.operations) + 10
            write = puts(case)[2]
            moved = exchange(case.operations, write, called_at=late, returned_at=late + 1)
            return case._replace(operations=moved)

        self.assertCaught(Rule.REAL_TIME, mutate)

    def test_unknown_before_its_call(self) -> None:
        """No write explains a revision that was known before it was called."""

        def mutate(case: Case) -> Case | None:
            late = max(operation.called_at for operation in case.operations) + 10
            unknown = Unknown("gave up")
            write = puts(case)[2]
            moved = exchange(case.operations, write, called_at=late, returned_at=None, outcome=unknown)
            return case._replace(operations=moved)

        self.assertCaught(Rule.EXPLAINED, mutate)

    def test_record_before(self) -> None:
        """A put tells a wrong record before it."""

        def mutate(case: Case) -> Case | None:
            told = [put for put in puts(case) if put.outcome.HasField("prev_kv")]
            if not told:
                return None
            answer = copy_of(told[0].outcome)
            answer.prev_kv.version += 1
            return case._replace(operations=exchange(case.operations, told[0], outcome=answer))

        self.assertCaught(Rule.ANSWER, mutate)

    def test_deleted(self) -> None:
        """A delete tells a wrong number."""

        def mutate(case: Case) -> Case | None:
            told = [op for op in acknowledged(case) if isinstance(op.outcome, DeleteRangeResponse)]
            if not told:
                return None
            answer = copy_of(told[0].outcome)
            answer.deleted += 1
            return case._replace(operations=exchange(case.operations, told[0], outcome=answer))

        self.assertCaught(Rule.ANSWER, mutate)

    def test_wrong_branch(self) -> None:
        """A transaction tells the other branch."""

        def mutate(case: Case) -> Case | None:
            told = [op for op in acknowledged(case) if isinstance(op.outcome, TxnResponse)]
            answer = copy_of(told[0].outcome)
            answer.succeeded = not answer.succeeded
            return case._replace(operations=exchange(case.operations, told[0], outcome=answer))

        self.assertCaught(Rule.ANSWER, mutate)


class ReadTests(MutationCase):
    """What reads show."""

    def test_stale(self) -> None:
        """A leader that was deposed answers from what it has."""

        def mutate(case: Case) -> Case | None:
            timeline = Timeline(History(case.operations, case.watches))
            read = first([read for read in reads(case) if timeline.known(read.called_at) > 5])
            return read and read_at(case, read, timeline.known(read.called_at) - 1)

        self.assertCaught(Rule.FRESH, mutate)

    def test_ahead(self) -> None:
        """A read shows a write that was called after its answer."""

        def mutate(case: Case) -> Case | None:
            late = max(write.called_at for write in acknowledged(case))
            read = first([read for read in reads(case) if (read.returned_at or late) < late])
            return read and read_at(case, read, len(case.changes) + 1)

        self.assertCaught(Rule.NOT_AHEAD, mutate)

    def test_beyond(self) -> None:
        """A read is answered at a revision that never was."""

        def mutate(case: Case) -> Case | None:
            read = reads(case)[-1]
            answer = at_revision(read.outcome, len(case.changes) + 2)
            return case._replace(operations=exchange(case.operations, read, outcome=answer))

        self.assertCaught(Rule.ANSWER, mutate)

    def test_wrong(self) -> None:
        """A record, the number of keys, or a key is wrong."""

        def wrong(read: Operation, kind: int) -> RangeResponse:
            answer = copy_of(read.outcome)
            if kind == 0:
                answer.kvs[0].version += 1
            elif kind == 1:
                answer.count += 1
            else:
                del answer.kvs[0]
            assert isinstance(answer, RangeResponse)
            return answer

        for kind in range(3):

            def mutate(case: Case, kind: int = kind) -> Case | None:
                read = first([read for read in reads(case) if read.outcome.kvs])
                if read is None:
                    return None
                answer = wrong(read, kind)
                return case._replace(operations=exchange(case.operations, read, outcome=answer))

            self.assertCaught(Rule.ANSWER, mutate)

    def test_serializable(self) -> None:
        """A local read may be old, but it must be true."""

        def mutate(case: Case) -> Case | None:
            local = [
                op
                for op in case.operations
                if isinstance(op.request, RangeRequest)
                and op.request.serializable
                and isinstance(op.outcome, RangeResponse)
                and op.outcome.kvs
            ]
            if not local:
                return None
            answer = copy_of(local[0].outcome)
            answer.kvs[0].mod_revision -= 1
            return case._replace(operations=exchange(case.operations, local[0], outcome=answer))

        self.assertCaught(Rule.ANSWER, mutate)

    def test_back(self) -> None:
        """One client is told of an earlier revision than before, by a linearizable read."""

        def mutate(case: Case) -> Case | None:
            for read in reads(case):
                own = [
                    op.revision
                    for op in case.operations
                    if op.client == read.client
                    and (op.returned_at or read.called_at) < read.called_at
                    and is_linearizable(op.request)
                ]
                if own and max(own) > 3:
                    return read_at(case, read, max(own) - 1)
            return None

        self.assertCaught(Rule.MONOTONIC, mutate)


class AssignTests(SynchronousTestCase):
    """Who made which of the revisions that nobody claims."""

    def chosen(self, options: dict[int, str]) -> dict[int, str]:
        """Candidates are letters, here."""
        candidates = {
            name: Candidate(Operation(name, 0, None, PutRequest(), Unknown("")), PutRequest(), 0, 0)
            for name in "abc"
        }
        found = assign(
            {revision: [candidates[name] for name in names] for revision, names in options.items()}
        )
        return {revision: candidate.operation.client for revision, candidate in found.items()}

    def test_gives_way(self) -> None:
        """Who could have made several revisions leaves one to him who could have made no other."""
        self.assertEqual({2: "c", 3: "a", 4: "b"}, self.chosen({2: "abc", 3: "a", 4: "ab"}))
        self.assertEqual({2: "b", 3: "a"}, self.chosen({2: "ab", 3: "a"}))

    def test_once(self) -> None:
        """Nobody makes two; then one revision is left over, and another that nobody can have made."""
        self.assertEqual({2: "a"}, self.chosen({2: "a", 3: "a", 4: ""}))


class SmallTests(MutationCase):
    """What is easier to see in a history of a few calls."""

    def put(self, number: int, key: bytes = b"a", **fields: object) -> Operation:
        """The put that makes revision ``number``, at the time of that number."""
        request = PutRequest(key=key, value=b"%d" % number)
        answer = PutResponse(header=ResponseHeader(revision=number))
        return Operation("c", number, number + 0.5, request, answer)

    def read(self, at: float, revision: int, member: str, **fields: bool) -> Operation:
        """An answer that shows revision 2 as the first."""
        request = RangeRequest(key=b"a", **fields)
        item = {
            "key": b"a",
            "value": b"%d" % revision,
            "create_revision": 2,
            "mod_revision": revision,
            "version": revision - 1,
        }
        answer = RangeResponse(header=ResponseHeader(revision=revision), kvs=[item], count=1)
        return Operation("c", at, at + 0.5, request, answer, member)

    def rules(self, *operations: Operation) -> list[Rule]:
        return [violation.rule for violation in check(History(operations))]

    def test_serializable_back(self) -> None:
        """One member does not go back for a client; another may be behind it."""
        writes = self.put(2), self.put(3)
        later = self.read(4, 3, "m1", serializable=True)
        self.assertEqual([], self.rules(*writes, later, self.read(5, 2, "m2", serializable=True)))
        self.assertEqual(
            [Rule.MONOTONIC], self.rules(*writes, later, self.read(5, 2, "m1", serializable=True))
        )

    def test_compacted(self) -> None:
        """What was compacted is not read any more."""
        header = ResponseHeader(revision=4)
        compaction = Operation(
            "d", 5, 5.5, CompactionRequest(revision=4), CompactionResponse(header=header), "m1"
        )
        read = self.read(6, 2, "m1")
        read = replace(
            read,
            request=RangeRequest(key=b"a", revision=3),
            outcome=RangeResponse(header=header),
        )
        writes = self.put(2), self.put(3), self.put(4)
        self.assertEqual([], self.rules(*writes, read))
        self.assertEqual([Rule.COMPACTED], self.rules(*writes, compaction, read))

    def test_without_witness(self) -> None:
        """Answers alone show two writes of one revision, a stale read, and records that differ."""
        writes = self.put(2), self.put(3)
        self.assertEqual([], self.rules(*writes, self.read(4, 3, "m1")))
        again = replace(self.put(3, b"b"), client="d")
        self.assertEqual([Rule.ONE_WRITE], self.rules(*writes, again))
        self.assertIn(Rule.FRESH, self.rules(*writes, self.read(4, 2, "m1")))
        hidden = self.read(4, 2, "m1")
        answer = at_revision(hidden.outcome, 3)
        self.assertEqual([Rule.ANSWER], self.rules(*writes, replace(hidden, outcome=answer)))
        other = self.read(4, 3, "m1")
        wrong = copy_of(other.outcome)
        wrong.kvs[0].value = b"else"
        self.assertEqual([Rule.ANSWER], self.rules(*writes, replace(other, outcome=wrong)))
