"""Every gRPC method: served, or refused in plain words; what holds for all of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.api.calls import APICase, FakeCall, FakeStream
from tests.protocols.client import START, frames, request
from twistedetcd.api.calls import answer, unsupported
from twistedetcd.errors import Code, CompactedError
from twistedetcd.pb import rpc_pb2
from twistedetcd.pb.services import METHODS
from twistedetcd.protocols.framing import DATA, END_HEADERS, HEADERS, frame
from twistedetcd.protocols.hpack import encode
from twistedetcd.protocols.port import ClientPortFactory
from twistedetcd.protocols.turn import Turn

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
DELETE = "/etcdserverpb.KV/DeleteRange"
SERVED = {
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    *(path for path, known in METHODS.items() if known.service in ("v3lockpb.Lock", "v3electionpb.Election")),
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Snapshot",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
}
EMPTY_KEY = (Code.INVALID_ARGUMENT, "etcdserver: key is not provided")


class TableTests(APICase):
    """The table is complete."""

    def test_every_path(self) -> None:
        """Each method that etcd has is there; those that are not served say so, with their path."""
        self.assertEqual({path.encode() for path in METHODS}, set(self.methods))
        for path in METHODS:
            method = self.methods[path.encode()]
            if path in SERVED and method.unary is not None:
                self.assertFalse(METHODS[path].server_streaming, path)
                continue
            call: Any = FakeStream()
            assert method.stream is not None, path
            method.stream(call)
            if path in SERVED:
                self.assertIsNone(call.status, path)
                continue
            text = f"{path} is not supported by this version of twistedetcd"
            self.assertEqual((Code.UNIMPLEMENTED, text), call.status)


class UnsupportedTests(SynchronousTestCase):
    """A refusal over the wire."""

    def test_stream_that_stays_open(self) -> None:
        """A client that never ends its side, as of a watch, is refused all the same."""
        clock = Clock()
        turn = Turn(clock)
        path = b"/etcdserverpb.Watch/Watch"
        factory = ClientPortFactory(clock, turn, {path: unsupported(path.decode())}, None)  # type: ignore[arg-type]
        protocol, transport = factory.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(START + frame(HEADERS, END_HEADERS, 1, encode(request(path))))
        protocol.dataReceived(frame(DATA, 0, 1, bytes(5)))
        clock.advance(0)
        [trailers] = [found for found in frames(transport.value()) if found.kind == HEADERS]
        self.assertIn(b"12", trailers.payload)
        self.assertIn(b"/etcdserverpb.Watch/Watch is not supported", trailers.payload)


class MetadataTests(APICase):
    """What a call's headers ask for."""

    def test_has_leader(self) -> None:
        """``hasleader: true`` is refused without a leader; any other value asks for nothing."""
        ask = rpc_pb2.PutRequest(key=b"k"), (b"hasleader", b"true")
        self.call(PUT, *ask[:1], rpc_pb2.PutResponse, *ask[1:])
        self.running.raft._raft.lead = 0
        no_leader = (Code.UNAVAILABLE, "etcdserver: no leader")
        for path, message in (
            (PUT, rpc_pb2.PutRequest(key=b"k")),
            (RANGE, rpc_pb2.RangeRequest(key=b"k", serializable=True)),
            (DELETE, rpc_pb2.DeleteRangeRequest(key=b"k")),
            ("/etcdserverpb.Maintenance/Status", rpc_pb2.StatusRequest()),
        ):
            self.assertEqual(no_leader, self.refused(path, message, (b"hasleader", b"true")), path)
        serializable = rpc_pb2.RangeRequest(key=b"k", serializable=True)
        self.call(RANGE, serializable, rpc_pb2.RangeResponse, (b"hasleader", b"yes"))

    def test_client_version(self) -> None:
        """A client version that is no text is refused, before the leader is looked for."""
        self.running.raft._raft.lead = 0
        bad = (b"client-api-version", b"\xff"), (b"hasleader", b"true")
        expected = (Code.INVALID_ARGUMENT, "etcdserver: invalid client api version")
        self.assertEqual(expected, self.refused(PUT, rpc_pb2.PutRequest(key=b"k"), *bad))

    def test_leader_before_the_request(self) -> None:
        """A request with two faults is refused for its metadata first."""
        self.running.raft._raft.lead = 0
        asked = (b"hasleader", b"true")
        for path in (PUT, RANGE, DELETE):
            self.assertEqual(Code.UNAVAILABLE, self.refused(path, b"", asked)[0], path)
            self.assertEqual(EMPTY_KEY, self.refused(path, b""), path)

    def test_not_protobuf(self) -> None:
        """What does not parse is INTERNAL, in grpc-go's words."""
        for path in SERVED:
            if self.methods[path.encode()].unary is None:
                continue
            code, text = self.refused(path, b"\x0a\xff")
            self.assertEqual(Code.INTERNAL, code, path)
            self.assertRegex(text, "^grpc: error unmarshalling request: .", path)


class AnswerTests(SynchronousTestCase):
    """Answers that take their time."""

    def test_result(self) -> None:
        """A result is the reply, and an error of ours its own status."""
        for result, replied, status in (
            (b"yes", b"yes", None),
            (CompactedError(), None, (Code.OUT_OF_RANGE, CompactedError.message)),
        ):
            call: Any = FakeCall()
            waiting: Deferred[Any] = Deferred()
            answer(call, waiting)
            if isinstance(result, bytes):
                waiting.callback(result)
            else:
                waiting.errback(result)
            self.assertEqual((replied, status), (call.replied, call.status))

    def test_bug(self) -> None:
        """Any other failure is logged, and tells the client nothing about us."""
        call: Any = FakeCall()
        waiting: Deferred[Any] = Deferred()
        answer(call, waiting)
        waiting.errback(ZeroDivisionError("secret"))
        self.assertEqual((Code.INTERNAL, "internal error"), call.status)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
