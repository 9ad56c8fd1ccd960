"""A store and what it stands on, taken apart and put together again as a member does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.interfaces import Batch, IBackend
from twistedetcd.mvcc.hash import KeyValueHash
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.store import Store
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.schema import KEY

SLICES_MAX = 10_000


class Stack:
    """Backend, overlay and store."""

    def __init__(self, backend: IBackend | None = None, compaction_batch: int = 1000) -> None:
        self.backend: Any = MemoryBackend() if backend is None else backend
        self.compaction_batch = compaction_batch
        self.sealed: Batch | None = None
        self.start()

    def start(self) -> None:
        self.sealed = None
        self.pending = Pending(self.backend)
        self.store = Store(self.pending, self.compaction_batch)
        self.restored = finish(self.store.restore())  # the lease of each key that has one

    # What the committer does.

    def seal(self) -> None:
        if self.sealed is None:
            self.sealed = self.pending.seal()

    def commit(self) -> None:
        if self.sealed is not None:
            self.backend.write(self.sealed)
            self.pending.committed()
            self.sealed = None

    def flush(self) -> None:
        self.commit()
        self.seal()
        self.commit()

    def crash(self) -> None:
        """Lose what the engine does not have, and start again."""
        self.pending.close()
        self.start()

    def restart(self) -> None:
        """Stop in good order, and start again."""
        self.flush()
        self.crash()

    # What the tests ask.

    def stored(self) -> dict[bytes, bytes]:
        """Every record there is, by its key: the overlay's and the engine's."""
        return dict(self.pending.range(KEY, b"", None))

    def compact(self, revision: int) -> None:
        run(self.store.compact(revision))

    def items(self, key: bytes = b"\0", end: bytes | None = b"", revision: int = 0) -> list[KeyValue]:
        records, _ = self.store.range(key, end, revision)
        return [KeyValue.FromString(record) for record in records]

    def values(self, revision: int = 0) -> dict[bytes, bytes]:
        return {item.key: item.value for item in self.items(revision=revision)}

    def delete(self, key: bytes) -> int:
        transaction = self.store.write()
        transaction.delete(key)
        return transaction.end()

    def hash(self, revision: int = 0) -> KeyValueHash:
        return finish(self.store.hash(revision))


def run(work: Iterator[Any]) -> int:
    """Do sliced work to its end; returns how many slices there were."""
    slices = sum(1 for _ in islice(work, SLICES_MAX))
    assert slices < SLICES_MAX, "the work does not end"
    return slices
