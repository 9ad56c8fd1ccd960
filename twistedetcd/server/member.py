"""
One member: requests in, answers out, by way of raft and the applier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Encoder, Request
from twistedetcd.apply.responses import Header
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import (
    EtcdError,
    NoLeaderError,
    RequestTooLargeError,
    StoppedError,
    TimeoutError,
    TooManyRequestsError,
)
from twistedetcd.interfaces import IKV, IApplier, IWatchable, Work
from twistedetcd.mvcc.pending import Pending
from twistedetcd.pb.membership_pb2 import ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.types import ConfChange, Entry
from twistedetcd.server.committer import Committer
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.server.readindex import Execute
from twistedetcd.server.slices import CompactionQueue, Slices
from twistedetcd.server.streams import Streams
from twistedetcd.server.wait import Waiter, Waits
from twistedetcd.server.watching import WatchDriver

PROPOSALS_MAX = 5000  # requests that wait to be proposed, beyond which more are refused
SWEEP_SECONDS = 0.1  # how often waiting requests are looked at for their deadline
BACKLOG_MAX = 5000  # committed entries that wait to be applied, beyond which requests are refused
HASHES_MAX = 16  # hashes at work, each with a reader of the engine, beyond which more are refused
CLUSTER_VERSION = "3.6.0"


class EtcdServer:
    """
    A member that runs.  Made by `twistedetcd.service`, which hands in its parts.

    Args:
        clock: Time and timers.
        identity: This member as its configuration describes it.
        cluster_id: The cluster's id.
        store: The keys.
        watches: Who watches them.
        pending: The overlay under ``store``.
        cluster: The members.
        wake: Makes sure that `flush` is called before this reactor turn ends.
        request_bytes_max: Largest entry.
        request_timeout_seconds: How long a request may wait.
        election_timeout_seconds: How long it takes to find that there is no leader.
        encoder: Gives requests their ids.
        compaction_pause_seconds: Between two slices of a compaction.
        failed: Called, once, when a member that served clients cannot go on; it has stopped by then.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        identity: Member,
        cluster_id: int,
        store: IKV,
        watches: Any,
        pending: Pending,
        cluster: Cluster,
        wake: Callable[[], None],
        encoder: Encoder,
        request_bytes_max: int,
        request_timeout_seconds: float,
        election_timeout_seconds: float,
        compaction_pause_seconds: float,
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
        self._request_bytes_max = request_bytes_max
        self._request_timeout_seconds = request_timeout_seconds
        self._tell_failed = failed
        self._waits = Waits()
        self._pending_requests = self._waits.pending
        self._deadline = 0.0
        self._sweep: IDelayedCall | None = None
        self._refusal: EtcdError | None = None
        self._ready: Deferred[None] = Deferred()
        self.streams = Streams(clock, self._has_leader, election_timeout_seconds)
        self._watching = WatchDriver(clock, IWatchable(watches), self.failed)
        watches.wake = self._watching.wake
        self._reading = Slices(clock)
        self._hashes = 0
        self._applying = Slices(clock)
        self._backlog: deque[Entry] = deque()
        """Committed, and behind an entry that takes many turns."""
        self._slow: tuple[Entry, Waiter | None] | None = None
        """That entry, and who waits for it."""
        self._compacting = Slices(clock, compaction_pause_seconds)
        self.compactions = CompactionQueue(self._compacting, self.failed)
        self.applied_index = 0
        self.applied_term = 0
        self._node: RaftNode | None = None
        self._committer: Committer | None = None
        self._applier: IApplier | None = None

    # Life.

    def start(
        self, node: RaftNode, committer: Committer, applier: IApplier, applied_index: int, applied_term: int
    ) -> Deferred[None]:
        """
        Begin.

        Args:
            node: Not started yet.
            committer: Not started yet.
            applier: The outermost link of the chain.
            applied_index: The last entry whose effects the backend has.
            applied_term: Its term.

        Returns:
            Fires when clients can be served.

        Raises:
            StoppedError: It was stopped before.
            Exception: What kept it from going on before.
        """
        self._node, self._committer, self._applier = node, committer, IApplier(applier)
        self.applied_index, self.applied_term = applied_index, applied_term
        self._proposals = node.proposals
        self._sweep_now()
        node.on_leader.append(self._became_leader)
        committer.start()
        node.start(campaign=True)
        return self._ready

    def stop(self) -> Deferred[None]:
        """
        Stop; those who wait are told.

        Returns:
            Fires once all pending writes are in the engine, and log and engine are at rest.

        Raises:
            BackendError: The engine refused the last writes.
        """
        assert self._node is not None and self._committer is not None, "stopped before it was started"
        if self._slow is not None:
            # The open batch may hold half of that entry.  The log has all of it, for the next start.
            self._committer.give_up(Failure(StoppedError()))
        self._halt()
        log_at_rest = self._node.stop()
        committed = self._committer.stop().addBoth(lambda result: log_at_rest.addCallback(lambda _: result))
        if not self._ready.called:
            self._ready.errback(StoppedError())
        return committed

    def _halt(self) -> None:
        assert self._node is not None
        self._refusal = error = StoppedError()
        self._node.stop()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self.streams.end_all(error)
        self._watching.stop()
        self._reading.stop()
        self._applying.stop()
        self._compacting.stop()
        self._waits.fail_all(error)
        self._node.reads.fail_all(error)

    def failed(self, failure: Failure) -> None:
        """The log, the applier or the engine failed: memory and disk may differ, so nothing may go on."""
        if self._refusal is not None:
            return  # it stops already; stop() tells about a failure of the engine
        assert self._committer is not None
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
        return len(self._pending_requests)

    def _became_leader(self) -> None:
        """Say who we are and, once, which version the cluster is; then clients can be served."""
        attributes = ClusterMemberAttrSetRequest(member_ID=self.identity.id)
        attributes.member_attributes.name = self.identity.name
        attributes.member_attributes.client_urls.extend(self.identity.client_urls)
        self._propose_own(kinds.CLUSTER_MEMBER_ATTR_SET, attributes)
        if not self.cluster.version:
            self._propose_own(kinds.CLUSTER_VERSION_SET, ClusterVersionSetRequest(ver=CLUSTER_VERSION))

    def _propose_own(self, kind: str, message: Any) -> None:
        """As `propose`, but never refused: a replayed log may have filled the open batch."""
        data = self._encoder.encode(kind, message.SerializeToString())
        self.node.proposals.append(data)
        self._pending_requests[id(data)] = (data, Request(kind, message), None, self._new_deadline())
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
        proposals = node.proposals
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
        if self.pending.full or len(self._backlog) >= BACKLOG_MAX:
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
            self._new_deadline()
            self._wake()
        arrived.append((execute, call, request, self._deadline))

    def flush(self) -> None:
        """The end of a reactor turn."""
        if self._node is not None:
            self._node.flush()

    def read_slowly(self, work: Work[bytes]) -> Deferred[bytes]:
        """
        Go on with a read that takes more than a turn.

        Returns:
            Fires with its result.

        Raises:
            StoppedError: The member stops.
            Exception: What the work raises.
        """
        return self._reading.run(work)

    def hash(self, revision: int) -> Deferred[Any]:
        """
        Hash the store up to a revision, in slices.

        Returns:
            Fires with a `twistedetcd.mvcc.hash.KeyValueHash`.

        Raises:
            CompactedError: The revision was compacted.
            FutureRevisionError: It is yet to come.
            StoppedError: The member stops, now or before it is done.
            TooManyRequestsError: As many as there may be are at work.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._hashes >= HASHES_MAX:
            raise TooManyRequestsError
        hashing = self.store.hash(revision)
        self._hashes += 1
        return self._reading.run(hashing).addBoth(self._hashed)

    def _hashed(self, result: Any) -> Any:
        self._hashes -= 1
        return result

    def committed_to_disk(self) -> Deferred[None]:
        """
        Fires when all that was applied by now is in the engine.

        Raises:
            StoppedError: The engine refused, or the member stopped for another reason.
        """
        assert self._committer is not None
        return self._committer.flush().addErrback(_stopped)

    def compact_later(self, revision: int, work: Work[None]) -> None:
        """The work of a compaction that was accepted."""
        self.compactions.add(work)

    def _sweep_now(self) -> None:
        self._sweep = self.clock.callLater(SWEEP_SECONDS, self._sweep_now)
        now = self.clock.seconds()
        self._new_deadline()  # a turn's requests may wait for a slow save, and later ones join them
        self._waits.expire(now, TimeoutError())
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

    def apply(self, entries: Sequence[Entry]) -> int:
        """
        Carry out committed entries, in order, each exactly once.

        Returns:
            The index of the last entry carried out.  After one that takes many turns the others are put off;
            `RaftNode.applied_to` hears of them.

        Raises:
            Exception: An entry cannot be carried out; the member must stop.
        """
        if self._slow is None:
            self._apply(iter(entries))
        else:
            self._backlog.extend(entries)
        return self.applied_index

    def _apply(self, entries: Iterator[Entry]) -> None:
        pending = self._pending_requests
        apply = self._applier.apply  # type: ignore[union-attr]
        for entry in entries:
            data = entry.data
            if entry.type or not data:
                self._apply_raft_entry(entry)
                continue
            waiting = pending.pop(id(data), None)
            if entry.index <= self.applied_index:
                continue  # the backend has its effects already: the log is replayed after a restart
            if waiting is None:
                request, waiter = _decoded(entry), None
            else:
                _, request, waiter, _ = waiting
            try:
                response = apply(request, entry)
            except EtcdError as error:
                self._refused(entry, waiter, error)
            except Exception:
                if waiter is not None:
                    waiter.fail(StoppedError.code, StoppedError.message)
                raise
            else:
                if type(response) is not bytes:
                    self._backlog.extend(entries)
                    self._apply_slowly(entry, waiter, response)
                    self.watches.publish()
                    return
                # First, for whoever is told may have the batch sealed.
                self.applied_index, self.applied_term = entry.index, entry.term
                if waiter is not None:
                    waiter.reply(response)
        self.watches.publish()
        if not self._ready.called:
            self._check_ready()
        assert self._committer is not None
        self._committer.check()

    def _refused(self, entry: Entry, waiter: Waiter | None, error: EtcdError) -> None:
        """An entry that changed nothing, here and on every other member."""
        self.applied_index, self.applied_term = entry.index, entry.term
        if waiter is not None:
            waiter.fail(error.code, error.message)
        else:
            self._log.debug("Entry {index} was refused: {error}", index=entry.index, error=error)

    def _apply_slowly(self, entry: Entry, waiter: Waiter | None, work: Work[bytes]) -> None:
        """Carry out one entry in many turns; the backlog follows."""
        self._slow = entry, waiter
        self._applying.run(work).addCallbacks(self._slowly_applied, self._not_applied).addErrback(self.failed)

    def _slowly_applied(self, response: bytes) -> None:
        assert self._slow is not None
        entry, waiter = self._slow
        self.applied_index, self.applied_term = entry.index, entry.term
        if waiter is not None:
            waiter.reply(response)
        self._apply_backlog()

    def _not_applied(self, failure: Failure) -> None:
        assert self._slow is not None
        entry, waiter = self._slow
        error = failure.value
        if self._refusal is None and isinstance(error, EtcdError):
            self._refused(entry, waiter, error)
            self._apply_backlog()
            return
        if waiter is not None:
            waiter.fail(StoppedError.code, StoppedError.message)
        if self._refusal is None:
            self.failed(failure)

    def _apply_backlog(self) -> None:
        self._slow = None
        backlog, self._backlog = self._backlog, deque()
        self._apply(iter(backlog))
        self.node.applied_to(self.applied_index)

    def _apply_raft_entry(self, entry: Entry) -> None:
        """An entry of raft's own: a leader's first, or a change of membership."""
        if entry.type:
            change = decode_change(entry)
            self.node.raft.apply_conf_change(change)
            if entry.index > self.applied_index and isinstance(change, ConfChange) and change.context:
                self.cluster.add(Member.from_json(change.context))
        if entry.index > self.applied_index:
            self.applied_index, self.applied_term = entry.index, entry.term

    def _check_ready(self) -> None:
        """Clients are served once what we said of ourselves in this term, or before, is applied."""
        ourselves = self.cluster.member(self.identity.id)
        published = ourselves is not None and ourselves[3:] == self.identity[3:]
        in_office = self.node.is_leader and self.applied_term == self.node.raft.term
        if in_office and published and self.cluster.version:
            self._ready.callback(None)


def _decoded(entry: Entry) -> Request:
    """The request of an entry that nobody here waits for: replayed, or somebody else's, or given up on."""
    try:
        return kinds.decode(entry.data)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"log entry {entry.index} holds no request that this version knows") from error


def _stopped(failure: Failure) -> None:
    raise StoppedError from failure.value
