"""
A file system in memory that loses, at a crash, whatever was not synced: for tests and simulations.

What a disk may do to us happens here by a seed: after a crash any subset of the un-synced sectors is there,
and any subset of the un-synced names that one of them does not contradict.  It fills up, refuses, and is slow
on demand.  A crash makes another disk of what is left, so one moment may be crashed many times.
"""

from __future__ import annotations

import errno
import os
import os.path
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from zope.interface import implementer

from twistedetcd.interfaces import IFile, IFiles

SECTOR_BYTES = 512

Keep = Callable[[], bool]


class _Inode:
    """A file's bytes, and what its un-synced sectors held at the last sync."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.synced_size = len(data)
        self.synced_sectors: dict[int, bytes] = {}
        self.owner: SimulatedFile | None = None

    def touch(self, start: int, end: int) -> None:
        """The bytes in this range are about to change."""
        for sector in range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
            if sector not in self.synced_sectors:
                at = sector * SECTOR_BYTES
                self.synced_sectors[sector] = bytes(self.data[at : at + SECTOR_BYTES])

    def crashed(self, keep: Keep) -> _Inode:
        kept = bytearray(self.data)
        kept.extend(bytes(max(0, self.synced_size - len(kept))))
        size = len(self.data) if keep() else self.synced_size
        for sector, before in sorted(self.synced_sectors.items()):
            at = sector * SECTOR_BYTES
            if keep():
                # The length goes with the data, as far as it must.
                size = max(size, min(at + SECTOR_BYTES, len(self.data)))
            else:
                end = min(at + SECTOR_BYTES, len(kept))
                kept[at:end] = before[: end - at].ljust(end - at, b"\0")
        return _Inode(bytes(kept[:size]))


class _Change(NamedTuple):
    """A name that went, one that came, or both at once."""

    gone: str | None
    come: str | None
    node: _Inode | _Directory | None


class _Directory:
    """Names, now and at the last sync, and the changes in between, in order."""

    def __init__(self) -> None:
        self.names: dict[str, _Inode | _Directory] = {}
        self.synced: dict[str, _Inode | _Directory] = {}
        self.changes: list[_Change] = []

    def change(self, gone: str | None, come: str | None, node: _Inode | _Directory | None) -> None:
        self.changes.append(_Change(gone, come, node))
        _apply(self.names, self.changes[-1])

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.changes.clear()

    def crashed(self, keep: Keep) -> _Directory:
        names = dict(self.synced)
        lost: set[str] = set()
        for change in self.changes:
            touched = {name for name in (change.gone, change.come) if name is not None}
            if touched & lost or not keep():
                lost |= touched  # what builds on a lost change is lost with it
            else:
                _apply(names, change)
        left = _Directory()
        left.names = {name: node.crashed(keep) for name, node in names.items()}
        left.synced = dict(left.names)
        return left


def _apply(names: dict[str, _Inode | _Directory], change: _Change) -> None:
    if change.gone is not None:
        del names[change.gone]
    if change.come is not None and change.node is not None:
        names[change.come] = change.node


@implementer(IFile)
class SimulatedFile:
    """An open file of a `SimulatedFiles`; it stays with its bytes when they get another name or none."""

    def __init__(self, files: SimulatedFiles, name: str, inode: _Inode) -> None:
        self.name = name
        self._files = files
        self._inode = inode

    def read(self, offset: int, length: int) -> bytes:
        """See `IFile.read`."""
        self._files.step("read", self.name)
        return bytes(self._inode.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """See `IFile.write`.  On a disk that gets full, what fits is written."""
        files, inode = self._files, self._inode
        files.step("write", self.name)
        end = min(offset + len(data), len(inode.data) + files.free_bytes)
        if end > offset:
            inode.touch(min(offset, len(inode.data)), end)
            inode.data.extend(bytes(max(0, offset - len(inode.data))))
            inode.data[offset:end] = data[: end - offset]
        if end < offset + len(data):
            raise _refusal(errno.ENOSPC, self.name)

    def truncate(self, size: int) -> None:
        """See `IFile.truncate`."""
        files, inode = self._files, self._inode
        files.step("truncate", self.name)
        if size - len(inode.data) > files.free_bytes:
            raise _refusal(errno.ENOSPC, self.name)
        inode.touch(min(size, len(inode.data)), max(size, len(inode.data)))
        del inode.data[size:]
        inode.data.extend(bytes(size - len(inode.data)))

    def size(self) -> int:
        """See `IFile.size`."""
        return len(self._inode.data)

    def sync(self) -> None:
        """See `IFile.sync`."""
        self._files.step("sync", self.name)
        self._inode.synced_size = len(self._inode.data)
        self._inode.synced_sectors.clear()

    def lock(self) -> None:
        """See `IFile.lock`."""
        if self._inode.owner not in (None, self):
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), self.name)
        self._inode.owner = self

    def close(self) -> None:
        """See `IFile.close`."""
        if self._inode.owner is self:
            self._inode.owner = None


@implementer(IFiles)
class SimulatedFiles:
    """
    A disk.

    Args:
        random: Decides what a crash leaves.
        capacity_bytes: What all files together may hold; ``None`` for no limit.

    Attributes:
        capacity_bytes: May be changed at any time.
        before: Each is called with every operation before it is made, as a word and a path: to look on, or
            to raise what the disk is to refuse it with.  The words: read, write, truncate, sync, create,
            open, make_directory, rename, remove, remove_directory, sync_directory.
        seconds: How long an operation takes, by the same two; 0 if not set.
        busy_seconds: What all operations so far have taken.  Nobody waits that long: a simulated thread looks
            at how far it moved, and a clock that is to see it adds it.
    """

    def __init__(self, random: Random, capacity_bytes: int | None = None) -> None:
        self._random = random
        self._root = _Directory()
        self.capacity_bytes = capacity_bytes
        self.before: list[Callable[[str, str], None]] = []
        self.seconds: Callable[[str, str], float] | None = None
        self.busy_seconds = 0.0

    # What a disk may suffer.

    def crashed(self, chance: float | None = None) -> SimulatedFiles:
        """
        What a crash at this moment would leave.  This disk is not changed and may be crashed again.

        Args:
            chance: Of each un-synced sector and name to be there all the same; drawn if not given, often as
                none or all.
        """
        if chance is None:
            chance = self._random.choice((0.0, 1.0, self._random.random(), self._random.random()))
        left = SimulatedFiles(self._random, self.capacity_bytes)
        left._root = self._root.crashed(lambda: self._random.random() < chance)
        return left

    def killed(self) -> None:
        """Let go of every lock, as when the process that had them is killed and the machine goes on."""
        _unlock(self._root)

    def refuse_after(self, count: int, error: int = errno.EIO) -> None:
        """Make so many more changes, then refuse every further one (but not to read)."""
        left = [count]

        def refuse(what: str, path: str) -> None:
            if what not in ("read", "open"):
                if not left[0]:
                    raise _refusal(error, path)
                left[0] -= 1

        self.before.append(refuse)

    @property
    def used_bytes(self) -> int:
        """What all files together hold."""
        return _used_bytes(self._root)

    @property
    def free_bytes(self) -> int:
        """How much more can be written."""
        if self.capacity_bytes is None:
            return 1 << 62
        return max(0, self.capacity_bytes - self.used_bytes)

    def step(self, what: str, path: str) -> None:
        """
        Something is about to be done.

        Raises:
            OSError: The disk refuses.
        """
        for look in self.before:
            look(what, path)
        if self.seconds is not None:
            self.busy_seconds += self.seconds(what, path)

    # What a disk is for.

    def open(self, path: str, create: bool = False) -> SimulatedFile:
        """See `IFiles.open`."""
        self.step("create" if create else "open", path)
        directory, name = self._parent(path)
        node = directory.names.get(name)
        if create:
            if node is not None:
                raise _refusal(errno.EEXIST, path)
            node = _Inode()
            directory.change(None, name, node)
        if node is None:
            raise _refusal(errno.ENOENT, path)
        if isinstance(node, _Directory):
            raise _refusal(errno.EISDIR, path)
        return SimulatedFile(self, path, node)

    def exists(self, path: str) -> bool:
        """See `IFiles.exists`."""
        return self._find(path) is not None

    def list(self, directory: str) -> list[str]:
        """See `IFiles.list`."""
        self.step("read", directory)
        found = self._find(directory)
        if isinstance(found, _Inode):
            raise _refusal(errno.ENOTDIR, directory)
        return sorted(found.names) if found is not None else []

    def make_directory(self, path: str) -> None:
        """See `IFiles.make_directory`."""
        directory = self._root
        for name in _parts(path):
            node = directory.names.get(name)
            if node is None:
                self.step("make_directory", path)
                node = _Directory()
                directory.change(None, name, node)
            if isinstance(node, _Inode):
                raise _refusal(errno.EEXIST, path)
            directory = node

    def rename(self, source: str, target: str) -> None:
        """See `IFiles.rename`."""
        self.step("rename", target)
        directory, name = self._parent(source)
        target_directory, target_name = self._parent(target)
        if directory is not target_directory:
            raise _refusal(errno.EXDEV, target)
        if name not in directory.names:
            raise _refusal(errno.ENOENT, source)
        directory.change(name, target_name, directory.names[name])

    def remove(self, path: str) -> None:
        """See `IFiles.remove`."""
        self.step("remove", path)
        found = self._find(path)
        if isinstance(found, _Directory):
            raise _refusal(errno.EISDIR, path)
        if found is not None:
            directory, name = self._parent(path)
            directory.change(name, None, None)

    def remove_directory(self, path: str) -> None:
        """See `IFiles.remove_directory`."""
        self.step("remove_directory", path)
        found = self._find(path)
        if isinstance(found, _Inode):
            raise _refusal(errno.ENOTDIR, path)
        if found is not None:
            _empty(found)
            directory, name = self._parent(path)
            directory.change(name, None, None)

    def sync_directory(self, path: str) -> None:
        """See `IFiles.sync_directory`."""
        self.step("sync_directory", path)
        found = self._find(path)
        if not isinstance(found, _Directory):
            raise _refusal(errno.ENOENT if found is None else errno.ENOTDIR, path)
        found.sync()

    def _find(self, path: str) -> _Inode | _Directory | None:
        node: _Inode | _Directory | None = self._root
        for name in _parts(path):
            if not isinstance(node, _Directory):
                return None
            node = node.names.get(name)
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        *_, name = _parts(path)
        parent = self._find(os.path.dirname(os.path.normpath(path)))
        if not isinstance(parent, _Directory):
            raise _refusal(errno.ENOENT, path)
        return parent, name


def _parts(path: str) -> list[str]:
    return [part for part in os.path.normpath(path).split("/") if part not in ("", ".")]


def _empty(directory: _Directory) -> None:
    for name, node in list(directory.names.items()):
        if isinstance(node, _Directory):
            _empty(node)
        directory.change(name, None, None)


def _unlock(directory: _Directory) -> None:
    for node in directory.names.values():
        if isinstance(node, _Directory):
            _unlock(node)
        else:
            node.owner = None


def _used_bytes(directory: _Directory) -> int:
    return sum(
        len(node.data) if isinstance(node, _Inode) else _used_bytes(node) for node in directory.names.values()
    )


def _refusal(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
