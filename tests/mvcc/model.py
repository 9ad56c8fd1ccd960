"""What a multi-version store means, with nothing but dictionaries: slow, and easy to believe."""

from __future__ import annotations

from typing import NamedTuple

from google_crc32c import extend

from twistedetcd.pb.kv_pb2 import KeyValue


class Record(NamedTuple):
    """One change, as it is stored."""

    main: int
    sub: int
    tombstone: bool
    item: KeyValue

    @property
    def record_key(self) -> bytes:
        mark = b"t" if self.tombstone else b""
        return self.main.to_bytes(8, "big") + b"_" + self.sub.to_bytes(8, "big") + mark


def inside(name: bytes, key: bytes, end: bytes | None) -> bool:
    """Whether a key is in a range."""
    if end is None:
        return name == key
    return key <= name and (end == b"" or name < end)


class Model:
    """Every change ever made, never forgotten; compaction only says what may be asked."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.revision = 1
        self.compact_revision = -1

    def copy(self) -> Model:
        other = Model()
        other.records = list(self.records)
        other.revision, other.compact_revision = self.revision, self.compact_revision
        return other

    def live(self, revision: int, changes: list[Record] | None = None) -> dict[bytes, Record]:
        """The keys at a revision, ``changes`` of a transaction in progress included."""
        keys: dict[bytes, Record] = {}
        for record in [*self.records, *(changes or [])]:
            if record.main <= revision:
                if record.tombstone:
                    keys.pop(record.item.key, None)
                else:
                    keys[record.item.key] = record
        return keys

    def put(self, changes: list[Record], key: bytes, value: bytes, lease: int) -> None:
        main = self.revision + 1
        before = self.live(main, changes).get(key)
        created, version = (before.item.create_revision, before.item.version) if before else (main, 0)
        item = KeyValue(
            key=key, value=value, lease=lease, create_revision=created, mod_revision=main, version=version + 1
        )
        changes.append(Record(main, len(changes), False, item))

    def delete(self, changes: list[Record], key: bytes) -> bool:
        main = self.revision + 1
        if key not in self.live(main, changes):
            return False
        changes.append(Record(main, len(changes), True, KeyValue(key=key)))
        return True

    def end(self, changes: list[Record]) -> None:
        self.records += changes
        self.revision += bool(changes)

    def range(
        self, key: bytes, end: bytes | None, revision: int, changes: list[Record] | None = None
    ) -> list[bytes]:
        keys = sorted(self.live(revision, changes).items())
        return [record.item.SerializeToString() for name, record in keys if inside(name, key, end)]

    def kept(self) -> set[bytes]:
        """The record keys that are there once every compaction is done (reference section 4)."""
        compacted = self.compact_revision
        kept = {record.record_key for record in self.records if record.main > compacted}
        history: dict[bytes, list[Record]] = {}
        for record in self.records:
            if record.main <= compacted:
                history.setdefault(record.item.key, []).append(record)
        for records in history.values():
            last = records[-1]
            if not last.tombstone:
                kept.add(last.record_key)
                records = records[:-1]
            # A tombstone of the compact revision itself stays, also under a put of the same transaction.
            if records and records[-1].tombstone and records[-1].main == compacted:
                kept.add(records[-1].record_key)
        return kept

    def hash(self, revision: int) -> int:
        """The hash at a readable revision (reference section 8), of a store whose compactions are done."""
        alive = self.live(revision) or self.live(self.compact_revision)
        wanted = {record.record_key for record in alive.values()}
        crc = extend(0, b"key")
        for record in self.records:
            compacted = record.main <= self.compact_revision
            if record.main <= revision and (not compacted or record.record_key in wanted):
                crc = extend(extend(crc, record.record_key), record.item.SerializeToString())
        return crc
