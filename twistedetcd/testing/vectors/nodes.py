"""``add-nodes``: nodes out of thin air, or with the configuration that a snapshot gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twistedetcd.raft.config import Config
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import NO_LIMIT, ConfState, Snapshot
from twistedetcd.testing.vectors.environment import Environment, HistoryStorage, Node
from twistedetcd.testing.vectors.syntax import CommandError, Directive, VectorError, boolean, number

_DEFAULTS: dict[str, Any] = {
    "election_ticks": 3,
    "heartbeat_ticks": 1,
    "max_bytes_per_message": NO_LIMIT,
    "max_inflight_messages": 2**31 - 1,
    "check_quorum": False,
    "pre_vote": False,
}
_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "async-storage-writes": ("async_storage_writes", boolean),
    "checkquorum": ("check_quorum", boolean),
    "disable-conf-change-validation": ("disable_conf_change_validation", boolean),
    "disable-proposal-forwarding": ("disable_proposal_forwarding", boolean),
    "index": ("applied", number),
    "inflight": ("max_inflight_messages", number),
    "inflight-bytes": ("max_inflight_bytes", number),
    "max-committed-size-per-ready": ("max_committed_bytes_per_ready", number),
    "max-size-per-msg": ("max_bytes_per_message", number),
    "max-uncommitted-size": ("max_uncommitted_bytes", number),
    "prevote": ("pre_vote", boolean),
    "step-down-on-removal": ("step_down_on_removal", boolean),
}
"""What a file calls an option, and its field of `Config`."""
_READS = {"safe": False, "lease-based": True}


@dataclass(slots=True)
class _Template:
    """What the options say of every new node."""

    config: dict[str, Any] = field(default_factory=lambda: dict(_DEFAULTS))
    voters: list[int] = field(default_factory=list)
    learners: list[int] = field(default_factory=list)
    index: int = 0
    content: bytes = b""

    def take(self, key: str, value: str) -> None:
        if key in _OPTIONS:
            name, read = _OPTIONS[key]
            self.config[name] = read(value)
            if key == "index":
                self.index = number(value)
        elif key == "voters":
            self.voters.append(number(value))
        elif key == "learners":
            self.learners.append(number(value))
        elif key == "content":
            self.content = value.encode()
        elif key == "read-only":
            if value not in _READS:
                raise CommandError(f'invalid read-only option "{value}"')
            self.config["lease_based_reads"] = _READS[value]
        else:
            raise VectorError(f"add-nodes has no option {key}")

    def snapshot(self) -> Snapshot:
        """What the nodes begin with, perhaps nothing."""
        conf_state = ConfState(tuple(self.voters), tuple(self.learners))
        snapshot = Snapshot(self.index, 0, conf_state, self.content)
        if snapshot == Snapshot():
            return snapshot
        if self.index <= 1:
            raise CommandError("index must be specified as > 1 due to bootstrap")
        return snapshot._replace(term=1)


def add_nodes(environment: Environment, directive: Directive) -> None:
    """``add-nodes N [OPTION=VALUE ...]``"""
    template = _Template()
    for key, value in directive.options():
        template.take(key, value)
    snapshot = template.snapshot()
    for _ in range(directive.first_id()):
        environment.nodes.append(_node(environment, snapshot, template.config))


def _node(environment: Environment, snapshot: Snapshot, options: dict[str, Any]) -> Node:
    storage = HistoryStorage(snapshot)
    if snapshot.index:
        storage.apply_snapshot(snapshot)
    try:
        config = Config(
            id=len(environment.nodes) + 1,
            storage=storage,
            draw=lambda ticks: 0,
            trace=environment.output.trace,
            **options,
        )
    except ValueError as error:
        raise VectorError(str(error)) from None
    return Node(RawNode(config), storage, config.async_storage_writes)
