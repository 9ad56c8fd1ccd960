"""
requests: random key-value requests, good and bad, all from one seed.

Few keys, so that requests meet; numbers are drawn near the edges that count: the current revision, the
compact revision, zero, and the largest there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from google.protobuf.text_format import MessageToString

from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    HashKVRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

KV = "/etcdserverpb.KV/"
HASH_KV = "/etcdserverpb.Maintenance/HashKV"
INT64_MAX = 2**63 - 1
OPERATIONS_MAX = 128
REQUEST_BYTES_MAX = 1_572_864
MESSAGE_BYTES_MAX = REQUEST_BYTES_MAX + 524_288
DEPTH_MAX = 3
SHOWN_BYTES_MAX = 4000

_KEYS = [b"\0", b"a", b"aa", b"ab", b"b", b"m", b"m\0", b"z", b"\xff", b"\xff\xff"]
_KEYS += [b"k%02d" % number for number in range(24)]
_KEYS += [b"y" * length for length in (126, 127, 128, 300, 2000)]  # where lengths take another byte
_VALUES = [b"", b"1", b"2", b"a", b"\0", b"\xff", b"value", b"x" * 20]
_BAD_NUMBERS = (5, 7, -1, 2**31 - 1)


class Case(NamedTuple):
    """
    One request.

    Attributes:
        path: Which method.
        raw: The message as it is sent.
        request: What the bytes mean; ``None`` if nothing.
        only_ours: Whether the real etcd would die of it, so that only we are asked.
    """

    path: str
    raw: bytes
    request: Any = None
    only_ours: bool = False

    def __str__(self) -> str:
        text = repr(self.raw) if self.request is None else MessageToString(self.request)
        return f"{self.path}\n{text[:SHOWN_BYTES_MAX]}"


def case(method: str, request: Any, *, only_ours: bool = False) -> Case:
    """A request of the KV service."""
    return Case(KV + method, request.SerializeToString(), request, only_ours)


class Requests:
    """
    A stream of requests.

    Attributes:
        revision: The current revision, as the answers tell; set by whoever sends the requests.
        compacted: The compact revision, likewise.
    """

    def __init__(self, seed: int) -> None:
        self.revision = 1
        self.compacted = -1
        self._random = Random(seed)
        self._kinds: Sequence[tuple[int, Callable[[], Case]]] = (
            (300, self._put),
            (300, self._range),
            (60, self._delete_range),
            (200, self._txn),
            (40, self._read_only_txn),
            (14, self._compact),
            (20, self._hash_kv),
            (12, self._large_txn),
            (60, self._scrambled),
            (25, self._odd),
            (2, self._large),
        )

    def next(self) -> Case:
        """The next request."""
        weights, kinds = zip(*self._kinds, strict=True)
        kind: Callable[[], Case] = self._random.choices(kinds, weights)[0]
        return kind()

    # Small decisions.

    def _number(self, known: int, *, wrong: bool = False) -> Any:
        """An enum's number, which may be one that it has not got."""
        return self._random.choice((known, *_BAD_NUMBERS)) if wrong else self._random.randrange(known)

    def _chance(self, one_in: int) -> bool:
        return self._random.randrange(one_in) == 0

    def _key(self) -> bytes:
        return b"" if self._chance(80) else self._random.choice(_KEYS)

    def _interval(self) -> tuple[bytes, bytes]:
        key = self._key()
        end = self._random.choice(
            [b"", b"", b"", b"\0", b"\0", key, key + b"\0", _prefix_end(key), b"k", b"l", b"z", b"a"]
        )
        return key, end

    def _revision(self, zero_of_four: int = 3) -> int:
        if self._random.randrange(4) < zero_of_four:
            return 0
        near = self._random.randint(-2, 2)
        return self._random.choice(
            [
                self.revision + near,
                self.compacted + near,
                self._random.randint(1, self.revision),
                self._random.randint(max(self.compacted, 1), self.revision),
                self._random.randint(max(self.compacted, 1), self.revision),
                self._random.choice([-1, -7, -INT64_MAX - 1, INT64_MAX, 2**40]),
            ]
        )

    def _lease(self) -> int:
        return self._random.choice([1, -1, 77, INT64_MAX]) if self._chance(15) else 0

    # Requests without what the real etcd cannot stand.

    def _range_request(self) -> RangeRequest:
        key, end = self._interval()
        request = RangeRequest(key=key, range_end=end, revision=self._revision())
        if self._chance(2):
            request.limit = self._random.choice([1, 1, 2, 3, 5, 10, 1000, -1, 2**31, INT64_MAX])
        if self._chance(2):
            request.sort_order = self._number(3)
            request.sort_target = self._number(5)
        request.serializable = self._chance(4)
        request.keys_only = self._chance(5)
        request.count_only = self._chance(8)
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self._chance(8):
                setattr(request, name, self._revision(zero_of_four=0))
        return request

    def _put_request(self, keep: bool = True) -> PutRequest:
        request = PutRequest(key=self._key(), value=self._random.choice(_VALUES), lease=self._lease())
        request.prev_kv = self._chance(3)
        if keep and self._chance(5):
            request.ignore_value = self._chance(2)
            if request.ignore_value and not self._chance(5):
                request.value = b""
            request.ignore_lease = self._chance(2)
        return request

    def _delete_range_request(self) -> DeleteRangeRequest:
        key, end = self._interval()
        if len(end) == 1 and not self._chance(6):
            end = key + b"\0"  # or there would hardly ever be any keys
        return DeleteRangeRequest(key=key, range_end=end, prev_kv=self._chance(2))

    def _compare(self) -> Compare:
        key, end = self._interval()
        if self._chance(2):
            end = b""
        compare = Compare(key=key, range_end=end)
        compare.target = self._number(5, wrong=self._chance(25))
        compare.result = self._number(4, wrong=self._chance(25))
        # Mostly what belongs to the target, sometimes another member, sometimes none.
        member = (
            compare.target if 0 <= compare.target < 5 and not self._chance(10) else self._random.randrange(6)
        )
        number = self._random.choice(
            [0, 1, 2, self.revision, self._random.randint(-1, self.revision), INT64_MAX]
        )
        if member == Compare.VERSION:
            compare.version = number
        elif member == Compare.CREATE:
            compare.create_revision = number
        elif member == Compare.MOD:
            compare.mod_revision = number
        elif member == Compare.VALUE:
            compare.value = self._random.choice(_VALUES)
        elif member == Compare.LEASE:
            compare.lease = self._random.choice([0, 0, 1, -1])
        return compare

    def _operation(self, depth: int, keep: bool, delete: bool) -> RequestOp:
        kind = self._random.randrange(20)
        if kind < 7:
            return RequestOp(request_put=self._put_request(keep))
        if kind < 12:
            return RequestOp(request_range=self._range_request())
        if kind < 16 and delete:
            return RequestOp(request_delete_range=self._delete_range_request())
        if kind < 19 and depth < DEPTH_MAX:
            return RequestOp(request_txn=self._txn_request(depth + 1, keep, delete))
        if self._chance(8):
            return RequestOp()
        return RequestOp(request_put=PutRequest(key=b"t%d" % self._random.randrange(10_000)))

    def _txn_request(self, depth: int, keep: bool, delete: bool) -> TxnRequest:
        """
        A transaction.

        Args:
            depth: How many others it is nested in.
            keep: Whether its puts may keep values and leases.
            delete: Whether it may delete.
        """

        def branch(sizes: Sequence[int]) -> list[RequestOp]:
            return [self._operation(depth, keep, delete) for _ in range(self._random.choice(sizes))]

        return TxnRequest(
            compare=[self._compare() for _ in range(self._random.choice([0, 0, 1, 1, 2, 3]))],
            success=branch([0, 1, 2, 3, 4]),
            failure=branch([0, 1, 2, 3]),
        )

    # Cases.

    def _put(self) -> Case:
        return case("Put", self._put_request())

    def _range(self) -> Case:
        request = self._range_request()
        if self._chance(25):
            request.sort_order = self._number(3, wrong=True)
        only_ours = self._chance(40)
        if only_ours:
            request.sort_target = self._number(5, wrong=True)
            request.key = request.key or b"a"
        return case("Range", request, only_ours=only_ours)

    def _delete_range(self) -> Case:
        return case("DeleteRange", self._delete_range_request())

    def _txn(self) -> Case:
        # A real etcd dies when one transaction deletes a key and then puts it, keeping its value (KF-67).
        keep = self._chance(2)
        return case("Txn", self._txn_request(0, keep, delete=not keep))

    def txn_that_may_kill(self) -> Case:
        """A transaction that a real etcd may die of."""
        request = self._txn_request(0, keep=True, delete=True)
        if self._chance(2):
            # It takes a delete whose end the check for duplicates does not see.
            request.success.insert(
                0, RequestOp(request_delete_range=DeleteRangeRequest(key=b"a", range_end=b"\0"))
            )
            request.success.add().request_put.CopyFrom(PutRequest(key=self._key(), ignore_value=True))
        return case("Txn", request, only_ours=True)

    def _read_only_txn(self) -> Case:
        request = TxnRequest(compare=[self._compare() for _ in range(self._random.randrange(3))])
        for branch in (request.success, request.failure):
            for _ in range(self._random.randrange(4)):
                branch.add().request_range.CopyFrom(self._range_request())
        return case("Txn", request)

    def _compact(self) -> Case:
        if self._chance(3):
            revision = self._revision(zero_of_four=1)
        else:
            revision = self._random.randint(max(self.compacted, 0), self.revision)
        return case("Compact", CompactionRequest(revision=revision, physical=self._chance(3)))

    def _hash_kv(self) -> Case:
        revision = self._random.choice(
            [0, 0, max(self.compacted, 0), self._random.randint(0, self.revision + 2)]
        )
        request = HashKVRequest(revision=revision)
        return Case(HASH_KV, request.SerializeToString(), request)

    def _large_txn(self) -> Case:
        """A transaction around the limit of operations, perhaps spread along a path of nested ones."""
        request = TxnRequest()
        left = OPERATIONS_MAX + self._random.randint(-1, 1)
        inner = request
        while left > 0 and self._chance(2):
            inner.compare.add(key=b"a", target=Compare.VERSION, result=Compare.GREATER, version=-1)
            branch = inner.success if self._chance(2) else inner.failure
            others = self._random.randrange(min(left, 40))
            for number in range(others):
                branch.add().request_put.key = b"n%d-%d" % (left, number)
            left -= others + 1
            inner = branch.add().request_txn
        for number in range(left):
            if self._chance(2):
                inner.success.add().request_range.key = b"a"
            else:
                inner.success.add().request_put.key = b"l%d" % (number if number else left - 1)
        if left > 1 and self._chance(3):
            # As many compares as operations, or other operations that are not carried out.
            inner.failure.extend(inner.success)
        return case("Txn", request)

    def _scrambled(self) -> Case:
        """A request as no encoder writes it: fields in any order, more than once, unknown ones among them."""
        choices: Sequence[tuple[str, Any]] = (
            ("Put", self._put_request()),
            ("Put", self._put_request(keep=False)),
            ("Range", self._range_request()),
            ("Range", RangeRequest(key=self._key())),
            ("DeleteRange", self._delete_range_request()),
        )
        method, request = self._random.choice(choices)
        pieces = [self._field(type(request)(), field.name, value) for field, value in request.ListFields()]
        pieces += self._random.sample(_UNKNOWN_FIELDS, self._random.randrange(3))
        self._random.shuffle(pieces)
        if request.key:
            # The last one counts.
            pieces.insert(0, PutRequest(key=self._random.choice(_KEYS)).SerializeToString())
        return Case(KV + method, b"".join(pieces), request)

    def _field(self, message: Any, name: str, value: Any) -> bytes:
        setattr(message, name, value)
        encoded: bytes = message.SerializeToString()
        return encoded

    def _odd(self) -> Case:
        """What no client of etcd would send."""
        request: Any
        kind = self._random.randrange(9)
        if kind == 0:
            return Case(self._random.choice(_UNKNOWN_PATHS), b"")
        if kind == 1:
            raw = self._random.choice(
                [b"\x0a\x05a", b"\x0a", b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x7f", b"\x0f"]
            )
            return Case(KV + self._random.choice(["Put", "Range", "Txn", "DeleteRange", "Compact"]), raw)
        if kind == 2:
            return Case(KV + self._random.choice(["Put", "Range", "DeleteRange"]), b"")
        if kind == 3:
            return case("Txn", TxnRequest())
        if kind == 4:
            # A put and a delete of one key, in every nesting that the check for duplicates knows.
            return case("Txn", self._collision())
        if kind == 5:
            request = TxnRequest(success=[RequestOp()])
            return case("Txn", request)
        if kind == 6:
            # One key put twice: allowed in then and else of one nested transaction, nowhere else.
            request = TxnRequest()
            nested = request.success.add().request_txn
            nested.success.add().request_put.key = b"m"
            nested.failure.add().request_put.key = b"m"
            if self._chance(2):
                request.success.add().request_put.key = b"m"
            return case("Txn", request)
        if kind == 7:
            # Puts are checked before ranges, whatever their order.
            request = TxnRequest()
            request.success.add().request_range.CopyFrom(
                RangeRequest(
                    key=b"a", revision=self._random.choice([self.revision + 1, self.compacted - 1, -9])
                )
            )
            request.success.add().request_put.CopyFrom(PutRequest(key=b"a", lease=self._lease()))
            return case("Txn", request)
        request = self._put_request()
        request.key += b"\0" * self._random.randrange(3)
        return case("Put", request)

    def _collision(self) -> TxnRequest:
        request = TxnRequest()
        start, end = self._random.choice(
            [(b"m", b""), (b"a", b"z"), (b"a", b"\0"), (b"m", b"a"), (b"n", b"z")]
        )
        operations = [
            RequestOp(request_delete_range=DeleteRangeRequest(key=start, range_end=end)),
            RequestOp(request_put=PutRequest(key=b"m", value=b"1")),
        ]
        self._random.shuffle(operations)
        for operation in operations:
            kind = self._random.randrange(4)
            if kind == 0:
                request.success.add().CopyFrom(operation)
            elif kind == 1:
                request.failure.add().CopyFrom(operation)
            elif kind == 2:
                request.success.add().request_txn.success.add().CopyFrom(operation)
            else:
                request.success.add().request_txn.failure.add().CopyFrom(operation)
        return request

    def _large(self) -> Case:
        size = self._random.choice(
            [REQUEST_BYTES_MAX - 1000, REQUEST_BYTES_MAX + 1000, MESSAGE_BYTES_MAX + 1000]
        )
        return Case(KV + "Put", PutRequest(key=b"large", value=bytes(size)).SerializeToString())


_UNKNOWN_PATHS = (
    "/etcdserverpb.KV/Nothing",
    "/etcdserverpb.Nothing/Range",
    "/nothing.Nothing/Nothing",
    "/etcdserverpb.KV/range",
    "/etcdserverpb.kv/Range",
)


_UNKNOWN_FIELDS = (
    b"\x98\x06\x05",  # 99: a number
    b"\x9a\x06\x03abc",  # 99: bytes
    b"\x9d\x06\x01\x02\x03\x04",  # 99: four bytes
    b"\x99\x06\x01\x02\x03\x04\x05\x06\x07\x08",  # 99: eight bytes
    b"\x9b\x06\x08\x01\x9c\x06",  # 99: a group
    b"\xf8\xff\xff\xff\x0f\x01",  # 536870911, the highest there is
)


def _prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with a prefix."""
    for position in reversed(range(len(prefix))):
        if prefix[position] < 0xFF:
            return prefix[:position] + bytes((prefix[position] + 1,))
    return b"\0"
