"""Which keys a lease has, and which lease a key has."""

from __future__ import annotations

from itertools import islice

from BTrees.OOBTree import OOTreeSet


class Attached:
    """
    Both directions.  A key has one lease at most.

    Attributes:
        lease_of: The keys that have one.
    """

    def __init__(self) -> None:
        self.lease_of: dict[bytes, int] = {}
        self._keys: dict[int, OOTreeSet[bytes]] = {}  # ordered, for a lease with many must not be sorted

    def attach(self, key: bytes, lease_id: int) -> None:
        """Give a key a lease; it leaves the one that it had."""
        before = self.lease_of.get(key)
        if before == lease_id:
            return
        if before is not None:
            self._remove(key, before)
        self.lease_of[key] = lease_id
        keys = self._keys.get(lease_id)
        if keys is None:
            keys = self._keys[lease_id] = OOTreeSet()
        keys.add(key)

    def detach(self, key: bytes) -> None:
        """The key has no lease any more; nor need it have had one."""
        before = self.lease_of.pop(key, None)
        if before is not None:
            self._remove(key, before)

    def _remove(self, key: bytes, lease_id: int) -> None:
        keys = self._keys[lease_id]
        keys.remove(key)
        if not keys:
            del self._keys[lease_id]

    def keys(self, lease_id: int, limit: int) -> list[bytes]:
        """The first ``limit`` keys of a lease, ascending."""
        return list(islice(self._keys.get(lease_id, ()), limit))
