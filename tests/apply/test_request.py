"""Requests as the log holds them."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Encoder, Request, decode
from twistedetcd.pb.raft_internal_pb2 import InternalRaftRequest, RequestHeader
from twistedetcd.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=100)
MEMBER_BITS = 0x8E9E << 48
ids = st.one_of(
    st.integers(1 << 14, 2**64 - 40_000),
    st.sampled_from([MEMBER_BITS + offset for offset in (0, 127, 128, 16383, 16384, 2 << 20)]),
)


def internal(number: int, **field: Any) -> InternalRaftRequest:
    return InternalRaftRequest(header=RequestHeader(ID=number), **field)


class EncoderTests(SynchronousTestCase):
    """The client's bytes, wrapped."""

    @SETTINGS
    @given(number=ids, key=st.binary(max_size=300), size=st.sampled_from([0, 1, 100, 127, 128, 20_000]))
    def test_bytes(self, number: int, key: bytes, size: int) -> None:
        """An entry has the bytes of an InternalRaftRequest's fields, the header's before the request's."""
        encoder = Encoder(number)
        put = PutRequest(key=key, value=b"v" * size)
        header = internal(number).SerializeToString()
        expected = header + InternalRaftRequest(put=put).SerializeToString()
        data = encoder.encode(kinds.PUT, put.SerializeToString())
        self.assertEqual(expected, data)
        self.assertEqual(internal(number, put=put), InternalRaftRequest.FromString(data))
        delete = DeleteRangeRequest(key=key)
        expected = internal(number + 1).SerializeToString()
        expected += InternalRaftRequest(delete_range=delete).SerializeToString()
        self.assertEqual(expected, encoder.encode(kinds.DELETE_RANGE, delete.SerializeToString()))

    def test_ids(self) -> None:
        """Each request takes the next id, over every carry; small ones are read as well."""
        for first in (1, MEMBER_BITS - 20_000 + 12_000, 2**32 - 3):
            encoder = Encoder(first)
            for number in range(first, first + 9000, 7):
                encoder.next_id = number
                data = encoder.encode(kinds.TXN, b"")
                self.assertEqual(number, InternalRaftRequest.FromString(data).header.ID)
                self.assertEqual(number + 1, encoder.next_id)

    def test_other_ids(self) -> None:
        """An id for something else is positive, and no request has it, nor anything else."""
        encoder = Encoder(MEMBER_BITS - 1)
        taken = [encoder.take_id() for _ in range(3)]
        self.assertTrue(all(0 < each < 2**63 for each in taken), taken)
        data = encoder.encode(kinds.TXN, b"")
        self.assertEqual(MEMBER_BITS + 2, InternalRaftRequest.FromString(data).header.ID)
        self.assertEqual([1, 2], [Encoder(first).take_id() for first in (2**63, 2)])

    def test_every_kind(self) -> None:
        """A request of each kind is found again in its own field, empty ones too."""
        for field in InternalRaftRequest.DESCRIPTOR.fields:
            if field.name not in ("header", "ID"):
                data = Encoder(MEMBER_BITS).encode(field.name, b"")
                self.assertTrue(InternalRaftRequest.FromString(data).HasField(field.name), field.name)
                self.assertEqual(field.name, decode(data).kind)


class DecodeTests(SynchronousTestCase):
    """What comes back from the log."""

    def test_request(self) -> None:
        """The request, and who asked."""
        put = PutRequest(key=b"k", value=b"v")
        header = RequestHeader(ID=5, username="alice", auth_revision=7)
        data = InternalRaftRequest(header=header, put=put).SerializeToString()
        self.assertEqual(Request(kinds.PUT, put, "alice", 7), decode(data))
        data = Encoder(MEMBER_BITS).encode(kinds.PUT, put.SerializeToString())
        self.assertEqual(Request(kinds.PUT, put), decode(data))

    def test_as_deep_as_it_came(self) -> None:
        """A transaction nested as deep as a client's may be is read from an entry too, where it is deeper."""
        raw = b""
        deepest = None
        for depth in range(1, 60):
            raw = TxnRequest(success=[RequestOp.FromString(b"")]).SerializeToString()
            for _ in range(depth):
                operation = b"\x22" + _length(raw) + raw
                raw = b"\x12" + _length(operation) + operation
            try:
                deepest = TxnRequest.FromString(raw), raw
            except DecodeError:
                break
        assert deepest is not None
        message, raw = deepest
        self.assertEqual(Request(kinds.TXN, message), decode(Encoder(MEMBER_BITS).encode(kinds.TXN, raw)))

    def test_no_request(self) -> None:
        """An entry without a request that we know is an error of its own."""
        for data in (b"", internal(5).SerializeToString(), InternalRaftRequest(ID=3).SerializeToString()):
            self.assertRaises(ValueError, decode, data)
        unknown = internal(5).SerializeToString() + b"\xfa\x7f\x01x"
        self.assertRaises(ValueError, decode, unknown)

    def test_cut_short(self) -> None:
        """Part of an entry never reads as a request."""
        data = Encoder(MEMBER_BITS).encode(
            kinds.PUT, PutRequest(key=b"key", value=b"value").SerializeToString()
        )
        for length in range(len(data)):
            self.assertRaises((DecodeError, ValueError), decode, data[:length])

    @SETTINGS
    @given(data=st.binary(max_size=60))
    def test_garbage(self, data: bytes) -> None:
        """Whatever the bytes are: a request, or one of the two errors."""
        try:
            request = decode(data)
        except (DecodeError, ValueError):
            return
        self.assertIn(request.kind, kinds.TAGS)


def _length(data: bytes) -> bytes:
    length = len(data)
    return bytes((length,)) if length < 128 else bytes((length & 0x7F | 0x80, length >> 7))


class IdTests(SynchronousTestCase):
    """The id in an entry's data."""

    @SETTINGS
    @given(number=ids)
    def test_found(self, number: int) -> None:
        """It is the one that the encoder gave."""
        data = Encoder(number).encode(kinds.PUT, PutRequest(key=b"k").SerializeToString())
        self.assertEqual(number, kinds.request_id(data))

    def test_others(self) -> None:
        """What somebody else made of a request has none that we know."""
        header_last = internal(5, put=PutRequest(key=b"k")).SerializeToString()
        put = PutRequest(key=b"k").SerializeToString()
        ours = Encoder(5).encode(kinds.PUT, put)
        self.assertEqual(5, kinds.request_id(ours))
        for data in (b"", header_last, put, ours[:3], ours[:4], b"\xa2\x06\x01\x08\xff"):
            self.assertEqual(0, kinds.request_id(data))
