"""A member whose storage works beside it, and answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import APPEND_THREAD, APPLY_THREAD, NOBODY, HardState, Message
from twistedetcd.testing.raftsim.disk import Write
from twistedetcd.testing.raftsim.member import Member
from twistedetcd.testing.raftsim.world import World


class AsyncMember(Member):
    """
    Two threads, each in order, neither waiting for the other; messages leave at once.

    The append thread may write much and sync once; the answers that wait for a write leave after its sync,
    those to the member itself in order, but as late as it may be.
    """

    def __init__(self, id: int, world: World) -> None:
        super().__init__(id, world)
        self._to_append: deque[Message] = deque()
        self._written: deque[Message] = deque()
        self._to_apply: deque[Message] = deque()
        self._saved: deque[Message] = deque()
        """Answers of the append thread, on their way back."""
        self._done: deque[Message] = deque()
        """Answers of the apply thread."""

    def has_work(self) -> bool:
        """See `Member`."""
        return self.node is not None and bool(self._parts(self.node))

    def forget_work(self) -> None:
        """See `Member`."""
        for queue in (self._to_append, self._written, self._to_apply, self._saved, self._done):
            queue.clear()

    def work(self) -> None:
        """See `Member`."""
        node = self.node
        assert node is not None
        self._world.random.choice(self._parts(node))()

    def _parts(self, node: RawNode) -> list[Callable[[], None]]:
        parts = [self._write] if self._to_append and not self.stalled else []
        parts += [self._sync] if self._written and not self.stalled else []
        parts += [self._apply_next] if self._to_apply and not self.stalled else []
        parts += [self._hear_saved] if self._saved and not self.deaf else []
        parts += [self._hear_done] if self._done and not self.deaf else []
        parts += [self._take] if node.has_ready() else []
        return parts

    def _take(self) -> None:
        ready = self.take_ready()
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                self._to_append.append(message)
            elif message.to == APPLY_THREAD:
                self._to_apply.append(message)
            else:
                self.send(message)
        self.take_reads(ready.read_states)

    def _write(self) -> None:
        message = self._to_append.popleft()
        state = HardState(message.term, message.vote, message.commit) if message.term else None
        self.disk.write(Write(message.snapshot, message.entries, state))
        self._written.append(message)

    def _sync(self) -> None:
        written = list(self._written)
        self._written.clear()
        if any(message.responses for message in written):
            self.sync()
        for message in written:
            if message.snapshot is not None:
                self.apply_all()
                self.install(message.snapshot)
            for response in message.responses:
                if response.to == self.id:
                    self._saved.append(response)
                else:
                    self.send(response)

    def _apply_next(self) -> None:
        message = self._to_apply.popleft()
        for entry in message.entries:
            self.apply(entry)
        self._done.extend(message.responses)

    def apply_all(self) -> None:
        """See `Member`."""
        while self._to_apply:
            self._apply_next()

    def _hear_saved(self) -> None:
        self._hear_own(self._saved.popleft())

    def _hear_done(self) -> None:
        self._hear_own(self._done.popleft())

    def _hear_own(self, message: Message) -> None:
        assert message.sender != NOBODY
        self.call(lambda node: RawNode.step(node, message))
