"""
Writes that the engine does not have yet, over what it has.

One *open* batch takes the writes; at most one *sealed* batch is on its way into the engine.  A read looks
into the open batch, the sealed one, then the engine's view; a deleted key is ``None`` in a batch.  Who seals
and commits, and when, is the server's business.  Records read from the engine stay at hand.

A transaction of a million changes is one batch, but no step of its life may take long: its records lie in
parts, of which only the newest one still changes.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence

from zope.interface import implementer

from twistedetcd.errors import BackendError
from twistedetcd.interfaces import Batch, IBackend, IOverlay, IReadTransaction
from twistedetcd.schema import KEY

OPERATIONS_MAX = 100_000
BYTES_MAX = 64 * 1024 * 1024
PART_RECORDS_MAX = 40_000  # to let a dictionary grow beyond, or to copy or free it, takes milliseconds
CACHE_BYTES_MAX = 32 * 1024 * 1024  # records read from the engine lately; when it is full it starts anew

Values = dict[bytes, bytes | None]


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
        self._open: dict[bytes, Values] = {}
        self._sealed: Batch | None = None
        # The bucket of records has more to carry.  A record is written once, above all others, and may be
        # removed once.
        self._records: Values = {}
        self._parts: list[Values] = []
        """What else the open batch and the sealed one have, oldest first; these do not change."""
        self._sealed_parts = 0  # how many of them are the sealed batch's
        self._removed: Values = {}
        self._sealed_removed: Values = {}
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
        """`put` in the bucket of records, above all that are there."""
        self._records[record_key] = record
        self.operations += 1
        self.bytes += len(record) + 18
        if len(self._records) >= PART_RECORDS_MAX:
            self._parts.append(self._records)
            self._records = {}

    def remove_record(self, record_key: bytes) -> None:
        """`delete` in the bucket of records."""
        self._removed[record_key] = None
        self.operations += 1
        self.bytes += len(record_key)
        if record_key in self._cache:
            self._cache_bytes -= len(self._cache.pop(record_key))

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        """Write, or overwrite, one key of another bucket than that of records."""
        self._note(bucket, key, value)

    def delete(self, bucket: bytes, key: bytes) -> None:
        """Delete one key of another bucket than that of records; no matter whether it is there."""
        self._note(bucket, key, None)

    def _note(self, bucket: bytes, key: bytes, value: bytes | None) -> None:
        assert bucket != KEY, "records are written with put_record() and remove_record()"
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
        record = self._records.get(record_key) or self._cache.get(record_key)
        if record is None:
            for part in self._parts:
                record = part.get(record_key)
                if record is not None:
                    return record
            record = self._view.get(KEY, record_key)
            if record is None:
                raise BackendError(f"the engine has no record {record_key.hex()}, which the index names")
            self._remember(record_key, record)
        return record

    def records(self, record_keys: list[bytes]) -> list[bytes]:
        """Many records at once, in the order asked for; raises as `record` does."""
        found: list[bytes | None] = list(map(self._cache.get, record_keys))
        if None not in found:
            return found  # type: ignore[return-value]
        if not self._records and not self._parts:
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
        for values in reversed(self._layers(bucket)):
            if key in values:
                return values[key]
        return self._view.get(bucket, key)

    def range(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in [``start``, ``end``) in key order; must be used up before the next write."""
        return _merged(self._view, self._layers(bucket), bucket, start, end)

    def _layers(self, bucket: bytes) -> list[Mapping[bytes, bytes | None]]:
        """What lies over the engine; the last layer that says something of a key decides."""
        if bucket == KEY:
            return [*self._parts, self._records, self._sealed_removed, self._removed]
        return [batch[bucket] for batch in (self._sealed, self._open) if batch and bucket in batch]

    def history(
        self, start: bytes, end: bytes, limit: int, bytes_max: int
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """
        Record keys from ``start`` on and below ``end``, ascending, with their records.

        What it costs depends little on what else there is.

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
        parts, removed = (*self._parts, self._records), (self._sealed_removed, self._removed)
        for item in _in_order(self._view, parts, removed, start, end):
            if len(found) == limit or size >= bytes_max:
                return found, False
            found.append(item)
            size += len(item[1])
        return found, True

    def pin(self) -> PinnedRecords:
        """The records as they are now, whatever is written later.  Close it."""
        parts = (*self._parts, self._records.copy())
        return PinnedRecords(self._backend.read(), parts, (self._sealed_removed, self._removed.copy()))

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
        if self._records:
            self._parts.append(self._records)
        self._sealed_parts, self._sealed_removed = len(self._parts), self._removed
        self._sealed = self._open
        if self._parts or self._removed:
            single = len(self._parts) == 1 and not self._removed
            records = self._parts[0] if single else Records(tuple(self._parts), self._removed)
            self._sealed = {KEY: records, **self._open}
        self._open, self._records, self._removed = {}, {}, {}
        self.operations = self.bytes = 0
        return self._sealed

    def committed(self) -> list[Values]:
        """
        The sealed batch is in the engine: see it there.

        Returns:
            The parts of its records, which nobody here looks into any more.
        """
        self._view.renew()
        parts = self._parts[: self._sealed_parts]
        del self._parts[: self._sealed_parts]
        self._sealed, self._sealed_parts, self._sealed_removed = None, 0, {}
        return parts

    def become(self, other: Pending) -> None:
        """
        Be what ``other`` is, which is not used any more: the engine holds something else altogether now.

        Nothing may be on its way into the engine; what was still open is forgotten.
        """
        assert self._sealed is None, "a batch is on its way"
        self._view.close()
        self.__dict__.update(other.__dict__)

    def close(self) -> None:
        """Let go of the engine's view."""
        self._view.close()

    def size_bytes(self) -> int:
        """The engine's size on the disk; moves when batches are committed."""
        return self._backend.size_bytes()

    def size_in_use_bytes(self) -> int:
        """The engine's size without free pages."""
        return self._backend.size_in_use_bytes()


class Records(Mapping[bytes, bytes | None]):
    """The bucket of records in a batch: parts whose keys are all different, and what is removed."""

    def __init__(self, parts: Sequence[Values], removed: Values) -> None:
        self._parts, self._removed = parts, removed

    def __getitem__(self, key: bytes) -> bytes | None:
        for part in (self._removed, *self._parts):
            if key in part:
                return part[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in _Items(self))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> ItemsView[bytes, bytes | None]:
        return _Items(self)


class _Items(ItemsView[bytes, bytes | None]):
    """Pairs without looking each key up again."""

    _mapping: Records

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        parts, removed = self._mapping._parts, self._mapping._removed
        for part in parts:
            if removed:
                yield from (item for item in part.items() if item[0] not in removed)
            else:
                yield from part.items()
        yield from removed.items()


class PinnedRecords:
    """The records, as they were."""

    def __init__(self, view: IReadTransaction, parts: Sequence[Values], removed: Sequence[Values]) -> None:
        self._view, self._parts, self._removed = view, parts, removed

    def range(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in [``start``, ``end``) in key order."""
        return _in_order(self._view, self._parts, self._removed, start, end)

    def close(self) -> None:
        """Let go of the engine's pages."""
        self._view.close()


def _in_order(
    view: IReadTransaction, parts: Sequence[Values], removed: Sequence[Values], start: bytes, end: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """
    Records in [``start``, ``end``): each part's are above those of the parts before it.

    A new view may have the sealed parts already, so it is asked only for what is below them.
    """
    parts = [part for part in parts if part]
    removed = [layer for layer in removed if layer]
    for item in view.range(KEY, start, min(end, next(iter(parts[0]))) if parts else end):
        if not (removed and any(item[0] in layer for layer in removed)):
            yield item
    for part in parts:
        if next(reversed(part)) >= start:
            for key, record in part.items():
                if start <= key < end and not (removed and any(key in layer for layer in removed)):
                    assert record is not None, "removed records are not in a part"
                    yield key, record


def _merged(
    view: IReadTransaction,
    layers: Sequence[Mapping[bytes, bytes | None]],
    bucket: bytes,
    start: bytes,
    end: bytes | None,
) -> Iterator[tuple[bytes, bytes]]:
    """The view with the layers on top; the last one wins, ``None`` hides."""
    overlay: Values = {}
    for layer in layers:
        overlay.update(layer)
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
