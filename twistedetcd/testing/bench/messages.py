"""What is asked, and what the answer must hold.  Keys have 18 bytes and values 256."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from twistedetcd.pb import rpc_pb2

KEYS_MIN = 12_000
LOAD_OPERATIONS = 100  # puts in one transaction when the store is filled; a server allows 128
RANGE_KEYS = 1000
VALUE = random.Random(256).randbytes(256)
HOT_KEY = b"hot/key/0000000000"
_PREFIX = b"bench/000000001"  # of the keys 1000 to 1999
LEASE_SECONDS = 3600  # longer than any measurement
LEASES_APART = 1000  # more than a connection has streams
_OWN_KEYS_FROM = 2000  # below KEYS_MIN with all that `own_key` adds
_ROUNDS_APART = 50


def key(number: int) -> bytes:
    """One of the keys that the store is filled with."""
    return b"bench/%012d" % number


def own_key(row: int, round_number: int, connection: int) -> bytes:
    """A key that no other connection uses, nor another round; never one of those that `range_keys` reads."""
    number = (row * _ROUNDS_APART + round_number % _ROUNDS_APART) * 10 + connection
    return key(_OWN_KEYS_FROM + number)


def range_keys() -> list[bytes]:
    """The keys that `range_many` reads."""
    return [key(number) for number in range(RANGE_KEYS, 2 * RANGE_KEYS)]


def put(name: bytes) -> bytes:
    return rpc_pb2.PutRequest(key=name, value=VALUE).SerializeToString()


def range_one(name: bytes) -> bytes:
    return rpc_pb2.RangeRequest(key=name).SerializeToString()


def range_many(name: bytes) -> bytes:
    """A range over a prefix with 1,000 keys, whatever ``name`` is."""
    return rpc_pb2.RangeRequest(key=_PREFIX, range_end=_PREFIX[:-1] + b"2").SerializeToString()


def txn(name: bytes) -> bytes:
    """If the key exists, which it does, put it."""
    compare = rpc_pb2.Compare(
        result=rpc_pb2.Compare.GREATER, target=rpc_pb2.Compare.CREATE, key=name, create_revision=0
    )
    success = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=name, value=VALUE))
    return rpc_pb2.TxnRequest(compare=[compare], success=[success]).SerializeToString()


def grant(name: bytes, lease_id: int = 0) -> bytes:
    """A lease whose id the server chooses, whatever ``name`` is."""
    return rpc_pb2.LeaseGrantRequest(TTL=LEASE_SECONDS, ID=lease_id).SerializeToString()


def keep_alive(name: bytes) -> bytes:
    """Renews the first of the leases of the connection that has this key."""
    return rpc_pb2.LeaseKeepAliveRequest(ID=own_leases(name, 1)[0]).SerializeToString()


def own_leases(name: bytes, count: int) -> range:
    """Ids of leases that no other connection has."""
    first = int(name.rpartition(b"/")[2]) * LEASES_APART
    return range(first, first + count)


def filling(keys: int, lease_id: int = 0) -> Iterator[bytes]:
    """Transactions that put the first ``keys`` keys, with a lease if there is one; all of one size."""
    for start in range(0, keys, LOAD_OPERATIONS):
        operations = [
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key(number), value=VALUE, lease=lease_id))
            for number in range(start, start + LOAD_OPERATIONS)
        ]
        yield rpc_pb2.TxnRequest(success=operations).SerializeToString()


def range_problem(response: bytes, keys: Sequence[bytes]) -> str | None:
    """What is wrong with a RangeResponse that must hold these keys, or ``None``."""
    try:
        answer = rpc_pb2.RangeResponse.FromString(response)
    except DecodeError:
        return "the answer is not a RangeResponse"
    if [pair.key for pair in answer.kvs] != list(keys):
        return f"the range held {len(answer.kvs)} keys, not the {len(keys)} that were put"
    if answer.count != len(keys) or answer.more:
        return f"the range counted {answer.count} keys of {len(keys)}"
    if any(pair.value != VALUE for pair in answer.kvs):
        return "the range held a value that nobody put"
    return None


def grant_problem(response: bytes) -> str | None:
    """What is wrong with a LeaseGrantResponse, or ``None``."""
    try:
        answer = rpc_pb2.LeaseGrantResponse.FromString(response)
    except DecodeError:
        return "the answer is not a LeaseGrantResponse"
    if not answer.ID or answer.TTL != LEASE_SECONDS:
        return f"the lease was granted for {answer.TTL} s, not {LEASE_SECONDS}"
    return None


def revision_of(response: bytes) -> int:
    """The revision in the header of a RangeResponse."""
    return rpc_pb2.RangeResponse.FromString(response).header.revision
