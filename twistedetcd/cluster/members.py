"""The members of the cluster, as the log made them, kept in the backend (upstream's membership package)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from twistedetcd.errors import (
    BackendError,
    EtcdError,
    MemberExistError,
    MemberNotFoundError,
    MemberNotLearnerError,
    PeerURLExistError,
    TooManyLearnersError,
)
from twistedetcd.interfaces import IOverlay
from twistedetcd.raft.types import NOBODY, ConfChange, ConfChangeType
from twistedetcd.schema import CLUSTER, CLUSTER_VERSION, MEMBERS, MEMBERS_REMOVED

LEARNERS_MAX = 1


class Member(NamedTuple):
    """
    One member.

    A founding member has its ``name`` from the start; one that is added to a running cluster has none until
    it has started and said so through the log.  ``client_urls`` are empty until then in either case.
    """

    id: int
    peer_urls: tuple[str, ...]
    is_learner: bool = False
    name: str = ""
    client_urls: tuple[str, ...] = ()

    @property
    def is_started(self) -> bool:
        """Whether it is known to have started: it has a name."""
        return bool(self.name)

    def to_json(self) -> bytes:
        """As etcd stores it: in the backend, and as the context of the change that added it."""
        return json.dumps(self._as_fields(), separators=(",", ":")).encode()

    def to_context(self, is_promote: bool = False) -> bytes:
        """As the context of a change proposed at run time, which also says whether it promotes a learner."""
        fields = self._as_fields() | {"isPromote": is_promote}
        return json.dumps(fields, separators=(",", ":")).encode()

    def _as_fields(self) -> dict[str, object]:
        fields: dict[str, object] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            fields["isLearner"] = True
        if self.name:
            fields["name"] = self.name
        if self.client_urls:
            fields["clientURLs"] = list(self.client_urls)
        return fields

    @classmethod
    def from_json(cls, data: bytes) -> Member:
        """
        Read what `to_json` or `to_context` wrote.

        Raises:
            ValueError: It is not a member.
        """
        return cls.from_fields(json.loads(data))

    @classmethod
    def from_fields(cls, fields: object) -> Member:
        """
        Read what JSON made of a member.

        Raises:
            ValueError: It is not one.
        """
        if not isinstance(fields, dict) or not fields.keys() >= {"id", "peerURLs"}:
            raise ValueError(f"not a member: {fields!r}")
        number, peer_urls, client_urls = (
            fields["id"],
            fields["peerURLs"] or [],
            fields.get("clientURLs") or [],
        )
        if not (isinstance(number, int) and isinstance(peer_urls, list) and isinstance(client_urls, list)):
            raise ValueError(f"not a member: {fields!r}")
        learner, name = bool(fields.get("isLearner")), str(fields.get("name") or "")
        return cls(number, tuple(map(str, peer_urls)), learner, name, tuple(map(str, client_urls)))


def member_id(peer_urls: Sequence[str], token: str, now_seconds: int | None = None) -> int:
    """
    A member's id: from its peer URLs, the cluster's token, and the time if it is added to a running cluster.
    """
    text = "".join(sorted(peer_urls)) + token + ("" if now_seconds is None else str(now_seconds))
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def cluster_id(member_ids: Sequence[int]) -> int:
    """The cluster's id, from the ids of its first members."""
    digest = hashlib.sha1(b"".join(number.to_bytes(8, "big") for number in sorted(member_ids)))
    return int.from_bytes(digest.digest()[:8], "big")


def is_promotion(change: ConfChange) -> bool:
    """
    Whether a change makes a voter of a learner.

    Raises:
        ValueError: Its context is not JSON.
    """
    if change.type != ConfChangeType.ADD_NODE or not change.context:
        return False
    fields = json.loads(change.context)
    return isinstance(fields, dict) and bool(fields.get("isPromote"))


class Cluster:
    """
    The members and the cluster version.  Changed by committed entries only.

    Args:
        overlay: Where they are kept.
        learners_max: How many learners there may be.  Changes are refused by it when they are applied, so it
            must be the same on all members.
    """

    def __init__(self, overlay: IOverlay, learners_max: int = LEARNERS_MAX) -> None:
        self._overlay = overlay
        self._learners_max = learners_max
        self._members: dict[int, Member] = {}
        self._removed: set[int] = set()
        self.version = ""
        """The cluster version, such as ``3.6.0``; empty until the members agreed on one."""

    def restore(self) -> None:
        """
        Read what the backend has, and forget what was known before.

        Raises:
            BackendError: A member does not read back; the backend is damaged.
        """
        self._members, self._removed = {}, set()
        try:
            for _, data in self._overlay.range(MEMBERS, b"", None):
                member = Member.from_json(data)
                self._members[member.id] = member
            for name, _ in self._overlay.range(MEMBERS_REMOVED, b"", None):
                self._removed.add(int(name, 16))
        except ValueError as error:
            raise BackendError(f"the store is damaged: {error}") from error
        self.version = (self._overlay.get(CLUSTER, CLUSTER_VERSION) or b"").decode()

    # Who there is.

    @property
    def members(self) -> list[Member]:
        """All members, by ascending id."""
        return [self._members[number] for number in sorted(self._members)]

    @property
    def voters(self) -> list[Member]:
        """Those that vote, by ascending id."""
        return [member for member in self.members if not member.is_learner]

    @property
    def learners(self) -> list[Member]:
        """Those that do not, by ascending id."""
        return [member for member in self.members if member.is_learner]

    @property
    def removed(self) -> list[int]:
        """The ids of all members that ever were removed, ascending."""
        return sorted(self._removed)

    def is_removed(self, number: int) -> bool:
        """Whether a member of that id was removed; then there is none, and never will be."""
        return number in self._removed

    def member(self, number: int) -> Member | None:
        """One member, or ``None``."""
        return self._members.get(number)

    def named(self, name: str) -> Member | None:
        """The member of that name, the first by id if there are several, or ``None``."""
        return next((member for member in self.members if member.name == name), None)

    def at_peer_url(self, url: str) -> Member | None:
        """The member that has that peer URL, spelled so, or ``None``."""
        return next((member for member in self.members if url in member.peer_urls), None)

    # Changes of membership.

    def refusal(self, change: ConfChange) -> EtcdError | None:
        """
        Why a committed change must not take effect, or ``None``: the same on every member.

        Args:
            change: One that names nobody changes nothing, and is not refused.

        Raises:
            ValueError: Its context is not that of such a change: the log is damaged.
        """
        number = change.node_id
        if number == NOBODY:
            return None
        member = self._members.get(number)
        if number in self._removed:
            return MemberNotFoundError()
        if change.type == ConfChangeType.REMOVE_NODE or is_promotion(change):
            if member is None:
                return MemberNotFoundError()
            if change.type != ConfChangeType.REMOVE_NODE and not member.is_learner:
                return MemberNotLearnerError()
            return None
        urls = _named_member(change).peer_urls
        in_use = any(self._in_use(url, number) for url in urls)
        if change.type == ConfChangeType.UPDATE_NODE:
            if member is None:
                return MemberNotFoundError()
            return PeerURLExistError() if in_use else None
        if member is not None:
            return MemberExistError()
        if in_use:
            return PeerURLExistError()
        if change.type == ConfChangeType.ADD_LEARNER_NODE and len(self.learners) >= self._learners_max:
            return TooManyLearnersError()
        return None

    def _in_use(self, url: str, number: int) -> bool:
        """Whether another member than that one has the peer URL."""
        return any(url in member.peer_urls for member in self._members.values() if member.id != number)

    def apply(self, change: ConfChange) -> EtcdError | None:
        """
        Carry out a committed change, unless it is refused.  What it means for raft is the caller's business.

        Returns:
            Why nothing was changed, or ``None``.  Raft must be given a change that names nobody then.

        Raises:
            ValueError: As `refusal`.
        """
        refused = self.refusal(change)
        if refused is not None or change.node_id == NOBODY:
            return refused
        member = self._members.get(change.node_id)
        if change.type == ConfChangeType.REMOVE_NODE:
            self._remove(change.node_id)
        elif member is None:
            learner = change.type == ConfChangeType.ADD_LEARNER_NODE
            self._write(_named_member(change)._replace(is_learner=learner))
        elif change.type == ConfChangeType.UPDATE_NODE:
            self._write(member._replace(peer_urls=_named_member(change).peer_urls))
        else:
            self._write(member._replace(is_learner=False))
        return None

    def _remove(self, number: int) -> None:
        del self._members[number]
        self._removed.add(number)
        self._overlay.delete(MEMBERS, _key(number))
        self._overlay.put(MEMBERS_REMOVED, _key(number), b"removed")

    def add(self, member: Member) -> None:
        """Note a member, or what is new of one, unseen."""
        self._write(member)

    # What members say and agree on.

    def set_attributes(self, number: int, name: str, client_urls: tuple[str, ...]) -> None:
        """A member said what it is called and where it listens.  Nobody, if it was removed meanwhile."""
        member = self._members.get(number)
        if member is not None:
            self._write(member._replace(name=name, client_urls=client_urls))

    def set_version(self, version: str) -> None:
        """The members agreed on a version."""
        self.version = version
        self._overlay.put(CLUSTER, CLUSTER_VERSION, version.encode())

    def _write(self, member: Member) -> None:
        self._members[member.id] = member
        self._overlay.put(MEMBERS, _key(member.id), member.to_json())


def _key(number: int) -> bytes:
    return b"%x" % number


def _named_member(change: ConfChange) -> Member:
    member = Member.from_json(change.context)
    if member.id != change.node_id:
        raise ValueError(f"a change of member {change.node_id:x} describes member {member.id:x}")
    return member
