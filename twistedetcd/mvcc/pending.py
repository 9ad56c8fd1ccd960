"""
Writes that the engine does not have yet, over what it has.

One *open* batch takes the writes; at most one *sealed* batch is on its way into the engine.  A read looks
into the open batch, the sealed one, then the engine's view; a deleted key is ``None`` in a batch.  Who seals
and commits, and when, is the server's business.  Records read from the engine stay at hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from zope.interface import implementer

from twistedetcd.errors import BackendError
from twistedetcd.interfaces import Batch, IBackend, IOverlay, IReadTransaction
from twistedetcd.schema import KEY

OPERATIONS_MAX = 100_000
BYTES_MAX = 64 * 1024 * 1024
CACHE_BYTES_MAX = 32 * 1024 * 1024  # records read from the engine lately; when it is full it starts anew


@implementer(IOverlay)
class Pending:
    """
    The overlay over one backend.  Everything but `IBackend.write` happens on the reactor thread.

    Attributes:
        operations: Writes in the open batch.
        bytes: Their keys and values, in bytes.
        whole: Whether the open batch may be sealed: not while it holds a part of a write transaction.
    """

    def __init__(self, backend: IBackend) -> None:
        self._backend = backend
        self._view: IReadTransaction = backend.read()
        self._records: dict[bytes, bytes | None] = {}
        self._open: dict[bytes, dict[bytes, bytes | None]] = {KEY: self._records}
        self._sealed: dict[bytes, dict[bytes, bytes | None]] | None = None
        self._sealed_records: dict[bytes, bytes | None] = {}
        self._cache: dict[bytes, bytes] = {}  # a record never changes, so only its removal ends its stay
        self._cache_bytes = 0
        self.operations = 0
        self.bytes = 0
        self.whole = True

    @property
    def full(self) -> bool:
        """Whether proposals must be refused until a batch went into the engine."""
        return self.operations >= OPERATIONS_MAX or self.bytes >= BYTES_MAX

    # Writing.

    def put_record(self, record_key: bytes, record: bytes) -> None:
        """`put` in the bucket of records."""
        self._records[record_key] = record
        self.operations += 1
        self.bytes += len(record) + 18

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        """Write, or overwrite, one key."""
        self._note(bucket, key, value)

    def delete(self, bucket: bytes, key: bytes) -> None:
        """Delete one key; no matter whether it is there."""
        self._note(bucket, key, None)
        if bucket == KEY and key in self._cache:
            self._cache_bytes -= len(self._cache.pop(key))

    def _note(self, bucket: bytes, key: bytes, value: bytes | None) -> None:
        self._open.setdefault(bucket, {})[key] = value
        self.operations += 1
        self.bytes += len(key) + len(value or b"")

    # Reading.

    def record(self, record_key: bytes) -> bytes:
        """
        A record that the index says is there.

        Raises:
            BackendError: It is not: index and engine differ, and the member must stop.
        """
        record = self._records.get(record_key)
        if record is None:
            record = self._sealed_records.get(record_key)
            if record is None:
                record = self._cache.get(record_key)
                if record is None:
                    record = self._view.get(KEY, record_key)
                    if record is None:
                        raise BackendError(
                            f"the engine has no record {record_key.hex()}, which the index names"
                        )
                    self._remember(record_key, record)
        return record

    def records(self, record_keys: list[bytes]) -> list[bytes]:
        """Many records at once, in the order asked for; raises as `record` does."""
        found: list[bytes | None] = list(map(self._cache.get, record_keys))
        if None not in found:
            return found  # type: ignore[return-value]
        if not self._records and not self._sealed_records:
            missing = [key for key, record in zip(record_keys, found, strict=True) if record is None]
            read = self._view.get_many(KEY, missing)
            if len(read) == len(missing):
                for key, record in zip(missing, read, strict=True):
                    self._remember(key, record)
                if len(missing) == len(record_keys):
                    return read
        return [record or self.record(key) for key, record in zip(record_keys, found, strict=True)]

    def _remember(self, record_key: bytes, record: bytes) -> None:
        self._cache_bytes += len(record)
        if self._cache_bytes > CACHE_BYTES_MAX:
            self._cache.clear()
            self._cache_bytes = len(record)
        self._cache[record_key] = record

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """The value of a key, or ``None``."""
        for batch in (self._open, self._sealed or {}):
            values = batch.get(bucket)
            if values is not None and key in values:
                return values[key]
        return self._view.get(bucket, key)

    def range(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in [``start``, ``end``) in key order; must be used up before the next write."""
        return _merged(self._view, self._overlay(bucket), bucket, start, end)

    def history(
        self, start: bytes, end: bytes, limit: int, bytes_max: int
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """
        Record keys from ``start`` on and below ``end``, ascending, with their records.

        What it costs depends little on what else there is: records are only ever added above the others, so
        the open ones are all above the sealed ones, and those above the engine's.

        Args:
            start: The first record key.
            end: The first one that is not wanted.
            limit: The most records.
            bytes_max: Records end when they are as long as this together.

        Returns:
            The records, and whether these are all.
        """
        found: list[tuple[bytes, bytes]] = []
        size = 0
        for item in self._records_between(start, end):
            if len(found) == limit or size >= bytes_max:
                return found, False
            found.append(item)
            size += len(item[1])
        return found, True

    def _records_between(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        opened, sealed = self._records, self._sealed_records
        for item in self._view.range(KEY, start, end):
            key = item[0]
            if opened.get(key, item) is not None and sealed.get(key, item) is not None:  # not compacted since
                yield item
        for key, record in sealed.items():
            if record is not None and start <= key < end and opened.get(key, record) is not None:
                yield key, record
        for key, record in opened.items():
            if record is not None and start <= key < end:
                yield key, record

    def pin(self, bucket: bytes) -> PinnedView:
        """A view of one bucket that later writes do not change.  Close it."""
        return PinnedView(self._backend.read(), self._overlay(bucket), bucket)

    def _overlay(self, bucket: bytes) -> dict[bytes, bytes | None]:
        sealed = (self._sealed or {}).get(bucket, {})
        return {**sealed, **self._open.get(bucket, {})}

    # Handing over to the engine.

    def seal(self) -> Batch | None:
        """
        Close the open batch and hand it out to be written; ``None`` when it is empty.

        The caller writes it with `IBackend.write` and then calls `committed`; nothing is sealed meanwhile.
        """
        assert self._sealed is None, "a batch is on its way already"
        assert self.whole, "half a transaction must not be committed"
        if not self.operations:
            return None
        self._sealed, self._sealed_records = self._open, self._records
        self._records = {}
        self._open = {KEY: self._records}
        self.operations = self.bytes = 0
        return self._sealed

    def committed(self) -> dict[bytes, dict[bytes, bytes | None]]:
        """
        The sealed batch is in the engine: see it there.

        Returns:
            The batch, which nobody looks into any more.
        """
        self._view.renew()
        batch, self._sealed, self._sealed_records = self._sealed, None, {}
        return batch or {}

    def close(self) -> None:
        """Let go of the engine's view."""
        self._view.close()

    def size_bytes(self) -> int:
        """The engine's size on the disk; moves when batches are committed."""
        return self._backend.size_bytes()

    def size_in_use_bytes(self) -> int:
        """The engine's size without free pages."""
        return self._backend.size_in_use_bytes()


class PinnedView:
    """One bucket, as it was."""

    def __init__(self, view: IReadTransaction, overlay: dict[bytes, bytes | None], bucket: bytes) -> None:
        self._view, self._overlay, self._bucket = view, overlay, bucket

    def range(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in [``start``, ``end``) in key order."""
        return _merged(self._view, self._overlay, self._bucket, start, end)

    def close(self) -> None:
        """Let go of the engine's pages."""
        self._view.close()


def _merged(
    view: IReadTransaction,
    overlay: dict[bytes, bytes | None],
    bucket: bytes,
    start: bytes,
    end: bytes | None,
) -> Iterator[tuple[bytes, bytes]]:
    """The view with the overlay on top; the overlay wins, ``None`` hides."""
    over = sorted(key for key in overlay if start <= key and (end is None or key < end))
    position = 0
    for key, value in view.range(bucket, start, end):
        while position < len(over) and over[position] < key:
            if (written := overlay[over[position]]) is not None:
                yield over[position], written
            position += 1
        if position < len(over) and over[position] == key:
            continue  # its turn comes above, or in the loop below
        yield key, value
    for name in over[position:]:
        if (written := overlay[name]) is not None:
            yield name, written
