"""What can be concluded from the answers alone, where no witness says what happened."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence

from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import PutRequest, RangeRequest, RangeResponse
from twistedetcd.testing.checks.effects import changed, effects
from twistedetcd.testing.checks.history import Operation
from twistedetcd.testing.checks.rules import Rule, Violation


def check_records(operations: Sequence[Operation]) -> Iterator[Violation]:
    """
    Compare the answers with each other.

    Args:
        operations: Those whose revisions are not in the witness.
    """
    yield from _same_records(operations)
    written: dict[bytes, list[int]] = {}
    for operation in operations:
        if changed(operation):
            for key, _ in effects(operation).puts:
                insort(written.setdefault(key, []), operation.revision)
    for operation in operations:
        request, answer = operation.request, operation.outcome
        if not isinstance(request, RangeRequest) or not isinstance(answer, RangeResponse):
            continue
        if not request.range_end and request.revision <= 0:
            writes = written.get(request.key, [])
            place = bisect_right(writes, answer.header.revision)
            for item in answer.kvs:
                if place and item.mod_revision < writes[place - 1]:
                    text = f"{item.key!r} of revision {item.mod_revision} was read after {writes[place - 1]}"
                    yield Violation(Rule.ANSWER, text, [operation])


def _same_records(operations: Sequence[Operation]) -> Iterator[Violation]:
    """A key has one record at a revision, except within a transaction."""
    known: dict[tuple[bytes, int], tuple[KeyValue, Operation]] = {}
    for operation in operations:
        request, answer = operation.request, operation.outcome
        if isinstance(request, PutRequest) and changed(operation) and not request.ignore_value:
            item = KeyValue(key=request.key, value=request.value, mod_revision=operation.revision)
            yield from _compare(known, item, operation)
    for operation in operations:
        request, answer = operation.request, operation.outcome
        if isinstance(request, RangeRequest) and isinstance(answer, RangeResponse) and not request.keys_only:
            for item in answer.kvs:
                yield from _compare(known, item, operation)


def _compare(
    known: dict[tuple[bytes, int], tuple[KeyValue, Operation]], item: KeyValue, operation: Operation
) -> Iterator[Violation]:
    place = item.key, item.mod_revision
    before, other = known.setdefault(place, (item, operation))
    if not before.version:  # of a put, whose answer tells no more than this
        known[place] = item, operation
        same = before.value == item.value
    else:
        same = before == item
    if not same:
        text = f"{item.key!r} of revision {item.mod_revision} looks different to two clients"
        yield Violation(Rule.ANSWER, text, [other, operation])
