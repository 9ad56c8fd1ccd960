"""The lessor against a model of dictionaries, whatever happens in between."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import LeaseExistError, LeaseNotFoundError
from twistedetcd.lease.lessor import Lessor
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.work import finish

TTL_MIN, EXTEND, AGAIN, CHECKPOINT = 2, 1.0, 3.0, 4.0
ids = st.sampled_from([-1, 1, 2, 3])
ttls = st.sampled_from([0, 2, 5, 30])
keys = st.sampled_from([b"a", b"b", b"c"])
seconds = st.sampled_from([0.0, 0.25, 1.0, 6.0, 31.0])


class LessorMachine(RuleBasedStateMachine):
    """What a member may do with its lessor, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.now = 0.0
        self.ttl: dict[int, int] = {}
        self.remaining: dict[int, int] = {}
        self.lease_of: dict[bytes, int] = {}
        self.expiry: dict[int, float] | None = None  # while it is primary
        self.told: dict[int, float] = {}  # when each was due, and when it will be again
        self.on_their_way: list[tuple[int, int]] = []
        self.start()

    def start(self) -> None:
        self.pending = Pending(self.backend)
        self.lessor = Lessor(self.pending, TTL_MIN, CHECKPOINT)
        self.lessor.restore()
        for key, lease_id in self.lease_of.items():
            assert self.lessor.attach(key, lease_id)

    @rule()
    def restart(self) -> None:
        batch = self.pending.seal()
        if batch is not None:
            self.backend.write(batch)
        self.pending.close()
        self.expiry = None
        self.on_their_way.clear()
        self.start()

    @rule(after=seconds)
    def wait(self, after: float) -> None:
        self.now += after

    @rule(lease_id=ids, ttl=ttls)
    def grant(self, lease_id: int, ttl: int) -> None:
        if lease_id in self.ttl:
            with SynchronousTestCase().assertRaises(LeaseExistError):
                self.lessor.grant(lease_id, ttl)
            return
        granted = self.ttl[lease_id] = max(ttl, TTL_MIN)
        assert self.lessor.grant(lease_id, ttl) == granted
        self.lessor.count_granted(self.now)
        if self.expiry is not None:
            self.expiry[lease_id] = self.now + granted

    @rule(lease_id=ids)
    def revoke(self, lease_id: int) -> None:
        if lease_id not in self.ttl:
            with SynchronousTestCase().assertRaises(LeaseNotFoundError):
                self.lessor.revoke(lease_id)
            return
        self.apply()  # what is on its way comes before what is asked for now
        for key in self.lessor.keys(lease_id, 100):
            self.lessor.detach(key)
            del self.lease_of[key]
        self.lessor.revoke(lease_id)
        for held in (self.ttl, self.remaining, self.told, self.expiry or {}):
            held.pop(lease_id, None)

    @rule(key=keys, lease_id=st.one_of(st.just(0), ids))
    def put(self, key: bytes, lease_id: int) -> None:
        there = lease_id in self.ttl
        assert self.lessor.attach(key, lease_id) is (there or not lease_id)
        if there:
            self.lease_of[key] = lease_id
        else:
            self.lease_of.pop(key, None)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.lessor.detach(key)
        self.lease_of.pop(key, None)

    # The leader.

    @rule()
    def promote(self) -> None:
        finish(self.lessor.promote(self.now, EXTEND))
        self.told.clear()
        self.expiry = {
            lease_id: self.now + EXTEND + (self.remaining.get(lease_id) or ttl)
            for lease_id, ttl in self.ttl.items()
        }

    @rule()
    def demote(self) -> None:
        self.lessor.demote()
        self.expiry = None

    @precondition(lambda self: self.expiry is not None)
    @rule(lease_id=ids)
    def renew(self, lease_id: int) -> None:
        assert self.expiry is not None
        ttl = self.lessor.renew(lease_id, self.now)
        if lease_id not in self.ttl:
            assert ttl == 0
        elif self.expiry[lease_id] <= self.now:
            assert ttl is None
            assert self.lessor.ended(lease_id, self.now)
        elif self.remaining.get(lease_id) or any(lease_id == noted for noted, _ in self.on_their_way):
            assert ttl is None
            self.apply()
            self.lessor.checkpoint(lease_id, 0)
            self.remaining.pop(lease_id, None)
            assert self.lessor.renew(lease_id, self.now) == self.ttl[lease_id]
            self.expiry[lease_id] = self.now + self.ttl[lease_id]
        else:
            assert ttl == self.ttl[lease_id]
            self.expiry[lease_id] = self.now + ttl

    @rule()
    def look(self) -> None:
        due, complete = self.lessor.due(self.now, 100, AGAIN)
        assert complete
        ended = {lease_id for lease_id, at in (self.expiry or {}).items() if at <= self.now}
        assert set(due) == {lease_id for lease_id in ended if self.told.get(lease_id, 0.0) <= self.now}
        assert len(due) == len(set(due))
        assert self.lessor.due(self.now, 100, AGAIN) == ([], True)
        self.told.update(dict.fromkeys(due, self.now + AGAIN))

    @rule()
    def note(self) -> None:
        for lease_id, left in self.lessor.checkpoints(self.now, 100):
            assert self.expiry is not None
            assert 0 <= left - (self.expiry[lease_id] - self.now) < 1
            self.on_their_way.append((lease_id, left))

    @rule()
    def apply(self) -> None:
        for lease_id, left in self.on_their_way:
            self.lessor.checkpoint(lease_id, left)
            if lease_id in self.ttl:
                self.remaining[lease_id] = left
        self.on_their_way.clear()

    # What must hold all the time.

    @invariant()
    def same(self) -> None:
        assert dict(self.lessor.lease_of) == self.lease_of
        assert len(self.lessor) == len(self.ttl)
        for lease_id in self.ttl:
            mine = sorted(key for key, has in self.lease_of.items() if has == lease_id)
            assert self.lessor.keys(lease_id, 100) == mine
        if self.expiry is not None:
            for lease_id, at in self.expiry.items():
                assert self.lessor.time_to_live(lease_id, self.now) == (at - self.now, self.ttl[lease_id])
            assert finish(self.lessor.by_expiry()) == sorted(
                self.ttl, key=lambda each: (self.expiry[each], each)
            )


class ModelTests(SynchronousTestCase):
    """The lessor does what the model does."""

    def test_model(self) -> None:
        """Whatever is granted, put, renewed, noted, revoked or restarted."""
        run_state_machine_as_test(
            LessorMachine,
            settings=settings(
                max_examples=100,
                stateful_step_count=40,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
