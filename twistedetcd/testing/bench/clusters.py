"""
Three members on this machine: who leads, and what happens when whoever leads is killed.

Members speak plain HTTP or TCP to each other, on the loopback interface; each has its store on the same disk.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twistedetcd.pb import rpc_pb2
from twistedetcd.testing.bench import messages
from twistedetcd.testing.bench.client import CallError, Client, ServerFaultError
from twistedetcd.testing.bench.large import LargeResult
from twistedetcd.testing.bench.processes import BenchError, Children
from twistedetcd.testing.bench.rows import PUT, LargeRow
from twistedetcd.testing.bench.servers import (
    READY_SECONDS_MAX,
    RETRY_SECONDS,
    Program,
    Server,
    launch,
    places,
)

MEMBERS = 3
PUT_SECONDS_MAX = 0.05  # of one try of somebody whose leader was killed
PAUSE_SECONDS = 0.005  # between two tries
RECOVERY_SECONDS_MAX = 60.0
STATUS = "/etcdserverpb.Maintenance/Status"


@dataclass(frozen=True)
class MemberServer(Server):
    """One member of a cluster, which leads, or does not, as long as it is measured."""

    leads: bool = False

    def problem(self) -> str | None:
        """See `Server.problem`."""
        if _leads(self.client) == self.leads:
            return None
        return "another member leads than before"


class Cluster:
    """
    Some members of one program that form a cluster.

    Args:
        children: Takes the processes.
        program: What they run.
        directory: For their stores.

    Raises:
        BenchError: They did not come to answer.
    """

    def __init__(self, children: Children, program: Program, directory: Path) -> None:
        self.name = program.name
        self._children = children
        self._program = program
        self._places = places(directory / program.name, MEMBERS)
        launched = [launch(children, program, place) for place in self._places]
        self._members = [one.answering() for one in launched]

    @property
    def ports(self) -> list[int]:
        """Where the members serve clients."""
        return [place.port for place in self._places]

    def leader(self) -> int:
        """
        The number of the member that leads; waits for it.

        Raises:
            BenchError: Nobody does.
        """
        end = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < end:
            for number, member in enumerate(self._members):
                if _leads(member.client):
                    return number
            time.sleep(RETRY_SECONDS)
        raise BenchError(f"{self.name}: nobody leads.")

    def server(self, *, leads: bool) -> MemberServer:
        """The leader, or one that is not; with the processes of all."""
        leader = self.leader()
        member = self._members[leader if leads else (leader + 1) % MEMBERS]
        fellows = tuple(one.pid for one in self._members if one is not member)
        return MemberServer(
            member.name, member.version, member.pid, member.port, member.client, 0.0, fellows, leads
        )

    def kill(self, number: int) -> None:
        """Kill a member."""
        self._members[number].client.close()
        self._children.kill(self._members[number].pid)

    def restart(self, number: int) -> None:
        """
        Start it again; it has what the others have when this returns.

        Raises:
            BenchError: It does not answer.
        """
        # A linearizable read waits until all that was committed before it is applied there.
        self._members[number] = launch(self._children, self._program, self._places[number]).answering()


def _leads(client: Client) -> bool:
    """Whether a member says of itself that it leads."""
    answer = client.call(STATUS.encode(), rpc_pb2.StatusRequest().SerializeToString())
    status = rpc_pb2.StatusResponse.FromString(answer)
    return status.leader == status.header.member_id


@dataclass(frozen=True)
class Failover:
    """
    The loss of leaders.

    Attributes:
        etcd: The one cluster.
        ours: The other.
        kills: How often the leader of each is killed.
        tell: Called with a line now and then.
    """

    etcd: Cluster
    ours: Cluster
    kills: int
    tell: Callable[[str], None]

    def measure(self, rows: Sequence[LargeRow]) -> list[LargeResult]:
        """
        Kill leaders of both, in turns.

        Raises:
            BenchError: A cluster does not recover.
        """
        results = [LargeResult(row) for row in rows]
        for number in range(self.kills):
            etcd, ours = milliseconds(self.etcd), milliseconds(self.ours)
            for result in results:
                result.etcd.append(etcd)
                result.ours.append(ours)
            self.tell(f"Kill {number + 1} of {self.kills}: etcd {etcd:,.0f} ms, ours {ours:,.0f} ms")
        return results


def milliseconds(cluster: Cluster) -> float:
    """
    Kill the leader; how long it takes until a put is acknowledged.  The cluster is whole again in the end.

    Raises:
        BenchError: It does not recover.
    """
    leader = cluster.leader()
    began = time.perf_counter()
    cluster.kill(leader)
    for port in itertools.cycle(cluster.ports):
        if _put(port):
            break
        if time.perf_counter() - began > RECOVERY_SECONDS_MAX:
            raise BenchError(f"{cluster.name}: no put succeeds after the leader was killed.")
        time.sleep(PAUSE_SECONDS)
    seconds = time.perf_counter() - began
    cluster.restart(leader)
    return seconds * 1000


def _put(port: int) -> bool:
    """Try once to put; whether that was acknowledged in time."""
    client = None
    try:
        client = Client(port, PUT_SECONDS_MAX)
        client.call(PUT.encode(), messages.put(messages.key(0)))
    except (OSError, CallError, ServerFaultError):
        return False
    finally:
        if client is not None:
            client.close()
    return True
