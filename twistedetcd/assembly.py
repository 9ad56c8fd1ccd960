"""
assembly: a member put together from its parts, on whatever it is to run on.

With ``disk.py``, the one place that names concrete classes of what every member has.  `twistedetcd.service`
puts one on a reactor, threads and sockets; `twistedetcd.testing` puts several on one clock.

Yours to change: which part is told of which.
With care: what happens before `EtcdServer.start`: from there on the log is written to.
Never: a clock, thread, file or random number of its own; they come with the `Host`.
Imports everything below.  Imported by service and testing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.api.methods import methods
from twistedetcd.api.watch import WatchOptions
from twistedetcd.apply.chain import chain
from twistedetcd.apply.request import Encoder
from twistedetcd.apply.store import StoreApplier
from twistedetcd.cluster.founding import Entrance
from twistedetcd.cluster.legacytree import encode_membership
from twistedetcd.cluster.members import Cluster
from twistedetcd.config import ETCD_VERSION, Config
from twistedetcd.disk import Disk
from twistedetcd.errors import NotPrimaryError
from twistedetcd.interfaces import IBackend, IFiles, IOverlay, IPeerTransport, IReadTransaction, RunInThread
from twistedetcd.mvcc.watch import Watches
from twistedetcd.peertransports import NoPeers
from twistedetcd.protocols.giving import GiveWay, keep_on
from twistedetcd.protocols.grpc import Method
from twistedetcd.protocols.turn import Turn
from twistedetcd.raft.types import Message, Snapshot
from twistedetcd.server.bootstrap import read_mark
from twistedetcd.server.clustering import Options
from twistedetcd.server.committer import Committer
from twistedetcd.server.exchange import Exchange
from twistedetcd.server.leases import Leases
from twistedetcd.server.member import EtcdServer
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.server.slices import Slices
from twistedetcd.server.snapshots import Snapshots
from twistedetcd.wal.opening import LogOptions

GRPC_OVERHEAD_BYTES = 512 * 1024  # what a request message may be larger than an entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a member runs on."""

    clock: IReactorTime
    """For timers, and for the time of day: it makes ids that no other life of the member gives."""
    monotonic: Callable[[], float]
    """Seconds on a clock that nobody sets."""
    files: IFiles
    """Where log and snapshots are."""
    open_backend: Callable[[str], IBackend]
    """Opens the engine in an existing directory."""
    log_options: Callable[[str, Callable[[], bool]], LogOptions]
    """
    Says how to keep the log, given an existing directory on its disk, and who says whether the engine writes
    so much that the disk is busy.
    """
    run_in_writer: RunInThread
    """The one thread that writes to the engine."""
    run_in_worker: RunInThread
    """For whatever else blocks."""
    draw: Callable[[int], int]
    """A `random.randrange`, for election timeouts."""
    jitter: Callable[[], float]
    """A `random.random`, for what should not happen at the same time everywhere."""
    transport: IPeerTransport
    """The way to the other members."""
    failed: Callable[[Failure], None]
    """Called when the member had to stop by itself."""
    joined: Entrance | None = None
    """Its place in the cluster that it joins; see `twistedetcd.disk.must_join`."""
    lone_polls: int = 0
    """As ``polls`` of `Turn`."""
    give_way: GiveWay = keep_on
    """Likewise."""


class Assembly:
    """
    One member, whole and at rest.

    Args:
        config: What it is.
        host: What it runs on.
        closers: Gets what must be called to close it, in reverse order, also when this raises.

    Attributes:
        member: The member.
        turn: The end of its reactor turns.
        methods: Its gRPC methods, by path.

    Raises:
        MemberError: It cannot be put together from what is on the disk.
        OSError: The disk refused.
    """

    _log = Logger()

    def __init__(self, config: Config, host: Host, closers: list[Callable[[], object]]) -> None:
        self._config = config
        self._host = host
        clock = host.clock
        self._disk = disk = Disk(
            config,
            host.files,
            host.open_backend,
            lambda directory: host.log_options(directory, lambda: committer.busy),
            closers,
            host.joined,
        )
        raft, storage = disk.raft(host.draw)
        self.turn = Turn(clock, host.lone_polls, host.give_way)
        milliseconds = int(clock.seconds() * 1000) & (1 << 40) - 1
        self.member = member = EtcdServer(
            clock=clock,
            identity=disk.founder._replace(
                id=disk.identity.node_id, name=config.name, client_urls=tuple(config.advertise_client_urls)
            ),
            cluster_id=disk.identity.cluster_id,
            store=disk.store,
            leases=Leases(
                clock=clock,
                monotonic=host.monotonic,
                lessor=disk.lessor,
                extend_seconds=config.election_timeout_ms / 1000,
                retry_seconds=request_timeout_seconds(config),
            ),
            watches=Watches(disk.store, self._receiver_failed),
            pending=disk.pending,
            cluster=disk.cluster,
            wake=self.turn.wake,
            encoder=Encoder((disk.identity.node_id & 0xFFFF) << 48 | milliseconds << 8),
            request_bytes_max=config.max_request_bytes,
            request_timeout_seconds=request_timeout_seconds(config),
            election_timeout_seconds=config.election_timeout_ms / 1000,
            compaction_pause_seconds=config.compaction_sleep_interval_seconds,
            clustering=Options(
                host.transport,
                ETCD_VERSION,
                config.strict_reconfig_check,
                self.turn.hurry,
                config.initial_election_tick_advance,
            ),
            failed=host.failed,
        )
        self.turn.before_writing(member.flush)
        mark = disk.mark
        self._committer = committer = Committer(
            clock=clock,
            pending=disk.pending,
            backend=disk.backend,
            run_in_writer=host.run_in_writer,
            stamp=lambda: mark.write(
                member.applied_index, member.applied_term, member.clustering.configuration
            ),
            failed=member.failed,
            interval_seconds=config.backend_batch_interval_seconds,
            operations_max=config.backend_batch_limit,
        )
        self._node = node = RaftNode(
            clock=clock,
            raft=raft,
            storage=storage,
            wal=disk.wal,
            tick_seconds=config.tick_seconds,
            apply=member.applying.apply,
            failed=member.failed,
            next_context=milliseconds << 20,
            catch_up_entries=config.snapshot_catchup_entries,
            peers=self,
        )
        self._exchange = Exchange(
            backend=disk.backend,
            committer=committer,
            images=disk.images,
            snapshotter=disk.snapshots,
            slices=Slices(clock),
            run_in_writer=host.run_in_writer,
            run_in_worker=host.run_in_worker,
            mark=lambda view: read_mark(view.get),
            membership=_stored_membership,
            replica=disk,
            replaced=self._replaced,
            applied=lambda: member.applied_index,
        )
        node.on_applied.append(self.turn.write_out)
        self._snapshots = Snapshots(
            clock=clock,
            snapshotter=disk.snapshots,
            wal=disk.wal,
            run_in_worker=host.run_in_worker,
            applied=lambda: node.applied_index,
            state=lambda: Snapshot(
                node.applied_index,
                node.applied_term,
                member.clustering.configuration,
                _membership(disk.cluster),
            ),
            commit=lambda: committer.flush(mark=True),
            record=node.record_snapshot,
            purge_images=self._exchange.purge,
            failed=member.failed,
            every=config.snapshot_count if disk.backend.durable else None,
            recorded=disk.snapshot.index,
            wals_max=config.max_wals,
            snapshots_max=config.max_snapshots,
        )
        self.methods: Mapping[bytes, Method] = methods(
            member,
            config.max_txn_ops,
            WatchOptions(
                config.max_request_bytes + GRPC_OVERHEAD_BYTES,
                config.watch_progress_notify_interval_seconds,
                host.jitter,
            ),
            changeable=not isinstance(host.transport, NoPeers),
        )

    def start(self) -> Deferred[None]:
        """
        Begin.

        Returns:
            Fires when clients can be served.

        Raises:
            StoppedError: It was stopped before.
            Exception: What kept it from going on before.
        """
        disk, member = self._disk, self.member
        self._resume_compaction()
        applier = chain(
            StoreApplier(disk.store, disk.lessor, disk.cluster, member.header, member.compact_later)
        )
        mark = disk.mark
        return member.start(
            self._node, self._committer, self._snapshots, self._exchange, applier, mark.index, mark.term
        )

    def _resume_compaction(self) -> None:
        store = self._disk.store
        unfinished = store.unfinished_compaction
        if unfinished is not None:
            self.member.compact_later(unfinished, store.resume_compaction(unfinished))

    def _replaced(self, put_in_place: Callable[[], tuple[int, int]]) -> None:
        self.member.replace_store(put_in_place)
        self._resume_compaction()

    # What raft's driver needs of the others; see `twistedetcd.server.raftnode.Peers`.

    def send(self, messages: Sequence[Message]) -> None:
        """To the other members."""
        self.member.clustering.peers.send(messages)

    @property
    def shipping(self) -> bool:
        """A snapshot to another member."""
        return self.member.clustering.peers.shipping

    def take_in(self, snapshot: Snapshot) -> Deferred[None]:
        """A snapshot of another member, onto the disk."""
        return self._exchange.keep(snapshot)

    def install(self, snapshot: Snapshot) -> Deferred[None]:
        """And into the stores."""
        return self.member.install(snapshot)

    def not_proposed(self, proposals: Sequence[bytes]) -> None:
        """Proposals of a leader that is none any more."""
        self.member.waits.refuse(proposals, NotPrimaryError())

    def forwarded(self, proposals: Sequence[bytes]) -> None:
        """Proposals on their way to the leader."""
        self.member.waits.forward(proposals)

    def _receiver_failed(self) -> None:
        self._log.failure("Somebody who watches failed when told of changes")


def _membership(cluster: Cluster) -> bytes:
    """As etcd has it in a snapshot; members of 3.5 read it."""
    return encode_membership(cluster.members, cluster.removed, cluster.version)


def _stored_membership(view: IReadTransaction) -> bytes:
    """The same, of a moment that may be over."""
    cluster = Cluster(cast(IOverlay, view))  # nobody writes to it
    cluster.restore()
    return _membership(cluster)


def request_timeout_seconds(config: Config) -> float:
    """How long a request may wait."""
    return 5.0 + 2 * config.election_timeout_ms / 1000
