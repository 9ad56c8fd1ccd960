"""What the turn brought to be proposed: appended by who leads, sent on to the leader by who does not."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Protocol

from twisted.logger import Logger

from twistedetcd.raft.errors import ProposalDroppedError
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import ConfChange, Role

FORWARDED_BYTES = 1024 * 1024  # of proposals in one message to the leader; a larger one goes by itself


class Told(Protocol):
    """Who hears what becomes of proposals."""

    def forwarded(self, proposals: Sequence[bytes]) -> None:
        """These are on their way to the leader: what comes back as an entry is not the same object."""

    def not_proposed(self, proposals: Sequence[bytes]) -> None:
        """These will not be: they were the leader's, and this member does not lead any more."""


class Proposals:
    """
    Proposals that wait for the end of the turn, or for a leader.

    Args:
        raft: Takes them.
        told: Hears what becomes of them; ``None`` for who will always be alone.

    Attributes:
        waiting: Entries' data, in the order they came.
    """

    _log = Logger()

    def __init__(self, raft: RawNode, told: Told | None) -> None:
        self._raft = raft
        self._told = told
        self.waiting: list[bytes] = []
        self._changes: list[ConfChange] = []
        self._in_office: dict[int, int] = {}
        """Of proposals that only the leader of a term may make, that term; by the identity of their data."""

    def add_as_leader(self, data: bytes) -> bool:
        """
        Have something proposed with the others, if this member leads by then since now.

        Returns:
            Whether it leads now.  If it does not later, `Told.not_proposed` is called.
        """
        if self._raft.role is not Role.LEADER:
            return False
        self.waiting.append(data)
        self._in_office[id(data)] = self._raft.term
        return True

    def add_change(self, change: ConfChange) -> None:
        """Have a change of membership proposed."""
        self._changes.append(change)

    def keep(self, wanted: Container[int]) -> None:
        """Forget those that nobody waits for; ``wanted`` has the identities of the data of the others."""
        self.waiting = [data for data in self.waiting if id(data) in wanted]
        # Whatever is made next may get the identity of what was forgotten.
        self._in_office = {number: term for number, term in self._in_office.items() if number in wanted}

    def propose(self) -> None:
        """There is a leader: propose all that waits."""
        if self.waiting:
            self._propose_data()
        if self._changes:
            self._propose_changes()

    def _propose_data(self) -> None:
        proposals, self.waiting = self.waiting, []
        if self._in_office:
            proposals = self._still_in_office(proposals)
        try:
            if self._raft.role is Role.LEADER:
                self._raft.propose(proposals)
            else:
                self._forward(proposals)
            self._in_office = {}
        except ProposalDroppedError:
            self.waiting = proposals  # kept for the next leader; whoever waits has a deadline

    def _still_in_office(self, proposals: list[bytes]) -> list[bytes]:
        """Leave out what this member wanted only as the leader that it is no more."""
        term = self._raft.term if self._raft.role is Role.LEADER else 0
        kept = [data for data in proposals if self._in_office.get(id(data), term) == term]
        if len(kept) < len(proposals):
            assert self._told is not None, "who is alone stays in office"
            dropped = [data for data in proposals if self._in_office.get(id(data), term) != term]
            self._in_office = {number: at for number, at in self._in_office.items() if at == term}
            self._told.not_proposed(dropped)
        return kept

    def _forward(self, proposals: list[bytes]) -> None:
        assert self._told is not None, "who is alone leads"
        for some in _pieces(proposals, FORWARDED_BYTES):
            self._raft.propose(some)
            self._told.forwarded(some)

    def _propose_changes(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            try:
                self._raft.propose_conf_change(change)
            except ProposalDroppedError as error:
                self._log.debug("A change of membership was not proposed: {error}", error=error)


def _pieces(proposals: Sequence[bytes], bytes_max: int) -> Iterator[list[bytes]]:
    """In order, as many together as do not exceed ``bytes_max``."""
    piece: list[bytes] = []
    size = 0
    for data in proposals:
        if piece and size + len(data) > bytes_max:
            yield piece
            piece, size = [], 0
        piece.append(data)
        size += len(data)
    if piece:
        yield piece
