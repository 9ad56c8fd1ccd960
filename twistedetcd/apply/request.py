"""
A replicated request, as the applier sees it and as the log holds it.

The client's bytes are wrapped, never encoded again: an entry is an ``InternalRaftRequest`` with
its header and the one field that holds the request as it came.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from twistedetcd.pb.raft_internal_pb2 import EmptyResponse, InternalRaftRequest
from twistedetcd.wire import varint

_FIELDS = {field.name: field.number for field in InternalRaftRequest.DESCRIPTOR.fields}
_NOT_REQUESTS = {"header", "ID"}
_DELIMITED = 2
_HEADER_TAG = varint(_FIELDS["header"] << 3 | _DELIMITED)

PUT = "put"
DELETE_RANGE = "delete_range"
TXN = "txn"
COMPACTION = "compaction"
ALARM = "alarm"
LEASE_GRANT = "lease_grant"
LEASE_REVOKE = "lease_revoke"
LEASE_CHECKPOINT = "lease_checkpoint"
CLUSTER_VERSION_SET = "cluster_version_set"
CLUSTER_MEMBER_ATTR_SET = "cluster_member_attr_set"

CARRIED_OUT = frozenset(
    {
        PUT,
        DELETE_RANGE,
        TXN,
        COMPACTION,
        ALARM,
        LEASE_GRANT,
        LEASE_REVOKE,
        LEASE_CHECKPOINT,
        CLUSTER_VERSION_SET,
        CLUSTER_MEMBER_ATTR_SET,
    }
)
"""The kinds that this version can apply."""

TAGS = {
    name: varint(number << 3 | _DELIMITED) for name, number in _FIELDS.items() if name not in _NOT_REQUESTS
}
"""What stands before each kind of request inside an entry."""


class Request(NamedTuple):
    """
    A committed request.

    Attributes:
        kind: The name of its field in ``InternalRaftRequest``.
        message: The request itself.
        username: Who asked; empty for nobody in particular.
        auth_revision: The auth store's revision when it was asked.
    """

    kind: str
    message: Any
    username: str = ""
    auth_revision: int = 0


class Encoder:
    """
    Wraps requests for the log.

    Args:
        next_id: The id of the first request; each one takes the next.  Ids tell the requests of all members
            apart, across restarts as well.
    """

    def __init__(self, next_id: int) -> None:
        self.next_id = next_id
        self._high = -1
        self._high_bytes = b""

    def take_id(self) -> int:
        """A positive signed 64-bit number for something else than a request; no other member takes it."""
        self.next_id += 1
        return self.next_id - 1 & _INT64_MAX or self.take_id()

    def encode(self, kind: str, raw: bytes) -> bytes:
        """The entry's data for one request, given as the client's own bytes."""
        number = self.next_id
        self.next_id = number + 1
        if number >> 14 != self._high:
            self._high = number >> 14
            self._high_bytes = varint(self._high)
        # varint(number), the upper part of which hardly ever changes.
        low = number & 0x3FFF
        header = _LOW_PARTS[low] + self._high_bytes
        return b"".join(
            (_HEADER_TAG, _LENGTHS[len(header) + 1], b"\x08", header, TAGS[kind], varint(len(raw)), raw)
        )


_INT64_MAX = 2**63 - 1
_LOW_PARTS = tuple(bytes((low & 0x7F | 0x80, low >> 7 | 0x80)) for low in range(1 << 14))
_LENGTHS = tuple(bytes((length,)) for length in range(16))


def request_id(data: bytes) -> int:
    """The id in what `Encoder.encode` made; 0 if somebody else made it and put something before."""
    position = len(_HEADER_TAG) + 1
    if not data.startswith(_HEADER_TAG) or data[position : position + 1] != b"\x08":
        return 0
    number = shift = 0
    for byte in data[position + 1 : position + 11]:
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
        shift += 7
    return 0


def decode(data: bytes) -> Request:
    """
    Read an entry's data.

    Raises:
        google.protobuf.message.DecodeError: It is no ``InternalRaftRequest``.
        ValueError: It holds no request that this version knows.
    """
    try:
        internal = InternalRaftRequest.FromString(data)
    except DecodeError:
        return _decode_by_itself(data)
    for field, message in internal.ListFields():
        if field.name not in _NOT_REQUESTS:
            return Request(field.name, message, internal.header.username, internal.header.auth_revision)
    raise ValueError("log entry without a request")


def _decode_by_itself(data: bytes) -> Request:
    """
    Read a request by itself, as it was read when it came.

    Protobuf refuses what is nested too deep, and one that just passed is too deep inside of an entry.
    """
    internal = InternalRaftRequest()
    request = None
    fields: Any = UnknownFieldSet(EmptyResponse.FromString(data))
    for field in fields:
        member = InternalRaftRequest.DESCRIPTOR.fields_by_number.get(field.field_number)
        if member is None or member.message_type is None or field.wire_type != _DELIMITED:
            continue
        if member.name == "header":
            internal.header.MergeFromString(field.data)
        else:
            message_type: Any = member.message_type
            request = member.name, GetMessageClass(message_type).FromString(field.data)
    if request is None:
        raise ValueError("log entry without a request")
    return Request(*request, internal.header.username, internal.header.auth_revision)
