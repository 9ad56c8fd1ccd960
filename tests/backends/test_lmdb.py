"""LMDB: the contract, and what only a file can suffer."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lmdb
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.lmdb import WRITTEN_AT_ONCE, LMDBBackend, LMDBFactory
from twistedetcd.errors import BackendError
from twistedetcd.testing.backend import BUCKET, BackendKit

FILE = "db.lmdb"


class LMDBConformanceTests(BackendKit, SynchronousTestCase):
    """The contract."""

    factory = LMDBFactory()


class OpeningTests(SynchronousTestCase):
    """A directory that cannot be used is refused with one sentence for the operator."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self.path = os.path.join(self.directory, FILE)

    def refused(self, directory: str | None = None) -> str:
        error = self.assertRaises(BackendError, LMDBBackend, directory or self.directory)
        text = str(error)
        self.assertNotIn("\n", text)
        return text

    def usable(self) -> None:
        """Whatever was wrong has left no lock behind."""
        backend = LMDBBackend(self.directory)
        backend.write({BUCKET: {b"a": b"1"}})
        backend.close()

    def test_locked(self) -> None:
        """One member at a time, in this process as well; the lock ends with the backend."""
        backend = LMDBBackend(self.directory)
        self.assertEqual(f"{self.path} is in use by another member", self.refused())
        backend.close()
        self.usable()

    def test_synced(self) -> None:
        """What a killed process had written but not synced is made durable before anybody reads it."""
        LMDBBackend(self.directory).close()
        calls: list[str] = []
        opened = lmdb.open

        class Environment:
            """LMDB's, telling what is asked of it."""

            def __init__(self, *arguments: Any, **options: Any) -> None:
                self._environment = opened(*arguments, **options)

            def __getattr__(self, name: str) -> Any:
                calls.append(name)
                return getattr(self._environment, name)

        self.patch(lmdb, "open", Environment)
        LMDBBackend(self.directory).close()
        self.assertIn("sync", calls)
        self.assertLess(calls.index("sync"), calls.index("begin"))

    def test_foreign_file(self) -> None:
        """A file of another format is refused, and left as it is."""
        for content in (b"not a database", b"SQLite format 3\0" * 1000):
            with open(self.path, "wb") as file:
                file.write(content)
            self.assertIn(f"cannot open {self.path}: ", self.refused())
            with open(self.path, "rb") as file:
                self.assertEqual(content, file.read())
        os.remove(self.path)
        self.usable()

    def test_foreign_database(self) -> None:
        """An LMDB file with keys where our buckets belong is refused."""
        with lmdb.open(self.path, subdir=False) as environment, environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        self.assertIn(f"cannot open {self.path}: ", self.refused())
        os.remove(self.path)
        self.usable()

    def test_unreadable(self) -> None:
        """A file that cannot be opened at all is refused."""
        os.mkdir(self.path)
        self.assertIn(f"cannot open {self.path}: ", self.refused())
        os.rmdir(self.path)
        self.usable()

    def test_no_directory(self) -> None:
        """The directory must exist."""
        self.assertIn("No such file or directory", self.refused(os.path.join(self.directory, "missing")))
        self.usable()
        self.assertIn("Not a directory", self.refused(self.path))

    def test_files_are_ours_alone(self) -> None:
        """Nobody else may read what is in them."""
        self.usable()
        for name in os.listdir(self.directory):
            self.assertEqual(0o600, os.stat(os.path.join(self.directory, name)).st_mode & 0o777, name)


class RefusingTests(SynchronousTestCase):
    """A batch that the engine refuses has no effect at all, and the engine stays usable."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self.backend = LMDBBackend(self.directory, map_bytes=256 * 1024)
        self.addCleanup(lambda: self.backend.close())
        self.backend.write({BUCKET: {b"a": b"1", b"b": b"1"}})

    def content(self, bucket: bytes = BUCKET) -> list[tuple[bytes, bytes]]:
        view = self.backend.read()
        try:
            return list(view.range(bucket, b"", None))
        finally:
            view.close()

    def assertRefused(self, write: Callable[[], None]) -> None:
        error = self.assertRaises(BackendError, write)
        self.assertIn(f"cannot write to {os.path.join(self.directory, FILE)}: ", str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual([(b"a", b"1"), (b"b", b"1")], self.content())
        self.assertEqual([], self.content(b"new"))
        self.backend.write({BUCKET: {b"c": b"1"}, b"new": {b"n": b"1"}})
        self.assertEqual([(b"n", b"1")], self.content(b"new"))
        self.assertEqual(3, len(self.content()))

    def test_full(self) -> None:
        """The map is full in the middle of a batch."""
        values: dict[bytes, bytes | None] = {b"a": None, b"b": b"2"}
        values.update({b"x%03d" % number: b"v" * 1000 for number in range(500)})
        self.assertRefused(lambda: self.backend.write({b"new": {b"n": b"2"}, BUCKET: values}))

    def test_key_too_long(self) -> None:
        """A key that LMDB cannot hold."""
        self.assertRefused(
            lambda: self.backend.write({b"new": {b"n": b"2"}, BUCKET: {b"a": b"2", b"k" * 600: b""}})
        )

    def test_old_views_and_a_failed_bucket(self) -> None:
        """A view from before a batch that failed reads its bucket as empty."""
        view = self.backend.read()
        self.assertRaises(BackendError, self.backend.write, {b"new": {b"k" * 600: b""}})
        after = self.backend.read()
        for each in (view, after):
            self.assertIsNone(each.get(b"new", b"n"))
            self.assertEqual([], list(each.range(b"new", b"", None)))
            each.close()

    def test_reopened_after_a_failure(self) -> None:
        """What was durable before the failure is there, and nothing of the batch."""
        self.assertRaises(
            BackendError, self.backend.write, {BUCKET: {b"a": b"2", b"b": None, b"k" * 600: b""}}
        )
        self.backend.close()
        self.backend = LMDBBackend(self.directory)
        self.assertEqual([(b"a", b"1"), (b"b", b"1")], self.content())


class ReadersTests(SynchronousTestCase):
    """The engine has room for so many readers at once."""

    def setUp(self) -> None:
        directory = os.path.abspath(self.mktemp())
        os.makedirs(directory)
        self.backend = LMDBBackend(directory)
        self.addCleanup(self.backend.close)
        self.backend.write({BUCKET: {b"a": b"1"}})

    def test_too_many(self) -> None:
        """One reader too many is refused in our own words; its place is free when another one ends."""
        views = []
        with self.assertRaises(BackendError) as refused:
            while True:
                views.append(self.backend.read())
        self.assertIn("cannot read ", str(refused.exception))
        self.assertGreater(self.backend.size_in_use_bytes(), 0)  # for Status, which takes none
        views.pop().close()
        self.backend.read().close()
        for view in views:
            view.close()

    def test_errors_of_a_view(self) -> None:
        """Whatever LMDB says against a read, the engine's error comes of it."""
        view = self.backend.read()
        self.assertRaises(BackendError, view.get, BUCKET, b"")  # no key of LMDB's
        view.close()
        self.assertRaises(BackendError, view.get, BUCKET, b"a")
        self.assertRaises(BackendError, list, view.range(BUCKET, b"", None))


class FullDiskTests(SynchronousTestCase):
    """LMDB calls a write that the disk cut short an I/O error; the operator is told what it may mean."""

    def text(self, error: lmdb.Error, free_blocks: int) -> str:
        directory = os.path.abspath(self.mktemp())
        os.makedirs(directory)
        backend = LMDBBackend(directory)
        self.addCleanup(backend.close)

        def refuse(*arguments: object) -> None:
            raise error

        self.patch(backend, "_write_bucket", refuse)
        self.patch(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free_blocks, f_frsize=4096))
        return str(self.assertRaises(BackendError, backend.write, {BUCKET: {b"a": b"1"}}))

    def test_full(self) -> None:
        """Little room, and an error that it explains."""
        for reason in ("Input/output error", "No space left on device"):
            text = self.text(lmdb.Error(f"mdb_txn_commit: {reason}"), 2)
            self.assertTrue(text.endswith(f"{reason}; the disk may be full: 8192 bytes are free"), text)

    def test_otherwise(self) -> None:
        """Plenty of room, or another error: not a word of it."""
        for text in (
            self.text(lmdb.Error("mdb_txn_commit: Input/output error"), 10**9),
            self.text(lmdb.Error("mdb_put: MDB_BAD_VALSIZE"), 0),
        ):
            self.assertNotIn("full", text)


class LargeBatchTests(SynchronousTestCase):
    """A batch that is handed to the engine in parts."""

    def test_whole(self) -> None:
        """All of it is there, in whatever order it came, and what it deletes is not."""
        count = 2 * WRITTEN_AT_ONCE + 5
        numbers = [number * 7919 % count for number in range(count)]  # each once, in no order
        directory = self.mktemp()
        os.mkdir(directory)
        backend = LMDBBackend(directory)
        self.addCleanup(backend.close)
        backend.write({b"key": {b"%08d" % number: b"1" for number in numbers}})
        changes = {b"%08d" % number: (b"2", None)[number % 2] for number in reversed(numbers)}
        backend.write({b"key": changes})
        view = backend.read()
        self.addCleanup(view.close)
        expected = [(b"%08d" % number, b"2") for number in range(0, count, 2)]
        self.assertEqual(expected, list(view.range(b"key", b"", None)))


class CutShortTests(SynchronousTestCase):
    """A file that ends before its last page."""

    def test_refused(self) -> None:
        """What is missing is refused when it is read, in a sentence; the process lives."""
        directory = self.mktemp()
        os.mkdir(directory)
        backend = LMDBBackend(directory)
        backend.write({b"key": {b"%08d" % number: bytes(100) for number in range(20_000)}})
        backend.close()
        path = os.path.join(directory, "db.lmdb")
        size = os.path.getsize(path)
        for left in (size // 2, 12_288, 5_000):
            os.truncate(path, left)
            with self.assertRaisesRegex(BackendError, f"{path}: .*(CORRUPT|INVALID|PAGE)"):
                backend = LMDBBackend(directory)
                try:
                    view = backend.read()
                    self.addCleanup(view.close)
                    list(view.range(b"key", b"", None))
                finally:
                    backend.close()
