"""The Election service on a member without a disk."""

from __future__ import annotations

from typing import Any

from tests.api.calls import FakeStream
from tests.api.test_lock import QueueCase
from twistedetcd.api import observe
from twistedetcd.apply import request as kinds
from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import CompactionRequest
from twistedetcd.pb.v3election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ProclaimResponse,
    ResignRequest,
    ResignResponse,
)

ELECTION = "/v3electionpb.Election/"
NOT_LEADER = (Code.UNKNOWN, "election: not leader")
NO_LEADER = (Code.UNKNOWN, "election: no leader")
MISSING = (Code.UNKNOWN, '"leader" field must be provided')


class ElectionCase(QueueCase):
    """Elections."""

    def campaign(self, lease_id: int, value: bytes = b"v") -> FakeStream:
        return self.start(f"{ELECTION}Campaign", CampaignRequest(name=b"n", lease=lease_id, value=value))

    def elected(self, call: FakeStream) -> LeaderKey:
        response: CampaignResponse = self.answer(call, CampaignResponse)
        return response.leader

    def proclaim(self, leader: LeaderKey, value: bytes) -> FakeStream:
        return self.start(f"{ELECTION}Proclaim", ProclaimRequest(leader=leader, value=value))

    def resign(self, leader: LeaderKey) -> ResignResponse:
        response: ResignResponse = self.ask(f"{ELECTION}Resign", ResignRequest(leader=leader), ResignResponse)
        return response

    def leader(self) -> FakeStream:
        return self.start(f"{ELECTION}Leader", LeaderRequest(name=b"n"))

    def leads(self) -> tuple[bytes, bytes]:
        response = self.answer(self.leader(), LeaderResponse)
        return response.kv.key, response.kv.value


class CampaignTests(ElectionCase):
    """Who leads."""

    def test_first(self) -> None:
        """The first leads at once, and is told all that it needs to prove it."""
        self.grant(0xA1)
        response = self.answer(self.campaign(0xA1), CampaignResponse)
        self.assertEqual(LeaderKey(name=b"n", key=b"n/a1", rev=2, lease=0xA1), response.leader)
        self.assertEqual(2, response.header.revision)
        self.assertEqual((b"n/a1", b"v"), self.leads())

    def test_in_turn(self) -> None:
        """The next leads when the leader resigns or its lease ends; the header is that of its coming."""
        self.grant(1, 2, 3)
        first = self.elected(self.campaign(1, b"one"))
        second, third = self.campaign(2, b"two"), self.campaign(3, b"three")
        self.assertEqual((False, False), (second.done, third.done))
        self.resign(first)
        response = self.answer(second, CampaignResponse)
        self.assertEqual((3, 3), (response.leader.rev, response.header.revision))
        self.assertEqual((b"n/2", b"two"), self.leads())
        self.revoke(2)
        self.assertTrue(third.finished)

    def test_again(self) -> None:
        """Who campaigns again with another value proclaims that; with the same one, nothing happens."""
        self.grant(1)
        self.elected(self.campaign(1, b"one"))
        self.assertEqual(2, self.elected(self.campaign(1, b"one")).rev)
        self.assertEqual(2, self.running.store.revision)
        self.assertEqual(2, self.elected(self.campaign(1, b"uno")).rev)
        self.assertEqual(((b"n/1", b"uno"), 3), (self.leads(), self.running.store.revision))

    def test_without_a_lease(self) -> None:
        """One who brings no lease gets one of a minute."""
        leader = self.elected(self.campaign(0))
        self.assertEqual((60, 60), self.member.leases.time_to_live(leader.lease))

    def test_unknown_lease(self) -> None:
        """An unknown lease is refused without its code."""
        self.assertEqual((Code.UNKNOWN, "etcdserver: requested lease not found"), self.campaign(5).status)

    def test_cancelled(self) -> None:
        """A candidate that gives up leaves the queue."""
        self.grant(1, 2)
        self.campaign(1)
        self.hang_up(self.campaign(2))
        self.assertEqual([b"n/1"], self.keys())
        self.assertEqual(0, self.running.watches.count)

    def test_lease_ends_in_the_queue(self) -> None:
        """A candidate whose lease ended is not elected."""
        self.grant(1, 2)
        first = self.elected(self.campaign(1))
        waiting = self.campaign(2)
        self.revoke(2)
        self.resign(first)
        self.assertEqual((NOT_LEADER, NO_LEADER), (waiting.status, self.leader().status))


class LeaderTests(ElectionCase):
    """What a leader may do."""

    def test_proclaim(self) -> None:
        """The leader's value changes; its key, its place and its lease stay."""
        self.grant(1)
        leader = self.elected(self.campaign(1, b"one"))
        response = self.answer(self.proclaim(leader, b"two"), ProclaimResponse)
        self.assertEqual(3, response.header.revision)
        self.assertEqual((b"n/1", b"two"), self.leads())
        self.revoke(1)
        self.assertEqual([], self.keys())

    def test_proclaim_in_vain(self) -> None:
        """Who does not lead any more proclaims nothing; who does not say who it is, neither."""
        self.grant(1)
        leader = self.elected(self.campaign(1))
        self.resign(leader)
        self.assertEqual(NOT_LEADER, self.proclaim(leader, b"two").status)
        self.assertEqual(MISSING, self.start(f"{ELECTION}Proclaim", ProclaimRequest()).status)
        nobody = self.proclaim(LeaderKey(rev=1, lease=1), b"two")
        self.assertEqual((Code.UNKNOWN, "etcdserver: key is not provided"), nobody.status)
        self.assertEqual([], self.keys())

    def test_resign(self) -> None:
        """One who has gone already may resign again: that takes nothing from who came later."""
        self.grant(1)
        leader = self.elected(self.campaign(1))
        self.assertEqual(3, self.resign(leader).header.revision)
        self.elected(self.campaign(1))
        self.assertEqual(4, self.resign(leader).header.revision)
        self.assertEqual([b"n/1"], self.keys())
        self.assertEqual(MISSING, self.start(f"{ELECTION}Resign", ResignRequest()).status)

    def test_no_leader(self) -> None:
        """Where nobody is a candidate nobody leads; a name that begins with it is another one."""
        self.put(b"n0")
        self.put(b"nn/1")
        self.assertEqual(NO_LEADER, self.leader().status)


class ObserveTests(ElectionCase):
    """Following who leads."""

    def observe(self) -> FakeStream:
        return self.start(f"{ELECTION}Observe", LeaderRequest(name=b"n"))

    def seen(self, call: FakeStream) -> list[tuple[bytes, bytes, int]]:
        """Keys, values and revisions of what was sent."""
        self.turns()
        responses = [LeaderResponse.FromString(message) for message in call.messages()]
        return [(each.kv.key, each.kv.value, each.header.revision) for each in responses]

    def test_from_the_beginning(self) -> None:
        """Waits for a leader, then tells of it, its values and its successors."""
        self.grant(1, 2, 3)
        call = self.observe()
        self.assertEqual([], self.seen(call))
        first = self.elected(self.campaign(1, b"one"))
        self.assertEqual([(b"n/1", b"one", 2)], self.seen(call))
        second = self.campaign(2, b"two")
        self.assertEqual([], self.seen(call))
        self.answer(self.proclaim(first, b"uno"), ProclaimResponse)
        self.assertEqual([(b"n/1", b"uno", 4)], self.seen(call))
        self.resign(first)
        self.assertEqual([(b"n/2", b"two", 5)], self.seen(call))
        self.resign(self.elected(second))
        self.assertEqual([], self.seen(call))
        self.campaign(3, b"three")
        self.assertEqual([(b"n/3", b"three", 7)], self.seen(call))
        self.assertFalse(call.done)

    def test_header(self) -> None:
        """Each answer has a whole header."""
        self.grant(1)
        self.campaign(1)
        [message] = self.observe().messages()
        header = LeaderResponse.FromString(message).header
        self.assertEqual((8, 7, 2), (header.cluster_id, header.member_id, header.revision))
        self.assertEqual(self.member.applied_term, header.raft_term)

    def test_in_one_turn(self) -> None:
        """What happens in one turn is told in its order."""
        self.grant(1)
        call = self.observe()
        stream: Any = self.methods[f"{ELECTION}Campaign".encode()].stream
        stream(FakeStream()).message_received(
            CampaignRequest(name=b"n", lease=1, value=b"a").SerializeToString()
        )
        for value in (b"b", b"c"):
            stream = self.methods[f"{ELECTION}Campaign".encode()].stream
            stream(FakeStream()).message_received(
                CampaignRequest(name=b"n", lease=1, value=value).SerializeToString()
            )
        self.assertEqual([b"a", b"b", b"c"], [value for _, value, _ in self.seen(call)])

    def test_compacted(self) -> None:
        """An observer whose client reads nothing while much is compacted goes on with what is there."""
        self.patch(observe, "QUEUE_BYTES_MAX", 0)
        self.grant(1)
        leader = self.elected(self.campaign(1, b"0"))
        call = self.observe()
        call.window = 0
        for value in (b"1", b"2", b"3"):
            self.answer(self.proclaim(leader, value), ProclaimResponse)
        self.propose(kinds.COMPACTION, CompactionRequest(revision=self.running.store.revision))
        self.running.pump(0.2)
        call.open()
        self.receivers[call].writable()
        self.running.pump(0.2)
        values = [value for _, value, _ in self.seen(call)]
        self.assertEqual((b"0", b"3"), (values[0], values[-1]))

    def test_slow_reader(self) -> None:
        """A client that reads slowly misses nothing, and does not make us keep it."""
        self.patch(observe, "QUEUE_BYTES_MAX", 0)
        self.grant(1)
        leader = self.elected(self.campaign(1, b"0"))
        call = self.observe()
        call.window = 0
        for value in (b"1", b"2", b"3"):
            self.answer(self.proclaim(leader, value), ProclaimResponse)
        call.open()
        self.receivers[call].writable()
        self.running.pump(0.2)
        self.assertEqual([b"0", b"1", b"2", b"3"], [value for _, value, _ in self.seen(call)])

    def test_cancelled(self) -> None:
        """An observer that goes away leaves nothing behind, with a leader or without."""
        self.hang_up(self.observe())
        self.grant(1)
        self.campaign(1)
        self.hang_up(self.observe())
        self.assertEqual(0, self.running.watches.count)
        self.assertEqual(0, self.member.streams.count("lasting"))

    def test_stopped(self) -> None:
        """A member that stops tells those who observe."""
        call = self.observe()
        self.member.stop()
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: server stopped"), call.status)
