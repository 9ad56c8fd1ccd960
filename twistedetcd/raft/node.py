"""
The door: calls in, one `Ready` at a time out.

The driver's duties, in this order: save the Ready's snapshot, entries and hard state (durably, if
``must_sync``); send its messages (a leader may send before saving); apply its committed entries, in order,
and call `RawNode.apply_conf_change` for each membership change among them; then `RawNode.advance`.

Two more: what was handed out is applied before a MsgSnap is stepped, or an older membership change would be
put in force on the snapshot's configuration; and the log is compacted no further than raft was told that it
is applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from twistedetcd.raft.admission import check_admission
from twistedetcd.raft.changebytes import encode_change
from twistedetcd.raft.config import Config
from twistedetcd.raft.errors import InvariantError
from twistedetcd.raft.leader import propose_data
from twistedetcd.raft.membership import apply_change
from twistedetcd.raft.roles import step, tick
from twistedetcd.raft.state import Raft
from twistedetcd.raft.status import Status, status_of
from twistedetcd.raft.storagewrites import append_message, applied_response, apply_message, saved_response
from twistedetcd.raft.types import (
    NOBODY,
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Ready,
    Role,
    Snapshot,
)

_LIFE = (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP)


class RawNode:
    """
    One raft member.  Not re-entrant: no call into it from its trace hook or from its storage.
    """

    def __init__(self, config: Config) -> None:
        """
        A follower, at what the storage holds.

        Raises:
            InvariantError: The storage contradicts itself.
        """
        self._raft = Raft(config)
        self._async = config.async_storage_writes
        self._soft_state = self._raft.soft_state()
        self._hard_state = self._raft.hard_state()
        self._advancing = False
        """A Ready is out and `advance` was not called."""
        self._acknowledgements: list[Message] = []
        """What `advance` tells raft: fixed when the Ready was handed out."""

    @property
    def config(self) -> Config:
        """What this member was told at its start."""
        return self._raft.config

    @property
    def id(self) -> int:
        """The id of this member."""
        return self._raft.id

    @property
    def role(self) -> Role:
        """What this member is now."""
        return self._raft.role

    @property
    def lead(self) -> int:
        """Who leads as far as this member knows; 0 is nobody."""
        return self._raft.lead

    @property
    def term(self) -> int:
        """The current term."""
        return self._raft.term

    @property
    def alone(self) -> bool:
        """Whether nobody else has a vote, and this member has one."""
        tracker = self._raft.tracker
        return tracker.is_single_voter() and self._raft.id in tracker.configuration.voters

    # Calls in.

    def bootstrap(self, peers: Sequence[tuple[int, bytes]]) -> None:
        """
        Begin a new cluster: every founding member does this once, with the same peers, on an empty storage.

        The first Ready carries one ADD_NODE change per peer, committed.

        Args:
            peers: Member id and the context of its change.

        Raises:
            ValueError: No peers, or the storage is not empty.
        """
        raft = self._raft
        if not peers:
            raise ValueError("must provide at least one peer to bootstrap")
        if raft.config.storage.last_index():
            raise ValueError("cannot bootstrap a nonempty storage")
        self._hard_state = HardState()
        raft.become_follower(1, NOBODY)
        changes = [ConfChange(0, ConfChangeType.ADD_NODE, peer, context) for peer, context in peers]
        entries = []
        for index, change in enumerate(changes, 1):
            kind, data = encode_change(change)
            entries.append(Entry(1, index, data, kind))
        raft.log.commit_to(raft.log.append(entries))
        # In force at once, so that it may campaign; applying them again when they come back changes nothing.
        for change in changes:
            apply_change(raft, change.as_v2())

    def tick(self) -> None:
        """A tick of the driver's clock has passed."""
        tick(self._raft)

    def campaign(self) -> None:
        """Start an election now."""
        step(self._raft, Message(MessageType.HUP))

    def propose(self, datas: Sequence[bytes]) -> None:
        """
        Propose many entries at once, to be committed in this order if at all.

        On the leader the very objects come back in `Ready.committed`.

        Args:
            datas: One or more.

        Raises:
            ProposalDroppedError: No leader, a transfer under way, or too much uncommitted; none was taken.
        """
        raft = self._raft
        if raft.role is Role.LEADER:
            if datas:
                propose_data(raft, datas)
            return
        entries = tuple([Entry(0, 0, data) for data in datas])
        if entries:
            step(raft, Message(MessageType.PROP, sender=raft.id, entries=entries))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """
        Propose a change of membership.

        While another one may be unapplied, an empty entry takes its place in the log, without an error.

        Raises:
            ProposalDroppedError: As for `propose`.
            ConfChangeError: A type of change that does not exist.
        """
        kind, data = encode_change(change)
        step(self._raft, Message(MessageType.PROP, entries=(Entry(0, 0, data, kind),)))

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """
        Put a committed change in force, when its entry is applied.

        Args:
            change: What the entry says (`changebytes.decode_change`).  To refuse it, which every member must
                do alike, a `ConfChange` with node id 0.

        Returns:
            The configuration from now on.
        """
        return apply_change(self._raft, change.as_v2())

    def read_index(self, context: bytes) -> None:
        """
        Ask for an index to read at; the answer is a `ReadState`, in this or a later Ready, or never.

        Args:
            context: Comes back in the `ReadState`.  Two reads may have the same: both are answered.
        """
        step(self._raft, Message(MessageType.READ_INDEX, entries=(Entry(0, 0, context),)))

    def transfer_leader(self, to: int) -> None:
        """Ask the leader to hand over to ``to``."""
        step(self._raft, Message(MessageType.TRANSFER_LEADER, sender=to))

    def forget_leader(self) -> None:
        """Stop believing that the leader lives, without campaigning."""
        step(self._raft, Message(MessageType.FORGET_LEADER))

    def report_unreachable(self, member: int) -> None:
        """Messages to ``member`` were lost."""
        step(self._raft, Message(MessageType.UNREACHABLE, sender=member))

    def report_snapshot(self, member: int, *, delivered: bool) -> None:
        """The snapshot sent to ``member`` arrived, or did not: due once for every MsgSnap."""
        step(self._raft, Message(MessageType.SNAP_STATUS, sender=member, reject=not delivered))

    def step(self, message: Message) -> None:
        """
        Take in a message from another member, or from the storage when writes are asynchronous.

        Raises:
            LocalMessageError: A type that only this member sends itself.
            PeerNotFoundError: An answer from a stranger.
            MalformedMessageError: A message that no member sends.
            ProposalDroppedError: A forwarded proposal that cannot be taken.
            ConfChangeError: A forwarded change of membership that cannot be read, or a snapshot whose
                configuration no changes lead to.  As with the others, nothing happened.
        """
        check_admission(self._raft, message)
        step(self._raft, message)

    # The Ready out.

    def has_ready(self) -> bool:
        """Whether there is anything to do; a vote or an acknowledgement of its own counts."""
        raft, log = self._raft, self._raft.log
        unstable = log.unstable
        return bool(
            raft.messages
            or raft.after_append
            or unstable.offset_in_progress < unstable.offset + len(unstable.entries)
            or log.has_next_committed(not self._async)
            or raft.read_states
            or (raft.term, raft.vote, log.committed) != self._hard_state
            or (raft.lead, raft.role) != self._soft_state
            or (unstable.snapshot is not None and unstable.next_snapshot() is not None)
        )

    def ready(self) -> Ready:
        """
        Hand out what is to be done.

        Raises:
            InvariantError: The last one was not advanced.
        """
        if self._advancing:
            raise InvariantError("a second Ready before advance")
        raft, log = self._raft, self._raft.log
        soft, hard = raft.soft_state(), raft.hard_state()
        soft_news = None if soft == self._soft_state else soft
        hard_news = None if hard == self._hard_state else hard
        entries, snapshot = log.unstable.next_entries(), log.unstable.next_snapshot()
        committed = log.next_committed(not self._async)
        if self._async:
            append = append_message(raft, entries, hard_news, snapshot)
            raft.messages += [append] if append else []
            raft.messages += [apply_message(raft, committed)] if committed else []
        else:
            self._hold_back(snapshot, committed)
        must_sync = bool(entries) or (hard_news is not None and hard_news[:2] != self._hard_state[:2])
        ready = Ready(
            soft_news, raft.read_states, snapshot, entries, hard_news, must_sync, raft.messages, committed
        )
        self._accept(ready)
        return ready

    def _hold_back(self, snapshot: Snapshot | None, committed: Sequence[Entry]) -> None:
        """What vouches for the save goes out with the messages; what is addressed to itself, on advance."""
        raft, later = self._raft, self._acknowledgements
        for message in raft.after_append:
            (later if message.to == raft.id else raft.messages).append(message)
        saved = saved_response(raft, snapshot)
        if saved is not None:
            later.append(saved)
        if committed:
            later.append(applied_response(raft, committed))
        self._advancing = True

    def _accept(self, ready: Ready) -> None:
        raft = self._raft
        if ready.soft_state is not None:
            self._soft_state = ready.soft_state
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        raft.read_states, raft.messages, raft.after_append = [], [], []
        raft.log.unstable.accept_in_progress()
        if ready.committed:
            raft.log.accept_applying(ready.committed, not self._async)

    def take_heartbeats(self) -> list[Message]:
        """
        What shows others that this member lives, to be sent at once though a Ready is out.

        Heartbeats, and answers to them, in the term that was last handed out to be saved: once that is saved,
        nothing that they say depends on what is still to be done.
        """
        raft, term = self._raft, self._hard_state.term
        taken = [message for message in raft.messages if message.type in _LIFE and message.term == term]
        if taken:
            raft.messages = [message for message in raft.messages if message not in taken]
        return taken

    def advance(self) -> None:
        """
        The last Ready is saved, and its committed entries are applied or are about to be, in order.

        Raises:
            InvariantError: Writes are asynchronous, or no Ready is out.
        """
        if self._async or not self._advancing:
            raise InvariantError("advance without a Ready, or with asynchronous storage writes")
        self._advancing = False
        acknowledgements, self._acknowledgements = self._acknowledgements, []
        for message in acknowledgements:
            step(self._raft, message)

    # A look inside.

    def status(self) -> Status:
        """Where this member stands."""
        return status_of(self._raft)
