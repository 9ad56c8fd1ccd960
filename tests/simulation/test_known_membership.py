"""Known failures of clusters whose members change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.python.failure import Failure

from tests.simulation.members import MembersScene, is_message
from twistedetcd.cluster.reconfig import STEADY_SECONDS
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.pb.rpc_pb2 import (
    DeleteRangeRequest,
    MemberAddRequest,
    MemberAddResponse,
    MemberPromoteRequest,
    MemberRemoveRequest,
    MemberUpdateRequest,
    MemberUpdateResponse,
    PutRequest,
    PutResponse,
    TxnRequest,
)
from twistedetcd.raft.types import Entry, Message, MessageType
from twistedetcd.testing.checks import Unknown
from twistedetcd.testing.packets import Lane, Packet
from twistedetcd.testing.simulation.machine import Machine
from twistedetcd.wire import encode_message


class SlowTests(MembersScene):
    """A change that is committed behind an entry that takes its time."""

    def test_change_behind_a_slow_entry(self) -> None:
        """While it waits, members answer heartbeats and the leader sends them: the term stays what it is."""
        self.run_for(STEADY_SECONDS + 1.0)  # before, nobody is added
        for first in range(0, 3000, 100):
            put = TxnRequest()
            for number in range(first, first + 100):
                put.success.add().request_put.key = b"slow/%05d" % number
            self.ask(put, self.leader)
        for machine in self.cluster.machines:
            self.assembly(machine).member.applying._slices._pause_seconds = 2.0
        terms = [self.node(machine).raft.term for machine in self.cluster.machines]
        deleting = self.begin(DeleteRangeRequest(key=b"slow/", range_end=b"slow0"), self.leader)
        self.run_for(0.1)
        adding = self.begin(MemberAddRequest(peerURLs=["http://10.0.0.9:2380"], isLearner=True), self.leader)
        self.run_for(3.0)
        self.assertEqual(([], []), (deleting, adding))
        self.until(lambda: bool(deleting and adding))
        self.assertEqual(terms, [self.node(machine).raft.term for machine in self.cluster.machines])
        self.assertEqual(3000, deleting[0].deleted)
        self.assertIsInstance(adding[0], MemberAddResponse)
        self.assertEqual(1, len(self.hashes()))


class ViewTests(MembersScene):
    """Raft, memory, engine and snapshots know the same members."""

    def test_kf_54_promotion_everywhere(self) -> None:
        """
        A promoted learner votes in every view, after each step and each restart, and for whoever comes later.
        """
        founders = [machine.member_id for machine in self.cluster.machines]
        learner = self.join(self.add(learner=True))
        self.assert_one_view(founders, [learner.member_id])
        self.promote(learner.member_id)
        self.assert_one_view([*founders, learner.member_id])
        self.remove(learner)
        self.assert_one_view(founders)
        again = self.join(self.add(learner=True))
        self.promote(again.member_id)
        self.assert_one_view([*founders, again.member_id])
        for machine in self.cluster.machines:
            machine.kill()
        self.serve()
        self.assert_one_view([*founders, again.member_id])
        last = self.join(self.add())
        self.assert_one_view([*founders, again.member_id, last.member_id])
        self.assertEqual(1, len(self.hashes()))

    def test_kf_55_other_urls(self) -> None:
        """A learner with other peer URLs is one still: no second one fits in, and it can be promoted."""
        learner = self.join(self.add(learner=True))
        moved = "http://10.0.1.4:2380"
        answer = self.ask(MemberUpdateRequest(ID=learner.member_id, peerURLs=[moved]), self.leader)
        self.assertIsInstance(answer, MemberUpdateResponse)
        listed = {one.ID: one for one in self.member_list(self.followers[0]).members}[learner.member_id]
        self.assertEqual(([moved], True, learner.name), (listed.peerURLs, listed.isLearner, listed.name))
        second = MemberAddRequest(peerURLs=["http://10.0.0.9:2380"], isLearner=True)
        self.assert_refused("too many learner members", second)
        founders = [machine.member_id for machine in self.cluster.machines if machine is not learner]
        self.assert_one_view(founders, [learner.member_id])
        self.promote(learner.member_id)
        self.assert_one_view([*founders, learner.member_id])

    def test_kf_57_replay_of_a_vanished_member(self) -> None:
        """Changes of a member that is gone by the end of the log are replayed without any effect."""
        founders = [machine.member_id for machine in self.cluster.machines]
        learner = self.join(self.add(learner=True))
        self.promote(learner.member_id)
        self.remove(learner)
        self.run_for(3.0)
        for machine in self.cluster.machines:
            self.assertIsNone(self.snapshot_view(machine), "the log is read from its beginning")
            self.assertEqual((sorted(founders), []), self.views(machine)[3], "and the engine has all of it")
            machine.kill()
        self.serve()
        for machine in self.cluster.machines:
            self.assertEqual([(sorted(founders), [])] * 4, self.views(machine))
        self.assertEqual(1, len(self.hashes()))

    def test_kf_56_removed_members_stay_away(self) -> None:
        """Nobody comes back, whether the removal is in a snapshot or only in the log's tail."""
        gone, *_ = self.followers
        self.run_for(6.0)
        for count in (0, 45):
            with_snapshot = bool(count)
            if not with_snapshot:
                self.writes(45)
                self.remove(gone)
            self.writes(count)
            self.run_for(3.0)
            kept = sorted(machine.member_id for machine in self.cluster.machines)
            for _ in range(2):
                for machine in self.cluster.machines:
                    machine.kill()
                self.serve()
                for machine in self.cluster.machines:
                    self.assertEqual([(kept, [])] * 4, self.views(machine))
        # Nor does one that slept through its removal, whenever it wakes up.
        self.assertTrue(gone.told_removed)
        gone.start()
        self.run_for(5.0)
        self.assertIsNone(gone.life)


class ForcedTests(MembersScene):
    """One member goes on alone (``--force-new-cluster``)."""

    def forced(self, survivor: Machine) -> None:
        """All machines fail, and one starts as a cluster of its own; then it restarts twice."""
        others = [machine for machine in self.cluster.machines if machine is not survivor]
        for machine in self.cluster.machines:
            self.down(machine)
        self.cluster.machines[:] = [survivor]
        usual = survivor.config
        survivor.config = replace(usual, force_new_cluster=True)
        self.up(survivor)
        for _ in range(2):
            self.assertEqual([([survivor.member_id], [])] * 4, self.views(survivor))
            listed = [one.ID for one in self.member_list().members]
            self.assertEqual([survivor.member_id], listed)
            self.put(b"alone")
            survivor.config = usual
            survivor.kill()
            self.serve()
        self.assert_one_view([survivor.member_id])
        for other in others:
            other.excused = "it was removed"
            other.start()
            self.run_for(5.0)
            self.assertFalse(other.serves, "it is no member any more")
        self.assertEqual([survivor.member_id], [one.ID for one in self.member_list().members])

    def scene(self) -> Machine:
        """Three and a learner, then one is removed."""
        self.put(b"before")
        self.join(self.add(learner=True))
        leader = self.leader
        self.remove(self.followers[0])
        return leader

    def test_kf_56_removal_in_the_tail(self) -> None:
        """Of three and a learner, one of them removed in the log's tail, exactly one voter is left."""
        survivor = self.scene()
        self.forced(survivor)
        self.assertIn(b"before", self.keys(survivor))

    def test_kf_56_removal_in_a_snapshot(self) -> None:
        """Likewise if a snapshot has the removal, and the log before it is gone."""
        survivor = self.scene()
        self.writes(60)
        self.forced(survivor)
        self.assertIn(b"before", self.keys(survivor))


class ChangeTests(MembersScene):
    """One change after the other, and what is refused."""

    def test_kf_09_one_change_after_the_other(self) -> None:
        """Whoever is told that a change is made may ask for the next one at once; none is lost."""
        self.run_for(6.0)
        leader = self.leader
        leader.slow_disk(10.0)
        membership = self.assembly(leader).member.clustering.membership
        rounds: list[object] = []

        def add(_: object = None) -> Any:
            member, added = membership.add([f"http://10.0.9.{len(rounds)}:2380"], True)
            return added.addCallback(lambda _: membership.remove(member.id)).addCallback(rounds.append)

        for _ in range(20):
            count = len(rounds)
            failures: list[Failure] = []
            add().addErrback(failures.append)
            self.until(lambda count=count, failures=failures: len(rounds) > count or failures)
            self.assertEqual([], failures)
        founders = sorted(machine.member_id for machine in self.cluster.machines)
        self.assertEqual((founders, []), self.views(leader)[0])
        self.assertEqual(20, len(self.assembly(leader).member.cluster.removed))

    def test_a_leader_that_one_does_not_know(self) -> None:
        """A member that was away while the leader of now was added answers that one, and learns who it is."""
        self.run_for(STEADY_SECONDS + 1.0)
        self.join(self.add())
        self.run_for(STEADY_SECONDS + 1.0)
        away = self.followers[0]
        self.down(away)
        new = self.machine_for(self.add())
        self.until(lambda: new.serves)
        self.move_leader(new)
        self.writes(3, new)
        self.up(away)
        self.assertEqual(1, len(self.hashes()))

    def test_nobody(self) -> None:
        """A member of id 0, or one that was removed, is not found, at once and from anybody."""
        learner = self.join(self.add(learner=True))
        self.remove(learner)
        for machine in (self.leader, *self.followers):
            cluster = self.assembly(machine).member.cluster
            self.until(lambda cluster=cluster: learner.member_id in cluster.removed)
            for number in (0, learner.member_id):
                self.assert_refused("member not found", MemberRemoveRequest(ID=number), machine)
                update = MemberUpdateRequest(ID=number, peerURLs=["http://10.0.0.9:2380"])
                self.assert_refused("member not found", update, machine)

    def test_too_many_urls(self) -> None:
        """What describes a member is bounded: every member keeps it, and looks at it in the log."""
        urls = [f"http://10.0.0.9:{port}" for port in range(1, 6000)]
        for request in (
            MemberAddRequest(peerURLs=urls, isLearner=True),
            MemberUpdateRequest(ID=self.leader.member_id, peerURLs=urls),
        ):
            self.run_for(STEADY_SECONDS + 1.0)
            self.assert_refused("request is too large", request)

    def test_two_at_once(self) -> None:
        """Of two changes at the same time at least one is made; who is not told so finds no trace of it."""
        self.run_for(6.0)
        requests = [MemberAddRequest(peerURLs=[f"http://10.0.0.{n}:2380"], isLearner=False) for n in (8, 9)]
        outcomes = [self.begin(request, self.leader) for request in requests]
        self.run_for(12.0)
        made = [one[0].member.ID for one in outcomes if isinstance(one[0], MemberAddResponse)]
        self.assertIn(len(made), (1, 2))
        founders = [machine.member_id for machine in self.cluster.machines]
        for machine in self.cluster.machines:
            self.assertEqual([(sorted([*founders, *made]), [])] * 4, self.views(machine))

    def test_change_lost_with_its_leader(self) -> None:
        """A change that its leader could not replicate is not made, and nobody hears that it is."""
        self.run_for(6.0)
        deposed = self.leader
        before = self.views(deposed)[0]
        self.apart(deposed)
        outcome = self.begin(MemberAddRequest(peerURLs=["http://10.0.0.9:2380"], isLearner=True), deposed)
        self.until(lambda: self.cluster.leader() not in (deposed, None))
        self.put_through(self.leader)
        self.heal()
        self.serve()
        self.run_for(8.0)
        self.assertIsInstance(outcome[0], Unknown)
        for machine in self.cluster.machines:
            self.assertEqual([before] * 4, self.views(machine))
        self.join(self.add(learner=True))

    def put_through(self, machine: Machine) -> None:
        self.assertIsInstance(self.ask(PutRequest(key=b"k"), machine), PutResponse)

    def test_kf_58_quorum_guards(self) -> None:
        """What would cost the quorum is refused, and leaves no trace in the log."""
        self.run_for(6.0)
        dead, alive = self.followers
        self.down(dead)
        self.run_for(8.0)
        last = self.node(self.leader).raft.status().last_index
        url = "http://10.0.0.9:2380"
        self.assert_refused("unhealthy cluster", MemberAddRequest(peerURLs=[url]))
        self.assert_refused("unhealthy cluster", MemberRemoveRequest(ID=alive.member_id))
        self.assert_refused("unhealthy cluster", MemberRemoveRequest(ID=self.leader.member_id))
        self.assertEqual(last, self.node(self.leader).raft.status().last_index)
        self.remove(dead)
        self.assertEqual(2, len(self.member_list().members))

    def test_kf_58_learner_that_never_started(self) -> None:
        """Whichever member is asked, a learner that has nothing of the log is not promoted."""
        added = self.add(learner=True)
        last = self.node(self.leader).raft.status().last_index
        for machine in (self.leader, *self.followers):
            request = MemberPromoteRequest(ID=added.member.ID)
            self.assert_refused("can only promote a learner member which is in sync", request, machine)
        self.assertEqual(last, self.node(self.leader).raft.status().last_index)
        self.join(added)
        self.promote(added.member.ID, through=self.followers[0])
        self.assertEqual(4, sum(not one.isLearner for one in self.member_list().members))

    def test_leader_removed(self) -> None:
        """A leader that is removed stops, and the others have a new one without it."""
        self.run_for(6.0)
        leader = self.leader
        self.remove(leader)
        self.until(lambda: self.cluster.leader() is not None and leader.life is None)
        self.put_through(self.leader)
        self.assert_one_view([machine.member_id for machine in self.cluster.machines])
        self.assertEqual(1, len(self.hashes()))


class GrowingTests(MembersScene):
    """A member that was alone, and is again in the end."""

    members = 1

    def test_there_and_back(self) -> None:
        """From one member to three, by way of two, and back to another one; each step is whole and serves."""
        first = self.leader
        self.put_through(b"0")
        for number in (2, 3):
            self.join(self.add())
            self.put_through(b"%d" % number)
            self.assert_one_view([machine.member_id for machine in self.cluster.machines])
        self.run_for(6.0)
        for number in (4, 5):
            self.remove(self.leader)  # also of two
            self.until(lambda: self.cluster.leader() is not None)
            self.put_through(b"%d" % number)
            self.assert_one_view([machine.member_id for machine in self.cluster.machines])
        [last] = self.cluster.machines
        self.assertIsNot(first, last)
        last.crash(0.0)
        self.serve()
        self.assertLessEqual({b"0", b"2", b"3", b"4", b"5"}, set(self.keys(last)))

    def put_through(self, key: bytes) -> None:
        self.assertIsInstance(self.ask(PutRequest(key=key), self.leader), PutResponse)


class IdentityTests(MembersScene):
    """Who a message is for, who it is from, and whose disk it is."""

    def test_kf_10_message_for_somebody_else(self) -> None:
        """A message for another member's id changes nothing where it arrives, and is not answered."""
        leader, (one, other) = self.leader, self.followers
        before = self.node(one).raft.status()
        answers: list[Packet] = []
        answered = is_message(MessageType.APP_RESP)
        self.world.network.look = lambda packet, what: (
            answers.append(packet) if packet.sender == one.member_id and answered(packet) else None
        )
        index, term, sender = before.last_index, self.node(one).raft.term, leader.member_id
        entry = Entry(term, index + 1, b"not for you")
        message = Message(MessageType.APP, other.member_id, sender, term, term, index, (entry,), index)
        packet = Packet(sender, one.member_id, Lane.BULK, "message", encode_message(message))
        packet = packet._replace(cluster=self.assembly(one).member.cluster_id)
        self.world.network.carry(packet)
        self.run_for(0.05)
        after = self.node(one).raft.status()
        self.assertEqual((before.last_index, before.hard_state), (after.last_index, after.hard_state))
        self.assertEqual([], answers)
        # One that is rightly addressed is answered.
        message = message._replace(to=one.member_id, entries=())
        self.world.network.carry(packet._replace(body=encode_message(message)))
        self.run_for(0.05)
        self.assertEqual(1, len(answers))
        self.world.network.look = None

    def test_kf_10_acknowledged_by_a_stranger(self) -> None:
        """An acknowledgement of somebody who is no member commits nothing."""
        leader = self.leader
        self.apart(leader)
        outcome = self.begin(PutRequest(key=b"a"), leader)
        self.run_for(0.05)
        status = self.node(leader).raft.status()
        self.assertGreater(status.last_index, status.hard_state.commit)
        term, last = self.node(leader).raft.term, status.last_index
        for stranger in (0x55, 0x66):
            message = Message(MessageType.APP_RESP, leader.member_id, stranger, term, 0, last)
            self.assembly(leader).member.clustering.peers.receive(message)
        self.run_for(0.05)
        self.assertEqual(status.hard_state.commit, self.commit(leader))
        self.assertEqual([], outcome)
        self.heal()

    def test_kf_11_wiped_disk(self) -> None:
        """
        A member that comes back without its log is not taken for the one that it was: it stops, and says why.

        Removed and added again it is another one, with another id, and serves.
        """
        self.put(b"a")
        wiped = self.followers[0]
        for _ in range(2):
            self.down(wiped)
            wiped.files = SimulatedFiles(self.world.random("new disk"))
            wiped.excused = "its disk was wiped"
            wiped.start()
            wiped.excused = "its disk was wiped"
            self.run_for(3.0)
            self.assertIsNone(wiped.life)
            assert self.world.transcript is not None
            [why] = [line for line in self.world.transcript.lines if "has stopped: " in line][-1:]
            self.assertIn("past the last index 3: log lost or damaged?  If so, remove this member", why)
        self.remove(wiped)
        again = self.join(self.add())
        self.assertNotEqual(wiped.member_id, again.member_id)
        self.assertEqual([b"a"], self.keys(again))
        self.assertEqual(1, len(self.hashes()))

    def test_kf_11_no_commit_above_the_match(self) -> None:
        """No heartbeat tells a follower of a commit that it is not known to hold."""
        lagging = self.followers[0]
        self.down(lagging)
        self.writes(5)
        told: list[int] = []

        def look(packet: Packet, what: str) -> None:
            message = packet.message
            if message and message.type is MessageType.HEARTBEAT and packet.to == lagging.member_id:
                progress = self.node(self.leader).raft.status().progress[lagging.member_id]
                told.append(message.commit)
                self.assertLessEqual(message.commit, progress.match)

        self.world.network.look = look
        self.run_for(1.0)
        self.assertGreater(len(told), 5)
        self.assertLess(max(told), self.commit(self.leader))
        self.up(lagging)
        self.world.network.look = None
