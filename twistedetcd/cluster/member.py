"""One member, and the ids that members and clusters have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple


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
        if not 0 <= number < 2**64:
            raise ValueError(f"not the id of a member: {number}")
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
