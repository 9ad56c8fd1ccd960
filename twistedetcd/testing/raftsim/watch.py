"""One incarnation of a member, looked at after every call into it: what changed, and was it allowed to?"""

from __future__ import annotations

from twistedetcd.raft.node import RawNode
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NO_LIMIT, NOBODY, Entry, EntryType, Message, Ready, Role
from twistedetcd.testing.raftsim.history import is_quorum
from twistedetcd.testing.raftsim.leading import Leading
from twistedetcd.testing.raftsim.rules import Rule, require
from twistedetcd.testing.raftsim.vouching import check_queued
from twistedetcd.testing.raftsim.world import World


def inside(node: RawNode) -> Raft:
    """The state behind the door: `RawNode.status` would copy all of it after every call."""
    return node._raft


class Watch:
    """What a member was when it was last looked at."""

    def __init__(self, world: World, node: RawNode) -> None:
        """
        Args:
            world: Where the history is, and the disks.
            node: A member that has just started.
        """
        raft = inside(node)
        self._world, self._raft, self._disk = world, raft, world.disks[node.id]
        self._role, self._term, self._vote = raft.role, raft.term, raft.vote
        first, last = raft.log.first_index(), raft.log.last_index()
        self._base, self._base_term = first - 1, raft.log.term_or_zero(first - 1)
        self._entries: list[Entry] = list(raft.log.slice(first, last + 1, NO_LIMIT))
        self._snapshot = raft.log.unstable.snapshot
        self._committed, self._applying, self._applied = (
            raft.log.committed,
            raft.log.applying,
            raft.log.applied,
        )
        self._handed_out = last
        self._queued: list[Message] = raft.messages
        self._seen = 0
        self._leading: Leading | None = None

    @property
    def last(self) -> int:
        """The last index when it was looked at."""
        return self._base + len(self._entries)

    def observe(self) -> None:
        """Look again, after one call."""
        raft = self._raft
        self._observe_term()
        elected_at = self.last
        leads_on = raft.role is self._role is Role.LEADER and raft.term == self._term
        self._observe_log(leads_on)
        self._observe_stable()
        log = raft.log
        if log.committed != self._committed:
            self._observe_commit(leads_on)
        if log.applied != self._applied or log.applying != self._applying:
            kept = self._applied <= log.applied and self._applying <= log.applying
            kept = kept and log.applied <= log.applying <= log.committed
            require(kept, Rule.INDEX_ORDER, "{}: {} after applied {}", raft.id, log, self._applied)
            self._applied, self._applying = log.applied, log.applying
        if not leads_on:
            self._observe_role(elected_at)
        self._role, self._term, self._vote = raft.role, raft.term, raft.vote
        if raft.messages is not self._queued:
            self._queued, self._seen = raft.messages, 0
        if len(raft.messages) > self._seen:
            for message in raft.messages[self._seen :]:
                check_queued(raft, message, self._world.history)
            self._seen = len(raft.messages)
        if self._leading is not None:
            self._leading.observe()

    def _observe_term(self) -> None:
        raft = self._raft
        if raft.term != self._term:
            kept = raft.term > self._term and raft.term >= self._disk.state.term
            require(kept, Rule.DURABLE_TERM, "{}: term {} after {}", raft.id, raft.term, self._term)
        elif raft.vote != self._vote:
            text = "{}: in term {} vote {} after {}"
            require(self._vote == NOBODY, Rule.SINGLE_VOTE, text, raft.id, raft.term, raft.vote, self._vote)

    def _observe_role(self, elected_at: int) -> None:
        raft, role = self._raft, self._raft.role
        kept = not (role is Role.LEADER and raft.lead != raft.id)
        kept = kept and not (role in (Role.CANDIDATE, Role.PRE_CANDIDATE) and raft.lead != NOBODY)
        kept = kept and not (raft.lead != NOBODY and not raft.term)
        require(kept, Rule.ROLE_AND_LEAD, "{}: {!r} of {} in term {}", raft.id, role, raft.lead, raft.term)
        if role is Role.CANDIDATE and raft.term != self._term:
            self._world.coverage["elections"] += 1
        if role is not Role.LEADER:
            self._leading = None
        else:
            self._world.coverage["leaders"] += 1
            history, durable = self._world.history, self._disk.state
            text = "{} leads term {}, but {} is durable"
            kept = durable.term == raft.term and durable.vote == raft.id
            require(kept, Rule.OWN_VOTE, text, raft.id, raft.term, durable)
            history.leads(raft.id, raft.term)
            history.complete(raft.id, raft.term, raft.log.first_index(), raft.log.matches)
            self._leading = Leading(raft, self._disk, elected_at)

    # The log.

    def _observe_log(self, leads_on: bool) -> None:
        log = self._raft.log
        snapshot = log.unstable.snapshot
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            if snapshot is not None:
                self._base, self._base_term, self._entries = snapshot.index, snapshot.term, []
                self._handed_out = snapshot.index
        last, known = log.last_index(), self.last
        if last == known and log.last_term() == self._term_at(known):
            return
        common = min(last, known)
        while common > self._base and log.term(common) != self._term_at(common):
            common -= 1
        if common < known:
            self._observe_truncation(common, leads_on)
        for entry in log.slice(common + 1, last + 1):
            self._observe_entry(entry, leads_on)

    def _observe_stable(self) -> None:
        log = self._raft.log
        index = log.unstable.offset - 1
        if log.unstable.snapshot is None and index > self._base:
            kept = self._disk.holds(index, self._term_at(index))
            text = "{} takes {} of term {} for saved, durable is {}"
            durable = self._disk.durable
            require(
                kept, Rule.STABLE_LOG, text, self._raft.id, index, self._term_at(index), durable.last_index()
            )

    def _term_at(self, index: int) -> int:
        position = index - self._base
        return self._entries[position - 1].term if position else self._base_term

    def _observe_truncation(self, common: int, leads_on: bool) -> None:
        raft = self._raft
        text = "{} leads term {}, and cuts its log from {} to {}"
        require(not leads_on, Rule.LEADER_APPEND_ONLY, text, raft.id, raft.term, self.last, common)
        text = "{} cuts its log to {}, but has committed {}"
        require(common >= self._committed, Rule.COMMITTED_IS_FOREVER, text, raft.id, common, self._committed)
        for entry in self._entries[common - self._base :]:
            self._world.history.replaced(raft.id, raft.term, entry)
        del self._entries[common - self._base :]
        self._handed_out = min(self._handed_out, common)
        self._world.coverage["truncations"] += 1

    def _observe_entry(self, entry: Entry, leads_on: bool) -> None:
        raft, previous = self._raft, self._term_at(self.last)
        kept = entry.index == self.last + 1 and 1 <= entry.term <= raft.term and previous <= entry.term
        text = "{} in term {} appends {} to {}, of term {}"
        require(kept, Rule.LOG_SHAPE, text, raft.id, raft.term, entry, self.last, previous)
        self._world.history.appended(entry, previous)
        if leads_on and entry.type != EntryType.NORMAL:
            start = max(raft.log.applied - self._base, 0)
            others = [other for other in self._entries[start:] if other.type != EntryType.NORMAL]
            text = "{} appends {} while {} is not applied"
            require(not others, Rule.CONFIGURATION_OVERLAP, text, raft.id, entry, others)
        self._entries.append(entry)

    def _observe_commit(self, leads_on: bool) -> None:
        raft, log, history = self._raft, self._raft.log, self._world.history
        committed, before = log.committed, self._committed
        kept = before < committed <= log.last_index()
        require(kept, Rule.INDEX_ORDER, "{}: {} after commit {}", raft.id, log, before)
        self._committed = committed
        if leads_on:
            term = self._term_at(committed)
            text = "{} commits {} of term {} while it leads term {}"
            require(term == raft.term, Rule.COMMIT_RULE, text, raft.id, committed, term, raft.term)
            configuration = raft.tracker.configuration
            holders = history.holders(committed, configuration, self._world.disks, term)
            text = "{} commits {}, which only {} of {} hold durably"
            quorum = is_quorum(configuration, holders)
            require(quorum, Rule.COMMIT_RULE, text, raft.id, committed, holders, configuration)
        if committed == self._base:
            known = history.committed_at(committed)
            kept = known is not None and known.term == self._base_term
            text = "{} installs a snapshot at {} of term {}, committed is {}"
            require(kept, Rule.COMMITTED_IS_FOREVER, text, raft.id, committed, self._base_term, known)
            return
        for entry in self._entries[max(before - self._base, 0) : committed - self._base]:
            history.commits(raft.id, entry, raft.term if leads_on else 0)

    # What it hands out, and hears.

    def ready(self, ready: Ready) -> None:
        """A Ready was handed out."""
        id = self._raft.id
        both = ready.snapshot is not None and bool(ready.committed)
        require(not both, Rule.READY_SHAPE, "{} hands out a snapshot with committed entries", id)
        if ready.entries:
            first = ready.entries[0].index
            text = "{} hands out entries from {} on, the last ones ended at {}"
            require(first == self._handed_out + 1, Rule.READY_SHAPE, text, id, first, self._handed_out)
            self._handed_out = ready.entries[-1].index
        else:
            text = "{} hands out no entries, but holds some from {} to {}"
            kept = self._handed_out == self.last
            require(kept, Rule.READY_SHAPE, text, id, self._handed_out, self.last)

    def heard(self, message: Message) -> None:
        """A message is about to be stepped."""
        if self._leading is not None:
            self._leading.heard(message)

    def ticked(self) -> None:
        """A tick was taken in and observed."""
        if self._leading is not None:
            self._leading.ticked()
