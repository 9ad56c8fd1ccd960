"""
Snapshots in files, as etcd keeps them: ``%016x-%016x.snap``, named by term and index.

A file holds {crc=1, data=2}; ``data`` is a raftpb.Snapshot and ``crc`` its CRC-32C.  Of the state, etcd's own
hold a legacy copy of the membership; ours hold none, for it is in the backend.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator

from google_crc32c import value as crc32c
from twisted.logger import Logger
from zope.interface import implementer

from twistedetcd.interfaces import IFiles, ISnapshotter
from twistedetcd.raft.types import Snapshot
from twistedetcd.wire import (
    SnapshotEnvelope,
    decode_snapshot,
    decode_snapshot_envelope,
    encode_snapshot,
    encode_snapshot_envelope,
)

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_TEMPORARY = "snap.tmp"


@implementer(ISnapshotter)
class SnapshotFiles:
    """
    The snapshots in one directory, which may hold other files too.

    Args:
        files: The file system.
        directory: Where; it must be there.
        sync: Whether what is written is synced; a machine that stops may otherwise lose it.
    """

    _log = Logger()

    def __init__(self, files: IFiles, directory: str, sync: bool = True) -> None:
        self._files = files
        self._directory = directory
        self._sync = sync

    def save(self, snapshot: Snapshot) -> None:
        """See `ISnapshotter.save`.  The file gets its name once it is whole."""
        data = encode_snapshot(snapshot)
        temporary = self._path(_TEMPORARY)
        self._files.remove(temporary)
        file = self._files.open(temporary, create=True)
        try:
            file.write(0, encode_snapshot_envelope(SnapshotEnvelope(crc32c(data), data)))
            if self._sync:
                file.sync()
        finally:
            file.close()
        self._files.rename(temporary, self._path(_name(snapshot.index, snapshot.term)))
        if self._sync:
            self._files.sync_directory(self._directory)

    def load(self) -> Iterator[Snapshot]:
        """See `ISnapshotter.load`.  A damaged file gets ``.broken`` added to its name."""
        for index, term in self.list():
            path = self._path(_name(index, term))
            try:
                snapshot = self._read(path)
                if snapshot[:2] != (index, term):
                    raise ValueError(f"it holds the snapshot at {snapshot.index} of term {snapshot.term}")
            except ValueError as error:
                self._files.rename(path, f"{path}.broken")
                self._log.warn(
                    "Set the damaged snapshot {path} aside as {path}.broken: {error}", path=path, error=error
                )
            else:
                yield snapshot

    def _read(self, path: str) -> Snapshot:
        file = self._files.open(path)
        try:
            content = file.read(0, file.size())
        finally:
            file.close()
        envelope = decode_snapshot_envelope(content)
        if not envelope.crc or not envelope.data:
            raise ValueError("it is empty")
        if crc32c(envelope.data) != envelope.crc:
            raise ValueError("the checksum does not match")
        return decode_snapshot(envelope.data)

    def list(self) -> list[tuple[int, int]]:
        """See `ISnapshotter.list`."""
        found = filter(None, map(_NAME.fullmatch, self._files.list(self._directory)))
        by_name = sorted(((int(match[1], 16), int(match[2], 16)) for match in found), reverse=True)
        return [(index, term) for term, index in by_name]

    def purge(self, keep: int, index: int) -> int:
        """See `ISnapshotter.purge`.  Nothing needs a file to be gone, so nothing is synced."""
        counted = [name for name in self.list() if name[0] <= index]
        surplus = counted[keep:] if keep else []
        for name in reversed(surplus):
            self._files.remove(self._path(_name(*name)))
        return len(surplus)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _name(index: int, term: int) -> str:
    return f"{term:016x}-{index:016x}.snap"
