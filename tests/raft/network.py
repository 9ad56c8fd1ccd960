"""Members that talk to each other: every message arrives, in order, unless two members are kept apart."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from tests.raft.driver import Member, stored
from twistedetcd.raft.errors import ConfChangeError, PeerNotFoundError, ProposalDroppedError
from twistedetcd.raft.types import Entry, EntryType, HardState, Message, MessageType, Role

STEPS_MAX = 10_000
"""Messages until a network must have settled."""


def entries(*terms: int) -> list[Entry]:
    """Entries from index 2 on, one for each term; the data tells term and place."""
    return [Entry(term, index, b"%d/%d" % (term, index)) for index, term in enumerate(terms, 2)]


class Network:
    """
    Voters 1 … n, all at term 1 with index 1 applied, unless told otherwise.

    No pre-vote and no quorum check, as in the paper, unless asked for.
    """

    def __init__(
        self, count: int = 3, logs: Mapping[int, Sequence[int]] | None = None, **config: Any
    ) -> None:
        """
        Args:
            count: How many voters.
            logs: By member: the terms of its entries from index 2 on.
            config: Fields of `Config`, the same for all.
        """
        config = {"pre_vote": False, "check_quorum": False, **config}
        self.config = config
        self.voters = tuple(range(1, count + 1))
        self.members = {
            id: Member(id, self._stored((logs or {}).get(id, ())), applied=1, **config) for id in self.voters
        }
        self.delivered: list[Message] = []
        """All that arrived, oldest first."""
        self._apart: set[tuple[int, int]] = set()

    def _stored(self, terms: Sequence[int]) -> Any:
        return stored(self.voters, entries(*terms), HardState(max((1, *terms)), 0, 1))

    def __getitem__(self, id: int) -> Member:
        return self.members[id]

    def add(self, id: int) -> Member:
        """A member with nothing on its disk."""
        self.members[id] = Member(id, **self.config)
        return self.members[id]

    # The network between them.

    def isolate(self, *ids: int) -> None:
        """Keep these apart from all others; among themselves they talk on."""
        self._apart |= {(a, b) for a in self.members for b in self.members if (a in ids) != (b in ids)}

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._apart.clear()

    def settle(self) -> None:
        """Go on until nobody has anything to do."""
        queue: deque[Message] = deque()
        for _ in range(STEPS_MAX):
            for member in self.members.values():
                while member.node.has_ready():
                    queue += self._carry_out(member)
            if not queue:
                return
            self._deliver(queue.popleft())
        raise AssertionError("the members never settle")

    def _carry_out(self, member: Member) -> Sequence[Message]:
        ready = member.carry_out()
        if any(entry.type != EntryType.NORMAL for entry in ready.committed):
            # A snapshot of before would be of no use to a member that the change adds.
            member.storage.create_snapshot(ready.committed[-1].index, member.configuration)
        return ready.messages

    def _deliver(self, message: Message) -> None:
        reached = message.to in self.members and (message.sender, message.to) not in self._apart
        if reached:
            self.delivered.append(message)
            with contextlib.suppress(ProposalDroppedError, PeerNotFoundError, ConfChangeError):
                self.members[message.to].node.step(message)
        if message.type is MessageType.SNAP:
            self.members[message.sender].node.report_snapshot(message.to, delivered=reached)

    # What they are asked to do.

    def elect(self, id: int) -> Member:
        """Let a member campaign and lead."""
        self[id].node.campaign()
        self.settle()
        assert self[id].node.role is Role.LEADER, f"member {id} was not elected"
        return self[id]

    def propose(self, id: int, *datas: bytes) -> None:
        """Propose on a member, and let it settle."""
        self[id].node.propose(datas)
        self.settle()

    def tick(self, id: int, times: int = 1) -> None:
        """Let time pass for one member, carrying out what comes of it."""
        for _ in range(times):
            self[id].node.tick()
            self.settle()

    # What became of it.

    def leaders(self) -> list[int]:
        """Who believes to lead."""
        return [id for id, member in self.members.items() if member.node.role is Role.LEADER]

    def log(self, id: int) -> list[int]:
        """The terms of a member's saved entries from index 2 on."""
        storage = self[id].storage
        return [storage.term(index) for index in range(2, storage.last_index() + 1)]

    def committed(self, id: int) -> int:
        """A member's commit index."""
        return self[id].node.status().hard_state.commit
