"""
interfaces: every contract between the rooms, in one place.

Read this file first.  Each contract says what an implementer must not get wrong: types, units, order, and
what is durable when.  A contract is real when a second implementation passes the same tests.

Imports nothing of ours at run time; everybody may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from twistedetcd.raft.types import ConfState, Entry, HardState, Message, Snapshot
    from twistedetcd.wal.reading import Recovered

Batch: TypeAlias = Mapping[bytes, Mapping[bytes, bytes | None]]
"""What one backend transaction writes: bucket, then key, then value; ``None`` deletes the key.

The insertion order of a bucket's keys carries no meaning.
"""

T = TypeVar("T")
Work: TypeAlias = Generator[None, None, T]
"""
Slow work: each ``next()`` does a slice, short enough for a reactor turn; what it returns is the result.

Given up half-way, it is closed.
"""


class IReadTransaction(Interface):
    """
    A consistent view of a backend.  Belongs to the thread that asked for it.

    A view never changes, never waits for the writer, and the writer never waits for it.  It pins old pages
    until it is renewed or closed, so hold one, not many.
    """

    def get(bucket: bytes, key: bytes) -> bytes | None:
        """The value of ``key``, or ``None``.  A bucket that was never written to reads as empty."""

    def get_many(bucket: bytes, keys: Sequence[bytes]) -> list[bytes]:
        """The values of those of ``keys`` that are there, in the order of ``keys``."""

    def range(bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """
        Pairs with ``start`` <= key < ``end`` in ascending byte order; to the bucket's end when ``end`` is
        ``None``.  The iterator dies with the view.
        """

    def buckets() -> list[bytes]:
        """The names of all buckets ever written to, ascending."""

    def renew() -> None:
        """Move on to the newest committed state; iterators taken before must not be used again."""

    def close() -> None:
        """Let go of the view.  Closing twice is allowed; any other call afterwards is a programming error."""


class IBackend(Interface):
    """
    Named buckets of ordered byte keys (1 to 500 bytes), on disk or in memory.  Synchronous.

    One writer at a time: `write` is called on the one writer thread that the server owns, and a write
    transaction begins and ends inside that call.  Views are read on the reactor thread meanwhile.
    """

    def read() -> IReadTransaction:
        """A view of all that was committed when this was called."""

    def write(batch: Batch) -> None:
        """
        Apply the whole batch, or nothing.  On return it is durable, if the engine is durable at all.

        Raises:
            BackendError: The engine refused (disk full, I/O error).  Nothing of the batch was written; the
                member stops.
        """

    def size_bytes() -> int:
        """Bytes the store occupies on the disk, free pages included."""

    def size_in_use_bytes() -> int:
        """`size_bytes` less the pages that are free for re-use."""

    def close() -> None:
        """Close files and locks.  Views must be closed before."""

    durable = Attribute("Whether what was written is there after a crash; if not, the log is kept whole.")


class PluginOption(NamedTuple):
    """
    What may be set of a plugin.

    Attributes:
        parse: Makes the value of what the user typed; raises `ValueError`, whose text says what is wanted.
        help: One line.
    """

    parse: Callable[[str], Any]
    help: str


class IBackendFactory(Interface):
    """
    A plugin (also provide `twisted.plugin.IPlugin`) that makes backends.

    ``--backend NAME`` finds it, and ``--backend NAME:OPTION=VALUE,OPTION=VALUE`` sets its options.
    """

    name = Attribute("What the user types after ``--backend``: a lower-case word.")
    help = Attribute("One line that says what this engine is good for.")
    options = Attribute("A `PluginOption` by the name of each option, lower-case words with hyphens.")

    def open(directory: str, **options: Any) -> IBackend:
        """
        Open the backend in an existing directory, creating it when it is not there yet.

        Args:
            directory: Where.
            options: The values of those that were set, with underscores for hyphens.

        What a durable one shows from then on is durable: if a process was killed between writing and syncing,
        what it wrote is synced now, for a snapshot may rest on it.

        Raises:
            BackendError: Locked by another process, unreadable, or of another format; the text is one
                sentence for the operator.
        """


class IOverlay(Interface):
    """A backend's buckets with the writes that are still on their way into it on top."""

    def get(bucket: bytes, key: bytes) -> bytes | None:
        """The value of a key, or ``None``."""

    def range(bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in [``start``, ``end``) in key order; must be used up before the next write."""

    def put(bucket: bytes, key: bytes, value: bytes) -> None:
        """
        Write, or overwrite, one key.

        It reaches the engine in one batch with everything else that the same log entry writes.
        """

    def delete(bucket: bytes, key: bytes) -> None:
        """Delete one key; no matter whether it is there."""


class IFile(Interface):
    """
    An open file of `IFiles`.  Offsets and sizes in bytes; a write past the end fills the gap with zeros.

    What was written is durable only after `sync` returned: before that, a crash may keep any subset of
    the written 512-byte sectors.
    """

    name = Attribute("The path it was opened with, for errors; who gives the file another one says so here.")

    def read(offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""

    def write(offset: int, data: bytes) -> None:
        """
        Write all of ``data`` at ``offset``.

        Raises:
            OSError: The disk refused; part of the data may have been written.
        """

    def truncate(size: int) -> None:
        """Cut, or extend with zeros, to ``size`` bytes."""

    def size() -> int:
        """The current length in bytes."""

    def sync() -> None:
        """
        Make data and length durable (``fdatasync``).

        Raises:
            OSError: The disk refused.  What was written since the last `sync` must then be taken as lost: a
                second call that succeeds proves nothing.
        """

    def lock() -> None:
        """
        Take an exclusive lock, held until `close`.  Two opens in one process exclude each other as well.

        Raises:
            BlockingIOError: Somebody else holds it.
        """

    def close() -> None:
        """Close, without syncing.  Closing twice is allowed."""


class IFiles(Interface):
    """
    The part of a file system that the log and the snapshots need.

    Creating, renaming and removing a name is durable only after `sync_directory` of the directory that
    holds it returned; before that, a crash may undo any of them that the others do not build on.
    Directories are made with mode 0700, files with mode 0600.  An `OSError` names the file.
    """

    def open(path: str, create: bool = False) -> IFile:
        """
        Open for reading and writing.

        Args:
            path: The file.
            create: Make an empty file, which must not exist yet.

        Raises:
            FileNotFoundError: Not there, and ``create`` is false.
            FileExistsError: There, and ``create`` is true.
            OSError: The disk refused.
        """

    def exists(path: str) -> bool:
        """Whether a file or directory of that name is there."""

    def list(directory: str) -> list[str]:
        """Names in the directory, ascending; empty when there is no such directory."""

    def make_directory(path: str) -> None:
        """Make a directory and its parents; no error when it is there."""

    def rename(source: str, target: str) -> None:
        """
        Rename within a directory, atomically, replacing a file that is at ``target``.

        Works for directories too, and what is open stays open.
        """

    def remove(path: str) -> None:
        """Remove a file; no error when it is not there."""

    def remove_directory(path: str) -> None:
        """Remove a directory and all that is in it; no error when it is not there."""

    def sync_directory(path: str) -> None:
        """Make the directory's names durable."""


class IWAL(Interface):
    """
    The write-ahead log.  One writer: wait for each Deferred before the next call.

    Append only.  After a failure it stays closed and the member stops: memory and disk may differ.
    """

    def save(state: HardState | None, entries: Sequence[Entry]) -> Deferred[None]:
        """
        Append the entries, then the hard state; fire once what must be durable is on the disk.

        Entries, and a changed term or vote, are synced before the Deferred fires.  A hard state that moved
        only its commit index may wait in memory for a later write: it is learned again.

        Args:
            state: Term, vote and commit index; ``None`` when unchanged.
            entries: Contiguous by index.  One at or below the last saved index replaces it and everything
                after it.

        Raises:
            WALClosedError: The log was closed, or an earlier save failed.
            OSError: The disk refused.
        """

    def save_snapshot(
        index: int, term: int, conf_state: ConfState, state: HardState | None = None
    ) -> Deferred[None]:
        """
        Append the record of a snapshot that is durable itself; fire once the record is, too.

        The hard state is written after it: the log vouches for the snapshot, and a restart may begin at it,
        once one commits it.  The other way round a torn write could commit what the log does not have.

        Args:
            index: The snapshot's last entry, which is committed.
            term: That entry's term.
            conf_state: The configuration at that entry.
            state: The hard state, if the snapshot is from another member; ``None`` when unchanged.

        Raises:
            WALClosedError: The log was closed, or an earlier save failed.
            OSError: The disk refused.
        """

    def release_to(index: int) -> None:
        """
        Let go of what a restart at the snapshot at ``index``, or a later one, does not need.

        Call it once that snapshot's record was saved.  What was let go may be there until `purge`.

        Raises:
            WALClosedError: The log was closed, or an earlier save failed.
        """

    def cut() -> Deferred[None]:
        """
        Begin a new segment, if the log has any, as `save` does by itself when one is full.

        Raises:
            WALClosedError: The log was closed, or an earlier save failed.
            OSError: The disk refused.
        """

    def purge(keep: int) -> Deferred[int]:
        """
        Remove the oldest of what was released, elsewhere than in the reactor; may be called during a save.

        Args:
            keep: How many pieces, released or not, stay at least; 0 for all.

        Returns:
            Fires with how many are gone.  Wait for it before the next call, and before opening the log again.

        Raises:
            OSError: The disk refused to remove one.
        """

    def read_all() -> Recovered:
        """
        Read a log that was opened again, once, before anything is saved.  Blocks.

        Returns:
            Everything after the snapshot that it was opened at: contiguous entries, and the last hard state.

        Raises:
            WALSnapshotError: The log does not vouch for that snapshot: no record of it, or one above the
                commit index.  Nothing was changed.
            WALCorruptError: A record that was once durable does not read back.  Nothing was changed.
            OSError: The disk refused.
        """

    def close() -> None:
        """Let go of files and locks; nothing is synced that `save` did not sync."""

    size_bytes = Attribute("Bytes on the disk, padding included; falls only in `purge`.")


class ISnapshotter(Interface):
    """
    Raft snapshots: where a restart begins, so that the log before it need not be kept.

    Of the state there is only what raft needs; the rest is in the backend, which must have applied the
    snapshot's entry durably before.  Every call blocks, and only one is made at a time.
    """

    def save(snapshot: Snapshot) -> None:
        """
        Keep a snapshot; durable on return.  One of the same term and index is replaced.

        Raises:
            OSError: The disk refused.
        """

    def load() -> Iterator[Snapshot]:
        """
        All that read back, the newest first; one that is damaged is set aside as it is come upon.

        Whether the log vouches for one is for the caller to find out.

        Raises:
            OSError: The disk refused.
        """

    def list() -> Sequence[tuple[int, int]]:
        """Index and term of each, damaged or not, the newest first."""

    def purge(keep: int, index: int) -> int:
        """
        Remove the oldest of those up to ``index``; a crash may bring them back.

        Args:
            keep: How many of these stay; 0 for all.
            index: That of the newest snapshot that the log vouches for; what is newer is neither counted nor
                removed.

        Returns:
            How many are gone.

        Raises:
            OSError: The disk refused.
        """


class IApplier(Interface):
    """
    A link of the apply chain: a committed request in, a result out.

    Deterministic: the same requests in the same order give the same results and the same state on every
    member.  No clock, no random number, nothing that may differ between members.
    """

    def apply(request: Any, context: Any) -> Any:
        """
        Carry out one committed request.

        Args:
            request: A `twistedetcd.apply.request.Request`.
            context: A `twistedetcd.apply.request.Context`: index and term of the entry.

        Returns:
            The response to send, encoded, if a client of this member waits.  Or, when there is so much to do
            that it would hold up the reactor, `Work` that ends with the response; nothing else is applied
            before it has ended, and until then everybody else reads the state before it.

        Raises:
            EtcdError: The request is refused; nothing changed, and every member refuses it alike.  `Work`
                raises it likewise.
        """


class IReadView(Interface):
    """Keys at a revision.  Revisions are positive integers; a fresh store is at 1."""

    revision = Attribute("The revision that it reads unless asked for another one.")
    compact_revision = Attribute("Reads below this revision fail; -1 when never compacted.")

    def range(key: bytes, end: bytes | None, revision: int = 0, limit: int = 0) -> tuple[list[bytes], int]:
        """
        The records of the live keys in a range at a revision, in ascending key order, all at once.

        Args:
            key: The first key.
            end: ``None`` for the one key; ``b""`` for every key from ``key`` on; else the first key
                that is not in the range.
            revision: 0, or below, for the current one.
            limit: The most records to return; 0 for all.  The count is not limited by it.

        Returns:
            Encoded ``mvccpb.KeyValue`` records, and how many keys the range has at that revision.

        Raises:
            CompactedError: ``revision`` is below the compact revision.
            FutureRevisionError: ``revision`` is above the current one.
        """

    def count(key: bytes, end: bytes | None, revision: int = 0) -> int:
        """How many keys `range` would find; raises as it does."""


class ITransaction(IReadView):
    """A read view that lasts over many reactor turns.  It must be ended."""

    def scan(
        key: bytes, end: bytes | None, revision: int = 0, limit: int | None = None
    ) -> Iterator[tuple[list[bytes], int, int]]:
        """
        As `IReadView.range`, a slice at each ``next()``.

        Each item is: records; how many keys they stand for; how many keys were looked at to find them.

        Args:
            key: As for `range`.
            end: As for `range`.
            revision: As for `range`.
            limit: The most records; ``None`` for all, 0 to have the keys counted.

        Raises:
            CompactedError: As for `range`, and at once.
            FutureRevisionError: Likewise.
        """

    def end() -> int:
        """Let go of the view, and publish what was changed through it; returns the store's revision then."""


class IWriteView(ITransaction):
    """
    One write transaction: all its changes share one main revision, in order of the calls.

    It must be ended, also when it changed nothing; a transaction without changes uses no revision.  It may
    last over many reactor turns: until it is ended, everybody else reads the state before it.
    """

    begin = Attribute("The store's revision when the transaction began.")
    changes = Attribute("How many changes were made so far.")
    revision = Attribute("What a read through it sees as current: ``begin``, one more after a change.")

    def keys(key: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first ``limit`` keys that are in a range now, ascending, with the changes made so far."""

    def put(key: bytes, value: bytes, lease: int) -> int:
        """Write a key; returns the transaction's revision, ``begin + 1``."""

    def delete(key: bytes) -> bool:
        """Delete one key; false when it is not there."""


class IKV(IReadView):
    """The multi-version store: read views, one write transaction at a time, compaction, hashes."""

    def read() -> ITransaction:
        """A view of the current revision; compactions accepted from now on wait for its end."""

    def write() -> IWriteView:
        """Begin the one write transaction; end it before the next begins."""

    def put(key: bytes, value: bytes) -> int:
        """
        A write transaction of one put without a lease, which is what most of them are.

        Returns:
            The store's revision after it.
        """

    def compact(revision: int) -> Work[None]:
        """
        Forget what only reads below ``revision`` could see.

        Such reads fail from the call on; removing the records is the returned work, which resumes at the
        next start when it was not finished.  It waits for the read views and the hashes that began before.

        Raises:
            CompactedError: ``revision`` is at or below the compact revision.
            FutureRevisionError: ``revision`` is above the current one.
        """

    def hash(revision: int) -> Work[Any]:
        """
        Hash the stored revisions up to ``revision`` (0: the current one), as they are at this call.

        The result is a `twistedetcd.mvcc.hash.KeyValueHash`.

        Raises:
            CompactedError: ``revision`` is below the compact revision.
            FutureRevisionError: ``revision`` is above the current one.
        """


class ILessor(Interface):
    """
    The leases of the cluster.  Ids are signed 64-bit numbers and not 0; TTLs are whole seconds.

    Every member has the same leases with the same keys, by the same committed entries.  When they end, only
    the *primary* knows, which is the lessor of the leader: it counts from `promote` to `demote`, on a clock
    that its caller reads.  A time is in seconds, not negative, and never before one that was given before.
    """

    lease_of = Attribute("The keys that have a lease, and its id; empty while no key has one.")
    primary = Attribute("Whether it counts.")
    granted = Attribute("Ids of the leases whose time the primary does not count yet; see `count_granted`.")

    def restore() -> None:
        """
        Read the leases that the backend has; their keys are attached by whoever reads the keys.

        Raises:
            BackendError: A lease does not read back; the backend is damaged.
        """

    def __contains__(lease_id: int) -> bool:
        """Whether there is such a lease."""

    def __len__() -> int:
        """How many there are."""

    def grant(lease_id: int, ttl_seconds: int) -> int:
        """
        Make a lease; returns its TTL, which is raised to the shortest that is allowed.

        Raises:
            LeaseNotFoundError: The id is 0.
            LeaseTTLTooLargeError: The TTL is above the longest.
            LeaseExistError: The id is taken.
        """

    def revoke(lease_id: int) -> None:
        """
        Forget a lease that has no keys any more.

        Raises:
            LeaseNotFoundError: There is no such lease.
        """

    def checkpoint(lease_id: int, remaining_ttl_seconds: int) -> None:
        """Note what remains of a lease, 0 for all of it; the next primary counts from there."""

    def attach(key: bytes, lease_id: int) -> bool:
        """
        A key was put with a lease, 0 for none; it leaves the one that it had.

        Returns:
            False if there is no such lease; then the key has none.
        """

    def detach(key: bytes) -> None:
        """A key was deleted, or put without a lease."""

    def keys(lease_id: int, limit: int) -> list[bytes]:
        """
        The first ``limit`` keys of a lease, ascending.

        Raises:
            LeaseNotFoundError: There is no such lease.
        """

    def promote(now: float, extend_seconds: float) -> Work[None]:
        """
        Begin to count: this member leads, and has applied all that was acknowledged before.

        Each lease ends after what remained of it at its last checkpoint, else after its TTL, and always
        ``extend_seconds`` later, since it could not be renewed while there was no leader.  Of a thousand
        leases and more only so many end in one second.

        Returns:
            To be done soon; leases that it has not come to yet can be asked for and renewed meanwhile.
        """

    def demote() -> None:
        """Stop counting: no lease ends until the next `promote`."""

    def count_granted(now: float) -> None:
        """Count the leases that were granted since this was called last; call it when they are applied."""

    def renew(lease_id: int, now: float) -> int | None:
        """
        Have a lease last for its TTL from now on.

        Returns:
            The TTL; 0 if there is no such lease.  ``None`` if that cannot be said yet: it has `ended`, and is
            revoked soon, or it has a checkpoint, which must be set to 0 first.
        """

    def ended(lease_id: int, now: float) -> bool:
        """Whether a lease is over, revoked or not."""

    def time_to_live(lease_id: int, now: float) -> tuple[float, int]:
        """
        The seconds that remain of a lease, negative if it ended, and its TTL.

        Raises:
            LeaseNotFoundError: There is no such lease.
        """

    def due(now: float, limit: int, again_seconds: float) -> tuple[list[int], bool]:
        """
        Leases that ended, at most ``limit``; each is told again later, in case it is not revoked.

        Returns:
            Their ids, those that ended first in front; and whether the look was complete, or came upon the
            limit.  If not, look again at once.
        """

    def checkpoints(now: float, limit: int) -> list[tuple[int, int]]:
        """Leases that need a `checkpoint`, and what remains of each; at most ``limit``."""

    def by_expiry() -> Work[list[int]]:
        """The ids of all leases; on a primary those that end first in front."""


class IWatch(Interface):
    """Somebody's wish to hear of a range's changes, as `IWatchable.watch` returns it."""

    name = Attribute("What the receiver gave to know it by.")
    key = Attribute("The first key.")
    end = Attribute("As for `IReadView.range`.")
    next = Attribute(
        "Changes below this revision were delivered, or are not wanted; exact while it is not synced."
    )
    synced = Attribute(
        "Whether all changes up to `IWatchable.revision` were delivered, and it waits for none."
    )


class IWatchReceiver(Interface):
    """
    Who watches.  Called between turns, never from within a call to `IWatchable`; it may call that itself.

    For each watch: revisions ascend, none is left out, and all wanted changes of a revision come in one call.
    """

    ready = Attribute("Whether there is room for more changes.")

    def changed(watches: Sequence[Any], batch: Any) -> Sequence[Any]:
        """
        Keys in the range changed.

        Args:
            watches: Those of its watches that wait for these changes; they have the same range and options.
            batch: A `twistedetcd.mvcc.events.Batch`: encoded events of whole revisions, in order.

        Returns:
            Those of ``watches`` that there was no room for.  They miss this batch and all that follow;
            after `IWatchable.resume` they get it all from the history.
        """

    def compacted(watch: Any, compact_revision: int) -> None:
        """What the watch needs next is compacted away.  It is over: nothing more is delivered."""


class IWatchable(Interface):
    """
    Changes, told to those who watch.

    Nothing is kept for a watch that lags behind, be it that it begins in the past or that its receiver has no
    room: it catches up from the history, while others go on.
    """

    revision = Attribute("Changes up to this revision were delivered to every synced watch.")

    def watch(
        key: bytes,
        end: bytes | None,
        receiver: Any,
        start: int = 0,
        name: Any = None,
        options: Any = None,
    ) -> Any:
        """
        Watch a range.

        Args:
            key: As for `IReadView.range`.
            end: Likewise.
            receiver: An `IWatchReceiver`; one and the same for as many watches as it likes.
            start: The first revision whose changes are wanted: past, present or future; 0 for the one after
                the store's current one.
            name: What the receiver knows the watch by.
            options: A `twistedetcd.mvcc.events.Options`; ``None`` for all changes, without previous records.

        Returns:
            An `IWatch`.  If ``start`` was compacted already, the receiver is told soon.
        """

    def cancel(watch: Any) -> None:
        """End a watch, at once; no matter whether it is over already."""

    def resume(receiver: Any) -> None:
        """A receiver that had no room has room again."""

    def publish() -> None:
        """Deliver what was committed; called when a turn's entries are applied."""

    def work() -> Work[None]:
        """What is left to deliver, in slices; ends when nothing can be delivered now."""


class IImage(Interface):
    """A store on its way to another member, or to a client."""

    size_bytes = Attribute("How long it is.")

    def chunks() -> Iterator[bytes]:
        """All its bytes, in pieces of bounded size; to make one takes no longer than a slice of `Work`."""

    def close() -> None:
        """It is no longer needed, sent or not; called once."""


class IImageSink(Interface):
    """Takes in a store that another member sends.  Ends with `finish` or `abort`, or when a call raises."""

    def write(chunk: bytes) -> None:
        """
        What comes next.

        Raises:
            MemberError: It cannot be used; it is over.
            OSError: The disk refused; it is over.
        """

    def finish() -> Deferred[None]:
        """
        All has come.

        Returns:
            Fires once it is durable, and raft was told of the snapshot.

        Raises:
            MemberError: It cannot be used.
            OSError: The disk refused.
        """

    def abort() -> None:
        """No more will come."""


class IRaftReceiver(Interface):
    """A member, as its peer transport calls it: never from within a call to the transport."""

    member_id = Attribute("Who it is.")
    cluster_id = Attribute("Of which cluster: members of another one are not to be talked to.")

    def admit(sender: int) -> None:
        """
        Whether somebody may talk to us; asked before anything that it says is heard.

        Raises:
            MemberRemovedError: It is no member any more; the transport tells it so.
        """

    def receive(message: Message) -> None:
        """
        A raft message from a peer.  One that should not have come is dropped, and logged.

        Raises:
            MemberRemovedError: The sender is no member any more; the transport tells it so.
        """

    def received() -> None:
        """All that came at once was told by `receive`, a message or several; called after each such time."""

    def receive_snapshot(message: Message) -> IImageSink:
        """
        A snapshot begins: its message, which is not a raft message yet, and then its image.

        Raises:
            EtcdError: It is not wanted.
            OSError: The disk refused.
        """

    def unreachable(member: int) -> None:
        """Messages to a peer were lost."""

    def snapshot_sent(member: int, delivered: bool) -> None:
        """The other end has taken a snapshot, or has not; called once for each `send_snapshot`."""

    def removed() -> None:
        """A peer says that this member was removed from the cluster."""

    def answer(sender: int, kind: str, body: bytes) -> Deferred[bytes]:
        """
        What `IPeerTransport.ask` asks, on the other end.

        Raises:
            EtcdError: The answer is an error, which the asker gets.
        """


class IPeerTransport(Interface):
    """
    The way to the other members.

    Nothing that it is given to send may hold up the caller, and no failure of it is raised: it is reported.
    What waits for a peer is bounded; beyond that it is dropped and the peer reported unreachable.
    """

    def start(receiver: IRaftReceiver) -> None:
        """Begin to listen and to dial."""

    def stop() -> Deferred[None]:
        """
        End all connections.

        Returns:
            Fires once nothing is left.  Questions under way fail, images are closed.
        """

    def add_peer(member: int, urls: Sequence[str]) -> None:
        """A member to talk to from now on, or another address of it."""

    def remove_peer(member: int) -> None:
        """A member not to talk to any more; what waits for it is dropped."""

    def send(messages: Sequence[Message]) -> None:
        """
        Send raft messages, none of which is a snapshot.

        Each arrives at most once.  Those to one peer arrive in order while the connection lasts; heartbeats
        and votes never wait behind appends.

        One to a member that was never added arrives, if that member is heard: who joins a cluster knows the
        others from what they tell it.  To anybody else it is dropped.
        """

    def send_snapshot(message: Message, image: IImage) -> None:
        """Send a snapshot's message and its image, beside all else; reported once it is over."""

    def ask(member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        """
        Ask a peer something that is not raft's.

        Args:
            member: Whom.
            kind: A word that says what is asked.
            body: The question.
            timeout_seconds: How long to wait.

        Raises:
            EtcdError: The peer's refusal; `TimeoutError` if there was no answer in time, whatever the cause.
        """

    def active_since(member: int) -> float | None:
        """Since when, in seconds of the clock, a peer has been heard; ``None`` if it is not heard now."""


class PeerStatistics(NamedTuple):
    """What there has been between a member and a peer, since the member's start."""

    active: bool
    """Whether all connections to the peer are there."""
    sent_bytes: int
    received_bytes: int
    sent_failures: int
    """How often something for it was dropped."""
    round_trips: Sequence[tuple[float, int]]
    """Ways there and back: how many took at most so many seconds; the last bound is infinite."""
    round_trip_seconds: float
    """All of these together."""


class IPeerObservatory(Interface):
    """A peer transport that counts what it carries."""

    def statistics() -> Mapping[int, PeerStatistics]:
        """By peer, of those that it is to talk to now."""


class IHTTPCarrier(Interface):
    """A peer transport on whose URLs others may speak HTTP/1.1 too, as they do with etcd's."""

    http = Attribute("Builds the protocols for them; set before `IPeerTransport.start`, if at all.")


class IPeerTransportFactory(Interface):
    """
    A plugin (also provide `twisted.plugin.IPlugin`) that makes peer transports: ``--peer-transport NAME``.
    """

    name = Attribute("What the user types after ``--peer-transport``: a lower-case word.")
    help = Attribute("One line that says what it is good for.")
    options = Attribute("As for `IBackendFactory`.")

    def open(config: Any, reactor: Any, **options: Any) -> IPeerTransport:
        """
        Make the transport of one member; nothing is opened before `IPeerTransport.start`.

        Args:
            config: The member's `twistedetcd.config.Config`.
            reactor: Where it runs.
            options: The values of those that were set, with underscores for hyphens.
        """


RunInThread: TypeAlias = "Callable[[Callable[[], Any]], Deferred[Any]]"
"""Runs a callable where it may block, and fires with what it returned: a thread, or at once in a test."""
