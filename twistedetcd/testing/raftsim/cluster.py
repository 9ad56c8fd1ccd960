"""The members of a simulation, and messages between them."""

from __future__ import annotations

from random import Random

from twistedetcd.raft.changebytes import encode_change
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
)
from twistedetcd.testing.raftsim.asyncmember import AsyncMember
from twistedetcd.testing.raftsim.disk import snapshot_data
from twistedetcd.testing.raftsim.history import History
from twistedetcd.testing.raftsim.member import Member
from twistedetcd.testing.raftsim.profile import Profile
from twistedetcd.testing.raftsim.syncmember import SyncMember
from twistedetcd.testing.raftsim.transcript import Transcript
from twistedetcd.testing.raftsim.world import World

IDS_MAX = 9
"""Ids that there ever are; at most seven of them are members at a time."""

MEMBERS_MAX = 7

_DELIVERIES_MAX = 300
"""In one quiet round."""

_NOTICES = (MessageType.UNREACHABLE, MessageType.SNAP_STATUS)


class Cluster:
    """
    Attributes:
        random: The one source of chance.
        profile: What kind of trouble there is.
        world: What the members share.
        members: All that ever were, by id; some are down.
    """

    def __init__(self, random: Random, profile: Profile, transcript: Transcript | None) -> None:
        self.random, self.profile = random, profile
        founders = tuple(range(1, profile.founders + 1))
        base = _changes(founders) if profile.bootstrap else [Entry(1, 1)]
        self.world = World(random, profile, History(base, ConfState(founders)), transcript)
        self.members: dict[int, Member] = {}
        for id in founders:
            member = self._new(id)
            if profile.bootstrap:
                member.found(founders)
            else:
                _store_base(member, ConfState(founders))
                member.start()
        self._named = 0

    def _new(self, id: int) -> Member:
        kind = AsyncMember if self.profile.async_storage else SyncMember
        member = self.members[id] = kind(id, self.world)
        return member

    def join(self) -> int:
        """A new member, with nothing on its disk; its id."""
        id = len(self.members) + 1
        self._new(id).start()
        return id

    def name(self, kind: str) -> bytes:
        """A name that nothing had before, for a proposal or a read."""
        self._named += 1
        return b"%s%d" % (kind.encode(), self._named)

    @property
    def configuration(self) -> ConfState:
        """The newest configuration that any member has applied."""
        return self.world.history.configuration_at(self.world.history.committed)

    def up(self) -> list[Member]:
        """Members whose processes run."""
        return [member for member in self.members.values() if member.node is not None]

    def down(self) -> list[Member]:
        """Members that crashed."""
        return [member for member in self.members.values() if member.node is None]

    def leader(self) -> Member | None:
        """Who leads the newest term, of those that run."""
        leaders = [(member.node.term, member.id) for member in self.up() if member.node and member.leads]
        return self.members[max(leaders)[1]] if leaders else None

    def settle(self, member: Member) -> None:
        """Let a member do what it owes, or perhaps only a part of it."""
        if self.random.random() < self.profile.eager:
            member.work_through()
            return
        for _ in range(self.random.randint(0, 3)):
            if member.node is not None and member.has_work():
                member.work()

    def deliver(self, message: Message) -> None:
        """A message arrives, if there is anybody."""
        member = self.members.get(message.to)
        if member is not None and member.node is not None:
            member.hear(message)
            self.settle(member)
        elif message.type not in _NOTICES:
            self.world.network.lose(message)

    def quiet_round(self) -> None:
        """A tick for everybody, all messages in order, and all the work that follows."""
        for member in self.up():
            member.stalled = member.deaf = False
            member.tick()
            member.work_through()
        self.deliver_quietly()

    def deliver_quietly(self) -> None:
        """All messages in order, and all the work that follows."""
        for _ in range(_DELIVERIES_MAX):
            if not len(self.world.network):
                break
            message = self.world.network.take(calm=True)
            if message is not None:
                self.deliver(message)
                member = self.members.get(message.to)
                if member is not None:
                    member.work_through()

    def ask(self, member: Member, context: bytes) -> None:
        """A read on a member; a name that was used already is a retry."""
        member.note("asks to read {}", context)
        self.world.history.reads(context)
        member.call(lambda node: node.read_index(context))
        self.settle(member)


def _changes(founders: tuple[int, ...]) -> list[Entry]:
    entries = []
    for index, founder in enumerate(founders, 1):
        kind, data = encode_change(ConfChange(0, ConfChangeType.ADD_NODE, founder))
        entries.append(Entry(1, index, data, kind))
    return entries


def _store_base(member: Member, configuration: ConfState) -> None:
    """As the recommended start of a new cluster: a snapshot that holds nothing but the configuration."""
    durable = member.disk.durable
    durable.append([Entry(1, 1)])
    durable.create_snapshot(1, configuration, snapshot_data(1))
    durable.compact(1)
    durable.set_hard_state(HardState(1, 0, 1))
