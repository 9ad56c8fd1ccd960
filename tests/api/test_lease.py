"""The Lease service on a member without a disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.api.calls import APICase, FakeStream
from twistedetcd.api import lease as lease_module
from twistedetcd.errors import Code
from twistedetcd.mvcc.work import SLICE_KEYS
from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    RequestOp,
    TxnRequest,
)

LEASE = "/etcdserverpb.Lease/Lease"


class LeaseCase(APICase):
    """Calls of the service."""

    def grant(self, lease_id: int = 0, ttl: int = 60) -> LeaseGrantResponse:
        return self.call(f"{LEASE}Grant", LeaseGrantRequest(ID=lease_id, TTL=ttl), LeaseGrantResponse)

    def revoke(self, lease_id: int) -> LeaseRevokeResponse:
        return self.call(f"{LEASE}Revoke", LeaseRevokeRequest(ID=lease_id), LeaseRevokeResponse)

    def time_to_live(self, lease_id: int, keys: bool = False) -> LeaseTimeToLiveResponse:
        request = LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        return self.call(f"{LEASE}TimeToLive", request, LeaseTimeToLiveResponse)

    def leases(self) -> list[int]:
        response = self.call(f"{LEASE}Leases", LeaseLeasesRequest(), LeaseLeasesResponse)
        return [each.ID for each in response.leases]

    def attach(self, keys: Sequence[bytes], lease_id: int) -> None:
        for start in range(0, len(keys), 100):
            some = keys[start : start + 100]
            puts = [RequestOp(request_put=PutRequest(key=key, lease=lease_id)) for key in some]
            self.running.propose("txn", TxnRequest(success=puts))
        self.running.end_turn()


class UnaryTests(LeaseCase):
    """Grant, revoke, ask, list."""

    def test_grant(self) -> None:
        """The client's id is taken, or a positive one chosen that no other has; a short TTL is raised."""
        response = self.grant(7, 1)
        self.assertEqual((7, 2, ""), (response.ID, response.TTL, response.error))
        chosen = [self.grant().ID for _ in range(10)]
        self.assertEqual(10, len(set(chosen)))
        self.assertTrue(all(0 < each < 2**63 for each in chosen))
        header = response.header
        self.assertEqual((8, 7, 1), (header.cluster_id, header.member_id, header.revision))

    def test_chosen_id_is_replicated(self) -> None:
        """What was chosen is in the log: no other member chooses again."""
        chosen = self.grant().ID
        entry = self.running.wal.entries[-1]
        self.assertIn(LeaseGrantRequest(ID=chosen, TTL=60).SerializeToString(), entry.data)

    def test_refused(self) -> None:
        """Each refusal has etcd's code and words."""
        self.grant(7)
        self.assertEqual(
            [
                (Code.FAILED_PRECONDITION, "etcdserver: lease already exists"),
                (Code.OUT_OF_RANGE, "etcdserver: too large lease TTL"),
                (Code.NOT_FOUND, "etcdserver: requested lease not found"),
                (Code.NOT_FOUND, "etcdserver: requested lease not found"),
            ],
            [
                self.refused(f"{LEASE}Grant", LeaseGrantRequest(ID=7, TTL=60)),
                self.refused(f"{LEASE}Grant", LeaseGrantRequest(TTL=9_000_000_001)),
                self.refused(f"{LEASE}Revoke", LeaseRevokeRequest(ID=8)),
                self.refused(f"{LEASE}Revoke", LeaseRevokeRequest()),
            ],
        )

    def test_time_to_live(self) -> None:
        """Whole seconds that remain, cut off; of a lease that is not there -1, which is no error."""
        self.grant(7)
        self.running.pump(0.5)
        response = self.time_to_live(7)
        self.assertEqual((7, 59, 60, []), (response.ID, response.TTL, response.grantedTTL, response.keys))
        missing = self.time_to_live(8, keys=True)
        self.assertEqual((8, -1, 0, []), (missing.ID, missing.TTL, missing.grantedTTL, missing.keys))
        self.assertEqual(1, missing.header.revision)

    def test_keys(self) -> None:
        """The keys come if they are asked for, however many there are."""
        self.grant(7)
        self.assertEqual([], self.time_to_live(7, keys=True).keys)
        keys = [b"k%05d" % number for number in range(2 * SLICE_KEYS + 1)]
        self.attach(keys, 7)
        self.assertEqual([], self.time_to_live(7).keys)
        call = self.begin(f"{LEASE}TimeToLive", LeaseTimeToLiveRequest(ID=7, keys=True))
        self.assertIsNone(call.replied)
        self.running.pump(0.1)
        assert call.replied is not None
        self.assertEqual(keys, LeaseTimeToLiveResponse.FromString(call.replied).keys)

    def test_leases(self) -> None:
        """All leases, those that end first in front."""
        for lease_id, ttl in ((7, 30), (-1, 10), (9, 20)):
            self.grant(lease_id, ttl)
        self.assertEqual([-1, 9, 7], self.leases())
        self.revoke(9)
        self.assertEqual([-1, 7], self.leases())

    def test_many_leases(self) -> None:
        """A long list comes whole."""
        for lease_id in range(1, 2 * SLICE_KEYS + 2):
            self.running.propose("lease_grant", LeaseGrantRequest(ID=lease_id, TTL=60))
        self.running.end_turn()
        call = self.begin(f"{LEASE}Leases", LeaseLeasesRequest())
        self.running.pump(0.1)
        assert call.replied is not None
        listed = LeaseLeasesResponse.FromString(call.replied).leases
        self.assertEqual(set(range(1, 2 * SLICE_KEYS + 2)), {each.ID for each in listed})

    def test_not_primary(self) -> None:
        """A member that does not lead says that there is no leader to ask."""
        self.grant(7)
        self.member.leases.follow()
        no_leader = (Code.UNAVAILABLE, "etcdserver: no leader")
        self.assertEqual(no_leader, self.refused(f"{LEASE}TimeToLive", LeaseTimeToLiveRequest(ID=7)))
        self.assertEqual([7], self.leases())


class KeepAliveTests(LeaseCase):
    """The stream of renewals."""

    def open(self, *headers: tuple[bytes, bytes]) -> tuple[FakeStream, Any]:
        """A stream, and its receiver."""
        call: Any = FakeStream(*headers)
        stream = self.methods[f"{LEASE}KeepAlive".encode()].stream
        assert stream is not None
        receiver = stream(call)
        return call, receiver

    def renew(self, receiver: Any, *ids: int) -> None:
        for lease_id in ids:
            receiver.message_received(LeaseKeepAliveRequest(ID=lease_id).SerializeToString())

    def answers(self, call: FakeStream) -> list[tuple[int, int]]:
        """Ids and TTLs of what was sent."""
        responses = [LeaseKeepAliveResponse.FromString(message) for message in call.messages()]
        return [(response.ID, response.TTL) for response in responses]

    def test_answers(self) -> None:
        """Each is answered, in order; one of a lease that is not there with 0, and the stream goes on."""
        self.grant(7)
        self.grant(-1, 30)
        call, receiver = self.open()
        self.renew(receiver, 7, 8, -1, 7, 0)
        self.assertEqual([(7, 60), (8, 0), (-1, 30), (7, 60), (0, 0)], self.answers(call))
        self.renew(receiver, 7)
        self.assertEqual([(7, 60)], self.answers(call))
        self.assertIsNone(call.status)

    def test_header(self) -> None:
        """An answer's header has the revision of when it was asked."""
        self.grant(7)
        self.put(b"k")
        call, receiver = self.open()
        self.renew(receiver, 7)
        [message] = call.messages()
        header = LeaseKeepAliveResponse.FromString(message).header
        self.assertEqual((8, 7, 2), (header.cluster_id, header.member_id, header.revision))
        self.assertEqual(self.member.applied_term, header.raft_term)

    def test_renews(self) -> None:
        """A renewal is one."""
        self.grant(7, 5)
        _, receiver = self.open()
        for _ in range(3):
            self.running.pump(4.0)
            self.renew(receiver, 7)
        self.assertEqual([7], self.leases())

    def test_half_closed(self) -> None:
        """A client that sends no more gets its answers, and then the end."""
        self.grant(7)
        call, receiver = self.open()
        self.renew(receiver, 7)
        receiver.half_closed()
        self.assertEqual(([(7, 60)], True), (self.answers(call), call.finished))
        call, receiver = self.open()
        receiver.half_closed()
        self.assertTrue(call.finished)
        self.assertEqual(0, self.member.streams.count(lease_module.STREAMS))

    def test_in_order_behind_one_that_waits(self) -> None:
        """While one cannot be answered those behind it wait, and are many; then all are answered in order."""
        self.grant(7, 5)
        self.grant(8)
        self.running.pump(4.99)
        self.running.wal.holding = True
        self.running.pump(0.1)
        call, receiver = self.open()
        self.renew(receiver, 7, *[8] * 1000)
        receiver.half_closed()
        self.assertEqual([], call.messages())
        self.running.wal.holding = False
        self.running.pump(0.5)
        self.running.wal.release_all()
        self.running.pump(0.5)
        self.assertEqual([(7, 0), *[(8, 60)] * 1000], self.answers(call))
        self.assertTrue(call.finished)

    def test_too_many_wait(self) -> None:
        """No more than so many wait; the stream is ended with the reason."""
        self.patch(lease_module, "RENEWALS_WAITING_MAX", 3)
        self.grant(7, 5)
        self.running.pump(4.99)
        self.running.wal.holding = True
        self.running.pump(0.6)
        call, receiver = self.open()
        self.renew(receiver, 7, 1, 2, 3)
        self.assertIsNone(call.status)
        self.renew(receiver, 4)
        self.assertEqual((Code.UNKNOWN, "etcdserver: too many requests"), call.status)

    def test_unread(self) -> None:
        """A client that asks on and on and reads nothing is told so."""
        self.patch(lease_module, "UNREAD_BYTES_MAX", 100)
        call, receiver = self.open()
        call.window = 0
        for _ in range(20):
            if call.status is None:
                self.renew(receiver, 1)
        assert call.status is not None
        self.assertEqual(Code.RESOURCE_EXHAUSTED, call.status[0])
        self.assertEqual(0, self.member.streams.count(lease_module.STREAMS))

    def test_garbage(self) -> None:
        """What does not decode ends the stream."""
        call, receiver = self.open()
        receiver.message_received(b"\xff")
        assert call.status is not None
        self.assertEqual(Code.INTERNAL, call.status[0])

    def test_no_leader(self) -> None:
        """Without a leader nobody can renew."""
        self.grant(7)
        self.member.leases.follow()
        call, receiver = self.open()
        self.renew(receiver, 7)
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: no leader"), call.status)

    def test_terms(self) -> None:
        """What a call's metadata asks for is checked when the stream begins."""
        call, _ = self.open((b"client-api-version", b"\xff"))
        assert call.status is not None
        self.assertEqual(Code.INVALID_ARGUMENT, call.status[0])

    def test_cancelled_and_stopped(self) -> None:
        """A stream that was cancelled is forgotten; one that lasts is ended with the member."""
        _, cancelled = self.open()
        call, _ = self.open((b"hasleader", b"true"))
        self.assertEqual(2, self.member.streams.count(lease_module.STREAMS))
        cancelled.cancelled()
        self.assertEqual(1, self.member.streams.count(lease_module.STREAMS))
        self.member.stop()
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), call.status)
