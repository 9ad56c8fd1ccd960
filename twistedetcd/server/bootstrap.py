"""How a member comes to be: the first of a new cluster, or the one that it was before."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.cluster.urls import same_places
from twistedetcd.errors import BackendError, MemberError, MemberRemovedError
from twistedetcd.interfaces import IOverlay
from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.storage import MemoryStorage
from twistedetcd.raft.types import ConfChangeType, ConfState, Entry, HardState, Snapshot
from twistedetcd.schema import CONF_STATE, CONSISTENT_INDEX, META, STORAGE_FORMAT, STORAGE_VERSION, TERM


def new_raft(
    member: Member,
    election_ticks: int,
    pre_vote: bool,
    draw: Callable[[int], int],
    founders: Sequence[Member] = (),
) -> tuple[RawNode, MemoryStorage]:
    """
    The raft of a founding member.  Its log begins with the founders, one change each, as that of all others.

    Args:
        member: This one.
        election_ticks: See `Config`.
        pre_vote: See `Config`.
        draw: See `Config`.
        founders: All of them, this one included; only this one if not given.
    """
    storage = MemoryStorage()
    raft = _raft(member.id, storage, election_ticks, pre_vote, draw)
    raft.bootstrap([(founder.id, founder.to_json()) for founder in sorted(founders or (member,))])
    return raft, storage


def restarted_raft(
    member_id: int,
    snapshot: Snapshot,
    state: HardState,
    entries: Sequence[Entry],
    mark: AppliedMark,
    election_ticks: int,
    pre_vote: bool,
    draw: Callable[[int], int],
) -> tuple[RawNode, MemoryStorage]:
    """
    The raft of a member whose log was read from a snapshot on; an empty one for all of the log.

    It goes on after what the backend has applied, with the membership of then: whether an older change of
    membership was refused cannot be found out again.  What was applied is committed, whether or not the log
    says so: the commit index is not made durable for its own sake.
    """
    storage = MemoryStorage()
    if snapshot.index:
        storage.apply_snapshot(snapshot)
    storage.append(entries)
    if mark.index > snapshot.index:
        storage.create_snapshot(mark.index, mark.conf_state)
    storage.set_hard_state(state._replace(commit=max(state.commit, mark.index)))
    return _raft(member_id, storage, election_ticks, pre_vote, draw, mark.index), storage


def _raft(
    member_id: int,
    storage: MemoryStorage,
    election_ticks: int,
    pre_vote: bool,
    draw: Callable[[int], int],
    applied: int = 0,
) -> RawNode:
    return RawNode(
        Config(
            id=member_id,
            storage=storage,
            applied=applied,
            election_ticks=election_ticks,
            pre_vote=pre_vote,
            draw=draw,
        )
    )


class AppliedMark:
    """
    How far the backend is: the consistent index, its term and the configuration.

    Args:
        overlay: Where it is kept.
    """

    def __init__(self, overlay: IOverlay) -> None:
        self._overlay = overlay
        self.read()

    def read(self) -> None:
        """
        Take it from the store.

        Raises:
            BackendError: It does not read back; the backend is damaged.
        """
        self.index, self.term, self.conf_state = read_mark(self._overlay.get)

    def write(self, index: int, term: int, conf_state: ConfState) -> None:
        """Put it into the open batch, just before that is sealed, if it has moved."""
        if index == self.index:
            return
        self.index, self.term, self.conf_state = index, term, conf_state
        put = self._overlay.put
        put(META, CONSISTENT_INDEX, index.to_bytes(8, "big"))
        put(META, TERM, term.to_bytes(8, "big"))
        put(META, STORAGE_VERSION, STORAGE_FORMAT)
        fields = {name: value for name, value in conf_state._asdict().items() if value}
        put(META, CONF_STATE, json.dumps(fields, separators=(",", ":")).encode())


def read_mark(get: Callable[[bytes, bytes], bytes | None]) -> tuple[int, int, ConfState]:
    """
    How far a store is.

    Args:
        get: Looks up a key of a bucket in it.

    Returns:
        The consistent index, its term, and the configuration.

    Raises:
        BackendError: It does not read back; the backend is damaged.
    """
    index = int.from_bytes(get(META, CONSISTENT_INDEX) or b"", "big")
    term = int.from_bytes(get(META, TERM) or b"", "big")
    return index, term, _conf_state(get(META, CONF_STATE) or b"{}")


def _conf_state(data: bytes) -> ConfState:
    try:
        fields = json.loads(data)
        members = {name: tuple(map(int, fields.get(name) or ())) for name in ConfState._fields[:4]}
        return ConfState(**members, auto_leave=bool(fields.get("auto_leave")))
    except (ValueError, TypeError, AttributeError) as error:
        raise BackendError(f"the store is damaged: it does not say who is in the cluster: {error}") from error


def check_log_covers(mark: AppliedMark, begin: int, entries: Sequence[Entry]) -> None:
    """
    Refuse a log that does not go on where the backend ends: they do not belong together.

    Args:
        mark: How far the backend is.
        begin: The index of the snapshot that the log was read from; 0 for all of it.
        entries: What follows.

    Raises:
        MemberError: It ends before what the backend has applied, or begins after the next entry.
    """
    last = entries[-1].index if entries else begin
    if mark.index > last:
        raise MemberError(
            f"the backend has applied entry {mark.index}, but the log ends at {last}: "
            "they do not belong together, or part of the log is lost"
        )
    if mark.index < begin:
        raise MemberError(
            f"the log begins after the snapshot at {begin}, but the backend has applied only {mark.index}: "
            "the backend is lost, or of another member"
        )


def is_member(number: int, begin: Snapshot, entries: Sequence[Entry], index: int) -> bool:
    """
    Whether a log made somebody a member.  One that joins has a log before it reads there of itself.

    Args:
        number: Whom it is about.
        begin: The snapshot that the log was read from; an empty one for all of it.
        entries: What follows.
        index: How far to look.
    """
    found = number in begin.conf_state.voters + begin.conf_state.learners
    for entry in entries:
        if entry.type and entry.index <= index:
            for single in decode_change(entry).as_v2().changes:
                if single.node_id == number:
                    found = single.type != ConfChangeType.REMOVE_NODE
    return found


def check_identity(cluster: Cluster, member_id: int) -> None:
    """
    Refuse a backend of somebody else, or of a member that was removed.

    Args:
        cluster: What the backend has.
        member_id: Whose log it is; by as much of it as the backend has, that is a member.

    Raises:
        MemberRemovedError: It was removed.
        MemberError: The log's member is not among the backend's.
    """
    if cluster.is_removed(member_id):
        raise MemberRemovedError
    if cluster.members and cluster.member(member_id) is None:
        raise MemberError(f"the log is that of member {member_id:x}, which the backend does not know")


def check_place(cluster: Cluster, member_id: int, advertised: Sequence[str]) -> None:
    """
    Refuse the data of another member, which would be there twice, each with a vote of its own.

    Args:
        cluster: What the backend has.
        member_id: Whose data it is.
        advertised: Where this member is, by its flags; where it says nothing of that, nothing is checked.

    Raises:
        MemberError: That is where the cluster has somebody else.
    """
    ourselves = cluster.member(member_id)
    if ourselves is None or set(ourselves.peer_urls) & set(advertised):
        return
    for member in cluster.members:
        if same_places(member.peer_urls, advertised):
            raise MemberError(
                f"the data is that of member {member_id:x}, at {','.join(ourselves.peer_urls)}, and "
                f"--initial-advertise-peer-urls says that this is member {member.id:x}: is it the data of "
                "another member?"
            )
