"""The driver of a node: what is done with a Ready, at once or on two storage threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.types import Entry, EntryType, HardState, Message, MessageType, Snapshot
from twistedetcd.testing.vectors.environment import Environment, Node
from twistedetcd.testing.vectors.rendering import message_text, ready_text
from twistedetcd.testing.vectors.syntax import CommandError, Directive


def process_ready(environment: Environment, directive: Directive) -> None:
    """``process-ready ID ...``"""
    _each(environment, directive, "handling Ready", handle_ready)


def process_append_thread(environment: Environment, directive: Directive) -> None:
    """``process-append-thread ID ...``"""
    _each(environment, directive, "processing append thread", work_append_thread)


def process_apply_thread(environment: Environment, directive: Directive) -> None:
    """``process-apply-thread ID ...``"""
    _each(environment, directive, "processing apply thread", work_apply_thread)


def _each(
    environment: Environment, directive: Directive, what: str, work: Callable[[Environment, Node], None]
) -> None:
    ids = directive.ids()
    for id in ids:
        node = environment.node(id)
        if len(ids) == 1:
            work(environment, node)
            continue
        environment.output.write(f"> {id} {what}\n")
        with environment.output.indented():
            work(environment, node)


def handle_ready(environment: Environment, node: Node) -> None:
    """Carry out one Ready, even an empty one; its messages are under way before it is advanced."""
    ready = node.raft.ready()
    environment.output.write(ready_text(ready))
    if not node.asynchronous:
        _save(node, ready.hard_state, ready.entries, ready.snapshot)
        _apply(node, ready.committed)
    for message in ready.messages:
        if message.type is MessageType.STORAGE_APPEND:
            node.append_work.append(message)
        elif message.type is MessageType.STORAGE_APPLY:
            node.apply_work.append(message)
        else:
            environment.messages.append(message)
    if not node.asynchronous:
        node.raft.advance()


def work_append_thread(environment: Environment, node: Node) -> None:
    """Save what the oldest append message asks for, and send its answers."""
    if not node.append_work:
        environment.output.write("no append work to perform")
        return

    def save(message: Message) -> None:
        state = HardState(message.term, message.vote, message.commit)
        _save(node, None if state == HardState() else state, message.entries, message.snapshot)

    _work(environment, node.append_work.popleft(), save)


def work_apply_thread(environment: Environment, node: Node) -> None:
    """Apply what the oldest apply message asks for, and send its answer."""
    if not node.apply_work:
        environment.output.write("no apply work to perform")
        return
    _work(environment, node.apply_work.popleft(), lambda message: _apply(node, message.entries))


def _work(environment: Environment, message: Message, carry_out: Callable[[Message], None]) -> None:
    output = environment.output
    output.write(f"Processing:\n{message_text(message._replace(responses=()))}\n")
    carry_out(message)
    output.write("Responses:\n")
    for response in message.responses:
        output.write(f"{message_text(response)}\n")
    environment.messages += message.responses


def _save(node: Node, state: HardState | None, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
    if state is not None:
        node.storage.set_hard_state(state)
    if snapshot is not None and snapshot.index:
        if entries:
            raise CommandError("can't apply snapshot and entries at the same time")
        node.storage.apply_snapshot(snapshot)
    else:
        node.storage.append(entries)


def _apply(node: Node, entries: Sequence[Entry]) -> None:
    """The replicated state is all data so far, joined; every entry leaves a snapshot of it."""
    history = node.storage.history
    for entry in entries:
        last = history[-1]
        conf_state, data = last.conf_state, entry.data
        if entry.type != EntryType.NORMAL:
            change = decode_change(entry)
            conf_state, data = node.raft.apply_conf_change(change), change.context
        history.append(Snapshot(entry.index, entry.term, conf_state, last.data + data))
