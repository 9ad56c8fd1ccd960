"""
service: a `Config` becomes the tree of Twisted services that is a member.

The one place that names concrete classes.  Building opens nothing: files, threads and sockets come with
`EtcdService.startService`, since twistd forks in between.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twistedetcd.api.calls import terms
from twistedetcd.api.http import site
from twistedetcd.api.methods import methods
from twistedetcd.apply.chain import chain
from twistedetcd.apply.request import Encoder
from twistedetcd.apply.store import StoreApplier
from twistedetcd.cluster.members import Cluster, Member, cluster_id, member_id
from twistedetcd.config import Config
from twistedetcd.errors import BackendError, ConfigError, MemberError
from twistedetcd.files.local import LocalFiles
from twistedetcd.interfaces import IBackend, IBackendFactory
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.store import Store
from twistedetcd.protocols.connection import ClientPortFactory
from twistedetcd.protocols.turn import Turn
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.server.bootstrap import (
    AppliedMark,
    check_identity,
    check_log_covers,
    new_raft,
    restarted_raft,
)
from twistedetcd.server.committer import Committer
from twistedetcd.server.member import EtcdServer
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import LogOptions, exists
from twistedetcd.wire import Metadata, decode_metadata, encode_metadata

GRPC_OVERHEAD_BYTES = 512 * 1024  # what a request message may be larger than an entry
DRAIN_POLL_SECONDS = 0.05
LISTEN_BACKLOG = 1024
UNLIMITED_STREAMS = 2**32 - 1  # the flag's default, which is not announced


class EtcdService(MultiService):
    """
    One member, to be put under any `MultiService` or run by twistd.

    Args:
        config: What it is.
        reactor: Where it runs; the global one if not given.
        on_fatal: Called with the failure when the member had to stop by itself.

    Attributes:
        ready: Fires when clients can be served; fails with what kept it from starting.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        on_fatal: Callable[[Failure], None] | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._member: EtcdServer | None = None
        self._closers: list[Callable[[], object]] = []
        self._ports: list[IListeningPort] = []
        self._factory: ClientPortFactory | None = None
        self.ready: Deferred[None] = Deferred()

    @property
    def member(self) -> EtcdServer:
        """The running member."""
        assert self._member is not None, "the service is not running"
        return self._member

    @property
    def client_ports(self) -> list[IListeningPort]:
        """Where it listens for clients."""
        return list(self._ports)

    def startService(self) -> None:
        """
        Open everything and begin.

        Raises:
            MemberError: The member cannot start; the text is one sentence.
        """
        super().startService()
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        try:
            started = self._start()
        except OSError as error:
            self._close()
            raise MemberError(f"cannot start: {error}") from error
        except BaseException:
            self._close()
            raise
        started.addCallback(self._listen).addCallbacks(self.ready.callback, self._not_started)

    def _not_started(self, failure: Failure) -> None:
        self._fatal(failure)
        self.ready.errback(failure)

    def _start(self) -> Deferred[None]:
        config, clock = self._config, self._reactor
        member_dir = os.path.join(config.data_dir, "member")
        wal_dir = config.wal_dir or os.path.join(member_dir, "wal")
        backend_dir = os.path.join(member_dir, "snap")
        files = LocalFiles()
        files.make_directory(backend_dir)
        if config.wal_dir:
            files.make_directory(os.path.dirname(os.path.abspath(wal_dir)))

        writer = ThreadPool(minthreads=0, maxthreads=1, name="twistedetcd writer")
        writer.start()
        self._closers.append(writer.stop)
        workers = ThreadPool(minthreads=0, maxthreads=2, name="twistedetcd worker")
        workers.start()
        self._closers.append(workers.stop)

        founder = Member(
            member_id(config.initial_advertise_peer_urls, config.initial_cluster_token),
            tuple(sorted(config.initial_advertise_peer_urls)),
        )
        options = LogOptions(
            run_in_worker=lambda work: deferToThreadPool(clock, workers, work),
            run_sync=self._sync_policy(workers),
            unsafe_no_sync=config.unsafe_no_fsync,
        )
        existed = exists(files, wal_dir)
        recovered = None
        if existed:
            wal = SegmentedWAL.open(files, wal_dir, options=options)
            self._closers.append(wal.close)
            recovered = wal.read_all()
            identity = decode_metadata(recovered.metadata)
        else:
            identity = Metadata(founder.id, cluster_id([founder.id]))

        backend = open_backend(config.backend, backend_dir)
        self._closers.append(backend.close)
        pending = Pending(backend)
        self._closers.append(pending.close)
        store = Store(pending, config.compaction_batch_limit)
        for _ in store.restore():
            pass
        cluster = Cluster(pending)
        cluster.restore()
        mark = AppliedMark(pending)

        draw = random.SystemRandom().randrange
        ticks = config.election_ticks
        raft: RawNode
        storage: MemoryStorage
        if recovered is not None:
            check_log_covers(mark, recovered.entries)
            check_identity(cluster, identity.node_id)
            raft, storage = restarted_raft(
                identity.node_id, recovered.hard_state, recovered.entries, ticks, config.pre_vote, draw
            )
        else:
            if mark.index:
                raise MemberError(f"{backend_dir} holds a store, but {wal_dir} holds no log")
            wal = SegmentedWAL.create(files, wal_dir, encode_metadata(identity), options=options)
            self._closers.append(wal.close)
            raft, storage = new_raft(founder, ticks, config.pre_vote, draw)

        turn = Turn(clock)
        milliseconds = int(clock.seconds() * 1000) & (1 << 40) - 1
        member = EtcdServer(
            clock=clock,
            identity=Member(
                identity.node_id, founder.peer_urls, False, config.name, tuple(config.advertise_client_urls)
            ),
            cluster_id=identity.cluster_id,
            store=store,
            pending=pending,
            cluster=cluster,
            wake=turn.wake,
            encoder=Encoder((identity.node_id & 0xFFFF) << 48 | milliseconds << 8),
            request_bytes_max=config.max_request_bytes,
            request_timeout_seconds=5.0 + 2 * config.election_timeout_ms / 1000,
            compaction_pause_seconds=config.compaction_sleep_interval_seconds,
            failed=self._fatal,
        )
        committer = Committer(
            clock=clock,
            pending=pending,
            backend=backend,
            run_in_writer=lambda work: deferToThreadPool(clock, writer, work),
            stamp=lambda: mark.write(member.applied_index, member.applied_term, raft.status().configuration),
            failed=member.failed,
            interval_seconds=config.backend_batch_interval_seconds,
            operations_max=config.backend_batch_limit,
        )
        node = RaftNode(
            clock=clock,
            raft=raft,
            storage=storage,
            wal=wal,
            tick_seconds=config.tick_seconds,
            apply=member.apply,
            failed=member.failed,
            next_context=milliseconds << 20,
        )
        turn.before_writing(member.flush)
        node.on_applied.append(turn.write_out)
        applier = chain(StoreApplier(store, cluster, member.header, member.compact_later))
        self._member = member
        self._factory = ClientPortFactory(
            clock,
            turn,
            methods(member, config.max_txn_ops),
            site(member),
            config.max_request_bytes + GRPC_OVERHEAD_BYTES,
            None if config.max_concurrent_streams == UNLIMITED_STREAMS else config.max_concurrent_streams,
            terms,
        )
        started = member.start(node, committer, applier, mark.index, mark.term)
        unfinished = store.unfinished_compaction
        if unfinished is not None:
            member.compact_later(unfinished, store.resume_compaction(unfinished))
        return started

    def _sync_policy(self, workers: ThreadPool) -> Callable[[Callable[[], Any]], Deferred[Any]] | None:
        if self._config.fsync_in == "thread":
            return lambda work: deferToThreadPool(self._reactor, workers, work)
        return None

    def _listen(self, _: None) -> None:
        for host, port in self._config.client_addresses:
            interface = "127.0.0.1" if host == "localhost" else host
            try:
                listening = self._reactor.listenTCP(port, self._factory, LISTEN_BACKLOG, interface)
            except CannotListenError as error:
                raise MemberError(f"cannot listen on {host}:{port}: {error.socketError}") from error
            self._ports.append(listening)
            self._log.info("ready to serve client requests on {host}:{port}", host=host, port=port)

    def _fatal(self, failure: Failure) -> None:
        if failure.check(MemberError, OSError):
            self._log.critical("The member stops: {reason}", reason=failure.getErrorMessage())
        else:
            self._log.failure("The member stops", failure)
        if self._on_fatal is not None:
            self._on_fatal(failure)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, let calls in progress finish, commit, close.  Fires when nothing is left."""
        stopping = maybeDeferred(super().stopService)
        stopping.addCallback(lambda _: self._stop_listening())
        stopping.addCallback(lambda _: self._drain())
        stopping.addCallback(lambda _: self._member.stop() if self._member else succeed(None))
        stopping.addBoth(self._closed)
        return stopping

    def _stop_listening(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def _drain(self, waited_seconds: float = 0.0) -> Any:
        """Give calls in progress up to the request timeout."""
        if self._factory is None:
            return None
        if waited_seconds == 0.0:
            self._factory.drain()
        limit = 5.0 + 2 * self._config.election_timeout_ms / 1000
        if not self._factory.connections or waited_seconds >= limit:
            for connection in list(self._factory.connections):
                connection.transport.abortConnection()
            return None
        later = deferLater(self._reactor, DRAIN_POLL_SECONDS, lambda: None)
        return later.addCallback(lambda _: self._drain(waited_seconds + DRAIN_POLL_SECONDS))

    def _closed(self, result: Any) -> Any:
        self._close()
        return result

    def _close(self) -> None:
        closers, self._closers = self._closers, []
        self._member = None
        for close in reversed(closers):
            close()


def open_backend(name: str, directory: str) -> IBackend:
    """
    Find a storage engine among the plugins and open it.

    Raises:
        ConfigError: No plugin of that name.
        BackendError: It cannot be opened.
    """
    found = {factory.name: factory for factory in getPlugins(IBackendFactory)}
    if name not in found:
        raise ConfigError(f"there is no backend {name!r}; there are: {', '.join(sorted(found))}")
    try:
        return IBackend(found[name].open(directory))
    except OSError as error:
        raise BackendError(f"cannot open the {name} backend in {directory}: {error}") from error
