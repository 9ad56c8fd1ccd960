"""A configuration takes effect when its change is applied (dissertation, 4), or when a snapshot brings it."""

from __future__ import annotations

from twistedetcd.raft.confchange import Changer, restore
from twistedetcd.raft.describe import describe
from twistedetcd.raft.errors import ConfChangeError, InvariantError
from twistedetcd.raft.progress import Progress
from twistedetcd.raft.replication import broadcast_append, maybe_commit, send_append
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, ConfChangeV2, ConfState, Role, Snapshot


def apply_change(raft: Raft, change: ConfChangeV2) -> ConfState:
    """
    Act under the configuration after ``change`` from now on.

    Raises:
        InvariantError: The change was committed, but the configuration does not allow it.
    """
    tracker = raft.tracker
    changer = Changer(tracker.configuration, tracker.members, raft.log.last_index(), raft.window)
    try:
        changer.change(change)
    except ConfChangeError as error:
        raise InvariantError(f"a committed change is invalid: {error}") from error
    configuration, members = changer.result()
    return _switch(raft, configuration, members)


def restore_snapshot(raft: Raft, snapshot: Snapshot) -> bool:
    """
    Take log and configuration from a leader's snapshot; ``False`` when they stay.

    Raises:
        ConfChangeError: No changes lead to its configuration.
    """
    if snapshot.index <= raft.log.committed:
        return False
    if raft.role is not Role.FOLLOWER:
        if raft.trace:
            text = "{id:x} attempted to restore snapshot as leader; should never happen"
            raft.trace("WARN", text, id=raft.id)
        raft.become_follower(raft.term + 1, NOBODY)
        return False
    state = snapshot.conf_state
    if raft.id not in (*state.voters, *state.learners, *state.voters_outgoing):
        if raft.trace:
            text = (
                "{id:x} attempted to restore snapshot but it is not in the ConfState {configuration}; "
                "should never happen"
            )
            raft.trace("WARN", text, id=raft.id, configuration=describe(state))
        return False
    if raft.log.matches(snapshot.index, snapshot.term):
        _trace_snapshot(raft, snapshot, "fast-forwarded commit to snapshot")
        raft.log.commit_to(snapshot.index)
        return False
    # Before anything changes: it may refuse.
    configuration, members = restore(state, snapshot.index, raft.window)
    raft.log.restore(snapshot)
    _switch(raft, configuration, members)
    _trace_snapshot(raft, snapshot, "restored snapshot")
    return True


def _switch(raft: Raft, configuration: ConfState, members: dict[int, Progress]) -> ConfState:
    raft.tracker.configuration, raft.tracker.members = configuration, members
    if raft.trace:
        text = "{id:x} switched to configuration {configuration}"
        raft.trace("INFO", text, id=raft.id, configuration=describe(configuration))
    own = members.get(raft.id)
    raft.is_learner = own is not None and own.is_learner
    if raft.role is not Role.LEADER:
        return configuration
    if own is None or own.is_learner:
        # By default it goes on leading without a vote until somebody else is elected.
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NOBODY)
        return configuration
    if maybe_commit(raft):
        broadcast_append(raft)
    else:
        for member, progress in members.items():
            if member != raft.id:
                send_append(raft, member, progress, even_empty=False)
    if raft.lead_transferee not in raft.tracker.voters():
        raft.lead_transferee = NOBODY
    return configuration


def _trace_snapshot(raft: Raft, snapshot: Snapshot, verdict: str) -> None:
    if raft.trace:
        raft.trace(
            "INFO",
            "{id:x} [commit: {commit}, lastindex: {last}, lastterm: {last_term}] "
            + verdict
            + " [index: {index}, term: {term}]",
            id=raft.id,
            commit=raft.log.committed,
            last=raft.log.last_index(),
            last_term=raft.log.last_term(),
            index=snapshot.index,
            term=snapshot.term,
        )
