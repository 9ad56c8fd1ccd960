"""The end of a run: when all is quiet, what each member holds is read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from twistedetcd.pb.rpc_pb2 import (
    HashKVRequest,
    HashKVResponse,
    RangeRequest,
    RangeResponse,
    WatchCreateRequest,
    WatchRequest,
    WatchResponse,
)
from twistedetcd.raft.types import ConfState
from twistedetcd.testing.checks import Change, Witness
from twistedetcd.testing.simulation.caller import Caller
from twistedetcd.testing.simulation.watchers import PATH

if TYPE_CHECKING:
    from twistedetcd.pb.kv_pb2 import Event, KeyValue
    from twistedetcd.testing.simulation.cluster import Cluster
    from twistedetcd.testing.simulation.machine import Machine

READ_SECONDS = 10.0
"""How long one member's history may take to be read."""


class UnreadableError(Exception):
    """A member that should be well does not tell what it holds."""


def check_membership(cluster: Cluster) -> None:
    """Every member knows the same members, and its raft counts just those."""
    first: tuple[str, object] | None = None
    for machine in cluster.machines:
        assert machine.life is not None and machine.life.assembly is not None, "it serves"
        member = machine.life.assembly.member
        configuration = member.node.raft.status().configuration
        known = [(one.id, one.is_learner, one.peer_urls) for one in member.cluster.members]
        voters = tuple(number for number, is_learner, _ in known if not is_learner)
        learners = tuple(number for number, is_learner, _ in known if is_learner)
        if configuration != ConfState(voters, learners):
            cluster.world.problem(
                machine.name, f"its raft counts {configuration}, and the members are {known}"
            )
        if first is None:
            first = machine.name, known
        elif first[1] != known:
            cluster.world.problem(machine.name, f"knows {known} as members, and {first[0]} {first[1]}")
        if machine.told_removed:
            cluster.world.problem(machine.name, "was told that it is removed, and is a member")


async def read_history(caller: Caller, machine: Machine, revision: int) -> Witness:
    """
    What a member holds: the records at its compact revision, and every change from there on.

    Args:
        caller: Reads it.
        machine: Where it is.
        revision: The last one.

    Raises:
        UnreadableError: It does not tell.
        ValueError: A revision is missing.
    """
    hashed = await caller.ask(machine, HashKVRequest(revision=revision))
    if not isinstance(hashed, HashKVResponse):
        raise UnreadableError(f"{machine.name} gives no hash: {hashed}")
    compacted = hashed.compact_revision
    base: list[KeyValue] = []
    if compacted > 1:
        request = RangeRequest(key=b"\0", range_end=b"\0", revision=compacted, serializable=True)
        found = await caller.ask(machine, request)
        if not isinstance(found, RangeResponse):
            raise UnreadableError(f"{machine.name} gives no keys at {compacted}: {found}")
        base = list(found.kvs)
    first = max(compacted, 1)
    events = await _Reading(caller, machine, first + 1, revision).done if revision > first else []
    by_revision: dict[int, list[Event]] = {}
    for event in events:
        by_revision.setdefault(event.kv.mod_revision, []).append(event)
    return Witness([Change(*change) for change in by_revision.items()], base, first)


class _Reading:
    """Reads all events of some revisions."""

    def __init__(self, caller: Caller, machine: Machine, start: int, until: int) -> None:
        self._machine = machine
        self._until = until
        self._events: list[Event] = []
        self.done: Deferred[list[Event]] = Deferred()
        self._timeout = caller.world.clock.callLater(READ_SECONDS, self._late)
        self._call = caller.call(self._message, lambda code, text: None)
        self._call.begin(machine, PATH, None)
        request = WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start)
        self._call.send(WatchRequest(create_request=request).SerializeToString())

    def _message(self, message: bytes) -> None:
        response = WatchResponse.FromString(message)
        self._events += response.events
        if response.events and response.events[-1].kv.mod_revision >= self._until:
            self._timeout.cancel()
            self._call.give_up()
            self.done.callback(self._events)

    def _late(self) -> None:
        self._call.give_up()
        self.done.errback(UnreadableError(f"{self._machine.name} does not tell of revision {self._until}"))
