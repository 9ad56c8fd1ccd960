"""Files about quorums: what is committed, and how a vote stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from twistedetcd.raft.quorum import (
    INFINITE,
    VoteResult,
    joint_index,
    joint_vote,
    majority_index,
    majority_vote,
)
from twistedetcd.testing.vectors.syntax import CommandError, Directive, VectorError, number

COMMANDS = frozenset({"committed", "vote"})
_RESULTS = {
    VoteResult.PENDING: "VotePending",
    VoteResult.LOST: "VoteLost",
    VoteResult.WON: "VoteWon",
}
_VOTES = {"y": True, "n": False}
_UNKNOWN = "_"

_T = TypeVar("_T")


class Quorums:
    """Runs the directives of one file; each stands alone."""

    def handle(self, directive: Directive) -> str:
        """The table and the index, or the result of the vote."""
        try:
            if directive.command == "committed":
                return _committed(directive)
            if directive.command == "vote":
                return _vote(directive)
            raise CommandError("unknown command")
        except CommandError as error:
            return str(error)


def _halves(directive: Directive) -> tuple[list[int], list[int] | None, list[str]]:
    """The two configurations, the second ``None`` unless joint; and the values."""
    first: list[int] = []
    second: list[int] | None = None
    values: list[str] = []
    for argument in directive.arguments:
        if argument.key == "cfg":
            first = list(map(number, argument.values))
        elif argument.key == "cfgj":
            second = [] if argument.values == ("zero",) else list(map(number, argument.values))
        elif argument.key in ("idx", "votes"):
            values = list(argument.values)
        else:
            raise VectorError(f"{directive.command} has no option {argument.key}")
    return first, second, values


def _assigned(ids: Sequence[int], values: Sequence[_T | None]) -> dict[int, _T]:
    """Each value to its id, in the order in which the ids come first."""
    distinct = list(dict.fromkeys(ids))
    if len(distinct) != len(values):
        raise CommandError(f"error: mismatched input for voters {distinct}: {len(values)} values")
    return {id: value for id, value in zip(distinct, values, strict=True) if value is not None}


def _committed(directive: Directive) -> str:
    first, second, values = _halves(directive)
    ids = [*first, *(second or [])]
    known = _assigned(ids, [None if value == _UNKNOWN else _positive(value) for value in values])
    table = _table(sorted(set(ids)), known)
    if second is None:
        index = majority_index(first, known)
        lines = _checked(first, known, index)
    else:
        index = joint_index(first, second, known)
        swapped = joint_index(second, first, known)
        lines = [] if swapped == index else [f"{_index_text(swapped)} <-- via symmetry"]
    return table + "".join(line + "\n" for line in [*lines, _index_text(index)])


def _checked(voters: Sequence[int], known: Mapping[int, int], index: int) -> list[str]:
    """The same index by other ways; a line for each way that disagrees."""
    lower = {id: (min(known.values()) if held < index else held) for id, held in known.items()}
    ways = {
        "counting": _counted(voters, known),
        "zero-joint quorum": joint_index(voters, [], known),
        "self-joint quorum": joint_index(voters, voters, known),
        "overlaying lower indexes": majority_index(voters, lower),
    }
    return [f"{_index_text(other)} <-- via {way}" for way, other in ways.items() if other != index]


def _counted(voters: Sequence[int], known: Mapping[int, int]) -> int:
    """The greatest index that more than half hold, found by trying each."""
    if not voters:
        return INFINITE
    held = [known.get(voter, 0) for voter in voters]
    return max(index for index in [0, *held] if 2 * sum(other >= index for other in held) > len(held))


def _positive(text: str) -> int:
    value = number(text)
    if not value:
        raise VectorError("an index must not be 0; write _ for one that is not known")
    return value


def _table(ids: Sequence[int], known: Mapping[int, int]) -> str:
    """One row an id: how many others it is ahead of as a bar, and its index."""
    if not ids:
        return "<empty majority quorum>"
    bars: dict[int, int] = {}
    before, bar = 0, 0
    for position, id in enumerate(sorted(ids, key=lambda id: (known.get(id, 0), id))):
        if position and known.get(id, 0) > before:
            bar = position
        before, bars[id] = known.get(id, 0), bar
    count = len(ids)
    rows = [" " * count + "    idx"]
    for id in ids:
        mark = "x" * bars[id] + ">" + " " * (count - bars[id]) if id in known else "?" + " " * count
        rows.append(f"{mark} {known.get(id, 0):5d}    (id={id:x})")
    return "".join(row + "\n" for row in rows)


def _index_text(index: int) -> str:
    return "∞" if index == INFINITE else str(index)


def _vote(directive: Directive) -> str:
    first, second, values = _halves(directive)
    for value in values:
        if value not in (*_VOTES, _UNKNOWN):
            raise VectorError(f"a vote is y, n or _, not {value!r}")
    votes = _assigned([*first, *(second or [])], [_VOTES.get(value) for value in values])
    if second is None:
        return _RESULTS[majority_vote(first, votes)]
    result = joint_vote(first, second, votes)
    swapped = joint_vote(second, first, votes)
    return _RESULTS[result] + ("" if swapped is result else f"\n{_RESULTS[swapped]} <-- via symmetry")
