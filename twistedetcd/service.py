"""
service: a `Config` becomes the tree of Twisted services that is a member.

It brings reactor, threads, sockets and the machine's files; what runs on them, `twistedetcd.assembly` puts
together.  Building opens nothing: that comes with `EtcdService.startService`, since twistd forks in between.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.base import ReactorBase
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IResolver,
)
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from twistedetcd.api.calls import terms
from twistedetcd.api.http import peer_site, site
from twistedetcd.assembly import GRPC_OVERHEAD_BYTES, Assembly, Host, request_timeout_seconds
from twistedetcd.cluster.founding import Entrance
from twistedetcd.config import Config
from twistedetcd.discovery import discover, system_resolver
from twistedetcd.disk import log_options, open_backend
from twistedetcd.entering import enter, must_ask
from twistedetcd.errors import MemberError, MemberRemovedError, StoppedError
from twistedetcd.files.local import LocalFiles
from twistedetcd.interfaces import IHTTPCarrier, IPeerTransport, RunInThread
from twistedetcd.listening import listen, secured
from twistedetcd.peertransports import open_transport
from twistedetcd.protocols.giving import GivingWay
from twistedetcd.protocols.keepalive import KeepalivePolicy
from twistedetcd.protocols.pages import Pages
from twistedetcd.protocols.port import ClientPortFactory
from twistedetcd.security import client_options, make_certificates
from twistedetcd.server.member import EtcdServer
from twistedetcd.tcppeers import TCPNetwork

RESERVED_FILES = 150  # file descriptors that clients may not use up: for the log, the backend, the peers
DRAIN_POLL_SECONDS = 0.05
LISTEN_BACKLOG = 1024
LONE_POLLS = 64  # turns of the reactor that find nothing to do, some 5 µs each
UNLIMITED_STREAMS = 2**32 - 1  # the flag's default, which is not announced


class EtcdService(MultiService):
    """
    One member, to be put under any `MultiService` or run by twistd.

    Whoever starts it stops it: its threads keep a process from ending until `stopService` is done.

    Args:
        config: What it is.
        reactor: Where it runs; the global one if not given.
        on_fatal: Called with the failure when the member had to stop by itself.
        transport: Its way to the other members, if not the one that ``--peer-transport`` names.  One for each
            start.
        joined: Its place in the cluster that it joins, if the members of that are not to be asked for it.
        resolver: Where ``--discovery-srv`` is looked up; the system's name servers if not given.

    Attributes:
        ready: Fires when clients can be served; fails with what kept it from that after `startService` had
            returned, `StoppedError` included.  A new one for each start.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        on_fatal: Callable[[Failure], None] | None = None,
        transport: Callable[[], IPeerTransport] | None = None,
        joined: Entrance | None = None,
        resolver: IResolver | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._transport = transport
        self._joined = joined
        self._resolver = resolver
        self._member: EtcdServer | None = None
        self._entering: Deferred[Any] | None = None
        self._closers: list[Callable[[], object]] = []
        self._ports: list[IListeningPort] = []
        self._secured: IProtocolFactory | None = None
        self._running = 0  # works under way in the workers' threads, all of which are about files
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
            MemberRemovedError: It was removed from its cluster, and knows it; nothing stays open.
            MemberError: The member cannot start; the text is one sentence, and nothing stays open.
        """
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        try:
            make_certificates(self._config, datetime.now(UTC))
        except OSError as error:
            raise MemberError(str(error)) from error
        if self.ready.called:  # it failed before anything was opened
            self.ready = Deferred()
        if self._joined is None and must_ask(self._config, LocalFiles()):
            self._entering = Deferred.fromCoroutine(self._enter())
            started = self._entering.addCallback(self._entered)
        else:
            started = self._open(self._joined)
        super().startService()
        started.addCallback(self._listen).addCallbacks(self.ready.callback, self._not_started)

    async def _enter(self) -> Entrance | None:
        """Ask others what has to be known before anything is opened."""
        if self._config.discovery_srv:
            told = len(self._config.warnings)
            self._config = await discover(self._config, self._resolver or system_resolver(self._reactor))
            for warning in self._config.warnings[told:]:
                self._log.warn("{reason}", reason=warning)
        pages = Pages(self._reactor, TCPNetwork(self._config, self._reactor).endpoint)
        return await enter(self._config, pages.get)

    def _entered(self, entrance: Entrance | None) -> Deferred[None]:
        self._entering = None
        return self._open(entrance)

    def _open(self, entrance: Entrance | None) -> Deferred[None]:
        try:
            return self._start(entrance)
        except OSError as error:
            self._close()
            raise MemberError(str(error)) from error
        except BaseException:
            self._close()
            raise

    def _start(self, entrance: Entrance | None) -> Deferred[None]:
        config, clock = self._config, self._reactor
        connections_max = _connections_max()
        writer = self._thread_pool("writer", 1)
        worker = self._counted(self._thread_pool("worker", 2))
        syncer = self._thread_pool("syncer", 1)
        files = LocalFiles()
        transport = open_transport(config, clock) if self._transport is None else self._transport()
        host = Host(
            clock=clock,
            monotonic=_monotonic(clock),
            files=files,
            open_backend=partial(open_backend, config.backend),
            log_options=lambda directory, engine_busy: log_options(
                config, files, clock, worker, syncer, lambda: self._running > 0 or engine_busy(), directory
            ),
            run_in_writer=writer,
            run_in_worker=worker,
            draw=random.SystemRandom().randrange,
            jitter=random.random,
            transport=transport,
            joined=entrance,
            failed=self._fatal,
            lone_polls=LONE_POLLS,
            give_way=GivingWay(),
        )
        assembly = Assembly(config, host, self._closers)
        self._member = member = assembly.member
        if IHTTPCarrier.providedBy(transport):
            transport.http = peer_site(member, clock)
        # Open connections of HTTP/1.1 are known only to the wrapper.
        self._http = WrappingFactory(site(member, clock))
        self._http.protocol = _HalfCloseable
        self._http.noisy = False
        self._factory = ClientPortFactory(
            clock,
            assembly.turn,
            assembly.methods,
            self._http,
            config.max_request_bytes + GRPC_OVERHEAD_BYTES,
            None if config.max_concurrent_streams == UNLIMITED_STREAMS else config.max_concurrent_streams,
            terms,
            connections_max,
            KeepalivePolicy(
                ping_min_seconds=config.grpc_keepalive_min_time_seconds,
                interval_seconds=config.grpc_keepalive_interval_seconds,
                timeout_seconds=config.grpc_keepalive_timeout_seconds,
            ),
        )
        self._secured = secured(clock, self._factory, client_options(config), self._refused)
        return assembly.start()

    def _refused(self, host: str, reason: str) -> None:
        self._log.warn("rejected connection on client endpoint: {error}", error=reason, remote_addr=host)

    def _thread_pool(self, name: str, threads: int) -> RunInThread:
        pool = ThreadPool(minthreads=0, maxthreads=threads, name=f"twistedetcd {name}")
        pool.start()
        self._closers.append(pool.stop)
        return lambda work: deferToThreadPool(self._reactor, pool, work)

    def _counted(self, run: RunInThread) -> RunInThread:
        def run_counted(work: Callable[[], Any]) -> Deferred[Any]:
            self._running += 1
            return run(work).addBoth(self._ran)

        return run_counted

    def _ran(self, result: Any) -> Any:
        self._running -= 1
        return result

    def _listen(self, started: None) -> None:
        addresses = self._config.client_addresses
        self._ports = listen(self._reactor, addresses, self._factory, self._secured, LISTEN_BACKLOG)
        for host, port, _ in addresses:
            self._log.info("ready to serve client requests on {host}:{port}", host=host, port=port)

    def _not_started(self, failure: Failure) -> None:
        self._entering = None
        if failure.check(CancelledError):
            failure = Failure(StoppedError())  # while others were asked
        if not failure.check(StoppedError):
            self._fatal(failure)
        self.ready.errback(failure)

    def _fatal(self, failure: Failure) -> None:
        if failure.check(MemberError, OSError, MemberRemovedError):
            self._log.critical("The member stops: {reason}", reason=failure.getErrorMessage())
        else:
            self._log.failure("What stops the member was not expected", failure)
            self._log.critical("The member stops: {reason}", reason=failure.getErrorMessage())
        if self._on_fatal is not None:
            self._on_fatal(failure)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, let calls in progress finish, commit, close.  Fires when nothing is left."""
        stopping = maybeDeferred(super().stopService)
        if self._entering is not None:
            self._entering.cancel()
        if self._member is not None:
            member = self._member
            stopping.addCallback(lambda _: self._stop_listening())
            stopping.addCallback(lambda _: self._drain())
            stopping.addCallback(lambda _: member.stop())
            stopping.addBoth(self._closed)
        return stopping

    def _stop_listening(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def _drain(self) -> Any:
        """Give calls in progress up to the request timeout, then hang up."""
        self.member.streams.end_all(StoppedError())
        self._factory.drain()
        for channel in list(self._http.protocols):
            channel.transport.loseConnection()
        return self._wait_for_clients(self._reactor.seconds() + request_timeout_seconds(self._config))

    def _wait_for_clients(self, until: float) -> Any:
        clients: list[Any] = [*self._factory.undecided, *self._factory.connections, *self._http.protocols]
        if not clients:
            return None
        if self._reactor.seconds() >= until:
            for client in clients:
                client.transport.abortConnection()
        return deferLater(self._reactor, DRAIN_POLL_SECONDS, self._wait_for_clients, until)

    def _closed(self, result: Any) -> Any:
        self._close()
        if self.ready.called:
            self.ready = Deferred()
        # What the threads said last is on its way, and may bring a file to be closed: let it go first.
        closed: Deferred[Any] = Deferred()
        self._reactor.callFromThread(closed.callback, result)
        return closed

    def _close(self) -> None:
        """Close what was opened, the last first."""
        self._member = None
        while self._closers:
            try:
                self._closers.pop()()
            except Exception:
                self._log.failure("Something could not be closed")


@implementer(IHalfCloseableProtocol)
class _HalfCloseable(ProtocolWrapper):
    """Passes on also what a plain wrapper keeps to itself."""

    wrappedProtocol: Any

    def readConnectionLost(self) -> None:
        self.wrappedProtocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        self.wrappedProtocol.writeConnectionLost()


def _monotonic(clock: IReactorTime) -> Callable[[], float]:
    """Seconds that nobody sets: a reactor's own clock is the wall's, a clock in a test is what it is."""
    return time.monotonic if isinstance(clock, ReactorBase) else clock.seconds


def _connections_max() -> int | None:
    """
    How many clients the process has file descriptors for; ``None`` if there is no limit.

    Raises:
        MemberError: For none.
    """
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max == resource.RLIM_INFINITY:
        return None
    if files_max <= RESERVED_FILES:
        raise MemberError(
            f"file descriptor limit[{files_max}] of etcd process is too low, and should be set higher than "
            f"{RESERVED_FILES} to ensure internal usage"
        )
    return files_max - RESERVED_FILES
