"""
Responses, put together from records that are encoded already.

A response's bytes are its fields' bytes side by side.  Field numbers: etcdserverpb's rpc.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from twistedetcd.wire import varint

_HEADER = b"\x0a"  # field 1 of every response
_KVS = b"\x12"  # RangeResponse 2
_PREV_KV = b"\x12"  # PutResponse 2
_PREV_KVS = b"\x1a"  # DeleteRangeResponse 3
_RESPONSES = b"\x1a"  # TxnResponse 3

# ResponseOp's members
RESPONSE_RANGE = b"\x0a"
RESPONSE_PUT = b"\x12"
RESPONSE_DELETE_RANGE = b"\x1a"
RESPONSE_TXN = b"\x22"

# What stands before a revision of so many bytes in the operation's response, which has only a header.
_PUT_OPERATION_STARTS = tuple(
    RESPONSE_PUT + varint(length + 3) + _HEADER + varint(length + 1) + b"\x18" for length in range(11)
)

_UINT64 = (1 << 64) - 1  # as negative numbers are encoded

_LENGTHS = tuple(varint(length) for length in range(1 << 12))
_KVS_TABULATED = 1 << 12
_KVS_STARTS = tuple(_KVS + varint(length) for length in range(_KVS_TABULATED))


class Header:
    """
    The response header of one member.

    Args:
        cluster_id: The cluster.
        member_id: The member that answers.
    """

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._ids = b"\x08" + varint(cluster_id) + b"\x10" + varint(member_id) + b"\x18"
        self._term = -1
        self._term_field = b""
        self._starts: list[bytes] = []

    def field(self, revision: int, term: int) -> bytes:
        """The header as field 1 of a response: the store's revision, the term of the last applied entry."""
        if term != self._term:
            self._term = term
            self._term_field = b"\x20" + varint(term)
            # What stands before a revision of so many bytes.
            fixed = len(self._ids) + len(self._term_field)
            self._starts = [_HEADER + varint(fixed + length) + self._ids for length in range(11)]
        encoded = varint(revision)
        return self._starts[len(encoded)] + encoded + self._term_field


def inner_header(revision: int) -> bytes:
    """The header of an operation inside a transaction: it has only the revision."""
    return delimited(_HEADER, b"\x18" + varint(revision))


EMPTY_HEADER = b"\x0a\x00"  # that of a nested transaction


def put_operation(revision: int) -> bytes:
    """The ``ResponseOp`` of a put that returns nothing."""
    encoded = varint(revision)
    return _PUT_OPERATION_STARTS[len(encoded)] + encoded


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A length-delimited field."""
    length = len(payload)
    return b"%b%b%b" % (tag, _LENGTHS[length] if length < 4096 else varint(length), payload)


def range_kvs(records: Sequence[bytes]) -> bytes:
    """Records as the ``kvs`` of a ``RangeResponse``."""
    if len(records) > 1 and max(map(len, records)) < _KVS_TABULATED:
        starts = map(_KVS_STARTS.__getitem__, map(len, records))
        return b"".join(chain.from_iterable(zip(starts, records, strict=True)))  # in C from end to end
    return b"".join([delimited(_KVS, record) for record in records])


def get_response(header: bytes, record: bytes | None) -> bytes:
    """``RangeResponse`` for one key, which most of them are."""
    if record is None:
        return header
    length = len(record)
    start = _KVS_STARTS[length] if length < _KVS_TABULATED else _KVS + varint(length)
    return b"%b%b%b\x20\x01" % (header, start, record)


def range_parts(header: bytes, kvs: Sequence[bytes], more: bool, count: int) -> list[bytes]:
    """``RangeResponse``, in pieces; ``kvs`` is as `range_kvs` made it, in any number of pieces."""
    parts = [header, *kvs]
    if more:
        parts.append(b"\x18\x01")
    if count:
        parts += (b"\x20", varint(count))
    return parts


def range_response(header: bytes, kvs: Sequence[bytes], more: bool, count: int) -> bytes:
    """``RangeResponse``, whole."""
    return b"".join(range_parts(header, kvs, more, count))


def put_response(header: bytes, previous: bytes | None) -> bytes:
    """``PutResponse``."""
    return header if previous is None else header + delimited(_PREV_KV, previous)


def delete_range_response(header: bytes, deleted: int, previous: Sequence[bytes]) -> bytes:
    """``DeleteRangeResponse``."""
    parts = [header]
    if deleted:
        parts += (b"\x10", varint(deleted))
    parts += [delimited(_PREV_KVS, record) for record in previous]
    return b"".join(parts)


def lease_response(header: bytes, lease_id: int, ttl_seconds: int) -> bytes:
    """``LeaseGrantResponse``, and ``LeaseKeepAliveResponse``, which has the same fields."""
    ttl = b"\x18" + varint(ttl_seconds) if ttl_seconds else b""
    return b"%b\x10%b%b" % (header, varint(lease_id & _UINT64), ttl)


def txn_parts(header: bytes, succeeded: bool, responses: Sequence[bytes]) -> list[bytes]:
    """``TxnResponse``, in pieces; each of ``responses`` is an encoded ``ResponseOp``."""
    parts = [header, b"\x10\x01" if succeeded else b""]
    parts += [delimited(_RESPONSES, response) for response in responses]
    return parts


def txn_response(header: bytes, succeeded: bool, responses: Sequence[bytes]) -> bytes:
    """``TxnResponse``, whole."""
    if len(responses) == 1:  # as most have
        return b"%b%b%b" % (header, b"\x10\x01" if succeeded else b"", delimited(_RESPONSES, responses[0]))
    return b"".join(txn_parts(header, succeeded, responses))
