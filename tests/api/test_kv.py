"""Key-value calls, from the request's bytes to the response's."""

from __future__ import annotations

from typing import Any

from tests.api.calls import APICase, FakeCall
from tests.api.test_methods import DELETE, PUT, RANGE
from twistedetcd.apply import ranges
from twistedetcd.errors import Code, StoppedError
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseHeader,
    TxnRequest,
    TxnResponse,
)

TXN = "/etcdserverpb.KV/Txn"
COMPACT = "/etcdserverpb.KV/Compact"


class KVTests(APICase):
    """Each method, in a turn of its own."""

    def header(self, revision: int) -> ResponseHeader:
        """What a response says of the cluster."""
        return ResponseHeader(cluster_id=8, member_id=7, revision=revision, raft_term=self.running.raft.term)

    def test_put(self) -> None:
        """Each put is a revision; the record before it comes back if asked for."""
        response = self.call(PUT, PutRequest(key=b"k", value=b"1"), PutResponse)
        self.assertEqual(PutResponse(header=self.header(2)), response)
        response = self.call(PUT, PutRequest(key=b"k", value=b"2", prev_kv=True), PutResponse)
        self.assertEqual((3, b"1"), (response.header.revision, response.prev_kv.value))

    def test_put_refused(self) -> None:
        """Faults that show at once are not proposed; others are found when it is applied."""
        index = self.member.applied_index
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: key is not provided"), self.refused(PUT, PutRequest())
        )
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: value is provided"),
            self.refused(PUT, PutRequest(key=b"k", value=b"v", ignore_value=True)),
        )
        self.assertEqual(index, self.member.applied_index)
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: key not found"),
            self.refused(PUT, PutRequest(key=b"k", ignore_value=True)),
        )
        self.assertEqual(
            (Code.NOT_FOUND, "etcdserver: requested lease not found"),
            self.refused(PUT, PutRequest(key=b"k", lease=5)),
        )
        self.assertEqual(1, self.running.store.revision)

    def test_get(self) -> None:
        """The short way of a plain get gives what the long way gives, for keys of any length."""
        for key in (b"k", b"x" * 127, b"x" * 128, b"x" * 300):
            self.put(key, b"value")
            plain = self.call(RANGE, RangeRequest(key=key), RangeResponse)
            long = self.call(RANGE, RangeRequest(key=key, limit=1), RangeResponse)
            self.assertEqual(long, plain)
            self.assertEqual((1, b"value"), (plain.count, plain.kvs[0].value))
        absent = self.call(RANGE, RangeRequest(key=b"none"), RangeResponse)
        self.assertEqual(RangeResponse(header=self.header(5)), absent)

    def test_get_waits_for_the_turn(self) -> None:
        """A linearizable get is answered at the end of the turn, a serializable one at once."""
        linearizable = self.begin(RANGE, RangeRequest(key=b"k"))
        serializable = self.begin(RANGE, RangeRequest(key=b"k", serializable=True))
        self.assertEqual([False, True], [linearizable.replied is not None, serializable.replied is not None])
        self.running.end_turn()
        self.assertIsNotNone(linearizable.replied)

    def test_range_refused(self) -> None:
        """Also when that shows only once it is carried out."""
        future = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
        self.assertEqual(future, self.refused(RANGE, RangeRequest(key=b"k", revision=9)))
        self.assertEqual(future, self.refused(RANGE, RangeRequest(key=b"k", revision=9, serializable=True)))
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: invalid sort option"),
            self.refused(RANGE, RangeRequest(key=b"k", sort_order=9)),  # type: ignore[arg-type]
        )

    def test_delete_range(self) -> None:
        """How many there were, and which, if asked for; nothing deleted is no revision."""
        for key in (b"a", b"b", b"c"):
            self.put(key)
        request = DeleteRangeRequest(key=b"a", range_end=b"c", prev_kv=True)
        response = self.call(DELETE, request, DeleteRangeResponse)
        self.assertEqual((5, 2), (response.header.revision, response.deleted))
        self.assertEqual([b"a", b"b"], [record.key for record in response.prev_kvs])
        response = self.call(DELETE, request, DeleteRangeResponse)
        self.assertEqual((5, 0), (response.header.revision, response.deleted))

    def test_txn(self) -> None:
        """All of a branch, at one revision; reads only are not proposed."""
        compare = Compare(key=b"a", target=Compare.VERSION, result=Compare.EQUAL, version=0)
        write = TxnRequest(
            compare=[compare],
            success=[
                RequestOp(request_put=PutRequest(key=b"a", value=b"1")),
                RequestOp(request_range=RangeRequest(key=b"a")),
            ],
            failure=[RequestOp(request_range=RangeRequest(key=b"a"))],
        )
        response = self.call(TXN, write, TxnResponse)
        self.assertEqual((True, 2), (response.succeeded, response.header.revision))
        self.assertEqual(b"1", response.responses[1].response_range.kvs[0].value)
        self.assertFalse(self.call(TXN, write, TxnResponse).succeeded)
        index = self.member.applied_index
        for serializable in (False, True):
            read = TxnRequest(
                success=[RequestOp(request_range=RangeRequest(key=b"a", serializable=serializable))]
            )
            response = self.call(TXN, read, TxnResponse)
            self.assertEqual(b"1", response.responses[0].response_range.kvs[0].value)
        self.assertEqual(index, self.member.applied_index)

    def test_txn_refused(self) -> None:
        """Too many operations for the flag, a fault inside, or a read that cannot be."""
        operation = RequestOp(request_range=RangeRequest(key=b"a"))
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
            self.refused(TXN, TxnRequest(success=[operation] * 4)),
        )
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
            self.refused(TXN, TxnRequest(success=[RequestOp(request_put=PutRequest())])),
        )
        future = RequestOp(request_range=RangeRequest(key=b"a", revision=99))
        self.assertEqual(Code.OUT_OF_RANGE, self.refused(TXN, TxnRequest(success=[future]))[0])

    def test_too_large(self) -> None:
        """Above ``--max-request-bytes`` a write is refused as such, not as a broken call."""
        self.assertEqual(
            (Code.INVALID_ARGUMENT, "etcdserver: request is too large"),
            self.refused(PUT, PutRequest(key=b"k", value=bytes(1024 * 1024))),
        )

    def test_stopping(self) -> None:
        """A member that stops refuses writes and linearizable reads."""
        self.successResultOf(self.member.stop())
        stopped = (StoppedError.code, StoppedError.message)
        self.assertEqual(stopped, self.refused(PUT, PutRequest(key=b"k")))
        self.assertEqual(stopped, self.refused(RANGE, RangeRequest(key=b"k")))


class CompactTests(APICase):
    """Compaction, and the wish to wait for it."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(6):
            self.put(b"k", b"%d" % number)

    def test_compact(self) -> None:
        """It is answered once it is accepted; older revisions cannot be read from then on."""
        response = self.call(COMPACT, CompactionRequest(revision=5), CompactionResponse)
        self.assertEqual(7, response.header.revision)
        self.assertIsNotNone(self.running.store.unfinished_compaction)
        compacted = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
        self.assertEqual(compacted, self.refused(RANGE, RangeRequest(key=b"k", revision=4)))
        self.assertEqual(compacted, self.refused(COMPACT, CompactionRequest(revision=5)))

    def test_physical(self) -> None:
        """It is answered once the records are gone from the engine, and not before."""
        self.running.pump(0.2)
        self.running.writer.holding = True
        call = self.begin(COMPACT, CompactionRequest(revision=7, physical=True))
        self.running.pump(0.5)
        while self.running.writer.held:
            self.assertIsNone(call.replied)
            self.running.writer.release()
        self.assertIsNotNone(call.replied)
        self.assertEqual(1, len(self.running.backend.buckets[b"key"]))

    def test_physical_refused(self) -> None:
        """A refusal does not wait."""
        code, _ = self.refused(COMPACT, CompactionRequest(revision=70, physical=True))
        self.assertEqual(Code.OUT_OF_RANGE, code)

    def test_physical_when_stopping(self) -> None:
        """Who waits for it is told that the member stops, or that the engine failed."""
        stopped = (StoppedError.code, StoppedError.message)
        call = self.begin(COMPACT, CompactionRequest(revision=5, physical=True))
        self.running.end_turn()
        self.successResultOf(self.member.stop())
        self.assertEqual(stopped, call.status)
        self.setUp()
        self.running.writer.holding = True
        call = self.begin(COMPACT, CompactionRequest(revision=5, physical=True))
        self.running.pump(0.5)
        self.running.backend.error = OSError(28, "No space left on device")
        self.running.writer.release()
        self.assertEqual(stopped, call.status)


class SlowReadTests(APICase):
    """Reads of more keys than a turn can read."""

    KEYS = 2 * SLICE_KEYS + 500

    def setUp(self) -> None:
        super().setUp()
        for number in range(self.KEYS):
            self.running.put(b"k%05d" % number)
        self.running.end_turn()

    def turns(self, path: str, request: Any) -> tuple[FakeCall, int]:
        """Make a call, with a put in every turn until it is answered; returns how many turns it took."""
        call = self.begin(path, request)
        turns = 0
        while call.replied is None:
            self.running.one_turn()
            self.running.put(b"k00000", b"later")
            turns += 1
        return call, turns

    def test_range(self) -> None:
        """A slice in each turn, all of one revision, which the header names."""
        before = self.running.store.revision
        for request in (
            RangeRequest(key=b"k", range_end=b"l"),
            RangeRequest(key=b"k", range_end=b"l", serializable=True),
            RangeRequest(key=b"k", range_end=b"l", keys_only=True, revision=before),
            RangeRequest(
                key=b"k", range_end=b"l", sort_target="VERSION", sort_order="DESCEND", revision=before
            ),
        ):
            call, turns = self.turns(RANGE, request)
            self.assertLess(self.KEYS // SLICE_KEYS, turns)
            assert call.replied is not None
            response = RangeResponse.FromString(call.replied)
            self.assertEqual((self.KEYS, self.KEYS), (len(response.kvs), response.count))
            newest = max(kv.mod_revision for kv in response.kvs)
            self.assertEqual(request.revision or response.header.revision, newest)

    def test_what_answers_little(self) -> None:
        """It is the keys looked at that make a slice, not those found."""
        many = RangeRequest(key=b"k", range_end=b"l")
        before = self.running.store.revision
        self.running.propose("delete_range", DeleteRangeRequest(key=b"k", range_end=b"l"))
        for _ in range(8):
            self.running.one_turn()
        for fields in (
            {"count_only": True, "revision": before},
            {"limit": 1, "revision": before},
            {"revision": 1},
            {"count_only": True, "revision": 2},
        ):
            request = RangeRequest(**fields)
            request.MergeFrom(many)
            _, turns = self.turns(RANGE, request)
            self.assertLess(self.KEYS // SLICE_KEYS, turns, fields)

    def test_order(self) -> None:
        """Sorting takes its turns as well, and ties keep the order of the keys."""
        self.patch(ranges, "SORT_RUN_KEYS", 300)
        for number in range(0, self.KEYS, 7):
            self.running.put(b"k%05d" % number, b"%d" % (number % 5))
        self.running.end_turn()
        revision = self.running.store.revision
        plain, _ = self.turns(RANGE, RangeRequest(key=b"k", range_end=b"l", revision=revision))
        assert plain.replied is not None
        kvs = RangeResponse.FromString(plain.replied).kvs
        for order, limit in (("ASCEND", 0), ("DESCEND", 0), ("ASCEND", 1234), ("DESCEND", 5)):
            request = RangeRequest(
                key=b"k",
                range_end=b"l",
                revision=revision,
                sort_target="VALUE",
                sort_order=order,
                limit=limit,
            )
            call, turns = self.turns(RANGE, request)
            assert call.replied is not None
            response = RangeResponse.FromString(call.replied)
            expected = sorted(kvs, key=lambda kv: kv.value, reverse=order == "DESCEND")
            self.assertEqual(expected[: limit or None], list(response.kvs))
            self.assertEqual((bool(limit), self.KEYS), (response.more, response.count))
            self.assertLessEqual(2 * self.KEYS // SLICE_KEYS, turns)

    def test_txn(self) -> None:
        """A transaction that only reads does so at one revision, compares included."""
        before = self.running.store.revision
        compare = Compare(target="MOD", result="LESS", key=b"k", range_end=b"l", mod_revision=before + 1)
        everything = RangeRequest(key=b"k", range_end=b"l")
        request = TxnRequest(compare=[compare], success=[RequestOp(request_range=everything)] * 2)
        call, turns = self.turns(TXN, request)
        self.assertLess(3 * self.KEYS // SLICE_KEYS, turns)
        assert call.replied is not None
        response = TxnResponse.FromString(call.replied)
        self.assertTrue(response.succeeded)
        one, other = response.responses
        self.assertEqual(one, other)
        self.assertEqual((before, self.KEYS), (response.header.revision, one.response_range.count))

    def test_stopped(self) -> None:
        """Whoever waits for one hears that the member stops."""
        call = self.begin(RANGE, RangeRequest(key=b"k", range_end=b"l"))
        self.running.one_turn()
        self.successResultOf(self.member.stop())
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), call.status)
