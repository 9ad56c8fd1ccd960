"""A leader, looked at: what it believes of its members, and whether it still hears from a quorum."""

from __future__ import annotations

from twistedetcd.raft.progress import ProgressState
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, Message, MessageType
from twistedetcd.testing.raftsim.disk import Disk
from twistedetcd.testing.raftsim.history import is_quorum
from twistedetcd.testing.raftsim.rules import Rule, require

_SIGNS_OF_LIFE = frozenset({MessageType.APP_RESP, MessageType.HEARTBEAT_RESP})


class Leading:
    """One term of one leader."""

    def __init__(self, raft: Raft, disk: Disk, elected_at: int) -> None:
        """
        Args:
            raft: It has just become leader.
            disk: Its disk.
            elected_at: The last index it had then, which it counts as its own without waiting.
        """
        self._raft, self._disk, self._elected_at = raft, disk, elected_at
        self._matches: dict[int, int] = {}
        self._transferee, self._configuration = NOBODY, raft.tracker.configuration
        self._ticks = 0
        self._heard: dict[int, int] = {}

    def observe(self) -> None:
        """After a call: it still leads."""
        raft = self._raft
        last, window_max = raft.log.last_index(), raft.config.max_inflight_messages
        before, self._matches = self._matches, {}
        for member, progress in raft.tracker.members.items():
            match = progress.match
            kept = 0 <= match < progress.next and match <= last and match >= before.get(member, 0)
            kept = kept and len(progress.inflights) <= window_max
            if progress.state is ProgressState.SNAPSHOT:
                # Less after the late rejection of an append, more after the late acknowledgement of one.
                kept = kept and progress.next <= max(progress.pending_snapshot, match) + 1
            if not kept:
                text = "{} with last index {} believes of {}: {} after match {}"
                matched = before.get(member)
                require(kept, Rule.PROGRESS, text, raft.id, last, member, progress, matched)
            self._matches[member] = match
        transfers = raft.lead_transferee not in (NOBODY, self._transferee)
        self._transferee = raft.lead_transferee
        if transfers or raft.tracker.configuration is not self._configuration:
            # A transfer starts the clock of the quorum check over; another quorum has not been checked yet.
            self._configuration = raft.tracker.configuration
            self._heard = dict.fromkeys(raft.tracker.members, self._ticks)
        own = self._matches.get(raft.id, 0)
        if own > self._elected_at:
            durable = self._disk.durable.last_index()
            text = "{} counts itself up to {}, durable is {}"
            require(own <= durable, Rule.PROGRESS, text, raft.id, own, durable)

    def heard(self, message: Message) -> None:
        """A message is about to be stepped."""
        if message.type in _SIGNS_OF_LIFE and message.term == self._raft.term:
            self._heard[message.sender] = self._ticks

    def ticked(self) -> None:
        """A tick was taken in, and it still leads."""
        raft = self._raft
        self._ticks += 1
        if not raft.config.check_quorum:
            return
        patience = 2 * raft.config.election_ticks
        lately = [
            member
            for member in raft.tracker.members
            if member == raft.id or self._ticks - self._heard.setdefault(member, self._ticks) <= patience
        ]
        text = "{} leads on after {} ticks, having heard only from {} of {}"
        configuration = raft.tracker.configuration
        kept = is_quorum(configuration, lately)
        require(kept, Rule.QUORUM_CHECK, text, raft.id, self._ticks, lately, configuration)
