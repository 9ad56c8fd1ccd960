"""The commands of a cluster file: one table, and those that fit in a line or two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from twistedetcd.raft.describe import role_name
from twistedetcd.raft.errors import RaftError
from twistedetcd.raft.types import NO_LIMIT
from twistedetcd.testing.vectors.delivery import deliver_msgs, send_snapshot, stabilize
from twistedetcd.testing.vectors.driving import process_append_thread, process_apply_thread, process_ready
from twistedetcd.testing.vectors.environment import Environment, Node
from twistedetcd.testing.vectors.nodes import add_nodes
from twistedetcd.testing.vectors.proposing import propose, propose_conf_change
from twistedetcd.testing.vectors.rendering import entry_text
from twistedetcd.testing.vectors.syntax import CommandError, Directive, VectorError, number

Command: TypeAlias = Callable[[Environment, Directive], None]


class Cluster:
    """Runs the directives of one file."""

    def __init__(self) -> None:
        self._environment = Environment()

    def handle(self, directive: Directive) -> str:
        """What the directive prints: its output, then its error; ``ok`` when there is neither."""
        output = self._environment.output
        output.take()
        try:
            command = COMMANDS.get(directive.command)
            if command is None:
                raise CommandError("unknown command")
            command(self._environment, directive)
        except (CommandError, RaftError) as error:
            return output.take() + str(error)
        return output.take() or "ok"


def _breakpoint(environment: Environment, directive: Directive) -> None:
    """``_breakpoint``: nothing; a place for a debugger to stop at."""


def _campaign(environment: Environment, directive: Directive) -> None:
    """``campaign ID``"""
    environment.node(directive.first_id()).raft.campaign()


def _compact(environment: Environment, directive: Directive) -> None:
    """``compact ID INDEX``"""
    id, index = _pair(directive)
    node = environment.node(id)
    node.storage.compact(index)
    _print_log(environment, node)


def _forget_leader(environment: Environment, directive: Directive) -> None:
    """``forget-leader ID``"""
    environment.node(directive.first_id()).raft.forget_leader()


def _log_level(environment: Environment, directive: Directive) -> None:
    """``log-level LEVEL``"""
    if not directive.arguments:
        raise VectorError("log-level needs a level")
    environment.output.set_level(directive.arguments[0].key)


def _raft_log(environment: Environment, directive: Directive) -> None:
    """``raft-log ID``: what the storage holds."""
    _print_log(environment, environment.node(directive.first_id()))


def _print_log(environment: Environment, node: Node) -> None:
    first, last = node.storage.first_index(), node.storage.last_index()
    if last < first:
        environment.output.write(f"log is empty: first index={first}, last index={last}")
        return
    for entry in node.storage.entries(first, last + 1, NO_LIMIT):
        environment.output.write(f"{entry_text(entry)}\n")


def _raft_state(environment: Environment, directive: Directive) -> None:
    """``raft-state``: every node's role, whether it votes, its term and leader."""
    for node in environment.nodes:
        status = node.raft.status()
        voters = (*status.configuration.voters, *status.configuration.voters_outgoing)
        vote = "(Voter)" if node.id in voters else "(Non-Voter)"
        role, lead = role_name(status.soft_state.role), status.soft_state.lead
        term = status.hard_state.term
        environment.output.write(f"{node.id}: {role} {vote} Term:{term} Lead:{lead}\n")


def _read_index(environment: Environment, directive: Directive) -> None:
    """``read-index ID WORD``: ask for an index to read at."""
    if len(directive.arguments) != 2:
        raise VectorError("read-index needs a node and a word")
    environment.node(directive.first_id()).raft.read_index(directive.arguments[1].key.encode())


def _report_snapshot(environment: Environment, directive: Directive) -> None:
    """``report-snapshot ID TO status=finish|failure``"""
    id, to = _pair(directive)
    [*statuses] = [value for key, value in directive.options() if key == "status"]
    if statuses not in (["finish"], ["failure"]):
        raise VectorError("report-snapshot needs status=finish or status=failure")
    environment.node(id).raft.report_snapshot(to, delivered=statuses == ["finish"])


def _report_unreachable(environment: Environment, directive: Directive) -> None:
    """``report-unreachable ID TO``"""
    if len(directive.ids()) != 2:
        raise CommandError(
            "must specify exactly two node indexes: node on which to report, and reported node"
        )
    id, to = directive.ids()
    environment.node(id).raft.report_unreachable(to)


def _set_randomized_election_timeout(environment: Environment, directive: Directive) -> None:
    """``set-randomized-election-timeout ID timeout=TICKS``: until the next reset."""
    timeouts = [number(value) for key, value in directive.options() if key == "timeout"]
    if len(timeouts) != 1:
        raise VectorError("set-randomized-election-timeout needs timeout=TICKS")
    # The one reach inside: no driver may change what was drawn.
    environment.node(directive.first_id()).raft._raft.randomized_election_ticks = timeouts[0]


def _status(environment: Environment, directive: Directive) -> None:
    """``status ID``: what a leader knows of everybody."""
    for id, progress in environment.node(directive.first_id()).raft.status().progress.items():
        environment.output.write(f"{id}: {progress}\n")


def _tick_election(environment: Environment, directive: Directive) -> None:
    """``tick-election ID``: an election timeout passes."""
    raft = environment.node(directive.first_id()).raft
    for _ in range(raft.config.election_ticks):
        raft.tick()


def _tick_heartbeat(environment: Environment, directive: Directive) -> None:
    """``tick-heartbeat ID``: the time between two heartbeats passes."""
    raft = environment.node(directive.first_id()).raft
    for _ in range(raft.config.heartbeat_ticks):
        raft.tick()


def _transfer_leadership(environment: Environment, directive: Directive) -> None:
    """``transfer-leadership from=ID to=ID``"""
    ends = {key: number(value) for key, value in directive.options()}
    if ends.keys() != {"from", "to"}:
        raise VectorError("transfer-leadership needs from=ID and to=ID")
    environment.node(ends["from"]).raft.transfer_leader(ends["to"])


def _pair(directive: Directive) -> tuple[int, int]:
    ids = directive.ids()
    if len(ids) != 2:
        raise VectorError(f"{directive.command} needs two numbers")
    return ids[0], ids[1]


COMMANDS: Mapping[str, Command] = {
    "_breakpoint": _breakpoint,
    "add-nodes": add_nodes,
    "campaign": _campaign,
    "compact": _compact,
    "deliver-msgs": deliver_msgs,
    "forget-leader": _forget_leader,
    "log-level": _log_level,
    "process-append-thread": process_append_thread,
    "process-apply-thread": process_apply_thread,
    "process-ready": process_ready,
    "propose": propose,
    "propose-conf-change": propose_conf_change,
    "raft-log": _raft_log,
    "raft-state": _raft_state,
    "read-index": _read_index,
    "report-snapshot": _report_snapshot,
    "report-unreachable": _report_unreachable,
    "send-snapshot": send_snapshot,
    "set-randomized-election-timeout": _set_randomized_election_timeout,
    "stabilize": stabilize,
    "status": _status,
    "tick-election": _tick_election,
    "tick-heartbeat": _tick_heartbeat,
    "transfer-leadership": _transfer_leadership,
}
