"""A file system in memory that forgets, at a crash, whatever was not synced: sectors and names alike."""

from __future__ import annotations

import errno
import os.path
from collections.abc import Callable

from zope.interface import implementer

from twistedetcd.interfaces import IFile, IFiles

SECTOR = 512


class Node:
    """A file's bytes, now and at its last sync."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.owner: DiskFile | None = None

    def crash(self, keep: Callable[[int], bool]) -> None:
        """Each sector written since the last sync is kept or lost."""
        self.owner = None
        kept = bytearray(self.durable)
        for start in range(0, len(self.data), SECTOR):
            sector = self.data[start : start + SECTOR]
            if sector != self.durable[start : start + SECTOR] and keep(start // SECTOR):
                if len(kept) < start:
                    kept.extend(bytes(start - len(kept)))
                kept[start : start + SECTOR] = sector
        self.data, self.durable = kept, bytes(kept)


class Directory:
    """Names, now and at the last sync."""

    def __init__(self) -> None:
        self.names: dict[str, Node | Directory] = {}
        self.durable: dict[str, Node | Directory] = {}

    def crash(self, keep: Callable[[int], bool]) -> None:
        """Every change of a name since the last sync is lost."""
        self.names = dict(self.durable)
        for node in self.names.values():
            node.crash(keep)


@implementer(IFile)
class DiskFile:
    """An open file of a `Disk`."""

    def __init__(self, disk: Disk, name: str, node: Node) -> None:
        self.disk, self.name, self.node = disk, name, node

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.node.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.disk.step("write", self.name)
        self.node.data.extend(bytes(max(0, offset - len(self.node.data))))
        self.node.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self.disk.step("truncate", self.name)
        del self.node.data[size:]
        self.node.data.extend(bytes(size - len(self.node.data)))

    def size(self) -> int:
        return len(self.node.data)

    def sync(self) -> None:
        self.disk.step("sync", self.name)
        self.node.durable = bytes(self.node.data)

    def lock(self) -> None:
        if self.node.owner not in (None, self):
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        self.node.owner = self

    def close(self) -> None:
        if self.node.owner is self:
            self.node.owner = None


@implementer(IFiles)
class Disk:
    """
    Attributes:
        steps: Every change so far: what was done, and to which path.
        failing: Called with each of them before it is made; raises to refuse it.
    """

    def __init__(self) -> None:
        self.root = Directory()
        self.steps: list[tuple[str, str]] = []
        self.failing: Callable[[str, str], None] = lambda what, path: None

    def step(self, what: str, path: str) -> None:
        self.failing(what, path)
        self.steps.append((what, path))

    def fail_after(self, count: int) -> None:
        """Refuse everything after so many more changes."""
        end = len(self.steps) + count

        def failing(what: str, path: str) -> None:
            if len(self.steps) >= end:
                raise OSError(errno.EIO, f"{what} {path}")

        self.failing = failing

    def crash(self, keep: Callable[[int], bool] = lambda sector: False) -> None:
        """Lose what was not synced, but for the sectors ``keep`` says yes to; then work again."""
        self.failing = lambda what, path: None
        self.root.crash(keep)

    def node(self, path: str) -> Node:
        node = self._parent(path).names.get(os.path.basename(path))
        if not isinstance(node, Node):
            raise FileNotFoundError(errno.ENOENT, path)
        return node

    def directory(self, path: str) -> Directory:
        found = self.root
        for name in path.strip("./").split("/") if path.strip("./") else ():
            node = found.names.get(name)
            if not isinstance(node, Directory):
                raise FileNotFoundError(errno.ENOENT, path)
            found = node
        return found

    def _parent(self, path: str) -> Directory:
        return self.directory(os.path.dirname(path))

    def open(self, path: str, create: bool = False) -> DiskFile:
        if create:
            self.step("create", path)
            if self.exists(path):
                raise FileExistsError(errno.EEXIST, path)
            self._parent(path).names[os.path.basename(path)] = Node()
        return DiskFile(self, path, self.node(path))

    def exists(self, path: str) -> bool:
        try:
            return os.path.basename(path) in self._parent(path).names
        except FileNotFoundError:
            return False

    def list(self, directory: str) -> list[str]:
        return sorted(self.directory(directory).names) if self.exists(directory) else []

    def make_directory(self, path: str) -> None:
        self.step("make_directory", path)
        self._parent(path).names.setdefault(os.path.basename(path), Directory())

    def rename(self, source: str, target: str) -> None:
        self.step("rename", target)
        node = self._parent(source).names.pop(os.path.basename(source))
        self._parent(target).names[os.path.basename(target)] = node

    def remove(self, path: str) -> None:
        self.step("remove", path)
        self._parent(path).names.pop(os.path.basename(path), None)

    def remove_directory(self, path: str) -> None:
        self.step("remove_directory", path)
        self._parent(path).names.pop(os.path.basename(path), None)

    def sync_directory(self, path: str) -> None:
        self.step("sync_directory", path)
        directory = self.directory(path)
        directory.durable = dict(directory.names)
