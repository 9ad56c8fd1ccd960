"""Requests by chance: valid ones, over few keys, so that they meet."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

KEYS = [b"a", b"ab", b"b", b"c", b"d", b"e", b"f/1", b"f/2"]
RANGES = [(b"a", b"c"), (b"c", b"\0"), (b"f/", b"f0"), (b"\0", b"\0"), (b"b", b"e")]
OPERATIONS_MAX = 3
DEPTH_MAX = 2


class Requests:
    """
    A source of requests.

    Args:
        random: Chance.
        client: Values begin with it, and no value is put twice.

    Attributes:
        leases: Some to attach keys to; one that is gone may be among them.
        revision: One that is known to have been reached.
    """

    def __init__(self, random: Random, client: str) -> None:
        self._random = random
        self._client = client
        self._values = 0
        self.leases: list[int] = []
        self.revision = 1

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _any(self, numbers: Sequence[int]) -> Any:
        """One of an enumeration's."""
        return self._random.choice(numbers)

    def key(self) -> bytes:
        """One of the keys."""
        return self._random.choice(KEYS)

    def put(self, key: bytes = b"") -> PutRequest:
        """A Put."""
        self._values += 1
        request = PutRequest(key=key or self.key(), prev_kv=self._chance(0.3))
        if self.leases and self._chance(0.3):
            request.lease = self._random.choice(self.leases)
        elif self._chance(0.1):
            request.ignore_lease = True
        if self._chance(0.1):
            request.ignore_value = True
        else:
            request.value = f"{self._client}-{self._values}".encode() + b"." * self._random.choice(
                (0, 0, 200)
            )
        return request

    def delete(self) -> DeleteRangeRequest:
        """A DeleteRange, of one key or of many."""
        key, end = self._random.choice(RANGES) if self._chance(0.2) else (self.key(), b"")
        return DeleteRangeRequest(key=key, range_end=end, prev_kv=self._chance(0.3))

    def range(self, **fields: Any) -> RangeRequest:
        """A Range, of one key or of many."""
        random = self._random
        key, end = random.choice(RANGES) if self._chance(0.5) else (self.key(), b"")
        request = RangeRequest(key=key, range_end=end, **fields)
        if self._chance(0.2):
            request.limit = random.randrange(4)
            request.sort_order = self._any(RangeRequest.SortOrder.values())
            request.sort_target = self._any(RangeRequest.SortTarget.values())
        if self._chance(0.1):
            request.keys_only, request.count_only = random.choice(((True, False), (False, True)))
        return request

    def past(self) -> RangeRequest:
        """A Range at a revision of before."""
        return self.range(revision=self._earlier(), serializable=self._chance(0.5))

    def _earlier(self) -> int:
        return max(1, self.revision - self._random.choice((0, 0, 1, 3, 10, 50)))

    def compaction(self) -> CompactionRequest:
        """A Compact, which leaves some of the past."""
        return CompactionRequest(
            revision=max(1, self.revision - self._random.choice((0, 5, 20, 50))), physical=self._chance(0.2)
        )

    def txn(self) -> TxnRequest:
        """A Txn, perhaps with others in it."""
        keys = self._random.sample(KEYS, len(KEYS))
        return TxnRequest(
            compare=[self._compare() for _ in range(self._random.randrange(3))],
            success=self._branch(keys),
            failure=self._branch(self._random.sample(KEYS, len(KEYS))),
        )

    def swap(self, key: bytes, mod_revision: int) -> TxnRequest:
        """Put a key if nobody has since a revision: what most transactions are."""
        compare = Compare(key=key, target=Compare.MOD, result=Compare.EQUAL, mod_revision=mod_revision)
        return TxnRequest(
            compare=[compare],
            success=[RequestOp(request_put=self.put(key))],
            failure=[RequestOp(request_range=RangeRequest(key=key))],
        )

    def _compare(self) -> Compare:
        random = self._random
        compare = Compare(
            key=self.key(),
            target=self._any(Compare.CompareTarget.values()),
            result=self._any(Compare.CompareResult.values()),
        )
        if compare.target == Compare.VALUE:
            compare.value = f"{self._client}-{random.randrange(self._values + 1)}".encode()
        elif compare.target == Compare.VERSION:
            compare.version = random.randrange(4)
        elif compare.target == Compare.LEASE:
            compare.lease = random.choice([0, *self.leases])
        elif compare.target == Compare.CREATE:
            compare.create_revision = random.choice((0, self._earlier()))
        else:
            compare.mod_revision = random.choice((0, self._earlier()))
        return compare

    def _branch(self, keys: list[bytes], depth: int = 0) -> list[RequestOp]:
        """Some operations, no two of which write one key."""
        random = self._random
        operations = []
        for _ in range(random.randrange(OPERATIONS_MAX + 1)):
            kind = random.choice(("range", "put", "put", "delete", "txn"))
            if kind == "range" or not keys:
                operations.append(RequestOp(request_range=self.range()))
            elif kind == "put":
                operations.append(RequestOp(request_put=self.put(keys.pop())))
            elif kind == "delete":
                operations.append(RequestOp(request_delete_range=DeleteRangeRequest(key=keys.pop())))
            elif depth < DEPTH_MAX:
                inner = TxnRequest(
                    compare=[self._compare()],
                    success=self._branch(keys, depth + 1),
                    failure=self._branch(keys, depth + 1),
                )
                operations.append(RequestOp(request_txn=inner))
        return operations
