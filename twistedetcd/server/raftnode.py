"""
Drives raft: ticks, messages, proposals and reads in, each Ready carried out in the order that keeps it safe.

Save, then send, then apply, then advance.  Only a leader sends its appends first, for its followers save
meanwhile (raft dissertation, 10.2.1); and what it only tells, last, for its clients wait.  One Ready a turn
carries all that the turn brought.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from operator import attrgetter
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.errors import MemberError, StoppedError
from twistedetcd.interfaces import IWAL
from twistedetcd.raft.errors import InvariantError, LogLostError, RaftError
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import (
    NOBODY,
    Entry,
    Message,
    MessageType,
    ReadState,
    Ready,
    Role,
    Snapshot,
    SoftState,
)
from twistedetcd.server.memorylog import COMPACT_EVERY, MemoryLog
from twistedetcd.server.proposals import Proposals, Told
from twistedetcd.server.readindex import ReadIndex
from twistedetcd.server.telling import Telling, only_tells

_TYPE = attrgetter("type")


class Peers(Told, Protocol):
    """The way to the others, as raft's driver needs it."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send what raft has to say, snapshots included."""

    @property
    def shipping(self) -> bool:
        """Whether a snapshot is on its way, or has just arrived: what comes after it is wanted."""

    def take_in(self, snapshot: Snapshot) -> Deferred[None]:
        """Keep a snapshot that was received: durable once it fires."""

    def install(self, snapshot: Snapshot) -> Deferred[None]:
        """
        Have the store be what that snapshot says; nothing is applied before it is.

        Then `RaftNode.applied_to` is called.  Fails with what the member must stop for.
        """


class RaftNode:
    """
    One raft member on a clock and a log.

    Args:
        clock: For ticks.
        raft: The state machine; its storage is ``storage``.
        storage: What raft reads back of its log.
        wal: What survives a crash.
        tick_seconds: The length of a tick.
        apply: Carries out committed entries, in order; returns how far it is by then.  What it put off, it
            tells `applied_to` about later.
        failed: Called when the log or the applier failed; the member must stop.
        peers: The way to the others; ``None`` for who will always be alone.
        next_context: First number for `ReadIndex`.
        catch_up_entries: Applied entries that stay in memory for slow followers.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        raft: RawNode,
        storage: MemoryStorage,
        wal: IWAL,
        tick_seconds: float,
        apply: Callable[[Sequence[Entry]], int],
        failed: Callable[[Failure], None],
        next_context: int,
        catch_up_entries: int,
        peers: Peers | None = None,
    ) -> None:
        self._clock = clock
        self._raft = raft
        self._storage = storage
        self._wal = wal
        self._tick_seconds = tick_seconds
        self._apply = apply
        self._failed = failed
        self._peers = peers
        self._timer: IDelayedCall | None = None
        self._tick_at = 0.0
        self._busy = False
        self._saving: Deferred[None] | None = None
        self._saving_ticks = 0
        self._stopped = False
        self._awaited = 0
        """The index that must be applied before raft may advance; 0 when it may."""
        self._memory_log = MemoryLog(storage, catch_up_entries)
        self._compact_at = 0
        self._compact_every = min(COMPACT_EVERY, max(1, catch_up_entries))
        # A snapshot to be recorded in the log, and who waits for that.
        self._to_record: Snapshot | None = None
        self._recorded: Deferred[None] | None = None
        self._unsent: Sequence[Message] = ()
        """What may leave only once the Ready under way is durable, and its changes of membership in force."""
        self._telling = Telling(clock, self._send_told)
        self._handed_out = 0
        """The last index that was handed out to be applied."""
        self._held_snapshot: Message | None = None
        self._known_lead = NOBODY
        self._advanced: list[Callable[[], None]] = []
        self.applied_index = self.applied_term = 0
        """The last entry whose effects are there."""
        self.proposals = Proposals(raft, peers)
        """What the turn brought, to be proposed by `flush`."""
        self.reads = ReadIndex(next_context, raft.read_index)
        self.on_lead: list[Callable[[int], None]] = []
        """Called with who leads from now on, by this member's knowledge; 0 for nobody."""
        self.on_leader: list[Callable[[], None]] = []
        """Called when this member has become the leader."""
        self.on_follower: list[Callable[[], None]] = []
        """Called when it has another role than before, and does not lead."""
        self.on_applied: list[Callable[[], None]] = []
        """Called when entries were applied, before raft is told: who waited may be written to meanwhile."""

    @property
    def raft(self) -> RawNode:
        """For looking at, and for changes of membership."""
        return self._raft

    @property
    def is_leader(self) -> bool:
        """Whether this member leads, as far as it knows."""
        return self._raft.role == Role.LEADER

    def start(self) -> None:
        """Begin to tick."""
        self._wait_for_tick(self._tick_seconds)
        self._carry_out()
        self._campaign()
        self._carry_out()

    def _campaign(self) -> None:
        """Who has nobody to wait for asks to lead at once, as soon as its log says that it is alone."""
        raft = self._raft
        if raft.lead == NOBODY and raft.role is Role.FOLLOWER and not self._busy and raft.alone:
            raft.campaign()

    def stop(self) -> Deferred[None]:
        """
        Stop ticking.

        Returns:
            Fires once the log is at rest: a save under way completes, but nothing follows it.
        """
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._telling.stop()
        self._to_record = None
        recorded, self._recorded = self._recorded, None
        if recorded is not None:
            recorded.errback(StoppedError())
        if self._saving is None:
            return succeed(None)
        at_rest: Deferred[None] = Deferred()
        self._saving.addCallback(lambda _: at_rest.callback(None))
        return at_rest

    def _wait_for_tick(self, seconds: float) -> None:
        self._tick_at = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._tick)

    def _tick(self) -> None:
        # One that is late does not put off all that follow.  After a long pause, none are made up for.
        late = min(max(0.0, self._clock.seconds() - self._tick_at), self._tick_seconds / 2)
        self._wait_for_tick(self._tick_seconds - late)
        self._saving_ticks += self._saving is not None
        self._raft.tick()
        self.flush()

    def hasten_election(self) -> None:
        """Wait two ticks of the election timeout for a leader, not all, besides those that chance adds."""
        for _ in range(self._raft.config.election_ticks - 2):
            self._raft.tick()
        self.flush()

    def flush(self) -> None:
        """Hand raft all that the turn brought, and do what follows from it."""
        if self._busy or self._stopped:
            if not self._stopped and (self._awaited or self._saves):
                self._show_life()
            return
        if self._held_snapshot is not None and self.applied_index >= self._handed_out:
            held, self._held_snapshot = self._held_snapshot, None
            self.step(held)
        if self._raft.lead == NOBODY:
            self._campaign()
        if self._raft.lead != NOBODY:
            self.proposals.propose()
            if self.reads.arrived:
                self.reads.ask(self._clock.seconds())
        self._carry_out()

    @property
    def _saves(self) -> bool:
        """
        Whether a save is under way that is no reason to give this member up: not yet.

        A leader whose disk stalls for an election's time falls silent, and others go on without it.  The term
        that it speaks in must be durable by now.
        """
        raft = self._raft
        return (
            self._saving is not None
            and self._saving_ticks < raft.config.election_ticks
            and self._storage.initial_state()[0].term == raft.term
        )

    def _show_life(self) -> None:
        """While the disk, or a change of membership, is waited for, others must not give this member up."""
        heartbeats = self._raft.take_heartbeats()
        if heartbeats:
            assert self._peers is not None, "who is alone has nobody to write to"
            self._peers.send(heartbeats)

    def when_advanced(self, go_on: Callable[[], None]) -> None:
        """Call back once raft knows that what is being applied now is: then it takes the next change."""
        self._advanced.append(go_on)

    # The others.  After each of these comes `flush`, at the end of the turn.

    def step(self, message: Message) -> None:
        """Take in what another member says; what it should not have said is dropped."""
        if self._stopped:
            return
        if message.type is MessageType.SNAP and (self._busy or self.applied_index < self._handed_out):
            # Raft begins anew with it, so what was handed out, or is being saved, must be carried out before.
            self._held_snapshot = message  # of several, the last one is the newest
            return
        try:
            self._raft.step(message)
        except RaftError as error:
            self._log.debug(
                "A {kind} from {sender:x} was not taken: {error}",
                kind=message.type.name,
                sender=message.sender,
                error=error,
            )
        except LogLostError as error:
            # It may have voted, and acknowledged, what it does not know any more.
            reason = f"{error}  If so, remove this member from the cluster and add it again."
            self._fail(Failure(MemberError(reason)))
        except InvariantError:
            self._fail(Failure())

    def report_unreachable(self, member: int) -> None:
        """Messages to a member were lost."""
        self._raft.report_unreachable(member)

    def report_snapshot(self, member: int, *, delivered: bool) -> None:
        """A snapshot arrived, or did not."""
        self._raft.report_snapshot(member, delivered=delivered)

    def transfer_leader(self, to: int) -> None:
        """Ask to hand over to a member."""
        self._raft.transfer_leader(to)

    def record_snapshot(self, snapshot: Snapshot) -> Deferred[None]:
        """
        Have the log vouch for a snapshot that is durable, once a save under way is done; one at a time.

        Raises:
            StoppedError: It was stopped, or the log failed; then `failed` was called.
        """
        assert self._recorded is None, "one at a time"
        if self._stopped:
            return fail(StoppedError())
        recorded: Deferred[None] = Deferred()
        self._to_record, self._recorded = snapshot, recorded
        self._carry_out()
        return recorded

    def _carry_out(self) -> None:
        # Whoever is told of a result may propose at once, which must not lead back in here.
        if self._busy:
            return
        self._busy = True
        raft = self._raft
        try:
            while not self._stopped:
                if self._to_record is not None and not self._save_record(self._to_record):
                    return
                if not raft.has_ready():
                    break
                ready = raft.ready()
                if ready.soft_state is not None:
                    self._note_leader(ready.soft_state)
                if ready.read_states:
                    self._answer_reads(ready.read_states)  # they need nothing of what is saved now
                if ready.messages:
                    self._unsent = ready.messages
                    if raft.role is Role.LEADER and not _may_wait(ready):
                        self._send()
                if ready.snapshot is not None:
                    self._saving = self._run(self._take_in(ready, ready.snapshot))
                    return  # still busy
                if ready.entries or ready.must_sync:
                    saved = self._wal.save(ready.hard_state, ready.entries)
                    if not saved.called:
                        self._saving = saved.addCallback(self._saved, ready).addErrback(self._fail)
                        return  # still busy
                    if isinstance(saved.result, Failure):
                        saved.addErrback(self._fail)
                        return
                self._after_save(ready)
                if ready.hard_state is not None and not ready.must_sync:
                    # Only the commit index moved: nothing waits for that, and the log keeps it in memory.
                    kept = self._wal.save(ready.hard_state, ())
                    if not kept.called or isinstance(kept.result, Failure):
                        kept.addErrback(self._fail)
                if self._awaited:
                    return  # still busy
        except Exception:
            # An entry that cannot be applied here would make this member differ from the others: stop.
            self._fail(Failure())
            return
        self._busy = False

    def _note_leader(self, soft_state: SoftState) -> None:
        if soft_state.lead not in (NOBODY, self._known_lead):
            if self._known_lead != NOBODY:
                self.reads.leader_changed()
            self._known_lead = soft_state.lead
        for told in self.on_lead:
            told(soft_state.lead)

    def _send(self) -> None:
        assert self._peers is not None, "who is alone has nobody to write to"
        messages, self._unsent = self._unsent, ()
        self._peers.send(self._telling.along_with(messages))

    def _tell(self) -> None:
        """Send what a leader only tells with the next append, and all else now."""
        if not only_tells(self._unsent):
            self._send()
        elif not self._stopped:
            self._telling.put_off(self._unsent)
            self._unsent = ()

    def _send_told(self, messages: Sequence[Message]) -> None:
        assert self._peers is not None, "who is alone has nobody to write to"
        self._peers.send(messages)  # and nothing else: it may not be durable

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(coroutine).addErrback(self._given_up)

    def _given_up(self, failure: Failure) -> None:
        if not self._stopped:
            self._fail(failure)

    async def _take_in(self, ready: Ready, snapshot: Snapshot) -> None:
        """
        Begin anew where a snapshot ends.

        Its file, then its record with the hard state, then what follows it, then the store: whichever of
        these a crash cuts off, a restart finds either all that was before, or the snapshot.
        """
        assert self._peers is not None, "who is alone gets no snapshot"
        await self._peers.take_in(snapshot)
        await self._wal.save_snapshot(snapshot.index, snapshot.term, snapshot.conf_state, ready.hard_state)
        if ready.entries:
            await self._wal.save(None, ready.entries)
        if self._stopped:
            return
        self._storage.apply_snapshot(snapshot)
        self._memory_log.begin_anew()
        self._handed_out = snapshot.index
        # That takes its time, in which this member still answers and votes, but applies nothing.
        self._peers.install(snapshot).addErrback(self._given_up)
        self._wal.release_to(snapshot.index)
        self._saving, self._saving_ticks = None, 0
        self._after_save(ready)
        self._go_on()

    def _saved(self, _: None, ready: Ready) -> None:
        """A save that took its time is done: go on, and take in what came meanwhile."""
        self._saving, self._saving_ticks = None, 0
        if not self._stopped:
            self._after_save(ready)
            self._go_on()

    def _go_on(self) -> None:
        """Go on after waiting, unless there is something else to wait for."""
        if not self._awaited:
            self._busy = False
            self._campaign()
            # Answer those who waited for this save before the next one begins.
            self._carry_out()
            self.flush()

    def _save_record(self, snapshot: Snapshot) -> bool:
        """Save the record of a snapshot; false when the log has not finished, or has failed."""
        self._to_record = None
        state, _ = self._storage.initial_state()
        assert snapshot.index <= state.commit, "the log would not vouch for it"
        saved = self._wal.save_snapshot(snapshot.index, snapshot.term, snapshot.conf_state, state)
        if not saved.called:
            self._saving = saved.addCallback(self._record_saved).addErrback(self._fail)
            return False
        if isinstance(saved.result, Failure):
            saved.addErrback(self._fail)
            return False
        self._tell_recorded()
        return True

    def _record_saved(self, _: None) -> None:
        self._saving, self._saving_ticks = None, 0
        if not self._stopped:
            self._busy = False
            self._tell_recorded()
            self._campaign()
            self._carry_out()
            self.flush()

    def _tell_recorded(self) -> None:
        recorded, self._recorded = self._recorded, None
        if recorded is not None:
            recorded.callback(None)

    def _after_save(self, ready: Ready) -> None:
        """The rest of a Ready, once it is durable: send, apply, advance."""
        if ready.hard_state is not None:
            self._storage.set_hard_state(ready.hard_state)
        if ready.entries:
            self._storage.append(ready.entries)
        committed = ready.committed
        changes = _has_changes(committed)
        # A leader waits for what a follower says; clients wait for a leader, and whom it tells comes after.
        if self._unsent and not changes and self._raft.role is not Role.LEADER:
            self._send()
        if ready.soft_state is not None:
            self._log.info(
                "Member {id:x} is {role} in term {term}, leader {lead:x}",
                id=self._raft.id,
                role=ready.soft_state.role.name.lower(),
                term=self._raft.term,
                lead=ready.soft_state.lead,
            )
        if committed:
            self._handed_out = last = committed[-1].index
            applied_index = min(self._apply(committed), last)
            if applied_index >= committed[0].index:
                self.applied_index = applied_index
                self.applied_term = committed[applied_index - committed[0].index].term
            for applied in self.on_applied:
                applied()
            if self.applied_index < last and changes:
                # A change of membership must be in force before raft takes the next one.
                self._awaited = last
        if not self._awaited:
            self._advance()
        if committed:
            self.reads.applied_to(self.applied_index)
        if self.applied_index > self._compact_at:
            self._compact_at = self.applied_index + self._compact_every
            awaited = self._peers is not None and self._peers.shipping
            self._memory_log.compact(self.applied_index, self._raft.status().configuration, awaited)
        if ready.soft_state is not None:
            for changed in self.on_leader if ready.soft_state.role == Role.LEADER else self.on_follower:
                changed()

    def applied_to(self, index: int, term: int) -> None:
        """Entries that ``apply`` had put off are carried out now, up to this one."""
        self.applied_index, self.applied_term = index, term
        for applied in self.on_applied:
            applied()
        self.reads.applied_to(index)
        if self._awaited and index >= self._awaited:
            self._awaited = 0
            self._advance()
            self._go_on()

    def _advance(self) -> None:
        if self._unsent and self._raft.role is Role.LEADER:
            self._tell()
        elif self._unsent:
            self._send()  # a vote, or its count, may depend on the membership that is in force only now
        self._raft.advance()
        if self._advanced:
            advanced, self._advanced = self._advanced, []
            for go_on in advanced:
                go_on()

    def _answer_reads(self, states: Sequence[ReadState]) -> None:
        self.reads.confirmed(states, self.applied_index)
        if self.reads.arrived:
            self.reads.ask(self._clock.seconds())  # for those that came while this question was out

    def _fail(self, failure: Failure) -> None:
        self._saving = None
        self._failed(failure)  # first, so that it is the reason, and not that we stop
        self.stop()


def _has_changes(entries: Sequence[Entry]) -> bool:
    """Whether there are changes of membership among them."""
    return any(map(_TYPE, entries))


def _may_wait(ready: Ready) -> bool:
    """Whether a leader only says what is committed: nobody saves upon that, but its clients wait."""
    return not (ready.entries or ready.must_sync or _has_changes(ready.committed))
