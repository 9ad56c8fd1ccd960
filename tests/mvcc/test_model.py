"""The store against a model of dictionaries: whatever happens in between, both give the same answers."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from typing import Any

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

from tests.mvcc.model import Model, Record
from tests.mvcc.stores import Stack, run
from twistedetcd.backends.lmdb import LMDBBackend
from twistedetcd.errors import CompactedError, EtcdError, FutureRevisionError
from twistedetcd.interfaces import IBackend
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.kv_pb2 import KeyValue

KEYS = [b"a", b"ab", b"b", b"c", b"\xff"]
keys = st.sampled_from(KEYS)
values = st.sampled_from([b"", b"1", b"twenty-two"])
leases = st.sampled_from([0, 0, 7, -1])
ends = st.one_of(st.none(), st.just(b""), st.sampled_from([*KEYS, b"\0", b"b\0"]))
changes = st.one_of(
    st.tuples(st.just("put"), keys, values, leases),
    st.tuples(st.just("delete"), keys, ends),
)
ago = st.integers(0, 12)


class StoreMachine(RuleBasedStateMachine):
    """What a member may do to its store, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = Stack(self.backend(), compaction_batch=2)
        self.model = Model()
        self.sealed_model = self.durable_model = Model()
        self.compactions: deque[tuple[int, Iterator[None]]] = deque()
        self.hashing: tuple[Iterator[Any], tuple[int, int, int]] | None = None

    def backend(self) -> IBackend | None:
        return None

    def teardown(self) -> None:
        """Done with all its work, exactly the records are left that a compaction keeps."""
        self.forget_hash()
        while self.compactions:
            run(self.compactions.popleft()[1])
        self.stack.flush()
        assert set(self.stack.stored()) == self.model.kept()
        assert self.stack.store.unfinished_compaction is None
        self.check_everything()
        self.stack.crash()
        self.check_everything()
        self.stack.pending.close()
        self.stack.backend.close()

    # Writing.

    @rule(key=keys, value=values)
    def put(self, key: bytes, value: bytes) -> None:
        mine: list[Record] = []
        self.model.put(mine, key, value, 0)
        self.model.end(mine)
        assert self.stack.store.put(key, value) == self.model.revision

    @rule(todo=st.lists(changes, max_size=6), key=keys, end=ends, back=ago)
    def write(self, todo: list[tuple[Any, ...]], key: bytes, end: bytes | None, back: int) -> None:
        """A transaction of many changes, with reads in between."""
        model, transaction = self.model, self.stack.store.write()
        mine: list[Record] = []
        for change in todo:
            if change[0] == "put":
                assert transaction.put(*change[1:]) == model.revision + 1
                model.put(mine, *change[1:])
            else:
                found = transaction.keys(*change[1:], 1000)
                assert found == self.names(change[1], change[2], mine)
                for name in found:
                    assert transaction.delete(name)
                    model.delete(mine, name)
                assert not any(transaction.delete(name) for name in found)
            assert (transaction.begin, transaction.changes) == (model.revision, len(mine))
            assert transaction.revision == model.revision + bool(mine)
            self.check_range(transaction, key, end, 0, mine)
            self.check_range(transaction, key, end, max(1, transaction.revision - back), mine)
        model.end(mine)
        assert transaction.end() == model.revision

    @rule()
    def delete_everything(self) -> None:
        """No key is left, which is a case of its own to a hash."""
        self.write([("delete", b"\0", b"")], b"a", None, 0)

    def names(self, key: bytes, end: bytes | None, mine: list[Record]) -> list[bytes]:
        records = self.model.range(key, end, self.model.revision + 1, mine)
        return [KeyValue.FromString(record).key for record in records]

    # The engine.

    @precondition(lambda self: self.stack.sealed is None)
    @rule()
    def seal(self) -> None:
        self.stack.seal()
        self.sealed_model = self.model.copy()

    @precondition(lambda self: self.stack.sealed is not None)
    @rule()
    def commit(self) -> None:
        self.stack.commit()
        self.durable_model = self.sealed_model

    @rule()
    def restart(self) -> None:
        """Stop and start, in the middle of whatever goes on."""
        self.forget_hash()
        self.stack.restart()
        self.sealed_model = self.durable_model = self.model.copy()
        self.resume()

    @rule()
    def crash(self) -> None:
        """What the engine does not have is lost: all of each batch, so the store is as it was when sealed."""
        self.forget_hash()
        self.stack.crash()
        self.model = self.durable_model.copy()
        self.sealed_model = self.durable_model
        self.resume()

    def resume(self) -> None:
        unfinished = self.stack.store.unfinished_compaction
        self.compactions.clear()
        if unfinished is not None:
            assert unfinished == self.model.compact_revision
            self.compactions.append((unfinished, self.stack.store.resume_compaction(unfinished)))

    # Forgetting.

    @rule(back=st.integers(-1, 8))
    def compact(self, back: int) -> None:
        revision = self.model.revision - back
        if revision <= self.model.compact_revision:
            assert refusal(lambda: self.stack.store.compact(revision)) is CompactedError
        elif revision > self.model.revision:
            assert refusal(lambda: self.stack.store.compact(revision)) is FutureRevisionError
        else:
            self.compactions.append((revision, self.stack.store.compact(revision)))
            self.model.compact_revision = revision

    @precondition(lambda self: self.compactions)
    @rule(slices=st.integers(1, 4))
    def go_on_compacting(self, slices: int) -> None:
        for _ in range(slices):
            if not self.compactions:
                return
            revision, work = self.compactions[0]
            stored = len(self.stack.stored())
            if next(work, self) is self:
                self.compactions.popleft()
            gone = stored - len(self.stack.stored())
            # Only a hash from before the compaction was accepted keeps it waiting.
            waits = self.hashing is not None and self.hashing[1][1] < revision
            assert gone == 0 if waits else 0 <= gone <= 2

    # Comparing.

    @rule(back=ago)
    def hash(self, back: int) -> None:
        revision = self.model.revision - back
        expected = self.expected_hash(revision)
        if expected is not None:
            assert self.stack.hash(revision) == expected

    @precondition(lambda self: self.hashing is None)
    @rule(back=ago)
    def begin_to_hash(self, back: int) -> None:
        revision = self.model.revision - back
        expected = self.expected_hash(revision)
        if expected is not None:
            self.hashing = self.stack.store.hash(revision), expected

    @precondition(lambda self: self.hashing is not None)
    @rule()
    def end_hash(self) -> None:
        assert self.hashing is not None
        hashing, expected = self.hashing
        assert finish(hashing) == expected
        self.hashing = None

    def forget_hash(self) -> None:
        self.hashing = None  # giving it up means forgetting it

    def expected_hash(self, revision: int) -> tuple[int, int, int] | None:
        model = self.model
        if 0 < revision < model.compact_revision:
            assert refusal(lambda: self.stack.store.hash(revision)) is CompactedError
            return None
        at = revision if revision > 0 else model.revision
        return (model.hash(at), model.compact_revision, at)

    # Reading.

    @rule(key=keys, end=ends, back=ago, limit=st.integers(0, 4))
    def read(self, key: bytes, end: bytes | None, back: int, limit: int) -> None:
        self.check_range(self.stack.store, key, end, self.model.revision - back, [], limit)

    @rule(key=keys, end=ends)
    def read_the_future(self, key: bytes, end: bytes | None) -> None:
        revision = self.model.revision + 1
        assert refusal(lambda: self.stack.store.range(key, end, revision)) is FutureRevisionError
        assert refusal(lambda: self.stack.store.count(key, end, revision)) is FutureRevisionError
        assert refusal(lambda: self.stack.store.hash(revision)) is FutureRevisionError

    def check_range(
        self, view: Any, key: bytes, end: bytes | None, revision: int, mine: list[Record], limit: int = 0
    ) -> None:
        if 0 < revision < self.model.compact_revision:
            assert refusal(lambda: view.range(key, end, revision, limit)) is CompactedError
            assert refusal(lambda: view.count(key, end, revision)) is CompactedError
            return
        at = revision if revision > 0 else self.model.revision + bool(mine)
        expected = self.model.range(key, end, at, mine)
        records, count = view.range(key, end, revision, limit)
        assert records == (expected[:limit] if limit else expected)
        assert count == len(expected) == view.count(key, end, revision)

    @invariant()
    def revisions(self) -> None:
        store = self.stack.store
        assert (store.revision, store.compact_revision) == (self.model.revision, self.model.compact_revision)
        self.check_range(store, b"\0", b"", 0, [])

    def check_everything(self) -> None:
        """Every readable revision, whole."""
        self.revisions()
        for revision in range(max(1, self.model.compact_revision), self.model.revision + 1):
            self.check_range(self.stack.store, b"\0", b"", revision, [])
        assert self.stack.hash() == self.expected_hash(0)


def refusal(ask: Any) -> type[EtcdError] | None:
    """What a call is refused with."""
    try:
        ask()
    except EtcdError as error:
        return type(error)
    return None


class LMDBMachine(StoreMachine):
    """The same over an engine on disk, which is opened anew at each restart."""

    def backend(self) -> IBackend:
        self.directory = tempfile.mkdtemp()
        return LMDBBackend(self.directory)

    @rule()
    def reopen(self) -> None:
        """The process ends: the engine itself is closed and opened."""
        self.forget_hash()
        self.stack.pending.close()
        self.stack.backend.close()
        self.stack.backend = LMDBBackend(self.directory)
        self.stack.start()
        self.model = self.durable_model.copy()
        self.sealed_model = self.durable_model
        self.resume()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.directory)


def check(machine: type[StoreMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class ModelTests(SynchronousTestCase):
    """
    Reads, counts and hashes agree with the model at every readable revision.

    That holds whatever is sealed, committed, lost or restarted, and however far a compaction has come.
    """

    def test_in_memory(self) -> None:
        """Over the engine in memory."""
        check(StoreMachine, examples=80, steps=40)

    def test_on_disk(self) -> None:
        """Over LMDB."""
        check(LMDBMachine, examples=20, steps=30)
