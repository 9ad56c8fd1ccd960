"""The Lock service on a member without a disk."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.api.calls import APICase, FakeStream
from twistedetcd.apply import request as kinds
from twistedetcd.errors import Code
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
)
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from twistedetcd.protocols.grpc import Receiver

LOCK, UNLOCK = "/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock"
EXPIRED = (Code.UNKNOWN, "mutex: session is expired")
STOPPED = (Code.UNAVAILABLE, "etcdserver: server stopped")


class QueueCase(APICase):
    """Calls that last, and leases for those who make them."""

    def setUp(self) -> None:
        super().setUp()
        self.receivers: dict[FakeStream, Receiver] = {}

    def start(self, path: str, request: Any, *headers: tuple[bytes, bytes]) -> FakeStream:
        """Make a call, and let a few turns pass."""
        call: Any = FakeStream(*headers)
        stream = self.methods[path.encode()].stream
        assert stream is not None, path
        receiver = self.receivers[call] = stream(call)
        receiver.message_received(request.SerializeToString())
        if not call.done:
            receiver.half_closed()
        self.turns()
        fake: FakeStream = call
        return fake

    def turns(self) -> None:
        for _ in range(5):
            self.running.end_turn()

    def answer(self, call: FakeStream, response: Any) -> Any:
        """What a call that ended well was answered."""
        self.assertIsNone(call.status)
        self.assertTrue(call.finished)
        [message] = call.messages()
        return response.FromString(message)

    def ask(self, path: str, request: Any, response: Any) -> Any:
        return self.answer(self.start(path, request), response)

    def hang_up(self, call: FakeStream) -> None:
        """The client cancels."""
        call.done = True
        self.receivers[call].cancelled()
        self.turns()

    def propose(self, kind: str, request: Any) -> None:
        self.running.propose(kind, request)
        self.turns()

    def grant(self, *ids: int) -> None:
        for lease_id in ids:
            self.propose(kinds.LEASE_GRANT, LeaseGrantRequest(ID=lease_id, TTL=60))

    def revoke(self, lease_id: int) -> None:
        self.propose(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=lease_id))

    def delete(self, key: bytes) -> None:
        self.propose(kinds.DELETE_RANGE, DeleteRangeRequest(key=key))

    def keys(self) -> list[bytes]:
        records, _ = self.running.store.range(b"\0", b"")
        return [KeyValue.FromString(record).key for record in records]


class LockCase(QueueCase):
    """Locks."""

    def lock(self, lease_id: int, name: bytes = b"n") -> FakeStream:
        return self.start(LOCK, LockRequest(name=name, lease=lease_id))

    def unlock(self, key: bytes) -> None:
        self.ask(UNLOCK, UnlockRequest(key=key), UnlockResponse)


class LockTests(LockCase):
    """One has the lock, the others wait."""

    def test_first(self) -> None:
        """The first has it at once; its key is the name and its lease in hexadecimal digits."""
        self.grant(0x7F, -1)
        response = self.answer(self.lock(0x7F), LockResponse)
        self.assertEqual((b"n/7f", 2), (response.key, response.header.revision))
        self.assertEqual((8, 7), (response.header.cluster_id, response.header.member_id))
        [record], _ = self.running.store.range(b"n/7f", None)
        item = KeyValue.FromString(record)
        self.assertEqual((b"", 0x7F), (item.value, item.lease))
        self.assertEqual(b"other/-1", self.answer(self.lock(-1, b"other"), LockResponse).key)
        self.assertEqual(b"/-1", self.answer(self.lock(-1, b""), LockResponse).key)

    def test_again(self) -> None:
        """Who has it and asks again has it; nothing changes."""
        self.grant(1)
        self.lock(1)
        self.put(b"k")
        response = self.answer(self.lock(1), LockResponse)
        self.assertEqual((b"n/1", 3), (response.key, response.header.revision))

    def test_in_turn(self) -> None:
        """The others get it in the order they came, one at a time (KF-66)."""
        self.grant(1, 2, 3, 4)
        self.lock(1)
        calls = [self.lock(lease_id) for lease_id in (4, 2, 3)]
        self.assertEqual([False] * 3, [call.finished for call in calls])
        self.unlock(b"n/1")
        self.assertEqual([True, False, False], [call.finished for call in calls])
        response = self.answer(calls[0], LockResponse)
        self.assertEqual((b"n/4", 6), (response.key, response.header.revision))
        self.unlock(b"n/4")
        self.assertEqual([True, True, False], [call.finished for call in calls])

    def test_unlock(self) -> None:
        """Any key can be unlocked, also one that is not there; an empty one is refused."""
        response = self.ask(UNLOCK, UnlockRequest(key=b"missing"), UnlockResponse)
        self.assertEqual(1, response.header.revision)
        refused = self.start(UNLOCK, UnlockRequest())
        self.assertEqual((Code.UNKNOWN, "etcdserver: key is not provided"), refused.status)

    def test_without_a_lease(self) -> None:
        """One who brings no lease gets one of a minute, which nobody renews."""
        key = self.answer(self.lock(0), LockResponse).key
        lease_id = int(key.removeprefix(b"n/"), 16)
        self.assertEqual((60, 60), self.member.leases.time_to_live(lease_id))
        self.running.pump(60.6)
        self.assertEqual([], self.keys())

    def test_unknown_lease(self) -> None:
        """An error keeps its words and loses its code, as upstream's services lose it."""
        self.assertEqual((Code.UNKNOWN, "etcdserver: requested lease not found"), self.lock(5).status)

    def test_kf_65_lease_ends_in_the_queue(self) -> None:
        """One whose lease ended while it waited does not get the lock, but is told."""
        self.grant(1, 2, 3)
        self.lock(1)
        waiting, next = self.lock(2), self.lock(3)
        self.revoke(2)
        self.assertFalse(waiting.done)
        self.unlock(b"n/1")
        self.assertEqual(EXPIRED, waiting.status)
        self.assertTrue(next.finished)

    def test_place_lost_and_taken_anew(self) -> None:
        """A key that was deleted and is there again is another place in the queue."""
        self.grant(1, 2, 3)
        self.lock(1)
        waiting, next = self.lock(2), self.lock(3)
        self.delete(b"n/2")
        again = self.lock(2)
        self.unlock(b"n/1")
        self.assertEqual((EXPIRED, True, False), (waiting.status, next.finished, again.done))

    def test_kf_66_names(self) -> None:
        """A name that another begins with is another lock: held crosswise they wait for nothing."""
        self.grant(1, 2)
        self.assertTrue(self.lock(1, b"a").finished)
        self.assertTrue(self.lock(2, b"ab").finished)
        second, third = self.lock(1, b"ab"), self.lock(2, b"a")
        self.unlock(b"ab/2")
        self.assertEqual((True, False), (second.finished, third.done))
        self.unlock(b"a/1")
        self.assertTrue(third.finished)

    def test_compacted(self) -> None:
        """A compaction of what a waiter watches changes nothing for it."""
        self.grant(1, 2)
        self.lock(1)
        waiting = self.lock(2)
        self.put(b"k")
        self.propose(kinds.COMPACTION, CompactionRequest(revision=self.running.store.revision))
        self.running.pump(0.2)
        self.assertFalse(waiting.done)
        self.unlock(b"n/1")
        self.assertTrue(waiting.finished)


class CancelTests(LockCase):
    """Clients that go away, and members."""

    def test_while_it_waits(self) -> None:
        """One that gives up leaves the queue, and nobody watches for it."""
        self.grant(1, 2, 3)
        self.lock(1)
        waiting, next = self.lock(2), self.lock(3)
        self.hang_up(waiting)
        self.assertEqual([b"n/1", b"n/3"], self.keys())
        self.assertEqual(1, self.running.watches.count)
        self.unlock(b"n/1")
        self.assertTrue(next.finished)
        self.assertEqual(0, self.running.watches.count)
        self.assertEqual(0, self.member.streams.count("lasting"))

    def test_before_it_entered(self) -> None:
        """One that gives up at once leaves no key behind."""
        self.grant(1)
        call: Any = FakeStream()
        receiver: Any = self.methods[LOCK.encode()].stream(call)  # type: ignore[misc]
        receiver.message_received(LockRequest(name=b"n", lease=1).SerializeToString())
        call.done = True
        receiver.cancelled()
        self.turns()
        self.assertEqual(([], 3), (self.keys(), self.running.store.revision))

    def test_asked_again_and_cancelled(self) -> None:
        """Who has the lock does not lose it by asking again and giving up."""
        self.grant(1)
        self.lock(1)
        call: Any = FakeStream()
        receiver: Any = self.methods[LOCK.encode()].stream(call)  # type: ignore[misc]
        receiver.message_received(LockRequest(name=b"n", lease=1).SerializeToString())
        call.done = True
        receiver.cancelled()
        self.turns()
        self.assertEqual([b"n/1"], self.keys())

    def test_stopped(self) -> None:
        """A member that stops tells those who wait."""
        self.grant(1, 2)
        self.lock(1)
        waiting = self.lock(2)
        self.member.stop()
        self.assertEqual(STOPPED, waiting.status)

    def test_random_waiters(self) -> None:
        """Of many waiters who die in any order the oldest that is left always has the lock (KF-66)."""
        random = Random(66)
        self.grant(*range(1, 51))
        waiting = {lease_id: self.lock(lease_id) for lease_id in range(1, 51)}
        while waiting:
            holder = min(waiting)
            self.assertEqual([holder], [each for each, call in waiting.items() if call.finished])
            gone = random.choice([holder, *waiting])
            call = waiting.pop(gone)
            match random.randrange(3):
                case 0:
                    self.revoke(gone)
                case 1 if not call.finished:
                    self.hang_up(call)
                case _:
                    self.unlock(b"n/%x" % gone)
        self.assertEqual([], self.keys())


class WireTests(QueueCase):
    """What may be wrong with a call that lasts."""

    def stream(self, *headers: tuple[bytes, bytes]) -> tuple[FakeStream, Receiver]:
        call: Any = FakeStream(*headers)
        return call, self.methods[LOCK.encode()].stream(call)  # type: ignore[misc]

    def test_garbage(self) -> None:
        """What does not parse is INTERNAL, in grpc-go's words."""
        call, receiver = self.stream()
        receiver.message_received(b"\xff")
        assert call.status is not None
        self.assertEqual(Code.INTERNAL, call.status[0])
        self.assertRegex(call.status[1], "^grpc: error unmarshalling request: .")

    def test_no_message(self) -> None:
        """A call without a request is one that broke off."""
        call, receiver = self.stream()
        receiver.half_closed()
        self.assertEqual((Code.INTERNAL, "EOF"), call.status)

    def test_two_messages(self) -> None:
        """There is one request in a call."""
        self.grant(1, 2)
        call, receiver = self.stream()
        for lease_id in (1, 2):
            receiver.message_received(LockRequest(name=b"n", lease=lease_id).SerializeToString())
        assert call.status is not None
        self.assertEqual(Code.INTERNAL, call.status[0])
        self.turns()
        self.assertEqual([], self.keys())

    def test_terms(self) -> None:
        """Metadata is checked as for any other call."""
        call, _ = self.stream((b"client-api-version", b"\xff"))
        self.assertEqual((Code.INVALID_ARGUMENT, "etcdserver: invalid client api version"), call.status)

    def test_bug(self) -> None:
        """What nobody expected is logged, and tells the client nothing about us."""
        self.patch(self.member, "propose", lambda *arguments: 1 / 0)
        call = self.start(LOCK, LockRequest(name=b"n"))
        self.assertEqual((Code.INTERNAL, "internal error"), call.status)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
