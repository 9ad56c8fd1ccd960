"""Raft's values as the files print them.  Ids in messages are hex, all other numbers are decimal."""

from __future__ import annotations

from collections.abc import Iterable

from twistedetcd.raft.changebytes import decode_change
from twistedetcd.raft.describe import message_name, quoted, role_name
from twistedetcd.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    NOBODY,
    ConfChangeSingle,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    ReadState,
    Ready,
    Snapshot,
)

_ENTRY_NAMES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
_NAMED_IDS = {NOBODY: "None", APPEND_THREAD: "AppendThread", APPLY_THREAD: "ApplyThread"}
_CHANGE_LETTERS = ("v", "r", "u", "l")


def ready_text(ready: Ready) -> str:
    """A Ready: the parts it has, in the order of the struct in etcd's raft."""
    parts = []
    if ready.soft_state is not None:
        parts.append(f"Lead:{ready.soft_state.lead} State:{role_name(ready.soft_state.role)}")
    if ready.hard_state is not None:
        parts.append(f"HardState {_hard_state_text(ready.hard_state)}")
    if ready.read_states:
        parts.append(f"ReadStates [{' '.join(map(_read_text, ready.read_states))}]")
    if ready.entries:
        parts += ["Entries:", *map(entry_text, ready.entries)]
    if ready.snapshot is not None and ready.snapshot.index:
        parts.append(f"Snapshot {_snapshot_text(ready.snapshot)}")
    if ready.committed:
        parts += ["CommittedEntries:", *map(entry_text, ready.committed)]
    if ready.messages:
        parts += ["Messages:", *map(message_text, ready.messages)]
    if not parts:
        return "<empty Ready>"
    return f"Ready MustSync={_truth(ready.must_sync)}:\n" + "".join(part + "\n" for part in parts)


def message_text(message: Message, indent: str = "") -> str:
    """A message, without a newline at its end; ``indent`` goes before each of its lines."""
    words = [
        f"{indent}{_id_text(message.sender)}->{_id_text(message.to)} {message_name(message.type)}",
        f"Term:{message.term}",
        f"Log:{message.log_term}/{message.index}",
    ]
    if message.reject:
        words.append(f"Rejected (Hint: {message.reject_hint})")
    if message.commit:
        words.append(f"Commit:{message.commit}")
    if message.vote:
        words.append(f"Vote:{message.vote}")
    if len(message.entries) == 1:
        words.append(f"Entries:[{entry_text(message.entries[0])}]")
    elif message.entries:
        lines = (f"{indent}  {entry_text(entry)}" for entry in message.entries)
        words.append(_block("Entries", lines, indent))
    text = " ".join(words)
    if message.snapshot is not None and message.snapshot.index:
        text += f"\n{indent}  Snapshot: {_snapshot_text(message.snapshot)}"
    if message.responses:
        lines = (message_text(response, indent + "  ") for response in message.responses)
        text += " " + _block("Responses", lines, indent)
    return text


def entry_text(entry: Entry) -> str:
    """An entry: its data in quotes, or the change it stands for."""
    kind = EntryType(entry.type)
    if kind is EntryType.NORMAL:
        payload = quoted(entry.data)
    else:
        payload = " ".join(map(_single_text, decode_change(entry).as_v2().changes))
    return f"{entry.term}/{entry.index} {_ENTRY_NAMES[kind]}" + (" " + payload if payload else "")


def _single_text(single: ConfChangeSingle) -> str:
    known = 0 <= single.type < len(_CHANGE_LETTERS)
    return (_CHANGE_LETTERS[single.type] if known else "unknown") + str(single.node_id)


def _hard_state_text(state: HardState) -> str:
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def _read_text(read: ReadState) -> str:
    return f"{{{read.index} [{' '.join(map(str, read.context))}]}}"


def _snapshot_text(snapshot: Snapshot) -> str:
    return f"Index:{snapshot.index} Term:{snapshot.term} ConfState:{_conf_state_text(snapshot.conf_state)}"


def _conf_state_text(state: ConfState) -> str:
    return (
        f"Voters:{_list(state.voters)} VotersOutgoing:{_list(state.voters_outgoing)} "
        f"Learners:{_list(state.learners)} LearnersNext:{_list(state.learners_next)} "
        f"AutoLeave:{_truth(state.auto_leave)}"
    )


def _list(members: Iterable[int]) -> str:
    return "[" + " ".join(map(str, members)) + "]"


def _block(name: str, lines: Iterable[str], indent: str) -> str:
    return f"{name}:[\n" + "".join(line + "\n" for line in lines) + f"{indent}]"


def _id_text(member: int) -> str:
    return _NAMED_IDS.get(member) or f"{member:x}"


def _truth(value: bool) -> str:
    return "true" if value else "false"
