"""Requests by chance: valid ones, over few keys, so that they meet."""

from __future__ import annotations

from random import Random
from typing import Any

from twistedetcd.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

KEYS = [b"a", b"ab", b"b", b"c", b"d", b"e"]
ENDS = [b"", b"", b"\0", b"b", b"c", b"e", b"a"]


class Requests:
    """
    A source of requests.

    Attributes:
        leases: The leases to attach keys to; one that does not exist may be among them.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._values = 0
        self.leases: list[int] = []

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def range(self, revision: int, **fields: Any) -> RangeRequest:
        """A Range, perhaps at an earlier revision, or at one that is not yet."""
        random = self._random
        request = RangeRequest(key=random.choice(KEYS), range_end=random.choice(ENDS), **fields)
        if self._chance(0.3):
            request.revision = max(revision - random.choice((-1, 0, 1, 2, 5, 20)), 0)
        if self._chance(0.3):
            request.limit = random.randrange(4)
            request.sort_order = random.choice(RangeRequest.SortOrder.values())
            request.sort_target = random.choice(RangeRequest.SortTarget.values())
        if self._chance(0.2):
            request.keys_only, request.count_only = random.choice(((True, False), (False, True)))
        if self._chance(0.1):
            name = random.choice(("min_mod_revision", "max_mod_revision", "min_create_revision"))
            setattr(request, name, max(revision - random.randrange(10), 0))
        return request

    def put(self, key: bytes = b"") -> PutRequest:
        """A Put, mostly of a value that nobody else puts."""
        random = self._random
        self._values += 1
        value = b"x" if self._chance(0.1) else b"%d" % self._values
        request = PutRequest(key=key or random.choice(KEYS), value=value, prev_kv=self._chance(0.3))
        if self.leases and self._chance(0.4):
            request.lease = random.choice(self.leases)
        if self._chance(0.1):
            request.ignore_value, request.value = True, b""
        if self._chance(0.1):
            request.ignore_lease, request.lease = True, 0
        return request

    def delete(self) -> DeleteRangeRequest:
        """A DeleteRange, of one key or of many."""
        random = self._random
        return DeleteRangeRequest(
            key=random.choice(KEYS), range_end=random.choice(ENDS), prev_kv=self._chance(0.3)
        )

    def txn(self, revision: int) -> TxnRequest:
        """A Txn, nested ones in it."""
        compares = [self._compare(revision) for _ in range(self._random.randrange(3))]
        return TxnRequest(compare=compares, success=self._branch(revision), failure=self._branch(revision))

    def _compare(self, revision: int) -> Compare:
        random = self._random
        compare = Compare(
            key=random.choice(KEYS),
            range_end=random.choice(ENDS) if self._chance(0.2) else b"",
            target=random.choice(Compare.CompareTarget.values()),
            result=random.choice(Compare.CompareResult.values()),
        )
        if compare.target == Compare.VALUE:
            compare.value = b"%d" % random.randrange(self._values + 1)
        elif compare.target == Compare.VERSION:
            compare.version = random.randrange(4)
        elif compare.target == Compare.LEASE:
            compare.lease = random.choice([0, *self.leases])
        elif compare.target == Compare.CREATE:
            compare.create_revision = random.choice((0, revision, max(revision - 5, 0)))
        else:
            compare.mod_revision = random.choice((0, revision, max(revision - 5, 0)))
        return compare

    def _branch(self, revision: int, keys: list[bytes] | None = None, depth: int = 0) -> list[RequestOp]:
        """Some operations; no two of them write one key, except in the one way that is allowed."""
        random = self._random
        if keys is None:
            keys = random.sample(KEYS, len(KEYS))
        operations = []
        for _ in range(random.randrange(4)):
            kind = random.choice(("range", "put", "put", "delete", "txn", "twice"))
            if kind == "range":
                operations.append(RequestOp(request_range=self.range(revision)))
            elif not keys:
                break
            elif kind == "put":
                operations.append(RequestOp(request_put=self.put(keys.pop())))
            elif kind == "delete":
                operations.append(RequestOp(request_delete_range=DeleteRangeRequest(key=keys.pop())))
            elif kind == "txn" and depth < 2:
                compares = [self._compare(revision)]
                success = self._branch(revision, keys, depth + 1)
                inner = TxnRequest(
                    compare=compares, success=success, failure=self._branch(revision, keys, depth + 1)
                )
                operations.append(RequestOp(request_txn=inner))
            elif kind == "twice":
                key = keys.pop()
                for write in (
                    RequestOp(request_put=PutRequest(key=key, value=b"passing")),
                    RequestOp(request_delete_range=DeleteRangeRequest(key=key, prev_kv=True)),
                ):
                    operations.append(RequestOp(request_txn=TxnRequest(success=[write])))
        return operations
