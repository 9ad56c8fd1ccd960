"""Known failures of what is acknowledged and what is read, in clusters of whole servers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.server.harness import Client
from tests.simulation.members import MembersScene, is_message
from twistedetcd.apply import request as kinds
from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import PutRequest, PutResponse, RangeRequest, RangeResponse
from twistedetcd.raft.types import MessageType
from twistedetcd.testing.checks import Refused, Unknown
from twistedetcd.testing.packets import Packet
from twistedetcd.testing.simulation.machine import Machine

APPENDED = is_message(MessageType.APP)


class AloneTests(MembersScene):
    """One member."""

    members = 1

    def test_kf_01_no_reply_before_the_sync(self) -> None:
        """While the log is not synced nobody is answered; what was answered is there after a power cut."""
        for number in range(5):
            self.put(b"acknowledged %d" % number)
            self.machine.slow_disk(10_000.0)
            outcome = self.begin(PutRequest(key=b"held %d" % number))
            self.run_for(0.5)
            self.assertEqual([], outcome)
            self.machine.crash(0.0)
            self.machine.mend_disk()
            self.serve()
            self.assertNotIsInstance(outcome[0], PutResponse)
        acknowledged = {b"acknowledged %d" % number for number in range(5)}
        self.assertEqual(acknowledged, {key for key in self.keys() if key.startswith(b"ack")})

    def test_kf_04_restarted_single_voter(self) -> None:
        """A read after a power cut waits for the first entry of the new term, and sees all before it."""
        for number in range(5):
            self.put(b"k", b"%d" % number)
            self.machine.crash(0.0)
            self.serve()
            answer = self.ask(RangeRequest(key=b"k"))
            self.assertEqual(b"%d" % number, answer.kvs[0].value)


class ReadTests(MembersScene):
    """Three members."""

    def value(self, machine: Machine) -> list[Any]:
        """Begin to read the key."""
        return self.begin(RangeRequest(key=b"k"), machine)

    def written(self, value: bytes) -> None:
        """The leader acknowledges a value."""
        self.assertIsInstance(self.ask(PutRequest(key=b"k", value=value), self.leader), PutResponse)

    def test_kf_03_read_of_a_new_leader(self) -> None:
        """
        A new leader that does not know yet how much is committed answers no read; once its first entry is
        committed it does, without being asked again, and with all that was acknowledged.
        """
        self.written(b"old")
        before = self.leader
        one, other = self.followers
        self.world.clock.advance(0.3)
        # The entry gets to the followers; that it is committed does not.
        telling = self.world.network.hold(
            lambda packet: (
                packet.sender == before.member_id
                and (message := packet.message) is not None
                and (message.type is MessageType.HEARTBEAT or (APPENDED(packet) and not message.entries))
            )
        )
        self.written(b"new")
        self.apart(before)
        self.until(lambda: self.leads(one) or self.leads(other))
        leader = self.cluster.leader()
        assert leader is not None
        telling.drop()
        telling.end()
        self.heal()
        self.serve()
        self.assertEqual(b"new", self.ask(RangeRequest(key=b"k"), leader).kvs[0].value)

    def test_kf_03_first_entry_not_replicated(self) -> None:
        """Likewise, with the first entry held: the read waits as long as it does."""
        self.written(b"new")
        before = self.leader
        hold = self.world.network.hold(lambda packet: packet.sender != before.member_id and APPENDED(packet))
        self.down(before)
        self.until(lambda: any(self.leads(one) for one in self.cluster.machines))
        leader = self.cluster.leader()
        assert leader is not None
        read = self.value(leader)
        self.run_for(0.3)
        self.assertEqual([], read)
        hold.end()
        self.run_for(0.3)
        self.assertEqual(b"new", read[0].kvs[0].value)

    def test_kf_05_return_of_a_member_that_was_cut_off(self) -> None:
        """With pre-vote a member that was cut off changes no term when it is back."""
        away = self.followers[0]
        leader, term = self.leader, self.node(self.leader).raft.term
        self.apart(away)
        self.run_for(30.0)
        self.heal()
        self.run_for(5.0)
        self.assertEqual((leader, term), (self.leader, self.node(away).raft.term))
        self.written(b"new")

    def test_kf_05_return_of_a_candidate(self) -> None:
        """One that was cut off as a candidate, without a pre-vote, is heard once it is back, and included."""
        away = self.followers[0]
        leader = self.leader
        # It is told to take over at once; then nobody hears it any more.
        self.apart(away, ways="out")
        self.node(leader).transfer_leader(away.member_id)
        self.assembly(leader).member.flush()
        self.until(lambda: self.node(away).raft.term > self.node(leader).raft.term)
        self.apart(away)
        self.run_for(5.0)
        self.heal()
        self.until(lambda: len({self.node(machine).raft.term for machine in self.cluster.machines}) == 1)
        self.written(b"new")
        self.until(lambda: self.node(away).applied_index == self.node(self.leader).applied_index)

    def test_follower_that_is_cut_off(self) -> None:
        """It answers no read, and says so when the time is up; back again it reads what is new."""
        self.written(b"old")
        away = self.followers[0]
        self.apart(away)
        reads = [self.value(away)]
        self.written(b"new")
        reads.append(self.value(away))
        self.run_for(4.0)
        self.assertEqual([[], []], reads)
        self.run_for(5.0)
        for read in reads:
            self.assertIsInstance(read[0], Refused | Unknown)
        self.heal()
        self.run_for(1.0)
        self.assertEqual(b"new", self.ask(RangeRequest(key=b"k"), away).kvs[0].value)

    def test_deposed_leader(self) -> None:
        """A leader that does not know yet that it is none any more answers no read."""
        self.written(b"old")
        deposed = self.leader
        self.apart(deposed)
        self.until(lambda: self.cluster.leader() is not deposed and len(self.followers) == 2)
        self.written(b"new")
        read = self.value(deposed)
        self.run_for(0.5)
        self.assertEqual([], read)
        self.heal()
        self.run_for(8.0)
        if isinstance(read[0], RangeResponse):
            self.assertEqual(b"new", read[0].kvs[0].value)

    def test_restarted_follower(self) -> None:
        """One that restarts answers with what was acknowledged meanwhile, whatever it held before."""
        self.written(b"old")
        away = self.followers[0]
        self.down(away)
        self.written(b"new")
        hold = self.world.network.hold(lambda packet: packet.to == away.member_id and APPENDED(packet))
        self.up(away)
        read = self.value(away)
        self.run_for(2.0)
        self.assertEqual([], read)
        hold.end()
        self.run_for(1.0)
        self.assertEqual(b"new", read[0].kvs[0].value)

    def test_restarted_follower_of_a_quiet_cluster(self) -> None:
        """One that finds all applied when it starts serves as soon as it hears of the leader."""
        self.written(b"new")
        self.run_for(1.0)
        away = self.followers[0]
        for chance in (0.0, 1.0):
            self.down(away, chance)
            self.up(away)
            # Now its log says that all of it is committed, and the engine has it.
            self.run_for(1.0)
        self.assertEqual(b"new", self.ask(RangeRequest(key=b"k"), away).kvs[0].value)


class SlowDiskTests(MembersScene):
    """A leader whose disk takes longer than an election timeout."""

    def test_nobody_leads(self) -> None:
        """
        Whoever asks a member without a leader is told after the request timeout, and why.

        A put that came after the leader was lost was never proposed: that is known, and told; one that was on
        its way then may have been.
        """
        alone = self.followers[0]
        others = [machine for machine in self.cluster.machines if machine is not alone]
        member = self.assembly(alone).member

        def put(key: bytes) -> Client:
            client, request = Client(), PutRequest(key=key)
            member.propose(kinds.PUT, request.SerializeToString(), request, client)
            return client

        for machine in others:
            self.down(machine)
        soon = put(b"soon")
        self.run_for(4.0)
        late, read = put(b"late"), Client()
        member.read(lambda call, request: call.reply(b""), read, None)
        self.run_for(8.0)
        self.assertIn("etcdserver: request timed out", str(soon.outcome))
        self.assertEqual((Code.DEADLINE_EXCEEDED, "context deadline exceeded"), late.outcome)
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: request timed out"), read.outcome)
        self.up(*others)
        self.assertNotIn(b"late", self.keys())

    def test_slow_syncs(self) -> None:
        """A leader that waits for its disk, but not for long, is heard all the while, and goes on to lead."""
        self.put_through(b"a")
        leader, term = self.leader, self.cluster.term
        leader.files.seconds = lambda what, path: 0.8 if what.startswith("sync") else 0.0
        heard = [self.world.clock.seconds()]
        is_heartbeat = is_message(MessageType.HEARTBEAT)

        def look(packet: Packet, what: str) -> None:
            if packet.sender == leader.member_id and is_heartbeat(packet):
                heard.append(self.world.clock.seconds())

        self.world.network.look = look
        for number in range(20):
            self.begin(PutRequest(key=b"%d" % number), leader)
            self.run_for(0.4)
        pauses = [later - earlier for earlier, later in pairwise(heard)]
        self.assertLess(max(pauses), 0.3)
        self.assertEqual((leader, term), (self.leader, self.cluster.term))

    def test_stalled_leader(self) -> None:
        """Others take over; nothing that was acknowledged is lost, and the stalled one follows in the end."""
        self.put_through(b"a")
        stalled = self.leader
        stalled.slow_disk(3000.0)
        outcome = self.begin(PutRequest(key=b"b"), stalled)
        self.until(lambda: self.cluster.leader() not in (stalled, None))
        self.put_through(b"c")
        stalled.mend_disk()
        self.run_for(20.0)
        self.serve()
        keys = self.keys(stalled)
        self.assertLessEqual({b"a", b"c"}, set(keys))
        if isinstance(outcome[0], PutResponse):
            self.assertIn(b"b", keys)
        self.assertEqual(1, len(self.hashes()))

    def put_through(self, key: bytes) -> None:
        self.assertIsInstance(self.ask(PutRequest(key=key), self.leader), PutResponse)
