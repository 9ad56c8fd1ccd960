"""A whole member without a disk, a thread or a clock of its own; its log and its writer wait for the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.apply import request as kinds
from twistedetcd.apply.chain import Link, chain
from twistedetcd.apply.request import Encoder
from twistedetcd.apply.store import StoreApplier
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import Code
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.images import Images
from twistedetcd.interfaces import IWAL, Batch, IBackend, ISnapshotter
from twistedetcd.lease.lessor import Lessor
from twistedetcd.mvcc.hash import KeyValueHash
from twistedetcd.mvcc.pending import Pending
from twistedetcd.mvcc.store import Store
from twistedetcd.mvcc.watch import Watches
from twistedetcd.mvcc.work import finish
from twistedetcd.pb import rpc_pb2
from twistedetcd.peertransports import NoPeers
from twistedetcd.protocols.turn import Turn
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import Entry, HardState, Snapshot
from twistedetcd.server.bootstrap import AppliedMark, check_log_covers, new_raft, read_mark, restarted_raft
from twistedetcd.server.clustering import Options
from twistedetcd.server.committer import Committer
from twistedetcd.server.exchange import Exchange
from twistedetcd.server.leases import Leases
from twistedetcd.server.member import EtcdServer
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.server.slices import Slices
from twistedetcd.server.snapshots import Snapshots
from twistedetcd.snap.memory import MemorySnapshotter
from twistedetcd.wal.memory import MemoryWAL

TIMEOUT_SECONDS = 7.0
INTERVAL_SECONDS = 0.1
TICK_SECONDS = 0.1
ELECTION_SECONDS = 1.0
TTL_MIN_SECONDS = 2


@implementer(IWAL)
class HeldWAL(MemoryWAL):
    """
    A log whose syncs the test completes, one after the other, while ``holding``.

    What is held is not in ``entries`` yet: a crash would lose it.  As the contract says, a hard state that
    moved only its commit index waits for nothing.
    """

    def __init__(self, holding: bool = False) -> None:
        super().__init__()
        self.holding = holding
        self.held: list[tuple[HardState | None, tuple[Entry, ...], Deferred[None]]] = []

    @classmethod
    def of(cls, killed: HeldWAL) -> HeldWAL:
        """What a restart reads of another's log: all that is durable, and nothing that is held."""
        wal = cls()
        wal.entries, wal.hard_state = list(killed.entries), killed.hard_state
        wal.saves = list(killed.saves)
        return wal

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> Deferred[None]:
        assert not self.held, "one writer: the last save has not fired"
        must_sync = bool(entries) or (state is not None and state[:2] != self.hard_state[:2])
        if not self.holding or not must_sync:
            return super().save(state, entries)
        saved: Deferred[None] = Deferred()
        self.held.append((state, tuple(entries), saved))
        return saved

    def release(self) -> None:
        """The disk has the save that is held."""
        state, entries, saved = self.held.pop()
        super().save(state, entries).chainDeferred(saved)

    def release_all(self) -> None:
        """And so with every save that follows from it."""
        while self.held:
            self.release()

    def refuse(self, error: Exception) -> None:
        """The disk fails."""
        self.held.pop()[2].errback(error)


class Writer:
    """The writer thread, or a worker: at once, or, while ``holding``, when the test says so."""

    def __init__(self) -> None:
        self.holding = False
        self.held: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        if not self.holding:
            return maybeDeferred(work)
        done: Deferred[Any] = Deferred()
        self.held.append((work, done))
        return done

    def release(self) -> None:
        """Let the oldest write happen."""
        work, done = self.held.pop(0)
        maybeDeferred(work).chainDeferred(done)


class RecordingBackend(MemoryBackend):
    """
    An engine that remembers its batches, and refuses them when told to.

    Attributes:
        batches: What was written, in order.
        error: Raised by `write` when it is set.
    """

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.error: Exception | None = None
        for batch in batches:
            self.write(batch)

    def write(self, batch: Batch) -> None:
        if self.error is not None:
            raise self.error
        self.batches.append({bucket: dict(values) for bucket, values in batch.items()})
        super().write(batch)


class Client:
    """One who waits: ``outcome`` is the reply, or code and message; ``None`` until then."""

    def __init__(self, told: list[Client] | None = None) -> None:
        self.outcome: bytes | tuple[Code, str] | None = None
        self._told = told

    def reply(self, message: bytes) -> None:
        """See `twistedetcd.server.wait.Waiter`."""
        self._tell(message)

    def fail(self, code: Code, message: str) -> None:
        """See `twistedetcd.server.wait.Waiter`."""
        self._tell((code, message))

    def _tell(self, outcome: bytes | tuple[Code, str]) -> None:
        assert self.outcome is None, "told twice"
        self.outcome = outcome
        if self._told is not None:
            self._told.append(self)


class Parts(NamedTuple):
    """What a member is made of; ``recorded`` is the index of the snapshot that it starts from."""

    wal: IWAL
    snapshotter: ISnapshotter
    recorded: int
    backend: IBackend
    pending: Pending
    store: Store
    lessor: Lessor
    cluster: Cluster
    mark: AppliedMark
    founder: Member
    cluster_id: int
    raft: RawNode
    storage: MemoryStorage


class Running:
    """
    A member made of its real parts.

    Args:
        wal: Its log; what it holds is what a restart would read.
        backend: Its engine.
        links: Put before the store in the chain.
        limit: Operations that make a batch full.
        snapshot_count: Entries between two snapshots; ``None`` for none.
        checkpoint_seconds: As for `Lessor`.
    """

    def __init__(
        self,
        wal: HeldWAL | None = None,
        backend: MemoryBackend | None = None,
        links: Sequence[Link] = (),
        limit: int = 10_000,
        request_bytes_max: int = 1024 * 1024,
        snapshot_count: int | None = None,
        checkpoint_seconds: float | None = None,
    ) -> None:
        wal = HeldWAL() if wal is None else wal
        backend = RecordingBackend() if backend is None else backend
        pending = Pending(backend)
        store = Store(pending, compaction_batch=2)
        lessor = Lessor(pending, TTL_MIN_SECONDS, checkpoint_seconds)
        lessor.restore()
        for key, lease_id in finish(store.restore()).items():
            lessor.attach(key, lease_id)
        cluster = Cluster(pending)
        cluster.restore()
        mark = AppliedMark(pending)
        founder = Member(7, ("http://localhost:2380",))
        if wal.entries:
            check_log_covers(mark, 0, wal.entries)
            raft, storage = restarted_raft(
                7, Snapshot(), wal.hard_state, wal.entries, mark, 10, True, lambda n: 0
            )
        else:
            raft, storage = new_raft(founder, 10, True, lambda n: 0)
        parts = Parts(
            wal,
            MemorySnapshotter(),
            0,
            backend,
            pending,
            store,
            lessor,
            cluster,
            mark,
            founder,
            8,
            raft,
            storage,
        )
        self.wal = wal
        self._assemble(parts, links, limit, request_bytes_max, snapshot_count, life=len(wal.saves))

    def _assemble(
        self,
        parts: Parts,
        links: Sequence[Link] = (),
        limit: int = 10_000,
        request_bytes_max: int = 1024 * 1024,
        snapshot_count: int | None = None,
        kept: int = 5,
        life: int = 0,
    ) -> None:
        """Put it together; ``life`` makes its request ids others than those of the lives before."""
        self.clock = Clock()
        self.backend = parts.backend
        self.writer, self.worker = Writer(), Writer()
        self.failures: list[Failure] = []
        self.pending, self.store, self.mark, self.raft = parts.pending, parts.store, parts.mark, parts.raft
        self.snapshotter = parts.snapshotter
        self.lessor = parts.lessor
        self.watches = Watches(self.store)
        self.turn = Turn(self.clock)
        self.member = EtcdServer(
            clock=self.clock,
            identity=parts.founder._replace(name="one", client_urls=("http://localhost:2379",)),
            cluster_id=parts.cluster_id,
            store=self.store,
            leases=Leases(
                self.clock, self.clock.seconds, self.lessor, ELECTION_SECONDS, retry_seconds=TIMEOUT_SECONDS
            ),
            watches=self.watches,
            pending=self.pending,
            cluster=parts.cluster,
            wake=self.turn.wake,
            encoder=Encoder((7 << 48) + (life << 20)),
            request_bytes_max=request_bytes_max,
            request_timeout_seconds=TIMEOUT_SECONDS,
            election_timeout_seconds=10 * TICK_SECONDS,
            compaction_pause_seconds=0.01,
            clustering=Options(NoPeers(), "3.6.0"),
            failed=self.failures.append,
        )
        self.turn.before_writing(self.member.flush)
        self.committer = Committer(
            clock=self.clock,
            pending=self.pending,
            backend=self.backend,
            run_in_writer=self.writer,
            stamp=self._stamp,
            failed=self.member.failed,
            interval_seconds=INTERVAL_SECONDS,
            operations_max=limit,
        )
        self.node = RaftNode(
            clock=self.clock,
            raft=self.raft,
            storage=parts.storage,
            wal=parts.wal,
            tick_seconds=TICK_SECONDS,
            apply=self.member.applying.apply,
            failed=self.member.failed,
            next_context=life << 20,
            catch_up_entries=5000,
        )
        self.exchange = Exchange(
            backend=self.backend,
            committer=self.committer,
            images=Images(SimulatedFiles(Random(0)), "snap", sync=True),
            snapshotter=parts.snapshotter,
            slices=Slices(self.clock),
            run_in_writer=self.writer,
            run_in_worker=self.worker,
            mark=lambda view: read_mark(view.get),
            membership=lambda view: b"",
            replica=cast(Any, None),  # nobody sends a store to who is alone
            replaced=lambda put_in_place: None,
            applied=lambda: self.member.applied_index,
        )
        self.snapshots = Snapshots(
            clock=self.clock,
            snapshotter=parts.snapshotter,
            wal=parts.wal,
            run_in_worker=self.worker,
            applied=lambda: self.node.applied_index,
            state=self._state,
            commit=lambda: self.committer.flush(mark=True),
            record=self.node.record_snapshot,
            purge_images=self.exchange.purge,
            failed=self.member.failed,
            every=snapshot_count,
            recorded=parts.recorded,
            wals_max=kept,
            snapshots_max=kept,
        )
        store_applier = StoreApplier(
            self.store, self.lessor, parts.cluster, self.member.header, self.member.compact_later
        )
        self.applier = chain(store_applier, links)

    def _stamp(self) -> None:
        self.mark.write(self.member.applied_index, self.member.applied_term, self.raft.status().configuration)

    def _state(self) -> Snapshot:
        conf_state = self.raft.status().configuration
        return Snapshot(self.node.applied_index, self.node.applied_term, conf_state)

    def start(self) -> Running:
        """Start it, and let the turn end."""
        unfinished = self.store.unfinished_compaction
        if unfinished is not None:
            self.member.compact_later(unfinished, self.store.resume_compaction(unfinished))
        self.ready = self.member.start(
            self.node,
            self.committer,
            self.snapshots,
            self.exchange,
            self.applier,
            self.mark.index,
            self.mark.term,
        )
        self.end_turn()
        return self

    def end_turn(self) -> None:
        """The reactor goes on to its next turn."""
        self.clock.advance(0)

    def one_turn(self) -> None:
        """As `end_turn`, without what is put off to the turns after it."""
        due = [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]
        for call in due:
            if call.active():
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def pump(self, seconds: float) -> None:
        """Let time pass, a hundredth of a second at a time."""
        self.clock.pump([0.01] * round(seconds * 100))

    # Requests.  Each returns the client that waits.

    def put(self, key: bytes, value: bytes = b"v", client: Client | None = None) -> Client:
        """A put, not proposed before the turn ends."""
        return self.propose(kinds.PUT, rpc_pb2.PutRequest(key=key, value=value), client)

    def propose(self, kind: str, request: Any, client: Client | None = None) -> Client:
        """Any request."""
        client = Client() if client is None else client
        self.member.propose(kind, request.SerializeToString(), request, client)
        return client

    def get(self, key: bytes) -> Client:
        """A linearizable read; its outcome is the values found."""
        client = Client()
        self.member.read(self._get, client, key)
        return client

    def _get(self, client: Client, key: bytes) -> None:
        client.reply(b"".join(self.store.range(key, None)[0]))

    # A look inside.

    def done(self, *clients: Client) -> list[bool]:
        """Who of them was answered."""
        return [client.outcome is not None for client in clients]

    def hash(self) -> KeyValueHash:
        """Of all revisions."""
        result = finish(self.store.hash(0))
        assert isinstance(result, KeyValueHash)
        return result
