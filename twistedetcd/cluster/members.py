"""The members of the cluster, as the log made them, kept in the backend (upstream's membership package)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from twistedetcd.errors import BackendError
from twistedetcd.interfaces import IOverlay
from twistedetcd.schema import CLUSTER, CLUSTER_VERSION, MEMBERS


class Member(NamedTuple):
    """
    One member.  ``name`` and ``client_urls`` are empty until it has started and said so through the log.
    """

    id: int
    peer_urls: tuple[str, ...]
    is_learner: bool = False
    name: str = ""
    client_urls: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """As etcd stores it: in the backend, and as the context of the change that added it."""
        fields: dict[str, object] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            fields["isLearner"] = True
        if self.name:
            fields["name"] = self.name
        if self.client_urls:
            fields["clientURLs"] = list(self.client_urls)
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Member:
        """
        Read what `to_json` wrote.

        Raises:
            ValueError: It is not a member.
        """
        fields = json.loads(data)
        try:
            number, peer_urls, client_urls = fields["id"], fields["peerURLs"], fields.get("clientURLs") or []
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a member: {data!r}") from error
        if not (isinstance(number, int) and isinstance(peer_urls, list) and isinstance(client_urls, list)):
            raise ValueError(f"not a member: {data!r}")
        learner, name = bool(fields.get("isLearner")), str(fields.get("name") or "")
        return cls(number, tuple(peer_urls), learner, name, tuple(client_urls))


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


class Cluster:
    """
    The members and the cluster version.  Changed by committed entries only.

    Args:
        overlay: Where they are kept.
    """

    def __init__(self, overlay: IOverlay) -> None:
        self._overlay = overlay
        self._members: dict[int, Member] = {}
        self.version = ""
        """The cluster version, such as ``3.6.0``; empty until the members agreed on one."""

    def restore(self) -> None:
        """
        Read what the backend has.

        Raises:
            BackendError: A member does not read back; the backend is damaged.
        """
        for _, data in self._overlay.range(MEMBERS, b"", None):
            try:
                member = Member.from_json(data)
            except ValueError as error:
                raise BackendError(f"the store is damaged: {error}") from error
            self._members[member.id] = member
        self.version = (self._overlay.get(CLUSTER, CLUSTER_VERSION) or b"").decode()

    @property
    def members(self) -> list[Member]:
        """All members, by ascending id."""
        return [self._members[number] for number in sorted(self._members)]

    def member(self, number: int) -> Member | None:
        """One member, or ``None``."""
        return self._members.get(number)

    def add(self, member: Member) -> None:
        """A committed change added a member."""
        self._write(member)

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
        self._overlay.put(MEMBERS, b"%x" % member.id, member.to_json())
