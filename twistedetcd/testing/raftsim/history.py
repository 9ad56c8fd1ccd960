"""What the whole cluster did so far, and the promises about that: they outlive crashes and restarts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from twistedetcd.raft.types import ConfState, Entry
from twistedetcd.testing.raftsim.disk import Disk
from twistedetcd.testing.raftsim.rules import Rule, require


def is_quorum(configuration: ConfState, members: Sequence[int]) -> bool:
    """Whether these are a majority of each half that is not empty."""
    halves = (configuration.voters, configuration.voters_outgoing)
    return all(2 * sum(voter in members for voter in half) > len(half) for half in halves if half)


class History:
    """The cluster's memory.  Everything in it only grows."""

    def __init__(self, base: Sequence[Entry], configuration: ConfState) -> None:
        """
        Args:
            base: The entries that the cluster began with, from index 1, all committed.
            configuration: The one after them.
        """
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._ledger: list[Entry] = [Entry(0, 0), *base]
        self._commit_terms = [0, *(1 for _ in base)]
        self.founded = len(base)
        """Before this index configurations are only being put together, differently after a restart."""
        self._changed_at = [self.founded]
        self._configurations = [configuration]
        self._reads: dict[bytes, int] = {}

    # Elections.

    def leads(self, member: int, term: int) -> None:
        """Somebody leads."""
        known = self._leaders.setdefault(term, member)
        require(known == member, Rule.ELECTION_SAFETY, "{} and {} lead term {}", known, member, term)

    def complete(self, member: int, term: int, first: int, matches: Callable[[int, int], bool]) -> None:
        """
        Check the log of a new leader; that logs match is checked elsewhere, so one entry is enough.

        Args:
            member: Who leads.
            term: Since which term.
            first: The first index of its log that is not compacted.
            matches: Whether its log holds an index with a term.
        """
        index = len(self._ledger) - 1
        while index and self._commit_terms[index] >= term:
            index -= 1
        if index >= first:
            kept = matches(index, self._ledger[index].term)
            text = "{} leads term {} without {}, committed in term {}"
            committed_in = self._commit_terms[index]
            require(kept, Rule.LEADER_COMPLETENESS, text, member, term, self._ledger[index], committed_in)

    def votes(self, member: int, term: int, candidate: int) -> None:
        """A vote became durable, or was sent."""
        known = self._votes.setdefault((member, term), candidate)
        text = "{} voted for {} and for {} in term {}"
        require(known == candidate, Rule.SINGLE_VOTE, text, member, known, candidate, term)

    # The log.

    def appended(self, entry: Entry, previous_term: int) -> None:
        """An entry is in somebody's log, behind one of ``previous_term``."""
        known = self._entries.setdefault((entry.index, entry.term), (previous_term, entry))
        kept = known[1] is entry or known == (previous_term, entry)
        if not kept:  # A member whose log begins here does not know the term before its snapshot's.
            kept = known[1] == entry and (not previous_term or not known[0])
        require(
            kept,
            Rule.LOG_MATCHING,
            "{} behind {}, and {} behind {}",
            known[1],
            known[0],
            entry,
            previous_term,
        )

    def replaced(self, member: int, term: int, entry: Entry) -> None:
        """A member in ``term`` cuts an entry off."""
        index = entry.index
        if index < len(self._ledger) and self._ledger[index] == entry:
            # The leader of an earlier term may not know yet that a later one has committed it.
            text = "{} replaces {} in term {}, committed in term {}"
            kept = self._commit_terms[index] >= term
            require(kept, Rule.COMMITTED_IS_FOREVER, text, member, entry, term, self._commit_terms[index])

    @property
    def committed(self) -> int:
        """The highest index that anybody has committed."""
        return len(self._ledger) - 1

    def commits(self, member: int, entry: Entry, leader_term: int) -> None:
        """
        A member's commit index passes an entry.

        Args:
            member: Who.
            entry: What its log holds there.
            leader_term: The term it leads, 0 if it only hears of it.
        """
        if entry.index == len(self._ledger):
            text = "{} commits {}, which no leader has committed"
            require(leader_term > 0, Rule.COMMIT_RULE, text, member, entry)
            self._ledger.append(entry)
            self._commit_terms.append(leader_term)
        known = self._ledger[entry.index]
        text = "{} commits {}, but {} is committed there"
        require(known is entry or known == entry, Rule.COMMITTED_IS_FOREVER, text, member, entry, known)

    def committed_at(self, index: int) -> Entry | None:
        """What is committed there."""
        return self._ledger[index] if index < len(self._ledger) else None

    def applies(self, member: int, entry: Entry) -> None:
        """A member applies an entry."""
        known = self.committed_at(entry.index)
        text = "{} applies {}, committed is {}"
        require(known is entry or known == entry, Rule.STATE_MACHINE_SAFETY, text, member, entry, known)

    def holders(
        self, index: int, configuration: ConfState, disks: Mapping[int, Disk], term: int
    ) -> list[int]:
        """The voters on whose disks an entry is."""
        voters = [*configuration.voters, *configuration.voters_outgoing]
        return [voter for voter in voters if voter in disks and disks[voter].holds(index, term)]

    # Configurations.

    def configured(self, member: int, index: int, configuration: ConfState) -> ConfState | None:
        """
        A member's configuration after applying ``index``.

        Returns:
            The one before it, if this is the first member to get there.
        """
        if index < self.founded:
            return None
        if index <= self._changed_at[-1]:
            known = self.configuration_at(index)
            text = "{} is at {} after {}, others at {}"
            require(
                known == configuration, Rule.STATE_MACHINE_SAFETY, text, member, configuration, index, known
            )
            return None
        before = self._configurations[-1]
        self._changed_at.append(index)
        self._configurations.append(configuration)
        _check_shape(configuration)
        _check_overlap(before, configuration)
        return before

    def configuration_at(self, index: int) -> ConfState:
        """The configuration after applying ``index``."""
        return self._configurations[max(bisect_right(self._changed_at, index) - 1, 0)]

    # Reads.

    def reads(self, context: bytes) -> None:
        """A read begins; one that is asked for again began long ago."""
        self._reads.setdefault(context, self.committed)

    def answers(self, member: int, context: bytes, index: int) -> None:
        """A read is answered."""
        floor = self._reads.get(context, 0)
        text = "{} reads {} at {}, but {} was committed before it began"
        require(index >= floor, Rule.READS, text, member, context, index, floor)


def _check_shape(configuration: ConfState) -> None:
    voters, learners, outgoing, learners_next, auto_leave = configuration
    for ids in (voters, learners, outgoing, learners_next):
        require(list(ids) == sorted(set(ids)), Rule.CONFIGURATION_SHAPE, "ids of {}", configuration)
    learns = [member for member in learners if member in voters or member in outgoing]
    require(not learns, Rule.CONFIGURATION_SHAPE, "learners {} vote in {}", learns, configuration)
    waits = [member for member in learners_next if member not in outgoing or member in learners]
    require(not waits, Rule.CONFIGURATION_SHAPE, "{} shall become learners of {}", waits, configuration)
    require(bool(voters), Rule.CONFIGURATION_SHAPE, "nobody votes in {}", configuration)
    joint = bool(outgoing)
    loose = not joint and (bool(learners_next) or auto_leave)
    require(not loose, Rule.CONFIGURATION_SHAPE, "marks of a joint configuration in {}", configuration)


def _check_overlap(before: ConfState, after: ConfState) -> None:
    joint_before, joint_after = bool(before.voters_outgoing), bool(after.voters_outgoing)
    if joint_after and not joint_before:
        kept = after.voters_outgoing == before.voters
    elif joint_before and not joint_after:
        kept = after.voters == before.voters
    elif joint_before:
        kept = before == after
    else:
        kept = len({*before.voters} ^ {*after.voters}) <= 1
    require(kept, Rule.CONFIGURATION_OVERLAP, "{} after {}", after, before)
