"""
disk: everything that one member keeps on its disk, opened and found to belong together.

A start finds some of: a log, snapshots, a backend.  The newest snapshot that the log vouches for says where
the log is read from; the backend must have applied at least that, and at most what the log holds.  Whatever
else there is, is passed over (a snapshot without its record), set aside (a damaged one), or refused.

Yours to change: how a refusal is worded.
With care: the order in which things are opened: the log's lock keeps others away from all the rest.
Never: a guess about what is missing.
Imports the stores, log, snapshots and what is below them.  Imported by service and testing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from math import inf

from google.protobuf.message import DecodeError
from twisted.internet.defer import execute
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.cluster.founding import Entrance, found
from twistedetcd.cluster.members import Cluster, Member, member_id
from twistedetcd.cluster.version import Version, check_not_older
from twistedetcd.config import ETCD_VERSION, Config
from twistedetcd.errors import BackendError, MemberError, WALSnapshotError
from twistedetcd.files.probe import median_sync_seconds
from twistedetcd.flagtable import PEER_URL
from twistedetcd.images import Images
from twistedetcd.interfaces import IWAL, IBackend, IBackendFactory, IFiles, RunInThread, Work
from twistedetcd.lease.lessor import Lessor
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.store import Store
from twistedetcd.mvcc.work import SLICE_KEYS, finish
from twistedetcd.plugins import chosen
from twistedetcd.raft.errors import ConfChangeError, InvariantError
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import HardState, Snapshot
from twistedetcd.server.bootstrap import (
    AppliedMark,
    check_identity,
    check_log_covers,
    check_place,
    is_member,
    new_raft,
    read_mark,
    restarted_raft,
)
from twistedetcd.server.forcing import force_new_cluster
from twistedetcd.snap.files import SnapshotFiles
from twistedetcd.wal.log import BUSY_SECONDS, BUSY_SYNC_SECONDS, SegmentedWAL
from twistedetcd.wal.opening import LogOptions, exists
from twistedetcd.wal.reading import Recovered, vouched_snapshots
from twistedetcd.wire import Metadata, decode_metadata, encode_metadata

CHECKPOINT_SECONDS = 300.0  # how often what remains of a long lease is noted, if it is at all
_UINT64 = 2**64 - 1
_log = Logger()


class Disk:
    """
    What a member has on its disk, opened: log, snapshots, backend, and the stores that live in the backend.

    Args:
        config: The member's.
        files: The file system that log and snapshots are on.
        open_backend: Opens the engine in an existing directory.
        log_options: Says how to keep the log, given an existing directory on its disk.
        closers: Gets what must be called to close it all, in reverse order, also when this raises.
        joined: Its place in the cluster that it joins; needed if `must_join`.

    Attributes:
        founder: This member as its configuration describes it, if it is new.
        identity: The ids that it has.
        wal: The log, ready to save.
        snapshots: The snapshots.
        snapshot: The one that the log was read from; an empty one for all of the log.
        images: Whole stores that come from other members.
        backend: The engine.
        pending: The overlay over it.
        store: The keys.
        lessor: The leases, and which keys they have.
        cluster: The members.
        mark: How far the backend is.

    Raises:
        MemberError: It cannot be opened, or its parts do not belong together, or it cannot found the cluster
            that it should; the text is one sentence.
        MemberRemovedError: It was removed from its cluster.
        OSError: The disk refused.
    """

    def __init__(
        self,
        config: Config,
        files: IFiles,
        open_backend: Callable[[str], IBackend],
        log_options: Callable[[str], LogOptions],
        closers: list[Callable[[], object]],
        joined: Entrance | None = None,
    ) -> None:
        self._config = config
        self._files = files
        self._closers = closers
        self._wal_dir = _wal_directory(config)
        self._snap_dir = os.path.join(config.data_dir, "member", "snap")
        # What a new member may not be is told before anything is made.
        entrance = None if exists(files, self._wal_dir) else _entrance(config, joined)
        if files.exists(os.path.join(self._snap_dir, "db")):
            raise MemberError(f"{self._snap_dir} holds the store of an etcd, which this version cannot read")
        log_parent = os.path.dirname(os.path.abspath(self._wal_dir))
        for path in (self._snap_dir, log_parent):
            make_directory(files, path)
        self._options = log_options(self._wal_dir if files.exists(self._wal_dir) else log_parent)
        self.founder = entrance.ourselves if entrance is not None else _described(config)
        self.snapshots = SnapshotFiles(files, self._snap_dir, sync=not config.unsafe_no_fsync)
        self.snapshot = Snapshot()
        # The log first: its lock keeps others away from the backend, too.
        self._recovered: Recovered | None = None
        self.wal: IWAL
        if entrance is None:
            self._recovered = self._open_log()
        else:
            self.identity = Metadata(entrance.ourselves.id, entrance.cluster_id)
        self._open_backend(open_backend)
        if self._recovered is not None:
            self._check_whole(self._recovered)
            if config.force_new_cluster:
                self._force_new_cluster(self._recovered)
        else:
            self._create_log()

    def _open_log(self) -> Recovered:
        """Read it from the newest snapshot on that it vouches for, or all of it."""
        vouched: set[tuple[int, int]] | None = None
        for snapshot in chain(self.snapshots.load(), (Snapshot(),)):
            if vouched is not None and snapshot.index and (snapshot.index, snapshot.term) not in vouched:
                continue
            try:
                self.wal = wal = SegmentedWAL.open(
                    self._files, self._wal_dir, snapshot.index, snapshot.term, options=self._options
                )
                recovered = wal.read_all()
            except WALSnapshotError as error:
                if not snapshot.index:
                    raise MemberError(f"no snapshot in {self._snap_dir} is of use, and: {error}") from error
                _log.warn("Passed over the snapshot at {index}: {error}", index=snapshot.index, error=error)
                # Nearly always the newest one is the right one.  Here it is not: see which one is, once.
                vouched = vouched_snapshots(self._files, self._wal_dir) if vouched is None else vouched
                continue
            self._closers.append(wal.close)
            self.snapshot = snapshot
            break
        try:
            self.identity = decode_metadata(recovered.metadata)
        except ValueError as error:
            raise MemberError(f"the log in {self._wal_dir} does not say whose it is") from error
        return recovered

    def _create_log(self) -> None:
        if self.mark.index:
            raise MemberError(f"{self._snap_dir} holds a store, but {self._wal_dir} holds no log")
        self.wal = wal = SegmentedWAL.create(
            self._files, self._wal_dir, encode_metadata(self.identity), options=self._options
        )
        self._closers.append(wal.close)

    def _check_whole(self, recovered: Recovered) -> None:
        """Log and backend are of one member, which may go on."""
        check_log_covers(self.mark, self.snapshot.index, recovered.entries)
        number = self.identity.node_id
        try:
            known = is_member(number, self.snapshot, recovered.entries, self.mark.index)
        except ConfChangeError as error:
            raise self._contradiction(error) from error
        if known or self.cluster.is_removed(number):
            check_identity(self.cluster, number)
        advertised = self._config.initial_advertise_peer_urls
        # By default nobody has said where it is; and where a new cluster is forced, the others are none.
        if advertised != (PEER_URL,) and not self._config.force_new_cluster:
            check_place(self.cluster, number, advertised)

    def _force_new_cluster(self, recovered: Recovered) -> None:
        """Have the log say that there is nobody else, before anybody reads it."""
        ourselves = _described(self._config)._replace(id=self.identity.node_id)
        try:
            state, entries = force_new_cluster(
                ourselves, self.cluster, self.mark.index, recovered.hard_state, recovered.entries
            )
        except (ConfChangeError, ValueError) as error:
            raise self._contradiction(error) from error
        if not entries:
            return
        # It must be on the disk when this returns, so for once nothing of the log happens in a thread.
        self.wal.close()
        here = replace(self._options, run_sync=None, run_in_worker=execute)
        snapshot = self.snapshot
        wal = SegmentedWAL.open(self._files, self._wal_dir, snapshot.index, snapshot.term, options=here)
        failures: list[Failure] = []
        try:
            wal.read_all()
            wal.save(state, entries).addErrback(failures.append)
        finally:
            wal.close()
        for failure in failures:
            failure.raiseException()
        _log.warn(
            "Forced a new cluster of member {id:x} alone: from entry {index} on the log is new",
            id=ourselves.id,
            index=entries[0].index,
        )
        # Reading it makes it durable.
        self._recovered = self._open_log()

    def _contradiction(self, error: Exception) -> MemberError:
        return MemberError(f"the log in {self._wal_dir} contradicts itself: {error}")

    def _open_backend(self, open_backend: Callable[[str], IBackend]) -> None:
        self.backend = backend = open_backend(self._snap_dir)
        self._closers.append(backend.close)
        view = backend.read()
        applied, _, _ = read_mark(view.get)
        view.close()
        self.images = Images(self._files, self._snap_dir, sync=not self._config.unsafe_no_fsync)
        self.images.recover(backend, self.snapshot.index, applied)
        self.pending = pending = Pending(backend)
        self._closers.append(pending.close)
        self.store = Store(pending, self._config.compaction_batch_limit)
        self.lessor = self._lessor(pending)
        self.cluster = Cluster(pending, self._config.max_learners)
        self.mark = AppliedMark(pending)
        try:
            self.lessor.restore()
            self._attach(finish(self.store.restore()))
            self.cluster.restore()
            if self.cluster.version:
                check_not_older(Version.parse(ETCD_VERSION), Version.parse(self.cluster.version))
        except (ValueError, DecodeError) as error:
            raise MemberError(f"the backend in {self._snap_dir} is damaged: {error}") from error

    def read_anew(self) -> Work[Callable[[], tuple[int, int]]]:
        """
        Read what another store has brought into the backend; see `twistedetcd.server.exchange.Replica`.

        Raises:
            BackendError: It does not read back; the backend is damaged.
        """
        pending = Pending(self.backend)
        try:
            store = Store(pending, self._config.compaction_batch_limit)
            lessor = self._lessor(pending)
            lessor.restore()
            lease_of = yield from store.restore()
            for count, (key, lease_id) in enumerate(lease_of.items(), 1):
                lessor.attach(key, lease_id)
                if count % SLICE_KEYS == 0:
                    yield
        except BaseException:
            pending.close()
            raise

        def put_in_place() -> tuple[int, int]:
            self.pending.become(pending)
            self.store.become(store)
            self.lessor.become(lessor)
            self.cluster.restore()
            self.mark.read()
            return self.mark.index, self.mark.term

        return put_in_place

    def _lessor(self, pending: Pending) -> Lessor:
        checkpoint_seconds = CHECKPOINT_SECONDS if self._config.lease_checkpoint else None
        return Lessor(pending, self._config.lease_ttl_min_seconds, checkpoint_seconds)

    def _attach(self, lease_of: Mapping[bytes, int]) -> None:
        """Give keys their leases back."""
        missing = [lease_id for key, lease_id in lease_of.items() if not self.lessor.attach(key, lease_id)]
        if missing:
            _log.error(
                "{count} keys have a lease that does not exist, such as {lease:x}; they stay without one",
                count=len(missing),
                lease=missing[0] & _UINT64,
            )

    def raft(self, draw: Callable[[int], int]) -> tuple[RawNode, MemoryStorage]:
        """The raft of a new member, or of the one that the log is of; ``draw`` is a `randrange`."""
        ticks, pre_vote = self._config.election_ticks, self._config.pre_vote
        recovered, number = self._recovered, self.identity.node_id
        if self._config.initial_cluster_state == "new" and (
            recovered is None or not recovered.hard_state.term
        ):
            # A founder's first save has a term; if that is lost, nothing has happened yet.
            founding = found(self._config)
            if self.identity != (founding.ourselves.id, founding.cluster_id):
                raise MemberError(
                    f"the log in {self._wal_dir} is empty, and that of member {number:x}, which these flags "
                    "do not found: start it with the flags of before, or remove it"
                )
            return new_raft(founding.ourselves, ticks, pre_vote, draw, founding.members)
        state, entries = (HardState(), []) if recovered is None else (recovered.hard_state, recovered.entries)
        try:
            return restarted_raft(number, self.snapshot, state, entries, self.mark, ticks, pre_vote, draw)
        except InvariantError as error:
            raise self._contradiction(error) from error


def is_new(config: Config, files: IFiles) -> bool:
    """Whether a member has no log yet."""
    return not exists(files, _wal_directory(config))


def must_join(config: Config, files: IFiles) -> bool:
    """Whether a member is new to a cluster that is there, so that `Disk` needs to be told of it."""
    return config.initial_cluster_state == "existing" and is_new(config, files)


def _wal_directory(config: Config) -> str:
    return config.wal_dir or os.path.join(config.data_dir, "member", "wal")


def _entrance(config: Config, joined: Entrance | None) -> Entrance:
    if config.initial_cluster_state == "new":
        return found(config)
    if joined is None:
        raise MemberError("--initial-cluster-state=existing, but the members of that cluster are not known")
    return joined


def _described(config: Config) -> Member:
    urls = config.initial_advertise_peer_urls
    return Member(member_id(urls, config.initial_cluster_token), urls, name=config.name)


def make_directory(files: IFiles, path: str) -> None:
    """
    Make a directory and its parents, for good: a log is lost with the name of a directory above it.

    Each name is synced before the next is made.  The last one that is there already is synced too, for
    whoever made it may not have lived to do so.
    """
    parent = os.path.dirname(os.path.abspath(path))
    there = files.exists(path)
    if not there:
        make_directory(files, parent)
        files.make_directory(path)
    try:
        files.sync_directory(parent)
    except PermissionError:
        if not there:
            raise  # else it was made by somebody who may do more than we


def log_options(
    config: Config,
    files: IFiles,
    clock: IReactorTime,
    run_in_worker: RunInThread,
    run_sync: RunInThread,
    disk_busy: Callable[[], bool],
    directory: str,
) -> LogOptions:
    """
    How to keep the log; measures its disk, unless it is told where to sync.  Blocks.

    Args:
        config: The member's.
        files: The file system that the log is on.
        clock: For measuring.
        run_in_worker: Runs what blocks.
        run_sync: Runs syncs of the log: a thread that does nothing else, for clients wait for them.
        disk_busy: Whether threads of ours write much just now, so that a sync may take long on any disk.
        directory: An existing directory on the log's disk.
    """
    return LogOptions(
        run_in_worker=run_in_worker,
        run_sync=None if config.fsync_in == "reactor" or config.unsafe_no_fsync else run_sync,
        disk_busy=disk_busy,
        busy_until=_busy_until(config, files, clock, directory),
        unsafe_no_sync=config.unsafe_no_fsync,
        seconds=clock.seconds,
    )


def _busy_until(config: Config, files: IFiles, clock: IReactorTime, directory: str) -> float:
    """Until when syncs go to a thread whatever they take; from then on the log goes by what they took."""
    if config.fsync_in != "auto" or config.unsafe_no_fsync:
        return inf if config.fsync_in == "thread" else -inf
    try:
        seconds = median_sync_seconds(files, directory, clock.seconds)
    except OSError:
        return -inf  # the log will meet the same, and say which of its files it is about
    is_slow = seconds > BUSY_SYNC_SECONDS
    _log.info(
        "A sync of the log takes {milliseconds} ms: it is waited for in {place}",
        milliseconds=round(seconds * 1000, 3),
        place="a thread, while it takes so long" if is_slow else "the reactor, unless the disk is busy",
    )
    return clock.seconds() + BUSY_SECONDS if is_slow else -inf


def open_backend(spec: str, directory: str) -> IBackend:
    """
    Find a storage engine among the plugins and open it.

    Args:
        spec: Its name, and perhaps a colon and options: ``lmdb:map-bytes=4294967296``.
        directory: Where it keeps its files.

    Raises:
        ConfigError: No plugin of that name, or no such option, or not such a value.
        BackendError: It cannot be opened.
    """
    factory, options = chosen(IBackendFactory, "--backend", "backend", spec)
    try:
        return IBackend(factory.open(directory, **options))
    except OSError as error:
        raise BackendError(f"cannot open the {factory.name} backend in {directory}: {error}") from error
