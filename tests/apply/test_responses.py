"""Responses put together by hand: byte for byte what protobuf writes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.apply import responses
from twistedetcd.apply.responses import Header
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import (
    DeleteRangeResponse,
    PutResponse,
    RangeResponse,
    ResponseHeader,
    ResponseOp,
    TxnResponse,
)

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=60)
EDGES = [1, 127, 128, 16383, 16384, 2**28 - 1, 2**28, 2**63 - 1]
revisions = st.one_of(st.sampled_from(EDGES), st.integers(1, 2**63 - 1))
ids = st.one_of(st.sampled_from([*EDGES, 2**64 - 1]), st.integers(1, 2**64 - 1))
items = st.builds(
    KeyValue,
    key=st.binary(min_size=1, max_size=20),
    create_revision=revisions,
    mod_revision=revisions,
    version=revisions,
    value=st.one_of(st.binary(max_size=20), st.sampled_from([bytes(127), bytes(4080), bytes(20_000)])),
    lease=st.integers(-(2**63), 2**63 - 1),
)
headers = st.builds(ResponseHeader, cluster_id=ids, member_id=ids, revision=revisions, raft_term=revisions)


def encoded(header: ResponseHeader) -> bytes:
    return Header(header.cluster_id, header.member_id).field(header.revision, header.raft_term)


def records(kvs: list[KeyValue]) -> list[bytes]:
    return [item.SerializeToString() for item in kvs]


class ResponseTests(SynchronousTestCase):
    """Each kind of response, its header and its records."""

    @SETTINGS
    @given(header=headers, following=st.lists(st.tuples(revisions, revisions), max_size=5))
    def test_header(self, header: ResponseHeader, following: list[tuple[int, int]]) -> None:
        """Ids up to 64 bits, any revision and term, one after the other from one `Header`."""
        made = Header(header.cluster_id, header.member_id)
        for revision, term in [(header.revision, header.raft_term), *following]:
            header.revision, header.raft_term = revision, term
            self.assertEqual(PutResponse(header=header).SerializeToString(), made.field(revision, term))

    @SETTINGS
    @given(header=headers, kvs=st.lists(items, max_size=4), more=st.booleans(), count=st.integers(0, 2**40))
    def test_range(self, header: ResponseHeader, kvs: list[KeyValue], more: bool, count: int) -> None:
        """RangeResponse."""
        expected = RangeResponse(header=header, kvs=kvs, more=more, count=count)
        for cut in range(len(kvs) + 1):
            pieces = [responses.range_kvs(records(kvs)[:cut]), responses.range_kvs(records(kvs)[cut:])]
            made = responses.range_response(encoded(header), pieces, more, count)
            self.assertEqual(expected.SerializeToString(), made)

    @SETTINGS
    @given(header=headers, item=st.one_of(st.none(), items))
    def test_get(self, header: ResponseHeader, item: KeyValue | None) -> None:
        """RangeResponse for one key, there or not."""
        expected = RangeResponse(header=header, kvs=[item] if item else [], count=int(item is not None))
        made = responses.get_response(encoded(header), item and item.SerializeToString())
        self.assertEqual(expected.SerializeToString(), made)

    @SETTINGS
    @given(header=headers, previous=st.one_of(st.none(), items))
    def test_put(self, header: ResponseHeader, previous: KeyValue | None) -> None:
        """PutResponse."""
        expected = PutResponse(header=header, prev_kv=previous)
        made = responses.put_response(encoded(header), previous and previous.SerializeToString())
        self.assertEqual(expected.SerializeToString(), made)

    @SETTINGS
    @given(header=headers, deleted=st.integers(0, 2**40), kvs=st.lists(items, max_size=4))
    def test_delete_range(self, header: ResponseHeader, deleted: int, kvs: list[KeyValue]) -> None:
        """DeleteRangeResponse."""
        expected = DeleteRangeResponse(header=header, deleted=deleted, prev_kvs=kvs)
        made = responses.delete_range_response(encoded(header), deleted, records(kvs))
        self.assertEqual(expected.SerializeToString(), made)

    @SETTINGS
    @given(header=headers, succeeded=st.booleans(), revision=revisions, kvs=st.lists(items, max_size=3))
    def test_txn(self, header: ResponseHeader, succeeded: bool, revision: int, kvs: list[KeyValue]) -> None:
        """TxnResponse with an operation of each kind, the nested one's header present and empty."""
        inner = ResponseHeader(revision=revision)
        messages: list[Any] = [
            ResponseOp(response_range=RangeResponse(header=inner, kvs=kvs, count=len(kvs))),
            ResponseOp(response_put=PutResponse(header=inner, prev_kv=kvs[0] if kvs else None)),
            ResponseOp(response_delete_range=DeleteRangeResponse(header=inner, prev_kvs=kvs)),
        ]
        nested = TxnResponse(header=ResponseHeader(), succeeded=not succeeded, responses=messages)
        expected = TxnResponse(header=header, succeeded=succeeded)
        expected.responses.extend([*messages, ResponseOp(response_txn=nested)])

        field, stored = responses.inner_header(revision), records(kvs)
        found = responses.range_response(field, [responses.range_kvs(stored)], False, len(kvs))
        put = responses.put_response(field, stored[0] if stored else None)
        deleted = responses.delete_range_response(field, 0, stored)
        made = [
            responses.delimited(responses.RESPONSE_RANGE, found),
            responses.delimited(responses.RESPONSE_PUT, put),
            responses.delimited(responses.RESPONSE_DELETE_RANGE, deleted),
        ]
        inside = responses.txn_response(responses.EMPTY_HEADER, not succeeded, made)
        made.append(responses.delimited(responses.RESPONSE_TXN, inside))
        whole = responses.txn_response(encoded(header), succeeded, made)
        self.assertEqual(expected.SerializeToString(), whole)
