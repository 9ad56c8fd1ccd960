"""A member that is far behind, or has nothing, catches up by a snapshot while clients write."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from signal import SIGUSR1

import grpc  # type: ignore[import-untyped]

from tests.interop.clusters import PUT, ClusterCase, Load
from tests.interop.heartbeats import FILE
from tests.interop.servers import CALL_SECONDS_MAX, if_long, open_channel, wait_until
from twistedetcd.pb.rpc_pb2 import PutRequest

MEBIBYTES = int(os.environ.get("CATCH_UP_MIB", "24"))  # of data; 1024 takes some minutes and 10 GiB of disk
VALUE_BYTES = 64 * 1024
AT_ONCE = 8
CATCH_UP_SECONDS_MAX = 600.0
TICK_SECONDS = 0.1  # of the default --heartbeat-interval
ROOT = Path(__file__).parents[2]


class CatchUpTests(ClusterCase):
    """A store goes from one to another, and neither clients nor the other members notice."""

    def setUp(self) -> None:
        flags = ("--snapshot-catchup-entries=50", "--snapshot-count=500")
        program = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.interop.heartbeats")
        self.found(flags=flags, program=program)
        self.members.start()
        self.fill()

    def fill(self) -> None:
        """Put some data there."""
        with open_channel(self.members[self.members.leader()].endpoint) as channel:
            waiting: list[grpc.Future] = []
            put = channel.unary_unary(PUT, request_serializer=PutRequest.SerializeToString)
            for number in range(MEBIBYTES * 1024 * 1024 // VALUE_BYTES):
                request = PutRequest(key=b"data %08d" % number, value=os.urandom(VALUE_BYTES))
                waiting.append(put.future(request, timeout=CALL_SECONDS_MAX))
                if len(waiting) >= AT_ONCE:
                    waiting.pop(0).result()
            for one in waiting:
                one.result()

    def report(self, name: str) -> float:
        """The longest time between two heartbeats of a leader, since the last time; seconds."""
        file = self.members[name].directory / FILE
        file.unlink(missing_ok=True)
        process = self.members[name].process
        assert process is not None
        process.send_signal(SIGUSR1)
        wait_until(file.exists, "a report of heartbeats")
        return float(file.read_text())

    def caught_up(self, load: Load, name: str) -> None:
        """Wait until a member serves and has got a store, under load, with the same leader and term."""
        members = self.members
        load.wait_for_more(50, seconds_max=CATCH_UP_SECONDS_MAX)
        members.wait_ready(name)
        log = members[name].log

        def installed() -> bool:
            return "Installed the snapshot" in log.read_text()

        wait_until(installed, f"{name} to get a store", log, CATCH_UP_SECONDS_MAX)
        goal = members.status(self.leader).raftAppliedIndex
        wait_until(
            lambda: members.status(name).raftAppliedIndex >= goal,
            f"{name} to have caught up",
            log,
            CATCH_UP_SECONDS_MAX,
        )
        status = members.status(self.leader)
        self.assertEqual((self.term, self.leader_id), (status.raftTerm, status.leader))

    def begin(self) -> Load:
        """Clients write; the leader of now is to lead in the end, too."""
        members = self.members
        self.leader = members.leader()
        status = members.status(self.leader)
        self.term, self.leader_id = status.raftTerm, status.leader
        return self.write()

    def finish(self, load: Load) -> None:
        """All have the same; how long heartbeats were late is told only where enough data was sent."""
        pause = self.report(self.leader)
        load.stop()
        self.assertEqual(1, len(set(self.members.hashes().values())))
        if MEBIBYTES >= 1024:
            self.assertLessEqual(pause, 3 * TICK_SECONDS)

    def test_far_behind(self) -> None:
        """One that was away for more than the log has."""
        members = self.members
        load = self.begin()
        away = next(name for name in members.servers if name != self.leader)
        load.leave(away)
        members.kill(away)
        load.wait_for_more(300)
        self.report(self.leader)
        members[away].run()
        self.caught_up(load, away)
        self.finish(load)

    @if_long
    def test_wiped(self) -> None:
        """One that lost its data: it is removed, and a new one takes its place."""
        members = self.members
        load = self.begin()
        lost = next(name for name in members.servers if name != self.leader)
        load.leave(lost)
        members.kill(lost)
        members.wipe(lost)
        members.remove(lost)
        self.addCleanup(members.drop(lost).clean_up)
        members.add("new")
        self.report(self.leader)
        members["new"].run()
        self.caught_up(load, "new")
        self.finish(load)
