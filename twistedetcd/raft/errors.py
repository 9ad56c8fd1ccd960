"""What raft and its storage refuse.  None of these reaches a client as it is."""

from __future__ import annotations


class RaftError(Exception):
    """A call or a message was refused; nothing changed."""

    text = ""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(self.text if text is None else text)


class ProposalDroppedError(RaftError):
    """Nobody appends the proposal: no leader, leadership on the move, or too much uncommitted; try again."""

    text = "raft proposal dropped"


class LocalMessageError(RaftError):
    """A message that only this member may send to itself came from outside."""

    text = "raft: cannot step raft local message"


class PeerNotFoundError(RaftError):
    """An answer from a member that the configuration does not know."""

    text = "raft: cannot step as peer not found"


class MalformedMessageError(RaftError):
    """A message that no member sends; the text says what is wrong with it."""


class ConfChangeError(RaftError):
    """A membership change that cannot be read, or that the current configuration does not allow."""


class StorageError(RaftError):
    """The log could not serve a read; each subclass says why."""


class LogCompactedError(StorageError):
    """The entry was compacted away; only a snapshot covers it."""

    text = "requested index is unavailable due to compaction"


class LogUnavailableError(StorageError):
    """The entry is not in the log yet."""

    text = "requested entry at index is unavailable"


class SnapshotOutOfDateError(StorageError):
    """The storage already has a newer snapshot."""

    text = "requested index is older than the existing snapshot"


class SnapshotTemporarilyUnavailableError(StorageError):
    """The snapshot is being made; ask again later."""

    text = "snapshot is temporarily unavailable"


class InvariantError(AssertionError):
    """
    A rule of raft was broken: by a bug, or by a disk that forgot what it had made durable.

    The state can no longer be trusted: the member stops.  Not an ``assert``, so that ``-O`` does not hide it.
    """


class LogLostError(InvariantError):
    """The leader knows that this member held more of the log than there is: it must not be trusted again."""
