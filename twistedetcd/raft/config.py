"""What one raft member is told at its start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twistedetcd.raft.storage import Storage
from twistedetcd.raft.types import APPEND_THREAD, APPLY_THREAD, NOBODY, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The defaults are etcd 3.6's.  A wrong value raises `ValueError`."""

    id: int
    storage: Storage
    draw: Callable[[int], int]
    """``draw(n)`` picks one of 0 … n-1, all alike: the only chance in raft, for the election timeout."""
    election_ticks: int = 10
    """Ticks without a leader until an election; the real timeout is drawn up to twice as long."""
    heartbeat_ticks: int = 1
    applied: int = 0
    """The last index that the application has applied; entries after it are handed out again."""
    max_bytes_per_message: int = 1 << 20
    """Encoded entries in one append."""
    max_committed_bytes_per_ready: int = 0
    """Encoded entries handed out and not acknowledged as applied; 0 is as ``max_bytes_per_message``."""
    max_uncommitted_bytes: int = 0
    """Payload of proposals not yet applied, beyond which more are dropped; 0 is no limit."""
    max_inflight_messages: int = 512
    """Appends sent to one member and not acknowledged."""
    max_inflight_bytes: int = 0
    """Their payload; 0 is no limit."""
    check_quorum: bool = True
    """A leader that hears from no quorum steps down, and who hears a leader grants no vote."""
    pre_vote: bool = True
    """Ask whether an election could be won before raising the term."""
    lease_based_reads: bool = False
    """Answer reads without asking a quorum: wrong when clocks drift or a process pauses."""
    async_storage_writes: bool = False
    """The driver answers storage messages instead of calling `advance`."""
    step_down_on_removal: bool = False
    disable_conf_change_validation: bool = False
    disable_proposal_forwarding: bool = False
    trace: Trace | None = None

    def __post_init__(self) -> None:
        rules = (
            (self.id not in (NOBODY, APPEND_THREAD, APPLY_THREAD), "id must not be 0 nor a reserved one"),
            (0 < self.id < 2**64, "id must fit in 64 bits"),
            (self.heartbeat_ticks > 0, "heartbeat_ticks must be greater than 0"),
            (self.election_ticks > self.heartbeat_ticks, "election_ticks must exceed heartbeat_ticks"),
            (self.applied >= 0, "applied must not be negative"),
            (self.max_bytes_per_message >= 0, "max_bytes_per_message must not be negative"),
            (self.max_committed_bytes_per_ready >= 0, "max_committed_bytes_per_ready must not be negative"),
            (self.max_uncommitted_bytes >= 0, "max_uncommitted_bytes must not be negative"),
            (self.max_inflight_messages > 0, "max_inflight_messages must be greater than 0"),
            (
                not self.max_inflight_bytes or self.max_inflight_bytes >= self.max_bytes_per_message,
                "max_inflight_bytes must be 0 or at least max_bytes_per_message",
            ),
            (not self.lease_based_reads or self.check_quorum, "lease_based_reads require check_quorum"),
        )
        for kept, text in rules:
            if not kept:
                raise ValueError(text)
