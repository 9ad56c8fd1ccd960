"""Lives of a member on a simulated disk: it writes, the machine stops, and what was acknowledged is there."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.server.harness import Client, Parts, Running, Writer
from twistedetcd.apply import request as kinds
from twistedetcd.config import Config, parse
from twistedetcd.disk import Disk
from twistedetcd.errors import EtcdError
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import PutRequest, PutResponse
from twistedetcd.testing.simulation.journal import JournalBackend
from twistedetcd.wal.opening import LogOptions

CONFIG: Config = parse(["--data-dir=/var/lib/one", "--fsync-in=reactor"], {}, lambda path: b"")
SEGMENT_BYTES = 4096
LIVES = 5
WAL_DIRS = (None, "/mnt/log/wal")  # beside the rest, or on a disk of its own
NEVER = 1 << 30  # so many changes are not made


class DiskMember(Running):
    """
    A member whose disk is opened as the service does it.

    Args:
        files: Its disk.
        snapshot_count: Entries between two snapshots.
        kept: Segments and snapshots that are kept.
        in_thread: Whether the log is synced in a thread.
        life: How often it has lived before.
        config: What it is.

    Attributes:
        syncs: The thread that syncs the log, if it does.
        disk: What was opened.
    """

    def __init__(
        self,
        files: SimulatedFiles,
        snapshot_count: int = 10,
        kept: int = 5,
        in_thread: bool = False,
        life: int = 0,
        config: Config = CONFIG,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.files = files
        self.syncs = Writer()
        self._segments = Writer()
        self._closers: list[Callable[[], object]] = []

        def options(directory: str) -> LogOptions:
            return LogOptions(
                run_in_worker=self._segments,
                run_sync=self.syncs if in_thread else None,
                segment_bytes=segment_bytes,
                unsafe_no_sync=config.unsafe_no_fsync,
            )

        self.disk = disk = Disk(
            config, files, lambda directory: JournalBackend(files, directory), options, self._closers
        )
        raft, storage = disk.raft(lambda n: 0)
        parts = Parts(
            wal=disk.wal,
            snapshotter=disk.snapshots,
            recorded=disk.snapshot.index,
            backend=disk.backend,
            pending=disk.pending,
            store=disk.store,
            lessor=disk.lessor,
            cluster=disk.cluster,
            mark=disk.mark,
            founder=disk.founder._replace(id=disk.identity.node_id),
            cluster_id=disk.identity.cluster_id,
            raft=raft,
            storage=storage,
        )
        self._assemble(parts, snapshot_count=snapshot_count, kept=kept, life=life)
        self._not_ready: list[Failure] = []

    def start(self) -> DiskMember:
        """See `Running.start`."""
        super().start()
        self.ready.addErrback(self._not_ready.append)
        return self

    @property
    def serves(self) -> bool:
        """Whether clients can be served."""
        return self.ready.called and not self.ended

    @property
    def ended(self) -> list[Failure]:
        """Why it had to stop, if it had to."""
        return [*self._not_ready, *self.failures]

    @property
    def threads(self) -> list[Writer]:
        """All of them; while one holds, its work waits for the test."""
        return [self.syncs, self._segments, self.writer, self.worker]

    def hold(self) -> None:
        """Nothing happens in a thread until `work`."""
        for thread in self.threads:
            thread.holding = True

    def work(self, random: Random | None = None) -> bool:
        """One piece of work in one of the threads; false when there is none."""
        busy = [thread for thread in self.threads if thread.held]
        if busy:
            (random.choice(busy) if random else busy[0]).release()
        return bool(busy)

    def settle(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let threads and timers go on, for a while or until it is so."""
        for _ in range(1000):
            if until():
                break
            if not self.work():
                self.clock.advance(0.01)

    def close(self, cut: PowerCut | None = None) -> None:
        """Stop it in order, and let go of the disk, which may refuse the last writes."""
        stopped: Deferred[None] = self.member.stop()
        results: list[Any] = []
        stopped.addBoth(results.append)
        self.settle(lambda: bool(results))
        assert results == [None] or (cut is not None and cut.came), results
        while self._closers:
            try:
                self._closers.pop()()
            except OSError:
                assert cut is not None and cut.came

    def revisions(self) -> dict[bytes, int]:
        """The revision of every key that is there."""
        records = map(KeyValue.FromString, self.store.range(b"\0", b"")[0])
        return {record.key: record.mod_revision for record in records}


class Writing(Client):
    """One who puts a key of its own, and notes the revision that is acknowledged."""

    def __init__(self, key: bytes, acknowledged: dict[bytes, int]) -> None:
        super().__init__()
        self._key, self._acknowledged = key, acknowledged

    def reply(self, message: bytes) -> None:
        super().reply(message)
        self._acknowledged[self._key] = PutResponse.FromString(message).header.revision


class PowerCut:
    """
    After so many changes to a disk, or so many syncs, nothing reaches it any more.

    Attributes:
        came: Whether something was refused already.
    """

    def __init__(self, files: SimulatedFiles, left: int, only_syncs: bool) -> None:
        self.came = False
        self._left = left
        self._only_syncs = only_syncs
        files.before.append(self._refuse)

    def _refuse(self, what: str, path: str) -> None:
        if what in ("read", "open"):
            return
        if not self._only_syncs or what.startswith("sync"):
            self.came = self.came or self._left == 0
            self._left -= 1
        if self.came:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)


class Lives:
    """
    Several lives of one member, by a seed; each begins with what a crash has left of the one before.

    Args:
        seed: Decides everything.
        wal_dir: Where the log is, if elsewhere.

    Attributes:
        acknowledged: The revision of each key that was answered for.
        snapshots: Lives that began at a snapshot.
    """

    def __init__(self, seed: int, wal_dir: str | None = None) -> None:
        self.random = Random(seed)
        self.files = SimulatedFiles(Random(seed + 1))
        self.acknowledged: dict[bytes, int] = {}
        self.snapshots = 0
        self._puts = self._lives = 0
        self._config = dataclasses.replace(CONFIG, wal_dir=wal_dir)

    def run(self) -> None:
        """
        Live, and look at what is there at the beginning of each life.

        Raises:
            AssertionError: Something that was acknowledged is lost, or something is there twice.
            MemberError: A start was refused.
        """
        random = self.random
        for _ in range(LIVES):
            only_syncs = random.random() < 0.6
            left = int(random.expovariate(1 / 15 if only_syncs else 1 / 40))
            self.live(PowerCut(self.files, NEVER if random.random() < 0.2 else left, only_syncs))
            self.end(crashes=random.random() < 0.7)
        self.look()

    def end(self, crashes: bool, chance: float | None = None) -> None:
        """The machine stops, with that chance of what was not synced to be there; or only the process."""
        self.files.before.clear()
        if crashes:
            self.files = self.files.crashed(chance)
        else:
            self.files.killed()

    def look(self) -> None:
        """Start once more, and see whether all is there."""
        member = self._member()
        member.start()
        self._check(member)

    def _member(self) -> DiskMember:
        random = self.random
        self._lives += 1
        return DiskMember(
            self.files,
            config=self._config,
            snapshot_count=random.choice((3, 10, 30)),
            kept=random.choice((1, 1, 2)),
            in_thread=random.random() < 0.5,
            life=self._lives,
        )

    def live_shortly(self) -> None:
        """A life of three small puts."""
        member = self._member()
        member.start()
        self._check(member)
        for _ in range(3):
            self._request(member, sizes=(1,))
        member.end_turn()
        while member.work():
            pass

    def live(self, cut: PowerCut, steps_max: int = 80) -> None:
        """One life, of which only a cut of the power may be the end."""
        random = self.random
        try:
            member = self._member()
        except OSError:
            assert cut.came
            return
        self.snapshots += member.disk.snapshot.index > 0
        if random.random() < 0.7:
            member.hold()
        member.start()
        member.settle(lambda: bool(member.ended or member.serves))
        if not member.ended:
            self._check(member)
            self._work(member, random.randrange(steps_max))
        if not member.ended and random.random() < 0.3:
            member.close(cut)
        for failure in member.ended:
            assert cut.came and failure.check(OSError), failure

    def _check(self, member: DiskMember) -> None:
        """Whatever was acknowledged is there, under its revision; and each revision was made by one put."""
        member.settle(lambda: bool(member.ended or member.serves))
        assert member.serves, member.ended
        found = member.revisions()
        lost = {key: revision for key, revision in self.acknowledged.items() if found.get(key) != revision}
        assert not lost, f"lost: {lost}"
        assert sorted(found.values()) == list(range(2, member.store.revision + 1)), sorted(found.values())

    def _work(self, member: DiskMember, steps: int) -> None:
        random = self.random
        for _ in range(steps):
            choice = random.random()
            if choice < 0.5:
                for _ in range(random.choice((1, 1, 3, 8))):
                    self._request(member)
                member.end_turn()
            elif choice < 0.8:
                member.work(random)
            elif choice < 0.97:
                member.clock.advance(0.1)
            else:
                member.clock.advance(30.0)
            if member.ended:
                break

    def _request(self, member: DiskMember, sizes: Sequence[int] = (0, 20, 200, 700)) -> None:
        """A put, or one that is refused when it is applied and changes nothing."""
        random = self.random
        key = b"%d" % self._puts
        self._puts += 1
        lease = 5 if random.random() < 0.2 else 0
        request = PutRequest(key=key, value=b"%d" % self._puts * random.choice(sizes), lease=lease)
        client = Client() if lease else Writing(key, self.acknowledged)
        with contextlib.suppress(EtcdError):  # it stops, or has enough to do
            member.propose(kinds.PUT, request, client)
