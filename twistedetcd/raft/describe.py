"""Raft's values in the words of etcd's raft, for its trace and for those who read along."""

from __future__ import annotations

from collections.abc import Sequence

from twistedetcd.raft.types import ConfChangeV2, ConfState, MessageType, Role

_TRANSITIONS = (
    "ConfChangeTransitionAuto",
    "ConfChangeTransitionJointImplicit",
    "ConfChangeTransitionJointExplicit",
)
_CHANGES = ("ConfChangeAddNode", "ConfChangeRemoveNode", "ConfChangeUpdateNode", "ConfChangeAddLearnerNode")
_ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
    Role.PRE_CANDIDATE: "StatePreCandidate",
}
_MESSAGES = {kind: "Msg" + kind.name.title().replace("_", "") for kind in MessageType}
_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    '"': r"\"",
    "\\": r"\\",
}


def message_name(kind: MessageType) -> str:
    """The type as raftpb spells it."""
    return _MESSAGES[kind]


def role_name(role: Role) -> str:
    """The role as etcd's raft calls it."""
    return _ROLES[role]


def quoted(data: bytes) -> str:
    r"""Bytes in double quotes, escaped as Go does it: ``\n``, ``\x00``; printable UTF-8 stays."""
    # A byte that is not UTF-8 becomes a lone surrogate, U+DC00 above its value.
    letters = map(_escaped, data.decode("utf-8", "surrogateescape"))
    return '"' + "".join(letters) + '"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def describe(configuration: ConfState) -> str:
    """A configuration, ids in hex."""
    words = ["voters=" + _ids(configuration.voters)]
    if configuration.voters_outgoing:
        words[0] += "&&" + _ids(configuration.voters_outgoing)
    if configuration.learners:
        words.append("learners=" + _ids(configuration.learners))
    if configuration.learners_next:
        words.append("learners_next=" + _ids(configuration.learners_next))
    if configuration.auto_leave:
        words.append("autoleave")
    return " ".join(words)


def describe_change(asked: ConfChangeV2) -> str:
    """A change that is asked for; numbers without a name, which a peer may send, stay numbers."""
    words = [f"transition:{_named(_TRANSITIONS, asked.transition)}"]
    words += [f"changes:{{type:{_named(_CHANGES, kind)} node_id:{member}}}" for kind, member in asked.changes]
    if asked.context:
        words.append(f"context:{quoted(asked.context)}")
    return " ".join(words)


def _named(names: Sequence[str], value: int) -> str:
    return names[value] if 0 <= value < len(names) else str(int(value))


def _ids(members: Sequence[int]) -> str:
    return "(" + " ".join(f"{member:x}" for member in members) + ")"
