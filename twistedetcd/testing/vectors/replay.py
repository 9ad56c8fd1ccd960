"""One file, replayed: every directive is carried out, and what it prints is compared."""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple, Protocol

from twistedetcd.raft.errors import InvariantError
from twistedetcd.testing.vectors import changes, commands, quorums
from twistedetcd.testing.vectors.syntax import SEPARATOR, Directive, VectorError, parse


class Failure(NamedTuple):
    """Where a file and raft part company."""

    line: int
    """The line of the file, from 1."""
    expected: str
    """The line that the file has there; empty when it has none."""
    actual: str
    """The line that raft gives instead, or why it gave none."""

    def __str__(self) -> str:
        return f"  expected: {self.expected}\n  actual:   {self.actual}"


class Runner(Protocol):
    """Carries out the directives of one file, from first to last."""

    def handle(self, directive: Directive) -> str:
        """What the directive prints."""


def runner_for(directives: list[Directive]) -> Runner:
    """The kind of file that the first known command belongs to."""
    for directive in directives:
        if directive.command in quorums.COMMANDS:
            return quorums.Quorums()
        if directive.command in changes.COMMANDS:
            return changes.Changes()
        if directive.command in commands.COMMANDS:
            break
    return commands.Cluster()


def replay(text: str) -> Failure | None:
    """
    Run one file up to its first difference.

    Args:
        text: The whole file.

    Returns:
        The first line that differs; ``None`` when all is as expected.

    Raises:
        VectorError: The file is malformed; the text names the line.
    """
    directives = parse(text)
    if not directives:
        raise VectorError("there is no directive in it")
    runner = runner_for(directives)
    for directive in directives:
        actual = _handled(runner, directive)
        if actual != directive.expected:
            return _first_difference(directive, actual)
    return None


def rewritten(text: str) -> str:
    """The file with what raft prints in the place of what was expected."""
    lines = text.split("\n")
    directives = parse(text)
    runner, out, position = runner_for(directives), list[str](), 0
    for directive in directives:
        printed = _handled(runner, directive).split("\n")[:-1]
        if not all(line.strip() for line in printed):
            printed = [SEPARATOR, *printed, SEPARATOR, SEPARATOR]
        out += [*lines[position : directive.separator_line], *printed]
        position = directive.end_line
    return "\n".join(out + lines[position:])


def _handled(runner: Runner, directive: Directive) -> str:
    try:
        actual = runner.handle(directive)
    except VectorError as error:
        raise VectorError(f"line {directive.line}: {error}") from None
    except InvariantError as error:
        actual = f"{directive.command} broke an invariant: {error}"
    return actual if not actual or actual.endswith("\n") else actual + "\n"


def _first_difference(directive: Directive, actual: str) -> Failure:
    first = directive.end_line - len(directive.expected.split("\n")) + 2
    pairs = zip_longest(directive.expected.split("\n"), actual.split("\n"), fillvalue="")
    for line, (one, other) in enumerate(pairs, first):
        if one != other:
            return Failure(line, one, other)
    raise AssertionError("no two lines differ")
