"""A look at a member from outside, for metrics, the cluster's status and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from twistedetcd.raft.progress import Progress
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import ConfState, HardState, Role, SoftState


class Status(NamedTuple):
    """Where a member stands."""

    id: int
    hard_state: HardState
    soft_state: SoftState
    applied: int
    last_index: int
    configuration: ConfState
    lead_transferee: int
    progress: Mapping[int, Progress]
    """Of everybody, ids ascending; empty unless this member leads.  Copies."""


def status_of(raft: Raft) -> Status:
    """Where ``raft`` stands."""
    leads = raft.role is Role.LEADER
    return Status(
        raft.id,
        raft.hard_state(),
        raft.soft_state(),
        raft.log.applied,
        raft.log.last_index(),
        raft.tracker.configuration,
        raft.lead_transferee,
        {member: progress.copy() for member, progress in raft.tracker.members.items()} if leads else {},
    )
