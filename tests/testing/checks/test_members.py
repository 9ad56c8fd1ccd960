"""Members that lost something, or hold something else; and what errors say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.testing.checks.mutations import Case, MutationCase, copy_of, exchange, first, put_event
from twistedetcd import errors
from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import HashKVResponse
from twistedetcd.testing.checks import Refused, Rule, Unknown, outcome


class MemberTests(MutationCase):
    """All hold the same, and all that was acknowledged."""

    def with_member(self, case: Case, revision: int | None) -> Case:
        """A member has something else at a revision, or ends too early."""
        mine = list(case.members["m2"])
        if revision is None:
            while mine[-1].revision >= max(case.model(0).revision, len(mine) - 3):
                mine.pop()
        else:
            mine[revision - 2] = mine[revision - 2]._replace(events=[put_event(b"z", b"", revision)])
        return case._replace(members={**case.members, "m2": mine})

    def test_lost(self) -> None:
        """A member that is up to date misses the end."""
        self.assertCaught(Rule.DURABLE, lambda case: self.with_member(case, None))
        self.assertCaught(Rule.SAME_HISTORY, lambda case: self.with_member(case, None))

    def test_other(self) -> None:
        """A member has something else."""
        self.assertCaught(Rule.SAME_HISTORY, lambda case: self.with_member(case, 4))

    def test_hash(self) -> None:
        """A member has another hash."""

        def mutate(case: Case) -> Case | None:
            hashes = [op for op in case.operations if isinstance(op.outcome, HashKVResponse)]
            one = first(hashes)
            if one is None:
                return None
            other = copy_of(one.outcome)
            other.hash += 1
            # Another member is asked for the same.
            again = exchange([one], one, member="m9", outcome=other)
            return case._replace(operations=[*case.operations, *again])

        self.assertCaught(Rule.SAME_HASH, mutate)


class OutcomeTests(SynchronousTestCase):
    """Only what is known to be definite is."""

    def test_refused(self) -> None:
        """What was refused before it was proposed, or by all members alike."""
        for error in (
            errors.TooManyRequestsError,
            errors.CompactedError,
            errors.FutureRevisionError,
            errors.KeyNotFoundError,
            errors.LeaseNotFoundError,
            errors.DuplicateKeyError,
        ):
            self.assertEqual(Refused(error.code, error.message), outcome(error.code, error.message))
        text = "etcdserver: permission denied"
        self.assertIsInstance(outcome(Code.PERMISSION_DENIED, text), Refused)
        self.assertIsInstance(outcome(Code.UNIMPLEMENTED, "unknown service foo"), Refused)

    def test_unknown(self) -> None:
        """What may be on its way, or was done all the same; and what nobody has ever heard of."""
        for error in (
            errors.TimeoutError,
            errors.LeaderChangedError,
            errors.StoppedError,
            errors.NoLeaderError,
            errors.SessionExpiredError,
        ):
            self.assertIsInstance(outcome(error.code, error.message), Unknown)
        for code, text in (
            (Code.DEADLINE_EXCEEDED, "context deadline exceeded"),
            (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
            (Code.INVALID_ARGUMENT, "something else"),
            (Code.UNAVAILABLE, "connection lost"),
        ):
            self.assertIsInstance(outcome(code, text), Unknown)
