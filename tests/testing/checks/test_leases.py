"""Leases that end too early, too late, or in part; and locks that two hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.testing.checks.mutations import Case, MutationCase, at_revision, exchange, first
from tests.testing.checks.world import GRACE, TTL
from twistedetcd.errors import LeaseNotFoundError
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    PutResponse,
    ResponseHeader,
)
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse
from twistedetcd.testing.checks import (
    Change,
    History,
    Operation,
    Rule,
    Unknown,
    Violation,
    Witness,
    check,
    outcome,
)
from twistedetcd.testing.checks.leases import LeaseTerms
from twistedetcd.testing.checks.linearizable import check_order
from twistedetcd.testing.checks.locks import Holding, check_locks
from twistedetcd.testing.checks.timeline import Timeline


def ends(case: Case) -> list[tuple[Change, int]]:
    """The revisions at which leases ended by themselves."""
    timeline = Timeline(History(case.operations, case.watches))
    ended = check_order(case.operations, Witness(case.changes), timeline).ended
    return [(case.changes[revision - 2], lease) for revision, lease in sorted(ended.items())]


def with_change(case: Case, change: Change) -> Case:
    changes = list(case.changes)
    changes[change.revision - 2] = change
    return case._replace(changes=changes)


class EndTests(MutationCase):
    """When a lease ends, and with what."""

    def test_too_early(self) -> None:
        """A lease ends before the TTL is over since its last acknowledged renewal."""

        def mutate(case: Case) -> Case | None:
            end = first(ends(case))
            if end is None:
                return None
            change, lease = end
            called_at = change.at - TTL / 2
            renewal = Operation(
                "c",
                called_at,
                called_at + 0.1,
                LeaseKeepAliveRequest(ID=lease),
                LeaseKeepAliveResponse(ID=lease, TTL=TTL),
            )
            return case._replace(operations=[*case.operations, renewal])

        self.assertCaught(Rule.LEASE_KEPT, mutate)

    def test_too_late(self) -> None:
        """A lease is there long after its TTL, while somebody leads."""

        def mutate(case: Case) -> Case | None:
            end = first(ends(case))
            if end is None or any(
                operation.kind == "LeaseKeepAlive" and isinstance(operation.outcome, Unknown)
                for operation in case.operations
            ):
                return None
            change, lease = end
            if not any(
                isinstance(operation.outcome, LeaseGrantResponse) and lease == operation.outcome.ID
                for operation in case.operations
            ):
                return None
            late = with_change(case, change._replace(at=change.at + 50))
            return late._replace(terms=LeaseTerms(0.0, GRACE, [(0.0, change.at + 100)]))

        self.assertCaught(Rule.LEASE_ENDS, mutate)

    def test_left(self) -> None:
        """A lease ends, and one of its keys is left."""

        def mutate(case: Case) -> Case | None:
            end = first([end for end, _ in ends(case) if len(end.events) > 1])
            if end is None:
                return None
            wrong = with_change(case, end._replace(events=end.events[1:]))
            # A delete of unknown outcome may explain what is left of it.
            return wrong if end.revision in {change.revision for change, _ in ends(wrong)} else None

        self.assertCaught(Rule.LEASE_KEYS, mutate)


class SmallTests(MutationCase):
    """One lease of ten seconds, granted at once, with one key, put in revision 2 at second 1."""

    def setUp(self) -> None:
        self.put_it = Event(
            kv={
                "key": b"a",
                "lease": 7,
                "create_revision": 2,
                "mod_revision": 2,
                "version": 1,
            }
        )
        self.operations = [
            self.call(0, LeaseGrantRequest(ID=7, TTL=10), LeaseGrantResponse(ID=7, TTL=10), 1),
            self.call(1, PutRequest(key=b"a", lease=7), PutResponse(), 2),
        ]

    def call(self, at: float, request: Any, answer: Any, revision: int = 0) -> Operation:
        if revision:
            answer.header.CopyFrom(ResponseHeader(revision=revision))
        return Operation("c", at, at + 0.5, request, answer)

    def renewal(self, at: float, ttl: int = 10) -> Operation:
        return self.call(at, LeaseKeepAliveRequest(ID=7), LeaseKeepAliveResponse(ID=7, TTL=ttl), 2)

    def found(self, *more: Operation, ended_at: float | None, terms: LeaseTerms | None = None) -> list[Rule]:
        """The rules that are broken if the key is deleted in revision 3 at a time, or never."""
        changes = [Change(2, [self.put_it], 1.2)]
        if ended_at is not None:
            gone = Event(type=Event.DELETE, kv={"key": b"a", "mod_revision": 3})
            changes.append(Change(3, [gone], ended_at))
        operations = [*self.operations, *more]
        found = check(History(operations), Witness(changes), terms=terms or LeaseTerms())
        return [violation.rule for violation in found]

    def test_from_the_call_on(self) -> None:
        """The TTL counts from the call of the last renewal: the server may have renewed at once."""
        self.assertEqual([], self.found(self.renewal(5), ended_at=15.1))
        self.assertEqual([Rule.LEASE_KEPT], self.found(self.renewal(5), ended_at=14.9))
        self.assertEqual([], self.found(self.renewal(12, 0), ended_at=11))

    def test_drift(self) -> None:
        """A server's clock may be faster."""
        self.assertEqual([], self.found(ended_at=9.95, terms=LeaseTerms(drift=0.01)))
        self.assertEqual([Rule.LEASE_KEPT], self.found(ended_at=9.8, terms=LeaseTerms(drift=0.01)))

    def test_grace(self) -> None:
        """It must be gone its TTL and the grace after the last answer, or after there was a leader again."""
        for led_from, deadline in ((0.0, 5.5 + 10 + 2), (20.0, 20 + 10 + 2)):
            terms = LeaseTerms(0.0, 2, [(led_from, 100.0)])
            renewal = self.renewal(5)
            self.assertEqual([], self.found(renewal, ended_at=deadline - 0.1, terms=terms))
            self.assertEqual([Rule.LEASE_ENDS], self.found(renewal, ended_at=deadline + 0.1, terms=terms))
            self.assertEqual([Rule.LEASE_ENDS], self.found(renewal, ended_at=None, terms=terms))
        leaderless = LeaseTerms(0.0, 2, [(0.0, 12.0), (95.0, 100.0)])
        self.assertEqual([], self.found(self.renewal(5), ended_at=None, terms=leaderless))

    def test_unknown_renewal(self) -> None:
        """A renewal of unknown outcome can come at any time, so nobody knows when the lease has to end."""
        unknown = Operation("c", 5, None, LeaseKeepAliveRequest(ID=7), Unknown("gave up"))
        terms = LeaseTerms(0.0, 2, [(0.0, 100.0)])
        self.assertEqual([], self.found(unknown, ended_at=None, terms=terms))

    def test_told_too_early(self) -> None:
        """Nobody is told that it is gone while it must be there; 0 seconds left may be true."""
        refused = outcome(LeaseNotFoundError.code, LeaseNotFoundError.message)
        for request, answer in (
            (PutRequest(key=b"b", lease=7), refused),
            (LeaseKeepAliveRequest(ID=7), LeaseKeepAliveResponse(ID=7)),
            (LeaseTimeToLiveRequest(ID=7), LeaseTimeToLiveResponse(ID=7, TTL=-1)),
            (LeaseRevokeRequest(ID=7), refused),
        ):
            self.assertEqual([], self.found(Operation("c", 20, 20.5, request, answer), ended_at=15))
            early = Operation("c", 8, 8.5, request, answer)
            self.assertEqual([Rule.LEASE_KEPT], self.found(early, ended_at=15))
            revoked = Operation("d", 3, None, LeaseRevokeRequest(ID=7), Unknown("gave up"))
            self.assertEqual([], self.found(early, revoked, ended_at=4))
        left = self.call(8, LeaseTimeToLiveRequest(ID=7), LeaseTimeToLiveResponse(ID=7, TTL=0), 2)
        self.assertEqual([], self.found(left, ended_at=15))

    def test_revoked(self) -> None:
        """A revoke ends it at any time, but when it is acknowledged the key is gone, and comes no more."""
        revoke = self.call(3, LeaseRevokeRequest(ID=7), LeaseRevokeResponse(), 3)
        self.assertEqual([], self.found(revoke, ended_at=3.2))
        unknown = replace(revoke, outcome=Unknown("gave up"))
        self.assertEqual([], self.found(unknown, ended_at=3.2))
        nothing = replace(revoke, outcome=at_revision(revoke.outcome, 2))
        self.assertEqual([Rule.LEASE_KEYS], self.found(nothing, ended_at=None))

    def test_attached_again(self) -> None:
        """To a lease that ended nothing is attached, unless it is granted again."""
        again = Event()
        again.CopyFrom(self.put_it)
        again.kv.create_revision = again.kv.mod_revision = 4
        gone = Event(type=Event.DELETE, kv={"key": b"a", "mod_revision": 3})
        witness = Witness([Change(2, [self.put_it], 1.2), Change(3, [gone], 15), Change(4, [again], 17)])
        put = self.call(17, PutRequest(key=b"a", lease=7), PutResponse(), 4)
        grant = self.call(16, LeaseGrantRequest(ID=7, TTL=10), LeaseGrantResponse(ID=7, TTL=10), 3)
        self.assertEqual([], check(History([*self.operations, grant, put]), witness))
        found = check(History([*self.operations, put]), witness)
        self.assertEqual([Rule.LEASE_KEYS], [violation.rule for violation in found])


class LockTests(MutationCase):
    """One holder."""

    def test_too_early(self) -> None:
        """One who stands in line is told that he holds, while another does."""

        def mutate(case: Case) -> Case | None:
            locks = [op for op in case.operations if isinstance(op.outcome, LockResponse)]
            for lock in locks:
                answer: Any = lock.outcome
                entered = [
                    change.revision
                    for change in case.changes
                    if change.events[0].kv.key == answer.key and change.events[0].type == Event.PUT
                    if change.revision < answer.header.revision
                ]
                if not entered:
                    continue
                line = case.model(entered[-1]).scan(b"lock/", b"lock0", entered[-1])
                if min(line, key=lambda item: item.create_revision).key != answer.key:
                    early = exchange(case.operations, lock, outcome=at_revision(answer, entered[-1]))
                    return case._replace(operations=early)
            return None

        self.assertCaught(Rule.ONE_HOLDER, mutate)

    def test_gone(self) -> None:
        """One whose key was deleted is told that he holds."""

        def mutate(case: Case) -> Case | None:
            locks = [op for op in case.operations if isinstance(op.outcome, LockResponse)]
            if not locks:
                return None
            before = exchange(case.operations, locks[0], outcome=at_revision(locks[0].outcome, 1))
            return case._replace(operations=before)

        self.assertCaught(Rule.ONE_HOLDER, mutate)

    def test_taken_without_the_service(self) -> None:
        """Two keys that were created in one transaction are both first: then both must not hold."""
        keys = [b"line/1", b"line/2"]
        created = [
            Event(kv={"key": key, "create_revision": 2, "mod_revision": 2, "version": 1}) for key in keys
        ]
        gone = Event(type=Event.DELETE, kv={"key": keys[0], "mod_revision": 3})
        witness = Witness([Change(2, created), Change(3, [gone])])
        one, two, later = (
            Holding(b"line/", key, revision, key)
            for key, revision in ((keys[0], 2), (keys[1], 2), (keys[1], 3))
        )
        self.assertEqual([], list(check_locks([one, later], witness)))
        found: list[Violation] = list(check_locks([one, two], witness))
        self.assertEqual([Rule.ONE_HOLDER], [violation.rule for violation in found])

    def test_unknown_place(self) -> None:
        """A lock of unknown outcome may stand in the line, and may leave it."""
        enter = Event(kv={"key": b"l/7", "lease": 7, "create_revision": 2, "mod_revision": 2, "version": 1})
        leave = Event(type=Event.DELETE, kv={"key": b"l/7", "mod_revision": 3})
        witness = Witness([Change(2, [enter]), Change(3, [leave])])
        lock = Operation("c", 1, None, LockRequest(name=b"l", lease=7), Unknown("gave up"))
        self.assertEqual([], check(History([lock]), witness))
        found = check(History([]), witness)
        self.assertEqual([Rule.EXPLAINED], [violation.rule for violation in found])
