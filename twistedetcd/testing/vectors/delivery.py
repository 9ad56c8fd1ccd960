"""Messages on their way, and letting everything settle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twistedetcd.raft.describe import message_name
from twistedetcd.raft.errors import RaftError
from twistedetcd.raft.types import Message, MessageType
from twistedetcd.testing.vectors.driving import handle_ready, work_append_thread, work_apply_thread
from twistedetcd.testing.vectors.environment import Environment, Node
from twistedetcd.testing.vectors.rendering import message_text
from twistedetcd.testing.vectors.syntax import Directive, VectorError, number

_TYPES = {message_name(kind): kind for kind in MessageType}
_ROUNDS_MAX = 10_000


def deliver_msgs(environment: Environment, directive: Directive) -> None:
    """``deliver-msgs [ID ...] [drop=(ID, ...)] [type=MsgX]``"""
    recipients: list[tuple[int, bool]] = []
    kind = None
    for argument in directive.arguments:
        if not argument.values:
            recipients.append((number(argument.key), False))
        elif argument.key == "drop":
            recipients += [(number(value), True) for value in argument.values]
        elif argument.key == "type":
            kind = _TYPES.get(argument.values[-1])
            if kind is None:
                raise VectorError(f"unknown message type {argument.values[-1]}")
        else:
            raise VectorError(f"deliver-msgs has no option {argument.key}")
    ids = [id for id, _ in recipients]
    if len(set(ids)) != len(ids):
        raise VectorError("a node is named twice, to deliver or to drop")
    handled = sum([_deliver(environment, id, kind, drop=drop) for id, drop in recipients])
    if not handled:
        environment.output.write("no messages\n")


def _deliver(
    environment: Environment, to: int, kind: MessageType | None = None, *, drop: bool = False
) -> int:
    """Deliver or drop all that is under way to a node; how many messages that were."""
    messages = environment.take_messages(to, kind, local=not drop)
    for message in messages:
        environment.output.write(("dropped: " if drop else "") + message_text(message) + "\n")
        if drop:
            continue
        try:
            environment.node(to).raft.step(message)
        except RaftError as error:
            environment.output.write(f"{error}\n")
    return len(messages)


def send_snapshot(environment: Environment, directive: Directive) -> None:
    """``send-snapshot FROM TO``: what a leader would send, whatever it knows of the other node."""
    ids = directive.ids()
    if len(ids) != 2:
        raise VectorError("send-snapshot needs two nodes")
    node = environment.node(ids[0])
    snapshot = node.storage.snapshot()
    message = Message(MessageType.SNAP, to=ids[1], sender=ids[0], term=node.raft.term, snapshot=snapshot)
    environment.messages.append(message)
    environment.output.write(message_text(message))


def stabilize(environment: Environment, directive: Directive) -> None:
    """``stabilize [ID ...] [log-level=LEVEL]``: go on until none of the nodes has anything to do."""
    with environment.output.level_kept():
        for key, value in directive.options():
            if key != "log-level":
                raise VectorError(f"stabilize has no option {key}")
            environment.output.set_level(value)
        nodes = [environment.node(id) for id in directive.ids()] or environment.nodes
        for _ in range(_ROUNDS_MAX):
            if not _round(environment, nodes):
                return
    raise VectorError(f"the nodes are not stable after {_ROUNDS_MAX} rounds")


def _round(environment: Environment, nodes: list[Node]) -> bool:
    """One turn of each kind of work for each node; whether there was any."""
    output, active = environment.output, False
    for node in nodes:
        if node.raft.has_ready():
            active = True
            output.write(f"> {node.id} handling Ready\n")
            with output.indented():
                handle_ready(environment, node)
    for node in nodes:
        if any(message.to == node.id for message in environment.messages):
            active = True
            output.write(f"> {node.id} receiving messages\n")
            with output.indented():
                _deliver(environment, node.id)
    for node in nodes:
        active |= _drain(environment, node, node.append_work, "append", work_append_thread)
    for node in nodes:
        active |= _drain(environment, node, node.apply_work, "apply", work_apply_thread)
    return active


def _drain(
    environment: Environment,
    node: Node,
    queue: deque[Message],
    thread: str,
    work: Callable[[Environment, Node], None],
) -> bool:
    if not queue:
        return False
    environment.output.write(f"> {node.id} processing {thread} thread\n")
    while queue:
        with environment.output.indented():
            work(environment, node)
    return True
