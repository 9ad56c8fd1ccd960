"""A simulated machine does to its member what a real one may."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from google.protobuf.message import Message
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import PutRequest, PutResponse, RangeRequest, RangeResponse
from twistedetcd.testing.checks import Refused, Unknown
from twistedetcd.testing.simulation.caller import Caller, Record
from twistedetcd.testing.simulation.calls import REFUSED, Road
from twistedetcd.testing.simulation.cluster import Cluster, founding_configs
from twistedetcd.testing.simulation.machine import Machine
from twistedetcd.testing.simulation.nemesis import SET_BACK_SECONDS, depose
from twistedetcd.testing.simulation.world import World


class Scene(SynchronousTestCase):
    """A cluster that serves, and a client without bad luck."""

    members = 1
    flags: tuple[str, ...] = ("--snapshot-count=20", "--snapshot-catchup-entries=5")

    def setUp(self) -> None:
        self.world = World(1, transcript=True)
        self.cluster = Cluster(self.world, founding_configs(self.members, *self.flags), self.flags)
        for machine in self.cluster.machines:
            machine.sync_in_thread = True
        self.record = Record()
        self.caller = Caller(self.world, "c", self.world.random("c"), Road(), self.record)
        self.cluster.start()
        self.serve()

    def tearDown(self) -> None:
        self.assertEqual([], self.world.problems)

    @property
    def machine(self) -> Machine:
        return self.cluster.machines[0]

    def serve(self) -> None:
        """Wait until all members serve."""
        self.assertTrue(self.cluster.wait_until(self.cluster.recovered, 20.0), self.cluster.machines)

    def begin(self, request: Message, machine: Machine | None = None) -> list[Any]:
        """Ask; the outcome is in the list when it is there."""
        outcome: list[Any] = []
        self.caller.ask(machine or self.machine, request).addCallback(outcome.append)
        return outcome

    def ask(self, request: Message, machine: Machine | None = None) -> Any:
        """Ask, and wait for the outcome."""
        outcome = self.begin(request, machine)
        self.cluster.wait_until(lambda: bool(outcome), 20.0)
        return outcome[0]

    def put(self, key: bytes, value: bytes = b"v") -> None:
        self.assertIsInstance(self.ask(PutRequest(key=key, value=value)), PutResponse)

    def keys(self, machine: Machine | None = None) -> list[bytes]:
        answer = self.ask(RangeRequest(key=b"\0", range_end=b"\0"), machine)
        self.assertIsInstance(answer, RangeResponse)
        return [item.key for item in answer.kvs]


class MachineTests(Scene):
    """One machine with one member."""

    def test_crash(self) -> None:
        """What was acknowledged survives a crash that loses all that was not synced, and any other."""
        for number, chance in enumerate((0.0, 0.5, 1.0, None)):
            self.put(b"%d" % number)
            self.machine.crash(chance)
            self.assertFalse(self.machine.serves)
            self.serve()
        self.assertEqual([b"0", b"1", b"2", b"3"], self.keys())
        self.assertEqual(5, self.machine.lives)

    def test_unacknowledged(self) -> None:
        """What was not synced when the power failed is not acknowledged, and need not be there."""
        self.machine.slow_disk(10_000.0)
        outcome = self.begin(PutRequest(key=b"a"))
        self.world.clock.advance(0.1)
        self.machine.crash(0.0)
        self.machine.mend_disk()
        self.serve()
        self.assertIsInstance(outcome[0], Unknown)
        self.assertIn(self.keys(), ([], [b"a"]))

    def test_kill(self) -> None:
        """A killed process loses nothing that was written."""
        self.put(b"a")
        self.machine.kill()
        self.assertEqual(Refused(Code.UNAVAILABLE, REFUSED), self.ask(PutRequest(key=b"b")))
        self.serve()
        self.assertEqual([b"a"], self.keys())

    def test_stop(self) -> None:
        """A member that is asked to stop does, and another life begins."""
        self.put(b"a")
        self.machine.stop()
        self.assertTrue(self.cluster.wait_until(lambda: self.machine.lives == 2, 10.0))
        self.serve()
        self.assertEqual([b"a"], self.keys())

    def test_pause(self) -> None:
        """While a machine is paused nothing happens there; then all that was asked for does."""
        self.machine.pause()
        outcome = self.begin(PutRequest(key=b"a"))
        self.world.clock.advance(2.0)
        self.assertEqual([], outcome)
        self.machine.resume()
        self.world.clock.advance(1.0)
        self.assertIsInstance(outcome[0], PutResponse)

    def test_power_cut(self) -> None:
        """The power fails in the middle of any change to the disk, and nothing is seen of what follows."""
        for changes in range(12):
            self.machine.cut_power_after(changes, only_syncs=changes % 2 == 0)
            lives = self.machine.lives
            for number in range(50):
                self.begin(PutRequest(key=b"%d-%d" % (changes, number)))
                self.world.clock.advance(0.05)
            self.assertGreater(self.machine.lives, lives)
            self.serve()
        answered = {o.request.key for o in self.record.operations if isinstance(o.outcome, PutResponse)}
        self.assertLessEqual(answered, set(self.keys()))

    def test_power_cut_at_the_end(self) -> None:
        """Nor is it anybody's fault when the power fails while a member that was asked to stop is closed."""
        for changes in range(12):
            self.put(b"%d" % changes)
            self.machine.cut_power_after(changes)
            self.machine.stop()
            self.world.clock.advance(2.0)
            self.machine.crash()
            self.serve()
        self.assertEqual([], self.world.problems)

    def test_full_disk(self) -> None:
        """A member whose disk is full stops, for a reason, and serves again when there is room."""
        self.put(b"a")
        self.machine.fill_disk(100)
        outcome = self.begin(PutRequest(key=b"b", value=bytes(100_000)))
        self.assertTrue(self.cluster.wait_until(lambda: not self.machine.serves, 10.0))
        self.world.clock.advance(3.0)
        self.machine.mend_disk()
        self.serve()
        self.assertNotIsInstance(outcome[0], PutResponse)
        self.assertEqual(b"a", self.keys()[0])

    def test_broken_disk(self) -> None:
        """Likewise when it refuses every change."""
        self.put(b"a")
        self.machine.break_disk()
        self.assertNotIsInstance(self.ask(PutRequest(key=b"b")), PutResponse)
        self.machine.mend_disk()
        self.serve()
        self.assertEqual(b"a", self.keys()[0])

    def test_clock(self) -> None:
        """A clock that is set forward, back, and forward again harms nobody."""
        for seconds in (3.0, -5.0, 100.0):
            self.machine.set_clock(seconds)
            self.world.clock.advance(6.0)
            self.put(b"%d" % seconds)
        self.assertEqual([b"-5", b"100", b"3"], self.keys())


class ClusterTests(Scene):
    """Three machines."""

    members = 3

    def follower(self) -> Machine:
        leader = self.cluster.leader()
        return next(machine for machine in self.cluster.machines if machine is not leader)

    def test_any_member(self) -> None:
        """Every member takes writes, and shows them."""
        for machine in self.cluster.machines:
            answer = self.ask(PutRequest(key=machine.name.encode()), machine)
            self.assertIsInstance(answer, PutResponse)
        for machine in self.cluster.machines:
            self.assertEqual([b"m1", b"m2", b"m3"], self.keys(machine))

    def test_leader_crashes(self) -> None:
        """Another one takes over, with all that was acknowledged."""
        self.put(b"a")
        leader = self.cluster.leader()
        assert leader is not None
        leader.held = True
        leader.crash(0.0)
        self.assertTrue(self.cluster.wait_until(lambda: self.cluster.leader() is not None, 20.0))
        self.assertEqual([b"a"], self.keys(self.cluster.leader()))

    def test_partition(self) -> None:
        """Who is cut off with its leadership acknowledges nothing; the others go on."""
        leader = self.cluster.leader()
        assert leader is not None
        others = [machine for machine in self.cluster.machines if machine is not leader]
        self.world.network.partition([leader.member_id], [one.member_id for one in others])
        alone = self.begin(PutRequest(key=b"a"), leader)
        self.world.clock.advance(5.0)
        self.assertIsInstance(self.ask(PutRequest(key=b"b"), others[0]), PutResponse)
        self.world.network.heal()
        self.serve()
        self.world.clock.advance(5.0)
        self.assertIsInstance(alone[0], Unknown)
        self.assertEqual(b"b", self.keys(leader)[-1])

    def test_falls_behind(self) -> None:
        """A member that was away for long is given a snapshot, and goes on from there."""
        images: list[int] = []
        self.world.network.look = lambda packet, what: (
            images.append(packet.sender) if packet.kind == "image taken" else None
        )
        away = self.follower()
        away.held = True
        away.crash()
        for number in range(300):
            self.begin(PutRequest(key=b"%03d" % number, value=bytes(100)), self.cluster.leader())
            self.world.clock.advance(0.01)
        self.world.clock.advance(2.0)
        away.held = False
        self.serve()
        self.assertEqual(300, len(self.keys(away)))
        self.assertEqual([away.member_id], images)


class SetBackTests(Scene):
    """Faults set clocks back, but timers are late only for as long as the checks allow for."""

    def test_depose(self) -> None:
        """However often one leader is deposed."""
        random = self.world.random("faults")
        nemesis: Any = SimpleNamespace(random=random, cluster=self.cluster)
        latest = []
        for _ in range(20):
            depose(nemesis)()
            latest.append(self.machine.late_seconds)
        self.assertLess(2.0, max(latest))
        self.assertGreaterEqual(SET_BACK_SECONDS, max(latest))
        self.world.clock.advance(SET_BACK_SECONDS)
        self.assertEqual(0.0, self.machine.late_seconds)


class WaitingFoundersTests(Scene):
    """Founders that were told to wait for a leader do so for a whole election timeout."""

    members = 3
    flags = (
        "--heartbeat-interval=500",
        "--election-timeout=5000",
        "--initial-election-tick-advance=false",
    )

    def test_served(self) -> None:
        """None of them leads before."""
        self.assertGreater(self.world.clock.seconds(), 5.0)


class HastyFoundersTests(Scene):
    """Others do not."""

    members = 3
    flags = ("--heartbeat-interval=500", "--election-timeout=5000")

    def test_served(self) -> None:
        """By then they serve."""
        self.assertLess(self.world.clock.seconds(), 5.0)
