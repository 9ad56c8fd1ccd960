"""The cluster, as the log made it, kept in the backend (upstream's membership package)."""

from __future__ import annotations

from twistedetcd.cluster.member import Member, cluster_id, member_id
from twistedetcd.cluster.roster import LEARNERS_MAX, Roster
from twistedetcd.errors import BackendError
from twistedetcd.interfaces import IOverlay
from twistedetcd.schema import CLUSTER, CLUSTER_VERSION, MEMBERS, MEMBERS_REMOVED

__all__ = ["Cluster", "Member", "cluster_id", "member_id"]


class Cluster(Roster):
    """
    The members and the cluster version.  Changed by committed entries only.

    Args:
        overlay: Where they are kept.
        learners_max: See `Roster`.
    """

    def __init__(self, overlay: IOverlay, learners_max: int = LEARNERS_MAX) -> None:
        super().__init__(learners_max=learners_max)
        self._overlay = overlay
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

    def add(self, member: Member) -> None:
        """Note a member, or what is new of one, unseen."""
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
        super()._write(member)
        self._overlay.put(MEMBERS, _key(member.id), member.to_json())

    def _remove(self, number: int) -> None:
        super()._remove(number)
        self._overlay.delete(MEMBERS, _key(number))
        self._overlay.put(MEMBERS_REMOVED, _key(number), b"removed")


def _key(number: int) -> bytes:
    return b"%x" % number
