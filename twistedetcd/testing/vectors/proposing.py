"""Proposals, and changes of membership written as ``v1 l2 r3 u4``."""

from __future__ import annotations

from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
)
from twistedetcd.testing.vectors.environment import Environment
from twistedetcd.testing.vectors.syntax import CommandError, Directive, VectorError, parse_bool, parse_uint

_LETTERS = {
    "v": ConfChangeType.ADD_NODE,
    "l": ConfChangeType.ADD_LEARNER_NODE,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}
_TRANSITIONS = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.JOINT_IMPLICIT,
    "explicit": ConfChangeTransition.JOINT_EXPLICIT,
}


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    """
    The changes that the tokens of a directive's input ask for.

    Raises:
        CommandError: A token is none.
    """
    changes = []
    for token in text.strip().split(" ") if text.strip() else ():
        if len(token) < 2:
            raise CommandError(f"unknown token {token}")
        if token[0] not in _LETTERS:
            raise CommandError(f"unknown input: {token}")
        changes.append(ConfChangeSingle(_LETTERS[token[0]], parse_uint(token[1:])))
    return tuple(changes)


def propose(environment: Environment, directive: Directive) -> None:
    """``propose ID WORD``"""
    if len(directive.arguments) != 2 or directive.arguments[1].values:
        raise VectorError("propose needs a node and one word")
    environment.node(directive.first_id()).raft.propose([directive.arguments[1].key.encode()])


def propose_conf_change(environment: Environment, directive: Directive) -> None:
    """``propose-conf-change ID [v1=BOOL] [transition=auto|implicit|explicit]``; the input is the changes."""
    node = environment.node(directive.first_id())
    old, transition = False, ConfChangeTransition.AUTO
    for key, value in directive.options():
        if key == "v1":
            old = parse_bool(value)
        elif key != "transition":
            raise CommandError(f"unknown command {key}")
        elif value in _TRANSITIONS:
            transition = _TRANSITIONS[value]
        else:
            raise CommandError(f"unknown transition {value}")
    changes = parse_changes(directive.input)
    change: ConfChange | ConfChangeV2 = ConfChangeV2(transition, changes)
    if old:
        if len(changes) != 1 or transition is not ConfChangeTransition.AUTO:
            raise CommandError("v1 conf change can only have one operation and no transition")
        change = ConfChange(type=changes[0].type, node_id=changes[0].node_id)
    node.raft.propose_conf_change(change)
