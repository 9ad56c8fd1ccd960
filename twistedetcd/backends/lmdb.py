"""
LMDB, the default engine ("Decisions worth knowing" in docs/architecture.rst says more).

The whole address space is reserved at open, since resizing the map under a reader kills it.  One writer
thread; few readers, renewed, never held across batches.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import lmdb
from twisted.plugin import IPlugin
from zope.interface import implementer

from twistedetcd.errors import BackendError
from twistedetcd.interfaces import Batch, IBackend, IBackendFactory, IReadTransaction, PluginOption

MAP_BYTES = 1 << 40  # address space, not memory: 1 TiB
MAP_BYTES_MIN = 1 << 20
WRITTEN_AT_ONCE = 10_000  # to sort or to free more in one go would hold the interpreter lock for too long
_BUCKETS_MAX = 64
_READERS_MAX = 126
_SCARCE_BYTES = 64 * 1024 * 1024  # as much as a batch may hold
_FILE = "db.lmdb"
_LOCK_FILE = "db.lock"


@implementer(IReadTransaction)
class LMDBView:
    """A read transaction."""

    def __init__(self, backend: LMDBBackend) -> None:
        self._backend = backend
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        try:
            self._transaction = self._backend.environment.begin(buffers=False)
        except lmdb.Error as error:
            self._closed = True  # the last transaction, if there was one, has ended
            raise self._backend.unreadable(error) from error
        self._databases = self._backend.databases_in(self._transaction)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        database = self._databases.get(bucket)
        if database is None:
            return None
        try:
            found: bytes | None = self._transaction.get(key, db=database)
        except lmdb.Error as error:
            raise self._backend.unreadable(error) from error
        return found

    def get_many(self, bucket: bytes, keys: Sequence[bytes]) -> list[bytes]:
        database = self._databases.get(bucket)
        if database is None:
            return []
        with self._transaction.cursor(database) as cursor:
            return [value for _, value in cursor.getmulti(keys)]

    def range(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        database = self._databases.get(bucket)
        if database is None:
            return
        try:
            with self._transaction.cursor(database) as cursor:
                if not (cursor.set_range(start) if start else cursor.first()):
                    return
                for key, value in cursor:
                    if end is not None and key >= end:
                        return
                    yield key, value
        except lmdb.Error as error:
            raise self._backend.unreadable(error) from error

    def buckets(self) -> list[bytes]:
        return sorted(self._databases)

    def renew(self) -> None:
        self._transaction.abort()  # the binding keeps the reader's slot for the next one
        self._begin()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transaction.abort()


class _Bucket(NamedTuple):
    database: lmdb._Database
    created: int  # the transaction that made it: that one, and views of before, cannot use the handle


@implementer(IBackend)
class LMDBBackend:
    """
    One LMDB file in a directory of ours.

    Args:
        directory: Where it is, or will be.
        map_bytes: Address space to reserve; the store cannot grow beyond it.

    Raises:
        BackendError: Locked by another process, not LMDB's format, or not readable.
    """

    durable = True

    def __init__(self, directory: str, map_bytes: int = MAP_BYTES) -> None:
        path = os.path.join(directory, _FILE)
        self._lock = _locked(os.path.join(directory, _LOCK_FILE), path)
        self._buckets: dict[bytes, _Bucket] = {}  # replaced, never changed: views read it meanwhile
        try:
            self.environment = lmdb.open(
                path,
                map_size=map_bytes,
                subdir=False,
                max_dbs=_BUCKETS_MAX,
                max_readers=_READERS_MAX,
                mode=0o600,
                readahead=False,
                meminit=False,
            )
        except lmdb.Error as error:
            os.close(self._lock)
            raise BackendError(f"cannot open {path}: {error}") from error
        try:
            self._fill_up(path)
            self.environment.sync(True)  # a killed process may have left its last commit un-synced
            with self.environment.begin() as transaction, transaction.cursor() as cursor:
                names = [name for name, _ in cursor]
            for name in names:
                self._buckets[name] = _Bucket(self.environment.open_db(name, create=False), -1)
            with self.environment.begin() as transaction:
                self._bucket_pages = self._pages_of_buckets(transaction)
        except lmdb.Error as error:
            self.close()
            raise BackendError(f"cannot open {path}: {error}") from error

    def _fill_up(self, path: str) -> None:
        """
        Let the file be as long as it says it is.

        Reading a mapped page behind the end of its file kills the process (SIGBUS).  A file that was
        cut short reads as zeros there, which are refused by name when they are met.
        """
        length = (self.environment.info()["last_pgno"] + 1) * self.environment.stat()["psize"]
        if os.path.getsize(path) < length:
            os.truncate(path, length)

    def databases_in(self, transaction: lmdb.Transaction) -> dict[bytes, lmdb._Database]:
        """The buckets that a transaction can use, by name."""
        number = transaction.id()
        return {name: bucket.database for name, bucket in self._buckets.items() if bucket.created < number}

    def read(self) -> LMDBView:
        return LMDBView(self)

    def write(self, batch: Batch) -> None:
        try:
            # New buckets get a transaction of their own, in which they stay empty: a view that begins while
            # the handles become known has missed nothing by not seeing them.
            unknown = [name for name in batch if name not in self._buckets]
            if unknown:
                with self.environment.begin(write=True) as transaction:
                    made = {
                        name: _Bucket(self.environment.open_db(name, txn=transaction), transaction.id())
                        for name in unknown
                    }
                self._buckets = {**self._buckets, **made}
            with self.environment.begin(write=True) as transaction:
                for name, values in batch.items():
                    self._write_bucket(transaction, self._buckets[name].database, values)
                bucket_pages = self._pages_of_buckets(transaction)
            self._bucket_pages = bucket_pages
        except lmdb.Error as error:
            path = self.environment.path()
            raise BackendError(f"cannot write to {path}: {error}{_space_hint(error, path)}") from error

    @staticmethod
    def _write_bucket(
        transaction: lmdb.Transaction, database: lmdb._Database, values: Mapping[bytes, bytes | None]
    ) -> None:
        items = iter(values.items())
        with transaction.cursor(database) as cursor:
            while part := list(islice(items, WRITTEN_AT_ONCE)):
                written = [(key, value) for key, value in part if value is not None]
                if written:
                    # Records come in ascending order above all that is there: appending fills whole pages.
                    written.sort()
                    appending = not cursor.last() or bytes(cursor.key()) < written[0][0]
                    cursor.putmulti(written, append=appending)
                if len(written) < len(part):
                    for key, value in part:
                        if value is None and cursor.set_key(key):
                            cursor.delete()

    def size_bytes(self) -> int:
        page: int = self.environment.stat()["psize"]
        last: int = self.environment.info()["last_pgno"]
        return (last + 1) * page

    def size_in_use_bytes(self) -> int:
        # The two meta pages, the tree of buckets, and theirs as of the last batch: counting them here would
        # take a reader.  The rest of the file is free.
        stat = self.environment.stat()
        size: int = (2 + _pages(stat) + self._bucket_pages) * stat["psize"]
        return size

    def _pages_of_buckets(self, transaction: lmdb.Transaction) -> int:
        return sum(_pages(transaction.stat(bucket.database)) for bucket in self._buckets.values())

    def unreadable(self, error: lmdb.Error) -> BackendError:
        """What to raise when a read failed."""
        return BackendError(f"cannot read {self.environment.path()}: {error}")

    def close(self) -> None:
        self.environment.close()
        os.close(self._lock)


def _pages(stat: lmdb._StatDict) -> int:
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]


def _space_hint(error: lmdb.Error, path: str) -> str:
    """LMDB makes an I/O error of a write that the disk cut short."""
    if not str(error).endswith((os.strerror(errno.EIO), os.strerror(errno.ENOSPC))):
        return ""
    try:
        disk = os.statvfs(path)
    except OSError:
        return ""
    free = disk.f_bavail * disk.f_frsize
    return f"; the disk may be full: {free} bytes are free" if free < _SCARCE_BYTES else ""


def _locked(lock_path: str, path: str) -> int:
    """A file descriptor that keeps everybody else away from ``path``, also in this very process."""
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BackendError(f"cannot open {lock_path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise BackendError(f"{path} is in use by another member") from error
        raise BackendError(f"cannot lock {lock_path}: {error.strerror}") from error
    return descriptor


def _map_bytes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not MAP_BYTES_MIN <= int(text) < 1 << 63:
        raise ValueError(f"must be a number of bytes, at least {MAP_BYTES_MIN}, not {text!r}")
    return int(text)


@implementer(IPlugin, IBackendFactory)
class LMDBFactory:
    """``--backend lmdb``."""

    name = "lmdb"
    help = "LMDB: a memory-mapped B+ tree on disk; the default."
    options: ClassVar[dict[str, PluginOption]] = {
        "map-bytes": PluginOption(_map_bytes, "address space to reserve: the most that the store can hold"),
    }

    def open(self, directory: str, **options: Any) -> LMDBBackend:
        return LMDBBackend(directory, **options)
