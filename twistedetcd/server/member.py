"""
One member: requests in, answers out, by way of raft and the applier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.apply.request import Encoder, Request
from twistedetcd.apply.responses import Header
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import (
    EtcdError,
    LeaderChangedError,
    MemberError,
    MemberRemovedError,
    NoLeaderError,
    NotPrimaryError,
    NotSupportedForLearnerError,
    RequestTooLargeError,
    StoppedError,
    TimeoutError,
    TooManyRequestsError,
)
from twistedetcd.interfaces import IKV, IApplier, IImage, IWatchable, Work
from twistedetcd.mvcc.pending import Pending
from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.types import ConfChange, Entry, Snapshot
from twistedetcd.server.applying import Applying
from twistedetcd.server.clustering import Clustering, Options
from twistedetcd.server.committer import Committer
from twistedetcd.server.exchange import Exchange
from twistedetcd.server.leases import RENEW, Leases
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.server.readindex import Execute
from twistedetcd.server.slices import CompactionQueue, Hashes, Slices
from twistedetcd.server.snapshots import Snapshots
from twistedetcd.server.streams import Streams
from twistedetcd.server.vetting import can_be_carried_out
from twistedetcd.server.wait import Waiter, Waits
from twistedetcd.server.watching import WatchDriver

PROPOSALS_MAX = 5000  # requests that wait to be proposed, beyond which more are refused
SWEEP_SECONDS = 0.1  # how often waiting requests are looked at for their deadline


class EtcdServer:
    """
    A member that runs.  Made by `twistedetcd.service`, which hands in its parts.

    Args:
        clock: Time and timers.
        identity: This member as its configuration describes it.
        cluster_id: The cluster's id.
        store: The keys.
        leases: The leases, which belong to nobody yet.
        watches: Who watches them.
        pending: The overlay under ``store``.
        cluster: The members.
        wake: Makes sure that `flush` is called before this reactor turn ends.
        request_bytes_max: Largest entry.
        request_timeout_seconds: How long a request may wait.
        election_timeout_seconds: How long it takes to find that there is no leader.
        encoder: Gives requests their ids.
        compaction_pause_seconds: Between two slices of a compaction.
        clustering: What the member is told of its cluster.
        failed: Called, once, when a member that served clients cannot go on; it has stopped by then.

    Attributes:
        clustering: What it is among the others.
        waits: Who waits for which request.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        identity: Member,
        cluster_id: int,
        store: IKV,
        leases: Leases,
        watches: Any,
        pending: Pending,
        cluster: Cluster,
        wake: Callable[[], None],
        encoder: Encoder,
        request_bytes_max: int,
        request_timeout_seconds: float,
        election_timeout_seconds: float,
        compaction_pause_seconds: float,
        clustering: Options,
        failed: Callable[[Failure], None],
    ) -> None:
        self.clock = clock
        self.identity = identity
        self.cluster_id = cluster_id
        self.store = store
        self.watches = watches
        self.pending = pending
        self.cluster = cluster
        self.header = Header(cluster_id, identity.id)
        self._wake = wake
        self._encoder = encoder
        self.new_id = encoder.take_id
        self._request_bytes_max = request_bytes_max
        self._request_timeout_seconds = request_timeout_seconds
        self._tell_failed = failed
        self.waits = Waits()
        self._pending_requests = self.waits.pending
        self._deadline = 0.0
        self._sweep: IDelayedCall | None = None
        self._refusal: EtcdError | None = None
        self._ready: Deferred[None] = Deferred()
        self.streams = Streams(clock, self._has_leader, election_timeout_seconds)
        self._watching = WatchDriver(clock, IWatchable(watches), self.failed)
        watches.wake = self._watching.wake
        self._reading = Slices(clock)
        self.hash = Hashes(self._reading, store).hash
        self.applying = Applying(
            clock,
            self.waits,
            self._apply_raft_entry,
            self._applied,
            lambda index, term: self.node.applied_to(index, term),
            self.failed,
        )
        self._compacting = Slices(clock, compaction_pause_seconds)
        self.compactions = CompactionQueue(self._compacting, self.failed)
        self.leases = leases
        leases.belong_to(self)
        self._node: RaftNode | None = None
        self._committer: Committer | None = None
        self._snapshots: Snapshots | None = None
        self._exchange: Exchange | None = None
        self.clustering = Clustering(
            clock,
            identity,
            cluster_id,
            cluster,
            clustering,
            self,
            self.new_id,
            wake,
            request_timeout_seconds,
            election_timeout_seconds,
        )
        self.clustering.peers.answers[RENEW] = leases.answer_renewal

    # Life.

    def start(
        self,
        node: RaftNode,
        committer: Committer,
        snapshots: Snapshots,
        exchange: Exchange,
        applier: IApplier,
        applied_index: int,
        applied_term: int,
    ) -> Deferred[None]:
        """
        Begin.

        Args:
            node: Not started yet.
            committer: Not started yet.
            snapshots: Not started yet.
            exchange: How whole stores come and go.
            applier: The outermost link of the chain.
            applied_index: The last entry whose effects the backend has.
            applied_term: Its term.

        Returns:
            Fires when clients can be served.

        Raises:
            StoppedError: It was stopped before.
            Exception: What kept it from going on before.
        """
        self._node, self._committer, self._snapshots = node, committer, snapshots
        self._exchange = exchange
        self.applying.start(applier, applied_index, applied_term)
        node.applied_index, node.applied_term = applied_index, applied_term
        self._sweep_now()
        node.on_lead.append(lambda lead: self._check_ready())
        node.on_follower.append(self.leases.follow)
        node.on_applied.append(self.leases.applied)
        committer.start()
        snapshots.start(node.on_applied)
        try:
            self.clustering.start(node, exchange)
        except MemberError:
            self.failed(Failure())
        else:
            node.start()
        return self._ready

    def stop(self) -> Deferred[None]:
        """
        Stop; those who wait are told.  A leader hands over first, if it can.

        Returns:
            Fires once all pending writes are in the engine, and log and engine are at rest.

        Raises:
            BackendError: The engine refused the last writes.
        """
        assert self._node is not None, "stopped before it was started"
        if self._refusal is not None:
            return self._stop()
        return self.clustering.hand_over().addCallback(lambda _: self._stop())

    def _stop(self) -> Deferred[None]:
        assert self._node is not None and self._committer is not None and self._snapshots is not None
        if self.applying.behind:
            # The open batch may hold half of that entry.  The log has all of it, for the next start.
            self._committer.give_up(Failure(StoppedError()))
        self._halt()
        assert self._exchange is not None
        at_rest = [self._node.stop(), self._snapshots.stop(), self.clustering.stop(), self._exchange.stop()]
        committed = self._committer.stop()
        for other in at_rest:
            committed.addBoth(lambda result, other: other.addCallback(lambda _: result), other)
        if not self._ready.called:
            self._ready.errback(StoppedError())
        return committed

    def _halt(self) -> None:
        assert self._node is not None and self._snapshots is not None
        self._refusal = error = StoppedError()
        self._snapshots.stop()
        self._node.stop()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self.streams.end_all(error)
        self._watching.stop()
        self._reading.stop()
        self.applying.stop()
        self._compacting.stop()
        self.clustering.halt()
        self.leases.stop(error)
        self.waits.fail_all(error)
        self._node.reads.fail_all(error)

    def failed(self, failure: Failure) -> None:
        """The log, the applier or the engine failed: memory and disk may differ, so nothing may go on."""
        if self._refusal is not None:
            return  # it stops already; stop() tells about a failure of the engine
        assert self._committer is not None
        self._refusal = StoppedError()  # whoever is told by the committer may come back to here
        self._committer.give_up(failure)
        self._halt()
        if self._ready.called:
            self._tell_failed(failure)
        else:
            self._ready.errback(failure)

    @property
    def node(self) -> RaftNode:
        """Its raft."""
        assert self._node is not None, "the member is not started"
        return self._node

    @property
    def pending_requests(self) -> int:
        """How many requests are on their way through raft."""
        return len(self._pending_requests) + len(self.waits.forwarded)

    @property
    def behind(self) -> bool:
        """Whether something is committed here that is not applied yet."""
        return self.applying.behind

    @property
    def alone(self) -> bool:
        """Whether nobody else has a vote: then it leads, and need not ask."""
        return self.clustering.alone

    @property
    def learner(self) -> bool:
        """Whether it has none itself."""
        return self.clustering.learner

    def removed(self) -> None:
        """This member is no member any more: it stops."""
        self.failed(Failure(MemberRemovedError()))

    def vet(self, entry: Entry) -> bool:
        """See `twistedetcd.server.peers.Peers`."""
        fits = len(entry.data) <= self._request_bytes_max
        return fits and can_be_carried_out(entry, self.cluster)

    def propose_own(self, kind: str, message: Any, waiter: Waiter | None) -> None:
        """As `propose`, but never refused: a replayed log may have filled the open batch."""
        data = self._encoder.encode(kind, message.SerializeToString())
        self.node.proposals.waiting.append(data)
        self._pending_requests[id(data)] = (data, Request(kind, message), waiter, self._new_deadline())
        self._wake()

    def propose_as_leader(self, kind: str, raw: bytes, message: Any, waiter: Waiter | None) -> None:
        """
        As `propose`, but what only a leader may want is not sent on to another one.

        Raises:
            NotPrimaryError: This member does not lead.
            EtcdError: As `propose`.
        """
        if self._refusal is not None:
            raise self._refusal
        if self.pending.full or self.applying.full:
            raise TooManyRequestsError
        data = self._encoder.encode(kind, raw)
        if not self.node.proposals.add_as_leader(data):
            raise NotPrimaryError
        self._pending_requests[id(data)] = (data, Request(kind, message), waiter, self._new_deadline())
        self._wake()

    # Requests.

    def propose(self, kind: str, raw: bytes, message: Any, waiter: Waiter | None) -> None:
        """
        Have a request replicated and applied, with all others of this turn.

        Args:
            kind: Its name in ``InternalRaftRequest``.
            raw: The client's bytes.
            message: The same, parsed.
            waiter: Who is told; nobody if ``None``.

        Raises:
            EtcdError: It was not taken: too large, too many, or the member stops.
        """
        if self._refusal is not None:
            raise self._refusal
        data = self._encoder.encode(kind, raw)
        if len(data) > self._request_bytes_max:
            raise RequestTooLargeError
        node = self._node
        assert node is not None
        proposals = node.proposals.waiting
        if not proposals:
            self._begin_turn()
            if self._refusal is not None:
                raise self._refusal
        elif len(proposals) >= PROPOSALS_MAX:
            raise TooManyRequestsError
        proposals.append(data)
        self._pending_requests[id(data)] = (data, Request(kind, message), waiter, self._deadline)

    def _begin_turn(self) -> None:
        """Once for all proposals of a turn."""
        if self.learner:
            raise NotSupportedForLearnerError
        if self.pending.full or self.applying.full:
            raise TooManyRequestsError
        self._new_deadline()
        self._wake()

    def _new_deadline(self) -> float:
        """For requests that come now."""
        self._deadline = deadline = self.clock.seconds() + self._request_timeout_seconds
        return deadline

    def read(self, execute: Execute, call: Any, request: Any) -> None:
        """
        Carry out a linearizable read, with all others of this turn.

        Args:
            execute: Called with ``call`` and ``request`` once this member has applied all that was committed
                by now.
            call: Its ``fail`` is called instead when that does not come about in time.
            request: Whatever ``execute`` wants.

        Raises:
            EtcdError: The member stops.
        """
        if self._refusal is not None:
            raise self._refusal
        arrived = self._node.reads.arrived  # type: ignore[union-attr]
        if not arrived:
            if self.learner:
                raise NotSupportedForLearnerError
            self._new_deadline()
            self._wake()
        arrived.append((execute, call, request, self._deadline))

    def ask_leader(self, kind: str, body: bytes) -> Deferred[bytes]:
        """As `Peers.ask_leader`."""
        return self.clustering.peers.ask_leader(kind, body)

    def flush(self) -> None:
        """The end of a reactor turn."""
        if self._node is not None:
            self._node.flush()

    def read_slowly(self, work: Work[Any]) -> Deferred[Any]:
        """
        Go on with a read that takes more than a turn.

        Returns:
            Fires with its result.

        Raises:
            StoppedError: The member stops.
            Exception: What the work raises.
        """
        return self._reading.run(work)

    def committed_to_disk(self) -> Deferred[None]:
        """
        Fires when all that was applied by now is in the engine.

        Raises:
            StoppedError: The engine refused, or the member stopped for another reason.
        """
        assert self._committer is not None
        return self._committer.flush().addErrback(_stopped)

    def image(self) -> Deferred[tuple[Snapshot, IImage]]:
        """
        The store of this member as it is now; see `Exchange.image`.

        Raises:
            StoppedError: The member stops.
            BackendError: The engine refused.
        """
        if self._refusal is not None:
            return fail(self._refusal)
        assert self._exchange is not None, "not started"
        return self._exchange.image()

    def compact_later(self, revision: int, work: Work[None]) -> None:
        """The work of a compaction that was accepted."""
        self.compactions.add(work)

    def _sweep_now(self) -> None:
        self._sweep = self.clock.callLater(SWEEP_SECONDS, self._sweep_now)
        now = self.clock.seconds()
        self._new_deadline()  # a turn's requests may wait for a slow save, and later ones join them
        self.leases.sweep(now)
        self.waits.expire(now, self.clustering.too_late)
        if not self._has_leader():
            # What its client was told to be too late must not be done a long time after.
            self.node.proposals.keep(self._pending_requests)
        self.clustering.expire(now)
        self.applying.expire(now, TimeoutError())
        self.node.reads.retry(now, TimeoutError())

    def require_leader(self) -> None:
        """
        For those who asked for a member that knows a leader.

        Raises:
            NoLeaderError: There is none.
        """
        if not self._has_leader():
            raise NoLeaderError

    def _has_leader(self) -> bool:
        return bool(self.node.raft.lead)

    # Committed entries.

    @property
    def applied_index(self) -> int:
        """The last entry whose effects are there."""
        return self.applying.index

    @property
    def applied_term(self) -> int:
        """Its term."""
        return self.applying.term

    def _apply_raft_entry(self, entry: Entry) -> None:
        """An entry of raft's own: a leader's first, or a change of membership."""
        if entry.type:
            change = decode_change(entry)
            if isinstance(change, ConfChange):
                self.clustering.apply(change)
            else:
                self.node.raft.apply_conf_change(change)  # as raft's own, to leave a joint configuration
                self.clustering.members_changed()
        elif self.node.is_leader and entry.term == self.node.raft.term:
            self.leases.lead()

    def _applied(self) -> None:
        """Entries were carried out."""
        self.watches.publish()
        self._check_ready()
        assert self._committer is not None
        self._committer.check()

    def _check_ready(self) -> None:
        """Clients are served once what this member says of itself is applied, and something of this term."""
        if not self._ready.called:
            up_to_date = self.node.raft.lead and self.applied_term == self.node.raft.term
            if up_to_date and self.clustering.published:
                self._ready.callback(None)

    # Another store.

    def install(self, snapshot: Snapshot) -> Deferred[None]:
        """See `twistedetcd.server.raftnode.Peers.install`."""
        assert self._exchange is not None, "not started"
        self.applying.hold()
        return self._exchange.install(snapshot).addErrback(self._not_installed)

    def _not_installed(self, failure: Failure) -> None:
        if self._refusal is None:
            self.failed(failure)

    def replace_store(self, put_in_place: Callable[[], tuple[int, int]]) -> None:
        """
        Be a member at what a snapshot brought.

        Args:
            put_in_place: Replaces what the stores hold; returns index and term of the last entry in them.
        """
        self._reading.give_up(LeaderChangedError())
        self.compactions.give_up()
        index, term = put_in_place()
        self.clustering.members_changed()
        self.watches.begin_anew()
        self._check_ready()
        self.applying.go_on(index, term)


def _stopped(failure: Failure) -> None:
    raise StoppedError from failure.value
