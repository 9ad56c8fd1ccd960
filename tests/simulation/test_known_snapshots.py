"""Known failures of stores that come from other members."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.simulation.members import MembersScene
from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.legacytree import decode_membership
from twistedetcd.pb.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from twistedetcd.raft.types import Message, MessageType, Snapshot
from twistedetcd.schema import INSTALLING, META
from twistedetcd.server import memorylog, raftnode
from twistedetcd.server.bootstrap import read_mark
from twistedetcd.snap.install import install
from twistedetcd.testing import images
from twistedetcd.testing.packets import Packet
from twistedetcd.testing.simulation import life
from twistedetcd.testing.simulation.journal import JournalBackend
from twistedetcd.testing.simulation.machine import Machine


class SnapshotScene(MembersScene):
    """One member falls behind, and gets a snapshot."""

    def setUp(self) -> None:
        for module in (memorylog, raftnode):
            self.patch(module, "COMPACT_EVERY", 10)
        self.patch(images, "FINISH_SECONDS", 2.0)
        super().setUp()
        self.images: list[str] = []
        self.world.network.look = self.look

    def look(self, packet: Packet, what: str) -> None:
        if packet.kind in ("image taken", "image begins") and what == "sent":
            self.images.append(packet.kind)

    @property
    def installed(self) -> int:
        """How many images arrived."""
        return self.images.count("image taken")

    def left_over(self, machine: Machine) -> list[str]:
        """Images on a machine's disk."""
        directory = f"/var/lib/{machine.name}/member/snap"
        return [name for name in machine.files.list(directory) if ".snap.db" in name]

    def fall_behind(self, prefix: bytes = b"w", count: int = 50) -> Machine:
        """The last follower is cut off for so long that the leader's log does not do."""
        away = self.followers[-1]
        self.until(lambda: not self.assembly(self.leader).shipping, 60.0)
        self.apart(away)
        self.writes(count, prefix=prefix)
        return away

    def caught_up(self, machine: Machine) -> bool:
        """Whether it has what the leader has."""
        return machine.serves and self.node(machine).applied_index >= self.node(self.leader).applied_index


class InstallTests(SnapshotScene):
    """Whatever happens on the way, in the end all members have the same."""

    def test_kf_20_consistent_index_from_the_first_commit_on(self) -> None:
        """
        While a snapshot is installed nothing of the old store's index gets into the new one: the engine is
        marked as half replaced until it has the new index.
        """
        away = self.fall_behind()
        before = self.node(away).applied_index
        seen: list[tuple[bool, int]] = []
        write = type(self.assembly(away)._disk.backend).write
        backend = self.assembly(away)._disk.backend

        def watched(engine: Any, batch: Any) -> None:
            write(engine, batch)
            if engine is backend:
                view = engine.read()
                seen.append((view.get(META, INSTALLING) is not None, read_mark(view.get)[0]))
                view.close()

        self.patch(type(backend), "write", watched)
        self.heal()
        self.until(lambda: self.caught_up(away))
        self.writes(5, away)
        self.assertEqual(1, self.installed)
        first = next(number for number, (half, _) in enumerate(seen) if half)
        last = max(number for number, (half, _) in enumerate(seen) if half)
        self.assertTrue(all(half for half, _ in seen[first : last + 1]))
        self.assertTrue(all(index <= before for _, index in seen[:first]))
        self.assertTrue(all(index > before + 40 for _, index in seen[last + 1 :]))
        self.assertEqual(1, len(self.hashes()))

    def test_kf_12_crash_at_each_step(self) -> None:
        """
        The power fails at each sync of taking in a snapshot: file, record, entries, every batch of the
        installation.  The member starts from what is left, and catches up.
        """
        self.patch(install, "__defaults__", (10, 4096))
        syncs, crashed = 0, True
        while crashed:
            away = self.fall_behind(count=30)
            away.cut_power_after(syncs, only_syncs=True)
            self.heal()
            self.until(lambda away=away: away.lives > 1 or self.caught_up(away))
            syncs, crashed = syncs + 1, away.lives > 1
            away.cut_power_after(1_000_000)
            self.until(lambda away=away: self.caught_up(away))
            self.assertEqual(1, len(self.hashes()))
            self.assertEqual([[]] * 3, [self.left_over(machine) for machine in self.cluster.machines])
            self.tearDown()
            self.setUp()
        self.assertGreater(syncs, 15)

    def test_kf_19_two_shortly_after_each_other(self) -> None:
        """A second snapshot that arrives while the first is installed waits, and nothing of it is lost."""
        away = self.fall_behind()
        held = self.hold_installation(away)
        self.heal()
        self.until(lambda: held.began == 1)
        # The leader forgets what it sent, and its log goes on.
        self.apart(away)
        self.writes(50, prefix=b"x")
        self.move_leader(next(one for one in self.followers if one is not away))
        self.heal()
        self.until(lambda: self.installed == 2)
        self.assertEqual(1, held.began)
        held.go_on()
        self.until(lambda: self.caught_up(away))
        self.assertEqual(2, held.began)
        self.assertEqual(1, len(self.hashes()))
        self.assertEqual([], self.left_over(away))

    def test_slow_entry_half_applied(self) -> None:
        """A snapshot that arrives while an entry is half carried out waits until all of it is."""
        for number in range(0, 3000, 100):
            puts = [RequestOp(request_put=PutRequest(key=b"%05d" % n)) for n in range(number, number + 100)]
            self.assertIsInstance(self.ask(TxnRequest(success=puts), self.leader), TxnResponse)
        away = self.followers[-1]
        self.until(lambda: self.caught_up(away))
        member = self.assembly(away).member
        self.patch(member.applying._slices, "_pause_seconds", 0.2)
        outcome = self.begin(DeleteRangeRequest(key=b"0", range_end=b"1"), self.leader)
        self.until(lambda: member.applying.behind)
        away.pause()  # all that goes on there stands still, in the middle of the entry
        self.apart(away)
        self.writes(50)
        self.assertIsInstance(outcome[0], DeleteRangeResponse)
        made: list[Any] = []
        self.assembly(self.leader)._exchange.image().addCallback(made.extend)
        self.run_for(1.0)
        snapshot, image = made
        sink = member.clustering.peers.receive_snapshot(
            Message(
                MessageType.SNAP,
                away.member_id,
                self.leader.member_id,
                self.node(self.leader).raft.term,
                snapshot=snapshot,
            )
        )
        for chunk in image.chunks():
            sink.write(chunk)
        image.close()
        self.assertTrue(member.applying.behind)
        sink.finish()
        away.resume()
        self.run_for(0.1)
        self.assertTrue(member.applying.behind, "it is carried out still, and the snapshot is there")
        self.assertEqual(1, len(self.left_over(away)))
        self.run_for(2.0)
        self.heal()
        self.until(lambda: self.caught_up(away))
        self.assertEqual(1, len(self.hashes()))
        self.assertEqual([], self.left_over(away))

    def test_leader_changes_while_it_is_sent(self) -> None:
        """A snapshot of a leader that is none any more does no harm, and leaves no file."""
        away = self.fall_behind()
        hold = self.world.network.hold(lambda packet: packet.kind == "image ends")
        self.heal()
        self.until(lambda: bool(hold.held))
        self.move_leader(next(one for one in self.followers if one is not away))
        self.until(lambda: self.node(away).raft.lead == self.leader.member_id)
        hold.end()
        self.until(lambda: self.caught_up(away))
        self.assertEqual(1, len(self.hashes()))
        self.run_for(31.0)
        self.assertEqual([], self.left_over(away))

    def test_kf_54_changes_that_came_with_it(self) -> None:
        """Whoever was away while the members changed knows them in all views, also after a restart."""
        founders = [machine.member_id for machine in self.cluster.machines]
        self.run_for(6.0)
        away = self.fall_behind()
        member = self.assembly(self.leader).member
        learner, added = member.clustering.membership.add(["http://10.0.9.1:2380"], True)
        self.until(lambda: added.called)
        self.writes(50)
        self.heal()
        self.until(lambda: self.caught_up(away) and self.installed == 1)
        self.assert_one_view(founders, [learner.id])
        away.kill()
        self.serve()
        self.assert_one_view(founders, [learner.id])

    def test_one_that_came_too_late(self) -> None:
        """A snapshot of what is there already is not taken, and its file goes away."""
        made: list[Any] = []
        self.assembly(self.leader)._exchange.image().addCallback(made.extend)
        self.writes(5)
        snapshot, image = made
        member = self.assembly(self.followers[0]).member
        term = self.node(self.leader).raft.term
        ours, theirs = self.followers[0].member_id, self.leader.member_id
        message = Message(MessageType.SNAP, ours, theirs, term, snapshot=snapshot)
        sink = member.clustering.peers.receive_snapshot(message)
        for chunk in image.chunks():
            sink.write(chunk)
        image.close()
        sink.finish()
        self.run_for(1.0)
        self.assertEqual(1, len(self.left_over(self.followers[0])))
        self.run_for(31.0)
        self.assertEqual([], self.left_over(self.followers[0]))
        self.assertEqual(1, len(self.hashes()))

    def test_members_of_the_moment(self) -> None:
        """
        A snapshot tells the members as they were after its last entry, in both of its accounts, also when
        they change while it is made.
        """
        self.run_for(6.0)
        leader = self.leader
        exchange = self.assembly(leader)._exchange
        member = self.assembly(leader).member
        found: list[Any] = []
        run = self.assembly(leader)._committer._run_in_writer

        def slowly(work: Any) -> Deferred[Any]:
            return run(work).addCallback(lambda _: self.caller.pause(0.2))

        self.patch(self.assembly(leader)._committer, "_run_in_writer", slowly)
        for number in range(5):
            self.ask(PutRequest(key=b"k"), leader)
            exchange.image().addCallback(found.append)
            if member.cluster.learners:
                member.clustering.membership.remove(member.cluster.learners[0].id)
            else:
                member.clustering.membership.add([f"http://10.0.9.{number}:2380"], True)
            self.run_for(1.0)
        self.assertEqual(5, len(found))
        for snapshot, image in found:
            image.close()
            told = decode_membership(snapshot.data).members
            self.assertEqual(
                (sorted(snapshot.conf_state.voters), sorted(snapshot.conf_state.learners)),
                (
                    [member.id for member in told if not member.is_learner],
                    [member.id for member in told if member.is_learner],
                ),
            )

    def test_crash_between_raft_and_disk(self) -> None:
        """
        The engine's account of the members is that of its own index, also while raft knows from a snapshot
        on its way to the disk who they will be.
        """
        self.run_for(6.0)
        away = self.followers[-1]
        before = self.views(away)[0]
        # An entry without effect moves the index, but is no reason to write to the engine.
        self.ask(DeleteRangeRequest(key=b"nothing"), away)
        self.apart(away)
        self.assembly(self.leader).member.clustering.membership.add(["http://10.0.9.1:2380"], True)
        self.writes(50)
        put = self.assembly(away).member.pending.put
        held: list[Deferred[None]] = []

        def keep(snapshot: Any) -> Deferred[None]:
            # What a compaction, say, has written meanwhile.
            put(b"test", b"key", b"value")
            held.append(Deferred())
            return held[-1]

        self.patch(self.assembly(away)._exchange, "keep", keep)
        self.heal()
        self.until(lambda: bool(held))
        self.run_for(0.5)
        view = self.assembly(away)._disk.backend.read()
        _, _, stored = read_mark(view.get)
        view.close()
        self.assertEqual(before, (sorted(stored.voters), sorted(stored.learners)))
        away.crash(0.0)
        self.up(away)
        self.until(lambda: self.caught_up(away))
        self.assertEqual(1, len(self.hashes()))

    def test_own_snapshot_under_way(self) -> None:
        """One of its own, begun before, that is recorded after the one that came leads no restart astray."""
        away = self.followers[-1]
        snapshots = self.assembly(away).member._snapshots
        assert snapshots is not None
        before = snapshots.recorded
        run, held = snapshots._run_in_worker, Deferred[None]()
        self.patch(snapshots, "_run_in_worker", lambda work: held.addCallback(lambda _: run(work)))
        self.writes(25)
        self.until(lambda: self.caught_up(away))
        self.apart(away)
        self.writes(50, prefix=b"x")
        self.heal()
        self.until(lambda: self.caught_up(away))
        self.assertEqual((1, before), (self.installed, snapshots.recorded))
        held.callback(None)
        self.run_for(1.0)
        self.assertGreater(snapshots.recorded, before)
        away.crash(0.0)
        self.serve()
        self.until(lambda: self.caught_up(away))
        self.assertEqual(1, self.installed)
        self.assertEqual(1, len(self.hashes()))

    def test_second_one_while_the_first_is_kept(self) -> None:
        """A snapshot that comes while an earlier one is made durable waits until that one is installed."""
        away = self.fall_behind()
        exchange = self.assembly(away)._exchange
        keep, gate, kept = exchange.keep, Deferred[None](), list[int]()

        def slow_keep(snapshot: Snapshot) -> Deferred[None]:
            kept.append(snapshot.index)
            done = keep(snapshot)
            return done if len(kept) > 1 else done.addCallback(lambda _: gate)

        self.patch(exchange, "keep", slow_keep)
        self.patch(images, "FINISH_SECONDS", 0.3)
        hold = self.world.network.hold(lambda packet: packet.kind == "image taken")
        self.heal()
        self.until(lambda: len(kept) == 1)
        for number in range(50):
            self.begin(PutRequest(key=b"x%04d" % number, value=bytes(100)), self.leader)
            self.run_for(0.005)
        hold.drop()
        self.world.network.holds.remove(hold)
        self.run_for(0.5)
        gate.callback(None)
        for number in range(300):
            self.begin(PutRequest(key=b"y%04d" % number, value=b"v"), self.leader)
            self.run_for(0.01)
        self.until(lambda: self.caught_up(away))
        self.run_for(3.0)
        self.assertEqual(1, len(self.hashes()))

    def test_engine_that_forgets(self) -> None:
        """A member whose engine is in memory starts again from the store that it was given."""
        away = self.followers[-1]
        self.patch(
            life,
            "JournalBackend",
            lambda files, path: MemoryBackend() if f"/{away.name}/" in path else JournalBackend(files, path),
        )
        away.kill()
        self.serve()
        for prefix in (b"w", b"x", b"y"):
            installed = self.installed
            self.assertIs(away, self.fall_behind(prefix))
            self.heal()
            self.until(lambda installed=installed: self.caught_up(away) and self.installed > installed)
            self.assertEqual(1, len(self.left_over(away)), "as long as the log begins there")
            self.writes(5, away, prefix)
            for chance in (0.0, 1.0):
                away.crash(chance)
                self.serve()
                self.until(lambda: self.caught_up(away))
                self.assertEqual(1, len(self.hashes()))
        self.assertEqual(3, self.installed)

    def hold_installation(self, machine: Machine) -> Held:
        """Installations on a machine wait at their beginning, until `Held.go_on`."""
        return Held(self, self.assembly(machine).member)


class Held:
    """Installations that wait."""

    def __init__(self, scene: SnapshotScene, member: Any) -> None:
        self.began = 0
        self._open = False
        self._wait: Deferred[None] = Deferred()
        install = member._exchange.install

        def held(snapshot: Any) -> Any:
            self.began += 1
            if self._open:
                return install(snapshot)
            return self._wait.addCallback(lambda _: install(snapshot))

        scene.patch(member._exchange, "install", held)

    def go_on(self) -> None:
        """Wait no longer."""
        self._open = True
        self._wait.callback(None)
