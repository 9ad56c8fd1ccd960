"""What a file's commands act on: the nodes, the messages under way between them, and what is printed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import APPEND_THREAD, APPLY_THREAD, Message, MessageType, Snapshot
from twistedetcd.testing.vectors.syntax import CommandError, VectorError

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")
_QUIET = LEVELS.index("NONE")


class Output:
    """Text on its way to be compared.  A level keeps back what is less important; NONE keeps back all."""

    def __init__(self) -> None:
        self._level = 0
        self._parts: list[str] = []

    @property
    def quiet(self) -> bool:
        """Whether nothing at all is written."""
        return self._level == _QUIET

    def set_level(self, name: str) -> None:
        """
        Write only what is at least as important, until told otherwise.

        Raises:
            CommandError: There is no such level.
        """
        if name.upper() not in LEVELS:
            raise CommandError(f"log levels must be either of [{' '.join(LEVELS)}]")
        self._level = LEVELS.index(name.upper())

    @contextmanager
    def level_kept(self) -> Iterator[None]:
        """Whatever level is set inside, afterwards it is the one of before."""
        level = self._level
        try:
            yield
        finally:
            self._level = level

    def write(self, text: str) -> None:
        """Print, as it is."""
        if not self.quiet:
            self._parts.append(text)

    def trace(self, level: str, text: str, /, **fields: object) -> None:
        """Raft's trace hook."""
        if LEVELS.index(level) >= self._level:
            self.write(f"{level} {text.format(**fields)}\n")

    @contextmanager
    def indented(self) -> Iterator[None]:
        """What is written inside comes out two columns to the right, each line with its end."""
        outer, self._parts = self._parts, []
        try:
            yield
        finally:
            lines = self.take().splitlines()
            self._parts = outer
            for line in lines:
                self.write(f"  {line}\n")

    def take(self) -> str:
        """All that was written since the last time."""
        text, self._parts = "".join(self._parts), []
        return text


class HistoryStorage(MemoryStorage):
    """A log in memory whose snapshot is always of the newest applied state."""

    def __init__(self, first: Snapshot) -> None:
        super().__init__()
        self.history = [first]

    def snapshot(self) -> Snapshot:
        """The state after the last applied entry."""
        return self.history[-1]


@dataclass(slots=True)
class Node:
    """A member with its storage, and the work of its two storage threads."""

    raft: RawNode
    storage: HistoryStorage
    asynchronous: bool
    append_work: deque[Message] = field(default_factory=deque)
    apply_work: deque[Message] = field(default_factory=deque)

    @property
    def id(self) -> int:
        """The node's number, from 1."""
        return self.raft.id


@dataclass(slots=True)
class Environment:
    """One file's world."""

    nodes: list[Node] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    """Sent and not delivered yet, oldest first."""
    output: Output = field(default_factory=Output)

    def node(self, id: int) -> Node:
        """The node with that number."""
        if not 1 <= id <= len(self.nodes):
            raise VectorError(f"there is no node {id}")
        return self.nodes[id - 1]

    def take_messages(self, to: int, kind: MessageType | None = None, *, local: bool = True) -> list[Message]:
        """
        Take the messages to one node off the network.

        Args:
            to: The node.
            kind: Only those of this type.
            local: Those too that never go over a network.
        """
        taken, left = list[Message](), list[Message]()
        for message in self.messages:
            wanted = message.to == to and (kind is None or message.type is kind)
            (taken if wanted and (local or not _is_local(message)) else left).append(message)
        self.messages = left
        return taken


def _is_local(message: Message) -> bool:
    threads = (APPEND_THREAD, APPLY_THREAD)
    return message.sender == message.to or message.sender in threads or message.to in threads
