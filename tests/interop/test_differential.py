"""The same random requests to a real etcd and to us, every answer compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from signal import SIGKILL, SIGTERM

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.answers import RULES, Answer, explained, normalised
from tests.interop.requests import KV, Case, Requests, case
from tests.interop.servers import CALL_SECONDS_MAX, Server, our_server, reference_server
from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

# Any others may be tried with INTEROP_SEEDS=5,6,7.
SEEDS = [int(seed) for seed in os.environ.get("INTEROP_SEEDS", "1,2,3,4").split(",")]
REQUESTS_PER_SEED = 1500
RESTARTS = {500: SIGTERM, 1000: SIGKILL}  # before which request we are restarted, and how that is told
INVALID_SORT_OPTION = Answer(Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")
KEY_NOT_FOUND = Answer(Code.INVALID_ARGUMENT, "etcdserver: key not found")


def ask(server: Server, sent: Case) -> Callable[[], Answer]:
    """Send a request's bytes; what comes back waits for the answer."""
    pending = server.channel.unary_unary(sent.path).future(sent.raw, timeout=CALL_SECONDS_MAX)

    def answer() -> Answer:
        try:
            return normalised(sent.path, pending.result())
        except grpc.RpcError as error:
            refused: grpc.Call = error
            return Answer(refused.code().value[0], refused.details() or "")

    return answer


class DifferentialTests(SynchronousTestCase):
    """To a client, a member of ours is an etcd."""

    def test_random_requests(self) -> None:
        """
        Every answer is the one of a real etcd, to the letter, but for the rules that say why not.

        We are restarted on the way, so what is read from the disk answers as what was in memory.
        """
        used: set[str] = set()
        for seed in SEEDS:
            self.compare(seed, used)
        if "INTEROP_SEEDS" not in os.environ:
            self.assertEqual(set(RULES), used, "a rule that nothing needs is wrong, or hides something")

    def compare(self, seed: int, used: set[str]) -> None:
        """Send one seed's requests to two new members."""
        theirs = reference_server(self.mktemp())
        self.addCleanup(theirs.clean_up)
        ours = our_server(self.mktemp())
        self.addCleanup(ours.clean_up)
        theirs.start("--unsafe-no-fsync")
        ours.start("--unsafe-no-fsync")
        requests = Requests(seed)
        for number in range(REQUESTS_PER_SEED):
            if number in RESTARTS:
                ours.stop(RESTARTS[number])
                ours.start("--unsafe-no-fsync")
            sent = requests.next()
            where = (
                f"seed {seed}, request {number}, revision {requests.revision}/{requests.compacted}: {sent}\n"
            )
            if sent.only_ours:
                self.assertEqual(INVALID_SORT_OPTION, ask(ours, sent)(), where)
                continue
            our_pending, their_pending = ask(ours, sent), ask(theirs, sent)
            our_answer, their_answer = our_pending(), their_pending()
            if not explained(sent, their_answer, our_answer, used):
                self.fail(f"{where}\netcd: {their_answer}\nours: {our_answer}")
            requests.revision = max(requests.revision, our_answer.revision)
            if isinstance(sent.request, CompactionRequest) and our_answer.code == Code.OK:
                requests.compacted = sent.request.revision
        theirs.clean_up()
        ours.clean_up()


class LethalTransactionTests(SynchronousTestCase):
    """What every member of an etcd cluster dies of, again and again, is refused (KF-67)."""

    def setUp(self) -> None:
        self.server = our_server(self.mktemp())
        self.addCleanup(self.server.clean_up)
        self.server.start()

    def current(self) -> int:
        """The current revision."""
        revision: int = self.server.call(f"{KV}Range", RangeRequest(key=b"m")).header.revision
        return revision

    def test_kf_67_delete_and_keep(self) -> None:
        """A put that keeps what its own transaction deletes finds no key; nothing happens, now or later."""
        self.server.call(f"{KV}Put", PutRequest(key=b"m", value=b"1"))
        before = self.server.call(f"{KV}Range", RangeRequest(key=b"m"))
        delete = RequestOp(request_delete_range=DeleteRangeRequest(key=b"a", range_end=b"\0"))
        for put in (
            PutRequest(key=b"m", ignore_value=True),
            PutRequest(key=b"m", value=b"2", ignore_lease=True),
        ):
            keep = RequestOp(request_put=put)
            for operations in (
                [delete, keep],
                [nested(delete), keep],
                [delete, nested(keep)],
                [nested(delete), nested(keep)],
                [nested(nested(delete, keep))],
                [RequestOp(request_put=PutRequest(key=b"b")), delete, keep],
            ):
                for branch in (TxnRequest(success=operations), failing(operations)):
                    self.assertEqual(KEY_NOT_FOUND, ask(self.server, case("Txn", branch))(), branch)
        self.assertEqual(before, self.server.call(f"{KV}Range", RangeRequest(key=b"m")))
        self.server.stop()
        self.server.start()
        after = self.server.call(f"{KV}Range", RangeRequest(key=b"m"))
        self.assertEqual((before.kvs, before.header.revision), (after.kvs, after.header.revision))

    def test_kf_67_keep_what_stays(self) -> None:
        """A put may keep the value of a key that its transaction leaves alone, or deletes afterwards."""
        keep = RequestOp(request_put=PutRequest(key=b"m", ignore_value=True))
        for operations, left in (
            ([RequestOp(request_delete_range=DeleteRangeRequest(key=b"n", range_end=b"\0")), keep], 1),
            ([RequestOp(request_delete_range=DeleteRangeRequest(key=b"m", range_end=b"a")), keep], 1),
            ([keep, RequestOp(request_delete_range=DeleteRangeRequest(key=b"a", range_end=b"\0"))], 0),
        ):
            self.server.call(f"{KV}Put", PutRequest(key=b"m", value=b"1"))
            self.server.call(f"{KV}Txn", TxnRequest(success=operations))
            kvs = self.server.call(f"{KV}Range", RangeRequest(key=b"m")).kvs
            self.assertEqual([b"1"] * left, [kv.value for kv in kvs])

    def test_nested_too_deep(self) -> None:
        """What is accepted can be replayed, however deep it is nested: in the log that is one level more."""
        group = (b"\x9b\x06", b"\x9c\x06")  # the unknown field 99, which begins and ends
        accepted = 0
        for depth in range(90, 110):
            put = PutRequest(key=b"k%d" % depth).SerializeToString() + group[0] * depth + group[1] * depth
            answer = ask(self.server, Case(f"{KV}Put", put))()
            self.assertIn(answer.code, (Code.OK, Code.INTERNAL), depth)
            accepted += answer.code == Code.OK
        request = TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"k"))])
        for depth in range(1, 48):
            request = TxnRequest(success=[nested(*request.success)])
            accepted += ask(self.server, case("Txn", request))().code == Code.OK
            self.assertEqual(accepted + 1, self.current(), depth)
        # One level more, and no client in Python reads the answer; it happens nevertheless.
        operation = request.success[0].SerializeToString()
        for _ in range(2):
            operation = field(4, field(2, operation))  # TxnRequest.success in RequestOp.request_txn
        with self.assertRaises(DecodeError):
            ask(self.server, Case(f"{KV}Txn", field(2, operation)))()
        before = self.current()
        self.assertEqual(accepted + 2, before)
        self.server.stop(SIGKILL)
        self.server.start()
        self.assertEqual(before, self.current())

    def test_random_transactions(self) -> None:
        """No transaction that deletes and keeps stops the member, nor keeps it from starting again."""
        requests = Requests(67)
        answers = set()
        for _ in range(500):
            sent = requests.txn_that_may_kill()
            answer = ask(self.server, sent)()
            self.assertIn(
                answer.code, (Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.OUT_OF_RANGE), sent
            )
            requests.revision = max(requests.revision, answer.revision)
            answers.add(answer.text)
        self.assertIn(KEY_NOT_FOUND.text, answers)
        before = self.current()
        self.server.stop(SIGKILL)
        self.server.start()
        self.assertEqual(before, self.current())


def field(number: int, data: bytes) -> bytes:
    """A field that holds a message."""
    length = len(data)
    return (
        bytes((number << 3 | 2,))
        + (bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7)))
        + data
    )


def nested(*operations: RequestOp) -> RequestOp:
    """A transaction inside of one."""
    return RequestOp(request_txn=TxnRequest(success=operations))


def failing(operations: list[RequestOp]) -> TxnRequest:
    """A transaction that takes its other branch."""
    compare = Compare(key=b"m", target=Compare.VERSION, result=Compare.LESS, version=0)
    return TxnRequest(compare=[compare], failure=operations)
