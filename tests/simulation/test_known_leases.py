"""Known failures of leases in clusters of whole servers, and of compactions beside installations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.members import MembersScene, is_message
from tests.simulation.test_known_snapshots import SnapshotScene
from twistedetcd import disk
from twistedetcd.apply import request as kinds
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    PutResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.raft.types import MessageType
from twistedetcd.testing.packets import Packet
from twistedetcd.testing.simulation.machine import Machine

LATE_SECONDS = 2.5
"""What a new leader may give too much: what passed since the last checkpoint, and its extension."""


class LeaseScene(MembersScene):
    """Three members, and somebody who has leases."""

    def grant(self, number: int, ttl: int, machine: Machine | None = None) -> None:
        """Grant a lease."""
        answer = self.ask(LeaseGrantRequest(ID=number, TTL=ttl), machine or self.leader)
        self.assertIsInstance(answer, LeaseGrantResponse)

    def attach(self, key: bytes, lease: int) -> None:
        """Put a key with a lease; 0 for none."""
        self.assertIsInstance(self.ask(PutRequest(key=key, lease=lease), self.leader), PutResponse)

    def revoke(self, lease: int, machine: Machine | None = None) -> None:
        """Revoke one."""
        answer = self.ask(LeaseRevokeRequest(ID=lease), machine or self.leader)
        self.assertIsInstance(answer, LeaseRevokeResponse)

    def left(self, lease: int, machine: Machine | None = None) -> int:
        """Seconds that remain; asked again while nobody can tell."""
        found: list[Any] = []

        def told() -> bool:
            answer = self.ask(LeaseTimeToLiveRequest(ID=lease), machine or self.leader)
            found[:] = [answer.TTL] if isinstance(answer, LeaseTimeToLiveResponse) else []
            return bool(found)

        self.until(told)
        return int(found[0])

    def forwarded_kinds(self) -> set[str]:
        """The kinds of all requests that members send on to a leader, from now on."""
        sent: set[str] = set()
        forwarded = is_message(MessageType.PROP)

        def look(packet: Packet, what: str) -> None:
            if forwarded(packet):
                assert packet.message is not None
                sent.update(kinds.decode(entry.data).kind for entry in packet.message.entries)

        self.world.network.look = look
        return sent

    def hand_over_slowly(self, to: Machine, wanted: Callable[[], bool]) -> None:
        """The leader hands over, and has something to propose by the time that the other one takes over."""
        hold = self.world.network.hold(is_message(MessageType.TIMEOUT_NOW))
        deposed = self.leader
        while not (hold.held and wanted()):
            hold.drop()  # raft gives it up after an election timeout
            self.assembly(deposed).member.clustering.move_leader(to.member_id).addErrback(lambda _: None)
            self.cluster.wait_until(lambda: bool(hold.held) and wanted(), 0.9)
        hold.end()
        self.until(lambda: self.cluster.leader() is to)


class LeaseTests(LeaseScene):
    """What all members make of leases."""

    def test_kf_24_revoke_on_three_members(self) -> None:
        """The keys of a lease go in one revision, in the same order everywhere, and with the lease."""
        self.grant(7, 60)
        for number in range(50):
            self.attach(b"%d" % (number * 37 % 50), 7)
        self.revoke(7, self.followers[0])
        self.assertEqual([], self.keys(self.leader))
        self.assertEqual(1, len(self.hashes()))
        for machine in self.cluster.machines:
            self.down(machine, 0.0)
        self.up(*self.cluster.machines)
        self.assertEqual(1, len(self.hashes()))
        self.assertEqual(-1, self.left(7))

    def test_kf_38_keep_alive_just_after_the_grant(self) -> None:
        """
        A lease that one member has granted is kept alive through another one at once, although the leader is
        busy with what was committed before the grant.
        """
        one, other = self.followers
        for number in range(0, 3000, 100):
            puts = [RequestOp(request_put=PutRequest(key=b"%05d" % n)) for n in range(number, number + 100)]
            self.assertIsInstance(self.ask(TxnRequest(success=puts), one), TxnResponse)
        applying = self.assembly(self.leader).member.applying
        self.patch(applying._slices, "_pause_seconds", 0.2)
        self.begin(DeleteRangeRequest(key=b"0", range_end=b"1"), one)
        self.until(lambda: applying.behind)
        self.grant(7, 60, one)
        self.assertTrue(applying.behind, "the leader does not know of the lease yet")
        answer = self.ask(LeaseKeepAliveRequest(ID=7), other)
        self.assertIsInstance(answer, LeaseKeepAliveResponse)
        self.assertEqual(60, answer.TTL)

    def test_kf_40_time_to_live_while_the_leader_changes(self) -> None:
        """Whoever asks while the leadership moves is told no more than was granted, or to ask again."""
        self.grant(7, 60)
        answers: list[list[Any]] = []
        for number in range(12):
            target = self.followers[number % 2]
            self.assembly(self.leader).member.clustering.move_leader(target.member_id)
            for _ in range(20):
                for machine in self.cluster.machines:
                    answers.append(self.begin(LeaseTimeToLiveRequest(ID=7), machine))
                self.run_for(0.001)
            self.until(lambda target=target: self.cluster.leader() is target)
        self.run_for(10.0)
        told = [answer[0].TTL for answer in answers if isinstance(answer[0], LeaseTimeToLiveResponse)]
        self.assertGreater(len(told), 100)
        self.assertTrue(all(0 < ttl <= 60 + 1 for ttl in told), (min(told), max(told)))

    def test_kf_42_a_follower_revokes_nothing(self) -> None:
        """
        Leases that end while the leadership moves are revoked by whoever leads then: what the leader before
        wanted to propose, and could not any more, it does not send to the other one.
        """
        sent = self.forwarded_kinds()
        for number in range(1, 31):
            self.grant(number, 3)
            self.attach(b"%d" % number, number)
        deposed = self.leader
        pending = self.assembly(deposed).member._pending_requests
        self.hand_over_slowly(self.followers[0], lambda: bool(pending))
        self.until(lambda: not self.keys(self.leader), 30.0)
        self.assertEqual(set(), sent & {kinds.LEASE_REVOKE})
        self.assertEqual(1, len(self.hashes()))
        self.assertEqual(-1, self.left(1))


class CheckpointTests(LeaseScene):
    """What remains of leases is noted every second."""

    flags = (*LeaseScene.flags, "--feature-gates=LeaseCheckpoint=true")

    def setUp(self) -> None:
        self.patch(disk, "CHECKPOINT_SECONDS", 1.0)
        super().setUp()

    def test_kf_41_checkpoints_count(self) -> None:
        """After each of several leaders, and a restart of all, no more is left than was; renewed, all is."""
        self.grant(7, 60)
        self.run_for(20.0)
        passed = 20.0
        for _ in range(3):
            self.move_leader(self.followers[0])
            self.run_for(5.0)
            passed += 5 - LATE_SECONDS
            self.assertLessEqual(self.left(7), 60 - passed)
        for machine in self.cluster.machines:
            machine.kill()
        self.serve()
        self.assertLessEqual(self.left(7), 60 - passed + LATE_SECONDS)
        answer = self.ask(LeaseKeepAliveRequest(ID=7), self.followers[0])
        self.assertIsInstance(answer, LeaseKeepAliveResponse)
        self.assertEqual(60, answer.TTL)
        self.move_leader(self.followers[0])
        self.assertGreaterEqual(self.left(7), 58)

    def test_kf_42_a_follower_notes_nothing(self) -> None:
        """Nor does it note anything through the other one, or by itself later."""
        sent = self.forwarded_kinds()
        self.grant(7, 60)
        self.run_for(3.0)
        pending = self.assembly(self.leader).member._pending_requests
        self.hand_over_slowly(self.followers[0], lambda: bool(pending))
        self.run_for(5.0)
        self.assertEqual(set(), sent & {kinds.LEASE_CHECKPOINT})


class InstalledTests(SnapshotScene, LeaseScene):
    """After a store came from another member."""

    def test_kf_43_keys_and_leases(self) -> None:
        """A key belongs to the lease that it was put with last, and to no other, also after a snapshot."""
        away = self.followers[-1]
        for lease in (1, 2, 3, 4, 5):
            self.grant(lease, 600)
        self.attach(b"moved", 1)
        self.attach(b"freed", 3)
        self.attach(b"again", 4)
        self.until(lambda: self.caught_up(away))
        self.apart(away)
        self.attach(b"moved", 2)
        self.attach(b"freed", 0)
        self.attach(b"again", 0)
        self.attach(b"late", 5)
        self.writes(50)
        self.heal()
        self.until(lambda: self.caught_up(away) and self.installed == 1)
        self.move_leader(away)
        for lease, gone in ((1, b""), (3, b""), (4, b""), (2, b"moved"), (5, b"late")):
            before = set(self.keys(away))
            self.revoke(lease)
            self.assertEqual({gone} - {b""}, before - set(self.keys(away)), lease)
        self.assertEqual(1, len(self.hashes()))

    def test_kf_26_compactions_and_an_installation(self) -> None:
        """A compaction at work and those behind it are over once another store is there, and answered."""
        away = self.followers[-1]
        self.writes(30)
        self.until(lambda: self.caught_up(away))
        member = self.assembly(away).member
        self.patch(member._compacting, "_pause_seconds", 30.0)
        outcomes = []
        for revision in (5, 10, 15):
            outcome: list[Any] = []
            request = CompactionRequest(revision=revision, physical=True)
            self.caller.ask(away, request, 60.0).addCallback(outcome.append)
            outcomes.append(outcome)
            self.run_for(0.1)
        self.assertEqual([[]] * 3, outcomes)
        self.apart(away)
        self.writes(50)
        self.heal()
        self.until(lambda: self.caught_up(away) and self.installed == 1)
        self.run_for(1.0)
        self.assertTrue(all(isinstance(outcome[0], CompactionResponse) for outcome in outcomes), outcomes)
        self.patch(member._compacting, "_pause_seconds", 0.0)
        answer = self.ask(CompactionRequest(revision=20, physical=True), away)
        self.assertIsInstance(answer, CompactionResponse)
        self.assertEqual(1, len(self.hashes()))
