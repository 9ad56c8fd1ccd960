"""
Did everything happen in one order that agrees with the clock on the wall?

Revisions make this cheap: an answer says where in the order it belongs, so no order is searched for.
What is left to find is which writes of unknown outcome are behind the revisions that nobody claims.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

from twistedetcd.errors import CompactedError, EtcdError
from twistedetcd.pb.rpc_pb2 import CompactionRequest, CompactionResponse, RangeRequest
from twistedetcd.testing.checks.effects import KEY_VALUE, changed, is_linearizable
from twistedetcd.testing.checks.explaining import Candidate, Candidates, assign, ended_lease
from twistedetcd.testing.checks.history import Change, Operation, Witness
from twistedetcd.testing.checks.model import Model
from twistedetcd.testing.checks.rules import Rule, Violation
from twistedetcd.testing.checks.timeline import Highest, Timeline
from twistedetcd.testing.checks.unwitnessed import check_records


class Order(NamedTuple):
    """
    What was found.

    Attributes:
        violations: What is wrong.
        ended: The leases that ended by themselves, by revision; only where nothing else can have happened.
    """

    violations: list[Violation]
    ended: dict[int, int]


def check_order(operations: Sequence[Operation], witness: Witness | None, timeline: Timeline) -> Order:
    """
    Check everything that was asked of keys.

    Args:
        operations: All that were recorded.
        witness: What happened, if that is known.
        timeline: Made of the same operations.
    """
    witness = witness or Witness(
        [], base_revision=max((operation.revision for operation in operations), default=1)
    )
    return _Replay(operations, witness, timeline).run()


class _Replay:
    """The witness's revisions one after the other; at each the answers that belong there."""

    def __init__(self, operations: Sequence[Operation], witness: Witness, timeline: Timeline) -> None:
        self._operations, self._witness, self._timeline = operations, witness, timeline
        self._model = Model(witness.base, witness.base_revision, strict_leases=False)
        self._writes: defaultdict[int, list[Operation]] = defaultdict(list)
        self._answers: defaultdict[int, list[Operation]] = defaultdict(list)
        for operation in operations:
            revision = operation.revision
            if revision:
                (self._writes if changed(operation) else self._answers)[revision].append(operation)
        self._candidates = Candidates(operations, timeline.known)
        self._options: dict[int, list[Candidate]] = {}
        self._ended: dict[int, int] = {}
        self._begun = -inf  # the latest call among the writes so far
        self._found: list[Violation] = []

    def run(self) -> Order:
        self._found += self._check_times()
        first, last = self._witness.base_revision, self._witness.revision
        unwitnessed = [operation for operation in self._operations if 0 < operation.revision <= first]
        if first > 1:
            self._found += check_records(unwitnessed)
        for answer in self._answers[first] if self._witness.base or first == 1 else ():
            self._answer(answer)
        for change in self._witness.changes:
            self._write(change)
            for answer in self._answers[change.revision]:
                self._answer(answer)
        for revision in sorted({*self._writes, *self._answers}):
            if revision > last:
                self._found += self._beyond(revision)
        self._found += self._explain()
        return Order(self._found, self._ended)

    # The order, and the clock.

    def _check_times(self) -> Iterator[Violation]:
        for revision, writes in self._writes.items():
            if len(writes) > 1:
                yield Violation(Rule.ONE_WRITE, f"revision {revision} was told to several", writes)
        compactions = Highest(
            [
                (operation.returned_at, operation.request.revision)
                for operation in self._operations
                if isinstance(operation.request, CompactionRequest)
                and isinstance(operation.outcome, CompactionResponse)
                and operation.returned_at is not None
            ]
        )
        for operation in self._operations:
            revision, known = operation.revision, self._timeline.known(operation.called_at)
            if not revision or not is_linearizable(operation.request):
                continue
            if changed(operation) and revision <= known:
                text = f"revision {revision} was made when {known} was known already"
                yield Violation(Rule.REAL_TIME, text, [operation])
            elif revision < known:
                text = f"revision {revision} was answered when {known} was known already"
                yield Violation(Rule.FRESH, text, [operation])
            if isinstance(operation.request, RangeRequest) and operation.request.revision > 0:
                compacted = compactions.before(operation.called_at)
                if compacted is not None and operation.request.revision < compacted:
                    yield Violation(Rule.COMPACTED, f"{compacted} was compacted before", [operation])

    def _beyond(self, revision: int) -> Iterator[Violation]:
        end = f"history ends at {self._witness.revision}"
        for operation in self._writes[revision]:
            yield Violation(Rule.KEPT, f"revision {revision} was acknowledged, {end}", [operation])
        for operation in self._answers[revision]:
            yield Violation(Rule.ANSWER, f"revision {revision} was answered, {end}", [operation])

    # The revisions.

    def _write(self, change: Change) -> None:
        writes = self._writes[change.revision]
        if writes:
            begun = min(write.called_at for write in writes)
            for write in writes:
                self._acknowledged(write, change)
        else:
            begun = self._unclaimed(change)
        self._begun = max(self._begun, begun)
        self._model.commit(change.events)

    def _unclaimed(self, change: Change) -> float:
        """Note who may have made a revision; returns when the first of those called, if somebody did."""
        candidates = self._candidates.of(self._model, change)
        lease = ended_lease(self._model, change.events)
        if not lease:
            self._options[change.revision] = candidates
            return min((candidate.operation.called_at for candidate in candidates), default=-inf)
        if not candidates:  # Otherwise it may be that somebody deleted these keys.
            self._ended[change.revision] = lease
        return -inf

    def _acknowledged(self, write: Operation, change: Change) -> None:
        try:
            expected, events = self._model.evaluate(write.request)
        except CompactedError:  # It also reads what the witness does not know.
            return
        except EtcdError as error:
            self._found.append(Violation(Rule.ANSWER, f"done, but the model says: {error}", [write]))
            return
        if events != list(change.events):
            text = f"revision {change.revision} is {_brief(change.events)}, not {_brief(events)}"
            self._found.append(Violation(Rule.KEPT, text, [write]))
        else:
            self._compare(write, expected)

    def _answer(self, operation: Operation) -> None:
        returned = operation.returned_at
        if returned is not None and returned < self._begun:
            text = f"answered at {returned:g}, but a write up to there was called at {self._begun:g}"
            self._found.append(Violation(Rule.NOT_AHEAD, text, [operation]))
        if not isinstance(operation.request, KEY_VALUE):
            return
        try:
            expected, events = self._model.evaluate(operation.request)
        except CompactedError:
            return
        except EtcdError as error:
            self._found.append(Violation(Rule.ANSWER, f"answered, but the model says: {error}", [operation]))
            return
        if events:
            text = f"changed nothing, but the model says {_brief(events)}"
            self._found.append(Violation(Rule.ANSWER, text, [operation]))
        else:
            self._compare(operation, expected)

    def _compare(self, operation: Operation, expected: Any) -> None:
        actual: Any = operation.outcome
        expected.header.CopyFrom(actual.header)  # Its revision is the model's, or we would not be here.
        if expected != actual:
            text = f"the model says {_brief([expected])}"
            self._found.append(Violation(Rule.ANSWER, text, [operation]))

    def _explain(self) -> Iterator[Violation]:
        """Find out who made the revisions that nobody claims."""
        chosen = assign(self._options)
        for revision, candidates in self._options.items():
            if revision not in chosen:
                change = self._witness.change(revision)
                assert change is not None
                text = f"nobody can have made revision {revision}: {_brief(change.events)}"
                records = [candidate.operation for candidate in candidates]
                yield Violation(Rule.EXPLAINED, text, records)


def _brief(messages: Sequence[Any]) -> str:
    text = " ".join(" ".join(str(message).split()) for message in messages)
    return text if len(text) <= 300 else text[:300] + "..."
