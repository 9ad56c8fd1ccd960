"""A member that saves before it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import Entry, EntryType, Ready, Role
from twistedetcd.testing.raftsim.disk import Write
from twistedetcd.testing.raftsim.member import Member
from twistedetcd.testing.raftsim.world import World


class SyncMember(Member):
    """
    One Ready at a time: write, sync if that is asked for, send (a leader may send first), advance.

    Entries are applied in order, at any time after they were handed out; changes of membership before the
    advance.
    """

    def __init__(self, id: int, world: World) -> None:
        super().__init__(id, world)
        self._duties: deque[Callable[[Ready], None]] = deque()
        self._ready: Ready | None = None
        self._to_apply: deque[Entry] = deque()
        self._on_disk = (self._write, self._sync, self._apply_before_advance)

    def has_work(self) -> bool:
        """See `Member`."""
        return self.node is not None and (self._can_apply() or self._is_due(self.node))

    def _can_apply(self) -> bool:
        return bool(self._to_apply) and not self.stalled

    def _is_due(self, node: RawNode) -> bool:
        if self._duties:
            return not (self.stalled and self._duties[0] in self._on_disk)
        return node.has_ready()

    def forget_work(self) -> None:
        """See `Member`."""
        self._duties.clear()
        self._to_apply.clear()
        self._ready = None

    def work(self) -> None:
        """See `Member`."""
        node = self.node
        assert node is not None
        due = self._is_due(node)
        if self._can_apply() and (not due or self._world.random.random() < 0.3):
            self.apply(self._to_apply.popleft())
        elif self._ready is not None:
            self._duties.popleft()(self._ready)
        elif due:
            self._take(node)

    def _take(self, node: RawNode) -> None:
        leads = node.role is Role.LEADER
        self._ready = ready = self.take_ready()
        duties = [self._write, self._sync]
        early = self._world.random.randint(0, 2) if leads else 2
        duties.insert(early, self._send)
        if any(entry.type != EntryType.NORMAL for entry in ready.committed):
            duties.append(self._apply_before_advance)
        self._duties.extend([*duties, self._advance])
        self._to_apply.extend(ready.committed)

    def _write(self, ready: Ready) -> None:
        if ready.snapshot is not None or ready.entries or ready.hard_state is not None:
            self.disk.write(Write(ready.snapshot, ready.entries, ready.hard_state))

    def _sync(self, ready: Ready) -> None:
        if ready.must_sync or ready.snapshot is not None:
            self.sync()
        if ready.snapshot is not None:
            self.apply_all()
            self.install(ready.snapshot)

    def _send(self, ready: Ready) -> None:
        for message in ready.messages:
            self.send(message)
        self.take_reads(ready.read_states)

    def _apply_before_advance(self, ready: Ready) -> None:
        self.apply_all()

    def apply_all(self) -> None:
        """See `Member`."""
        while self._to_apply:
            self.apply(self._to_apply.popleft())

    def _advance(self, ready: Ready) -> None:
        self._ready = None
        self.call(RawNode.advance)
