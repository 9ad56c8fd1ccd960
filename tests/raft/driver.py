"""The smallest driver of a raft member: it keeps the order of duties, and remembers what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfState, Entry, EntryType, HardState, Message, ReadState, Ready


def no_draw(n: int) -> int:
    """The shortest election timeout."""
    return 0


class Member:
    """One member, its storage, and what came out of it."""

    def __init__(self, id: int = 1, storage: MemoryStorage | None = None, **config: Any) -> None:
        self.storage = MemoryStorage() if storage is None else storage
        config.setdefault("draw", no_draw)
        self.node = RawNode(Config(id=id, storage=self.storage, **config))
        self.configuration = ConfState()
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []
        self.sent: list[Message] = []

    def save(self, ready: Ready) -> None:
        """Make durable what must be."""
        if ready.snapshot is not None:
            self.storage.apply_snapshot(ready.snapshot)
        self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)

    def carry_out(self) -> Ready:
        """One Ready: save, send, apply, advance."""
        ready = self.node.ready()
        self.save(ready)
        self.sent += ready.messages
        self.apply(ready.committed)
        self.reads += ready.read_states
        self.node.advance()
        return ready

    def apply(self, committed: Sequence[Entry]) -> None:
        """Apply entries; a change of membership goes back into raft."""
        for entry in committed:
            if entry.type != EntryType.NORMAL:
                self.configuration = self.node.apply_conf_change(decode_change(entry))
            self.applied.append(entry)

    def settle(self) -> list[Ready]:
        """Carry out Readys until there is nothing to do."""
        done = []
        while self.node.has_ready():
            done.append(self.carry_out())
        return done

    def data(self) -> list[bytes]:
        """The data of the ordinary entries applied so far."""
        return [entry.data for entry in self.applied if entry.data and entry.type == EntryType.NORMAL]


def single_leader(**config: Any) -> Member:
    """A cluster of one, elected."""
    member = Member(**config)
    member.node.bootstrap([(1, b"")])
    member.settle()
    member.node.campaign()
    member.settle()
    return member


def stored(voters: tuple[int, ...], entries: Sequence[Entry], state: HardState) -> MemoryStorage:
    """What a disk holds after a crash: a snapshot at index 1 with the voters, entries, a hard state."""
    storage = MemoryStorage()
    storage.append([Entry(1, 1)])
    storage.create_snapshot(1, ConfState(voters))
    storage.compact(1)
    storage.append(entries)
    storage.set_hard_state(state)
    return storage
