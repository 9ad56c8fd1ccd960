"""What a start makes of what it finds: log, snapshots and backend, each of them whole, damaged or missing."""

from __future__ import annotations

import dataclasses
import errno
import os
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.disk.life import CONFIG, DiskMember, Writing
from tests.server.harness import Client
from twistedetcd.apply import request as kinds
from twistedetcd.errors import Code, MemberError
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.pb.rpc_pb2 import CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from twistedetcd.raft.types import ConfState, Snapshot
from twistedetcd.schema import CONSISTENT_INDEX, META
from twistedetcd.snap.files import SnapshotFiles
from twistedetcd.wal.reading import verify
from twistedetcd.wal.segments import segments_in

DATA = "/var/lib/one"
WAL, SNAP = f"{DATA}/member/wal", f"{DATA}/member/snap"
FIRST = f"{WAL}/0000000000000000-0000000000000000.wal"


class DiskCase(SynchronousTestCase):
    """
    Members on a simulated disk.

    Attributes:
        files: The disk.
        acknowledged: The revision of each key that was answered for.
    """

    def setUp(self) -> None:
        self.files = SimulatedFiles(Random(1))
        self.acknowledged: dict[bytes, int] = {}
        self.lives = 0

    def start(self, **options: Any) -> DiskMember:
        """A member that serves, with all that was acknowledged."""
        self.lives += 1
        member = DiskMember(self.files, life=self.lives, **options).start()
        member.settle(lambda: bool(member.serves or member.ended))
        self.assertEqual([], member.ended)
        self.assertEqual(self.acknowledged, member.revisions())
        return member

    def put(self, member: DiskMember, count: int = 1, size: int = 100) -> None:
        """Put so many new keys, a turn each."""
        for _ in range(count):
            key = b"%d" % len(self.acknowledged)
            client = Writing(key, self.acknowledged)
            member.propose(kinds.PUT, PutRequest(key=key, value=b"v" * size), client)
            member.end_turn()
            self.assertIsInstance(client.outcome, bytes)

    def crash(self, chance: float = 0.0) -> None:
        """The machine stops."""
        self.files = self.files.crashed(chance)

    def lived(self, puts: int = 30, **options: Any) -> None:
        """A life with snapshots and some segments, and what a crash leaves of it."""
        member = self.start(**options)
        self.put(member, puts)
        member.clock.advance(0.1)
        self.crash()

    def refusal(self, **options: Any) -> str:
        """The sentence that a start is refused with."""
        with self.assertRaises(MemberError) as caught:
            DiskMember(self.files, **options)
        return str(caught.exception)

    def refusing(self, operation: str, suffix: str, code: int) -> None:
        """The disk refuses one kind of operation on one kind of file, from now on."""

        def refuse(what: str, path: str) -> None:
            if what == operation and path.endswith(suffix):
                raise OSError(code, os.strerror(code), path)

        self.files.before.append(refuse)

    def snapshots(self) -> list[str]:
        """The names of the snapshot files, the newest first."""
        return [name for name in self.files.list(SNAP) if name.endswith(".snap")][::-1]


class CombinationTests(DiskCase):
    """Every combination of what may be there."""

    def test_nothing(self) -> None:
        """A new member begins, and its first crash finds all of it again."""
        self.put(self.start())
        self.crash()
        self.start()

    def test_all(self) -> None:
        """Snapshot, the end of the log, and the backend: only what follows the snapshot is read."""
        self.lived(30)
        member = self.start()
        self.assertGreater(member.disk.snapshot.index, 20)
        self.assertLess(member.raft.status().applied - member.disk.snapshot.index, 15)
        self.put(member, 30)
        self.crash()
        self.start()

    def test_before_the_first_snapshot(self) -> None:
        """Without a snapshot the log is read from its beginning."""
        self.lived(30, snapshot_count=1000)
        self.assertEqual(0, self.start(snapshot_count=1000).disk.snapshot.index)

    def test_backend_without_its_last_batches(self) -> None:
        """What the backend has not got yet comes from the log, each entry once."""
        member = self.start()
        self.put(member, 30)
        member.writer.holding = True
        self.put(member, 5)
        self.crash()
        self.start()

    def test_snapshots_lost(self) -> None:
        """The log is enough as long as it reaches back to the beginning; if not, it is refused."""
        self.lived(100)
        for name in self.snapshots():
            self.files.remove(f"{SNAP}/{name}")
        left = self.files
        self.assertEqual(0, self.start().disk.snapshot.index)
        self.files = left.crashed()
        for name in (*self.snapshots(), f"../wal/{FIRST[-37:]}"):
            self.files.remove(f"{SNAP}/{name}")
        begin = segments_in(self.files, WAL)[0].first_index
        self.assertEqual(
            f"no snapshot in {SNAP} is of use, and: The log in {WAL} begins at index {begin}, after index 0",
            self.refusal(),
        )

    def test_newest_snapshot_damaged(self) -> None:
        """It is set aside, and an older one is as good while the log reaches back to it."""
        self.lived(30)
        newest, older, *_ = self.snapshots()
        self.files.open(f"{SNAP}/{newest}").write(12, b"\xff")
        member = self.start()
        self.assertIn(f"{newest}.broken", self.files.list(SNAP))
        self.assertEqual(int(older[17:33], 16), member.disk.snapshot.index)

    def test_snapshot_of_nobody(self) -> None:
        """One that the log has no record of is passed over, and not removed."""
        self.lived(30)
        SnapshotFiles(self.files, SNAP).save(Snapshot(5000, 9, ConfState((1, 2))))
        with capturedLogs() as events:
            member = self.start()
        [event] = [event for event in events if event["log_format"].startswith("Passed over")]
        self.assertEqual(("warn", 5000), (event["log_level"].name, event["index"]))
        self.assertLess(member.disk.snapshot.index, 100)
        self.assertEqual(5000, member.disk.snapshots.list()[0][0])

    def test_backend_lost(self) -> None:
        """A log that begins at a snapshot is not enough; one that begins at the first entry is."""
        self.lived(30)
        self.files.remove(f"{SNAP}/journal")
        index = int(self.snapshots()[0][17:33], 16)
        self.assertEqual(
            f"the log begins after the snapshot at {index}, but the backend has applied only 0: "
            "the backend is lost, or of another member",
            self.refusal(),
        )
        self.setUp()
        self.lived(30, snapshot_count=1000)
        self.files.remove(f"{SNAP}/journal")
        self.start()

    def test_log_lost(self) -> None:
        """A backend alone is refused: part of what it promised is missing."""
        self.lived(30)
        self.files.remove_directory(WAL)
        self.assertEqual(f"{SNAP} holds a store, but {WAL} holds no log", self.refusal())

    def test_end_of_the_log_lost(self) -> None:
        """A log that ends before the backend is refused."""
        self.lived(30)
        last = segments_in(self.files, WAL)[-1]
        self.files.remove(f"{WAL}/{last}")
        self.assertRegex(self.refusal(), "the backend has applied entry 3[0-9], but the log ends at [0-9]+: ")

    def test_founding_cut_short(self) -> None:
        """A log whose first save did not survive is that of nobody yet: the member is founded again."""
        member = DiskMember(self.files)
        identity = member.disk.identity
        self.crash()
        member = self.start()
        self.assertEqual(identity, member.disk.identity)
        self.put(member)
        self.crash()
        self.start()

    def test_directories_cut_short(self) -> None:
        """A life that ended between making a directory and syncing its name leaves that to the next one."""
        for step in range(12):
            self.setUp()
            self.files.refuse_after(step)
            with self.assertRaises(OSError):
                DiskMember(self.files)
            self.files.before.clear()
            self.files.killed()
            self.put(self.start())
            self.crash()
            self.start()

    def test_parent_of_somebody_else(self) -> None:
        """A directory whose parent may not be read was made by somebody else, and is taken as it is."""
        self.files.make_directory(DATA)

        def refuse(what: str, path: str) -> None:
            if (what, path) == ("sync_directory", os.path.dirname(DATA)):
                raise PermissionError(errno.EACCES, "Permission denied", path)

        self.files.before.append(refuse)
        self.put(self.start())

    def test_parent_that_may_not_be_read(self) -> None:
        """A directory that we make in one that may not be read could get lost with its name: refused."""

        def refuse(what: str, path: str) -> None:
            if (what, path) == ("sync_directory", os.path.dirname(DATA)):
                raise PermissionError(errno.EACCES, "Permission denied", path)

        self.files.before.append(refuse)
        with self.assertRaises(PermissionError):
            DiskMember(self.files)

    def test_engine_after_a_kill(self) -> None:
        """What the engine shows after a kill, raft takes for applied: it is durable from then on."""
        member = self.start(snapshot_count=1000)
        member.clock.advance(0.1)
        self.put(member, 60)
        self.refusing("sync", "journal", errno.EIO)
        member.clock.advance(0.1)
        self.assertEqual(1, len(member.ended))
        self.files.before.clear()
        self.files.killed()
        applied = DiskMember(self.files, life=5).disk.mark.index
        self.assertGreater(applied, 60)
        self.crash()
        self.assertEqual(applied, DiskMember(self.files, life=6).disk.mark.index)
        self.crash()
        self.start()

    def test_log_elsewhere(self) -> None:
        """The log may be on a disk of its own."""
        config = dataclasses.replace(CONFIG, wal_dir="/mnt/log/wal")
        self.lived(30, config=config)
        self.assertTrue(self.files.exists("/mnt/log/wal"))
        self.assertFalse(self.files.exists(WAL))
        self.start(config=config)

    def test_purged(self) -> None:
        """With one segment and one snapshot kept, a start has all it needs, and the disk holds no more."""
        member = self.start(kept=1)
        self.put(member, 200)
        member.clock.advance(31.0)
        self.assertEqual((1, 1), (len(segments_in(self.files, WAL)), len(self.snapshots())))
        self.crash()
        self.start(kept=1)


class SentenceTests(DiskCase):
    """What an operator reads when a disk is not fit to start from, to the letter."""

    def test_foreign_data_directory(self) -> None:
        """Somebody else's file in the place of the log is named, and left alone."""
        self.files.make_directory(WAL)
        self.files.open(f"{WAL}/notes.txt", create=True)
        self.assertEqual(f"The log directory {WAL} holds another file: notes.txt", self.refusal())
        self.assertEqual(["notes.txt"], self.files.list(WAL))

    def test_locked_data_directory(self) -> None:
        """A log that another member has open is named by its segment."""
        self.start()
        self.assertEqual(f"The log segment {FIRST} is in use by another process", self.refusal())

    def test_unreadable_data_directory(self) -> None:
        """A directory that may not be read is named; the service says that it cannot start."""
        self.lived(3)

        def refuse(what: str, path: str) -> None:
            if path == WAL:
                raise PermissionError(errno.EACCES, "Permission denied", path)

        self.files.before.append(refuse)
        with self.assertRaises(PermissionError) as caught:
            DiskMember(self.files)
        self.assertEqual(f"[Errno 13] Permission denied: '{WAL}'", str(caught.exception))

    def test_corrupt_record(self) -> None:
        """Damage to what was durable is told with file and offset, and nothing is changed."""
        self.lived(5)
        file = self.files.open(FIRST)
        at = file.read(0, 4096).index(b"v" * 100) + 50
        file.write(at, b"\x01")
        before = file.read(0, 4096)
        self.assertRegex(
            self.refusal(), f"^{FIRST} is corrupt at offset [0-9]+: the checksum does not match$"
        )
        self.assertEqual(before, file.read(0, 4096))

    def test_full_disk(self) -> None:
        """A disk without room for a log is told with the file, and there is no half of one."""
        self.files.capacity_bytes = 3000
        with self.assertRaises(OSError) as caught:
            DiskMember(self.files)
        path = f"{WAL}.tmp/0000000000000000-0000000000000000.wal"
        self.assertEqual(f"[Errno 28] No space left on device: '{path}'", str(caught.exception))
        self.files.capacity_bytes = None
        self.crash()
        self.put(self.start())


class BadDiskTests(DiskCase):
    """On a disk that refuses, a member stops with one sentence, and loses nothing acknowledged."""

    def assert_stops(self, member: DiskMember, pattern: str) -> None:
        """It stops by itself, for that reason, and what was acknowledged is there afterwards."""
        for _ in range(400):
            if member.failures:
                break
            key = b"%d" % len(self.acknowledged)
            client = Writing(key, self.acknowledged)
            member.propose(kinds.PUT, PutRequest(key=key, value=b"v" * 100), client)
            member.clock.advance(0.05)
        [failure] = member.failures
        self.assertRegex(failure.getErrorMessage(), pattern)
        self.files.before.clear()
        self.files.capacity_bytes = None
        self.crash()
        self.lives += 1
        again = DiskMember(self.files, life=self.lives).start()
        again.settle(lambda: bool(again.serves))
        found = again.revisions()
        self.assertEqual(self.acknowledged, {key: found.get(key) for key in self.acknowledged})

    def test_each_operation(self) -> None:
        """In a save, a cut, the next segment, a snapshot, the backend: wherever it is refused, and why."""
        for operation, suffix in (
            ("write", ".wal"),
            ("sync", ".wal"),
            ("rename", ".wal"),
            ("sync_directory", "wal"),
            ("create", ".tmp"),
            ("write", ".tmp"),
            ("sync", ".tmp"),
            ("write", "snap.tmp"),
            ("sync", "snap.tmp"),
            ("rename", ".snap"),
            ("sync_directory", "snap"),
            ("write", "journal"),
            ("sync", "journal"),
        ):
            for code in (errno.EIO, errno.ENOSPC):
                self.setUp()
                member = self.start()
                self.refusing(operation, suffix, code)
                self.assert_stops(member, rf"^\[Errno {code}\] [A-Z][a-z /]+: '[^']*{suffix}'$")

    def test_full_disk(self) -> None:
        """A disk that fills up, wherever the last byte goes."""
        for room in range(0, 12_000, 1500):
            self.setUp()
            member = self.start()
            self.files.capacity_bytes = 1 << 40
            used = self.files.capacity_bytes - self.files.free_bytes
            self.files.capacity_bytes = used + room
            self.assert_stops(member, r"^\[Errno 28\] No space left on device: '/var/lib/one/member/.*'$")


class KnownFailureTests(DiskCase):
    """Real systems have failed like this."""

    def test_kf_12_crash_at_each_step_of_a_snapshot(self) -> None:
        """Whichever step is the last, a start finds the old state or the new one."""
        for step in range(60):
            for chance in (0.0, 0.5, 1.0):
                self.setUp()
                member = self.start(kept=1)
                self.put(member, 30)
                self.files.refuse_after(step)
                for _ in range(12):
                    key = b"%d" % len(self.acknowledged)
                    request = PutRequest(key=key, value=b"v" * 100)
                    if not member.ended:
                        member.propose(kinds.PUT, request, Writing(key, self.acknowledged))
                    member.clock.advance(5.0)
                self.crash(chance)
                self.lives += 1
                again = DiskMember(self.files, life=self.lives).start()
                again.settle(lambda again=again: bool(again.serves))  # type: ignore[misc]
                found = again.revisions()
                self.assertEqual(self.acknowledged, {key: found.get(key) for key in self.acknowledged}, step)

    def test_kf_13_snapshot_without_its_record(self) -> None:
        """The file of a snapshot whose record is missing is ignored, and the one before it is used."""
        member = self.start()
        self.put(member, 30)
        before = member.snapshots.recorded
        member.snapshots._record = lambda snapshot: Deferred()
        self.put(member, 30)
        self.assertGreater(member.disk.snapshots.list()[0][0], before)
        self.crash()
        self.assertEqual(before, self.start().disk.snapshot.index)

    def test_kf_13_snapshot_above_the_commit(self) -> None:
        """So is one whose record is there, but no hard state that commits it."""
        member = self.start()
        self.put(member, 30)
        before, last = member.snapshots.recorded, member.raft.status().last_index
        conf_state = member.raft.status().configuration
        member.disk.snapshots.save(Snapshot(last + 1, 2, conf_state))
        self.successResultOf(member.disk.wal.save_snapshot(last + 1, 2, conf_state))
        self.crash()
        self.assertEqual(before, self.start().disk.snapshot.index)

    def test_kf_18_purge_while_stopping(self) -> None:
        """Stopped at any moment of a purge, the log has what the newest snapshot needs."""
        for pieces in range(12):
            self.setUp()
            member = self.start(kept=1)
            self.put(member, 150)
            member.hold()
            member.clock.advance(30.0)
            for _ in range(pieces):
                member.work()
            member.close()
            self.start(kept=1)
            self.crash()
            self.start(kept=1)

    def test_kf_20_consistent_index_after_a_restart(self) -> None:
        """From the first commit of a life on, the index in the backend is at least what it was."""
        self.lived(30)
        for _ in range(5):
            member = self.start()
            marks = [member.disk.mark.index]
            for _ in range(12):
                self.put(member)
                member.clock.advance(0.1)
                stored = member.backend.read().get(META, CONSISTENT_INDEX)
                marks.append(int.from_bytes(stored or b"", "big"))
            self.assertEqual(sorted(marks), marks)
            self.assertGreaterEqual(marks[-1], member.snapshots.recorded)
            self.crash()

    def test_kf_23_partly_applied_transaction(self) -> None:
        """A transaction that fails in its middle changes nothing, before and after a restart."""
        member = self.start()
        self.put(member)
        compare: list[Any] = []
        for second in (PutRequest(key=b"b", lease=5), PutRequest(key=b"missing", ignore_value=True)):
            operations = [RequestOp(request_put=PutRequest(key=b"a")), RequestOp(request_put=second)]
            for success in (operations, [RequestOp(request_txn=TxnRequest(success=operations))]):
                client = member.propose(kinds.TXN, TxnRequest(compare=compare, success=success))
                member.end_turn()
                self.assertIsInstance(client.outcome, tuple)
        self.assertEqual((self.acknowledged, 2), (member.revisions(), member.store.revision))
        self.crash()
        self.assertEqual(2, self.start().store.revision)

    def test_kf_25_revision_after_compacting_the_tail(self) -> None:
        """Deletes at the end, compacted away: a restart goes on from the same revision."""
        member = self.start()
        self.put(member, 3)
        for key in self.acknowledged:
            member.propose(kinds.DELETE_RANGE, DeleteRangeRequest(key=key))
        member.propose(kinds.COMPACTION, CompactionRequest(revision=7))
        member.end_turn()
        member.pump(1)
        self.acknowledged.clear()
        self.crash()
        again = self.start()
        self.assertEqual((7, 7), (again.store.revision, again.store.compact_revision))
        self.put(again)
        self.assertEqual([8], list(self.acknowledged.values()))

    def test_kf_30_no_fsync_and_a_kill(self) -> None:
        """Without any sync, what was acknowledged survives the end of the process at any moment."""
        config = dataclasses.replace(CONFIG, unsafe_no_fsync=True)
        for puts in (1, 10, 100):
            self.setUp()
            syncs: list[str] = []
            member = self.start(config=config)
            self.files.before.append(
                lambda what, path, syncs=syncs: syncs.append(path) if what.startswith("sync") else None
            )
            self.put(member, puts)
            self.assertEqual([], [path for path in syncs if not path.endswith("journal")])
            self.files.killed()
            self.start(config=config)


class Asking(Client):
    """One who looks, when it is answered, what a crash would leave of its entry."""

    def __init__(self, key: bytes, files: SimulatedFiles, replies: list[bool]) -> None:
        super().__init__()
        self._key, self._files, self._replies = key, files, replies

    def reply(self, message: bytes) -> None:
        super().reply(message)
        entries = verify(self._files.crashed(0.0), WAL).entries
        self._replies.append(any(self._key in entry.data for entry in entries))


class AcknowledgementTests(DiskCase):
    """Durable before acknowledged."""

    def test_no_reply_before_its_sync(self) -> None:
        """At the moment of each reply, a crash that keeps nothing un-synced leaves the entry in the log."""
        for in_thread in (False, True):
            self.setUp()
            member = self.start(in_thread=in_thread)
            replies: list[bool] = []
            for number in range(40):
                for which in range(number % 3 + 1):
                    key = b"key-%d-%d" % (number, which)
                    request = PutRequest(key=key, value=b"v" * 300)
                    member.propose(kinds.PUT, request, Asking(key, member.files, replies))
                member.end_turn()
                while member.work():
                    pass
            self.assertEqual([True] * sum(number % 3 + 1 for number in range(40)), replies)

    def test_sync_under_way(self) -> None:
        """While a thread is at it, nobody is answered."""
        member = self.start(in_thread=True)
        member.syncs.holding = True
        client = member.put(b"k")
        member.pump(1)
        self.assertIsNone(client.outcome)
        member.syncs.release()
        self.assertIsInstance(client.outcome, bytes)

    def test_refused_sync(self) -> None:
        """A reply never follows a sync that failed."""
        member = self.start()

        def refuse(what: str, path: str) -> None:
            if what == "sync":
                raise OSError(errno.EIO, "Input/output error", path)

        self.files.before.append(refuse)
        client = member.put(b"k")
        member.end_turn()
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), client.outcome)
