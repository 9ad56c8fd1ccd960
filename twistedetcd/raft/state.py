"""
What one member knows, and the changes of role that need nothing but that.

The reactions to messages are functions of this state, in the modules beside it; ``roles.py`` says which.
"""

from __future__ import annotations

from twistedetcd.raft.confchange import restore
from twistedetcd.raft.config import Config
from twistedetcd.raft.describe import describe
from twistedetcd.raft.errors import ConfChangeError, InvariantError
from twistedetcd.raft.log import RaftLog
from twistedetcd.raft.progress import Inflights, Progress
from twistedetcd.raft.readonly import ReadOnly
from twistedetcd.raft.tracker import Tracker
from twistedetcd.raft.types import (
    NO_LIMIT,
    NOBODY,
    HardState,
    Message,
    MessageType,
    ReadState,
    Role,
    SoftState,
)

_VOTES = frozenset({MessageType.VOTE, MessageType.VOTE_RESP, MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP})
_TERMLESS = frozenset({MessageType.PROP, MessageType.READ_INDEX})
_AFTER_APPEND = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})


class Raft:
    """
    One member.  Invariants: a leader leads itself, a candidate knows no leader, the term never falls.
    """

    def __init__(self, config: Config) -> None:
        """A follower, at what the storage holds."""
        self.config, self.trace, self.id = config, config.trace, config.id
        self.role = Role.FOLLOWER
        self.term = 0
        self.vote = self.lead = self.lead_transferee = NOBODY
        """``lead_transferee``: whom the leader is handing over to; proposals are dropped meanwhile."""
        self.log = RaftLog(
            config.storage,
            config.trace,
            config.max_committed_bytes_per_ready or config.max_bytes_per_message or NO_LIMIT,
        )
        self.tracker = Tracker()
        self.is_learner = False
        self.pending_conf_index = 0
        """A leader's last membership change, or a later index: the next change waits until it is applied."""
        self.uncommitted_bytes = 0
        self.read_only = ReadOnly()
        self.parked_reads: list[Message] = []
        """Reads that came before the leader had committed anything in its term."""
        self.read_states: list[ReadState] = []
        self.messages: list[Message] = []
        """May leave at once (for a follower: once the Ready is saved)."""
        self.after_append: list[Message] = []
        """They vouch for what this Ready saves.  Those to itself are its own acknowledgement and vote."""
        self.election_elapsed = self.heartbeat_elapsed = 0
        self.randomized_election_ticks = 0
        self.window = Inflights(config.max_inflight_messages, config.max_inflight_bytes)
        self._load()

    def _load(self) -> None:
        hard_state, conf_state = self.config.storage.initial_state()
        try:
            configuration, members = restore(conf_state, self.log.last_index(), self.window)
        except ConfChangeError as error:
            raise InvariantError(f"stored configuration: {error}") from error
        self.tracker.configuration, self.tracker.members = configuration, members
        own = self.tracker.members.get(self.id)
        self.is_learner = own is not None and own.is_learner
        if self.trace:
            text = "{id:x} switched to configuration {configuration}"
            self.trace("INFO", text, id=self.id, configuration=describe(self.tracker.configuration))
        if hard_state != HardState():
            if not self.log.committed <= hard_state.commit <= self.log.last_index():
                raise InvariantError(
                    f"stored commit index {hard_state.commit} is not within "
                    f"[{self.log.committed}, {self.log.last_index()}]"
                )
            self.log.committed = hard_state.commit
            self.term, self.vote = hard_state.term, hard_state.vote
        if self.config.applied:
            self.log.applied_to(self.config.applied)
        self.become_follower(self.term, NOBODY)
        if self.trace:
            self.trace(
                "INFO",
                "newRaft {id:x} [peers: [{peers}], term: {term}, commit: {commit}, applied: {applied}, "
                "lastindex: {last}, lastterm: {last_term}]",
                id=self.id,
                peers=",".join(f"{voter:x}" for voter in self.tracker.voters()),
                term=self.term,
                commit=self.log.committed,
                applied=self.log.applied,
                last=self.log.last_index(),
                last_term=self.log.last_term(),
            )

    def hard_state(self) -> HardState:
        """What must survive a crash."""
        return HardState(self.term, self.vote, self.log.committed)

    def soft_state(self) -> SoftState:
        """What need not."""
        return SoftState(self.lead, self.role)

    def promotable(self) -> bool:
        """Whether it may campaign: a voter in its own configuration, with no snapshot half installed."""
        own = self.tracker.members.get(self.id)
        return own is not None and not own.is_learner and self.log.unstable.snapshot is None

    def committed_in_term(self) -> bool:
        """Whether something of the current term is committed: only then is the commit index current."""
        return self.log.term_or_zero(self.log.committed) == self.term

    def send(self, message: Message) -> None:
        """Queue a message for the next Ready, with the sender and the term it needs."""
        if message.type in _VOTES:
            if not message.term:
                raise InvariantError(f"{message.type.name} needs the term of its campaign")
        elif message.term:
            raise InvariantError(f"{message.type.name} must not bring a term")
        term = message.term or (0 if message.type in _TERMLESS else self.term)
        # `_replace` would take three times as long.
        message = Message(message.type, message.to, message.sender or self.id, term, *message[4:])
        if message.type in _AFTER_APPEND:
            self.after_append.append(message)
        elif message.to == self.id:
            raise InvariantError(f"{message.type.name} must not go to its sender")
        else:
            self.messages.append(message)

    def acknowledge(self, to: int, index: int) -> None:
        """Queue, as `send` would, that the log of this member is as a leader's up to there."""
        self.after_append.append(Message(MessageType.APP_RESP, to, self.id, self.term, 0, index))

    def become_follower(self, term: int, lead: int) -> None:
        """Follow ``lead`` (or nobody yet) in ``term``."""
        self.reset(term)
        self.lead, self.role = lead, Role.FOLLOWER
        self._trace_role("follower")

    def become_candidate(self) -> None:
        """Vote for itself in a new term."""
        if self.role is Role.LEADER:
            raise InvariantError("a leader cannot become a candidate")
        self.reset(self.term + 1)
        self.vote, self.role = self.id, Role.CANDIDATE
        self._trace_role("candidate")

    def become_pre_candidate(self) -> None:
        """Ask who would vote; term, vote and timers stay."""
        if self.role is Role.LEADER:
            raise InvariantError("a leader cannot become a pre-candidate")
        self.tracker.votes.clear()
        self.lead, self.role = NOBODY, Role.PRE_CANDIDATE
        self._trace_role("pre-candidate")

    def become_leader(self) -> None:
        """Lead the term.  The caller appends the first entry, which commits what older terms left."""
        if self.role is Role.FOLLOWER:
            raise InvariantError("a follower cannot become leader")
        self.reset(self.term)
        self.lead, self.role = self.id, Role.LEADER
        own = self.tracker.members[self.id]
        own.become_replicate()
        own.recent_active = True
        # There may be a membership change in the part of the log that is not applied yet.
        self.pending_conf_index = self.log.last_index()

    def trace_leader(self) -> None:
        """Tell the trace, once the first entry is appended."""
        self._trace_role("leader")

    def reset(self, term: int) -> None:
        """Begin ``term`` anew, or the same one in another role."""
        if self.term != term:
            self.term, self.vote = term, NOBODY
        self.lead = self.lead_transferee = NOBODY
        self.election_elapsed = self.heartbeat_elapsed = 0
        ticks = self.config.election_ticks
        self.randomized_election_ticks = ticks + self.config.draw(ticks)
        self.tracker.votes.clear()
        last = self.log.last_index()
        for member, progress in self.tracker.members.items():
            match = last if member == self.id else 0
            window = self.window.empty_copy()
            self.tracker.members[member] = Progress(match, last + 1, window, is_learner=progress.is_learner)
        self.pending_conf_index = self.uncommitted_bytes = 0
        self.read_only = ReadOnly()
        self.parked_reads = []

    def _trace_role(self, role: str) -> None:
        if self.trace:
            text = "{id:x} became {role} at term {term}"
            self.trace("INFO", text, id=self.id, role=role, term=self.term)
