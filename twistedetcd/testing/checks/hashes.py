"""Members that hold the same have the same hash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twistedetcd.pb.rpc_pb2 import HashKVResponse
from twistedetcd.testing.checks.history import Operation
from twistedetcd.testing.checks.rules import Rule, Violation


def check_hashes(operations: Sequence[Operation]) -> Iterator[Violation]:
    """Compare all answers to HashKV with others of the same revision and compact revision."""
    known: dict[tuple[int, int], Operation] = {}
    for operation in operations:
        answer = operation.outcome
        if isinstance(answer, HashKVResponse):
            place = answer.hash_revision, answer.compact_revision
            first = known.setdefault(place, operation)
            assert isinstance(first.outcome, HashKVResponse)
            if first.outcome.hash != answer.hash:
                text = f"hashes differ at revision {place[0]}, compacted at {place[1]}"
                yield Violation(Rule.SAME_HASH, text, [first, operation])
