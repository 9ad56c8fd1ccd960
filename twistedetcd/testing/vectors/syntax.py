"""A file as text: directives, their arguments, and the words Go's parsers have for what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SEPARATOR = "----"
_UINT64_MAX = 2**64 - 1
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_KEY = re.compile(r"[^ =]+")


class VectorError(Exception):
    """The file is malformed, or asks for what cannot be: the replay of it ends here."""


class CommandError(Exception):
    """A command was refused; its text is what the command prints."""


@dataclass(frozen=True, slots=True)
class Argument:
    """``key``, ``key=value`` or ``key=(value, value)``."""

    key: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directive:
    """One command and what it must print."""

    command: str
    arguments: tuple[Argument, ...]
    input: str
    expected: str
    line: int
    """Where the command stands, from 1."""
    separator_line: int
    """Where its ``----`` stands."""
    end_line: int
    """Where the last line of the block stands."""

    def ids(self) -> list[int]:
        """The arguments without a value, which name nodes."""
        return [number(argument.key) for argument in self.arguments if not argument.values]

    def first_id(self) -> int:
        """The node that the first argument names."""
        if not self.arguments or self.arguments[0].values:
            raise VectorError(f"{self.command} needs the id of a node")
        return number(self.arguments[0].key)

    def options(self) -> Iterator[tuple[str, str]]:
        """Every value, with its key, in the order of the line."""
        for argument in self.arguments:
            for value in argument.values:
                yield argument.key, value


def number(text: str) -> int:
    """A decimal number that fits 64 bits."""
    try:
        return parse_uint(text)
    except CommandError as error:
        raise VectorError(str(error)) from None


def boolean(text: str) -> bool:
    """A truth value in any of the spellings that Go takes."""
    try:
        return parse_bool(text)
    except CommandError as error:
        raise VectorError(str(error)) from None


def parse_uint(text: str) -> int:
    """As `number`; the error is the one that Go would print."""
    if not (text.isascii() and text.isdecimal()):
        raise CommandError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    value = int(text)
    if value > _UINT64_MAX:
        raise CommandError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


def parse_bool(text: str) -> bool:
    """As `boolean`; the error is the one that Go would print."""
    if text not in _TRUE | _FALSE:
        raise CommandError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def parse(text: str) -> list[Directive]:
    """
    All directives of a file.

    Raises:
        VectorError: A line that does not follow the format; the text names it.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    directives, position = [], 0
    while position < len(lines):
        line = lines[position].strip()
        if line and not line.startswith("#"):
            directive = _directive(lines, position)
            directives.append(directive)
            position = directive.end_line
        else:
            position += 1
    return directives


def _directive(lines: list[str], start: int) -> Directive:
    line, position = lines[start].strip(), start + 1
    while line.endswith("\\") and position < len(lines):
        line = line[:-1] + " " + lines[position].strip()
        position += 1
    try:
        separator = lines.index(SEPARATOR, position)
    except ValueError:
        raise VectorError(f"line {start + 1}: no {SEPARATOR} follows") from None
    expected, end = _expected(lines, separator + 1)
    try:
        command, arguments = _words(line)
    except VectorError as error:
        raise VectorError(f"line {start + 1}: {error}") from None
    return Directive(
        command=command,
        arguments=arguments,
        input="\n".join(lines[position:separator]).strip(),
        expected="".join(line + "\n" for line in expected),
        line=start + 1,
        separator_line=separator + 1,
        end_line=end,
    )


def _expected(lines: list[str], start: int) -> tuple[list[str], int]:
    """The block from ``start`` on, and the position after it."""
    if start < len(lines) and lines[start] == SEPARATOR:
        for position in range(start + 1, len(lines) - 1):
            if lines[position] == lines[position + 1] == SEPARATOR:
                after = position + 2
                if after < len(lines) and lines[after].strip():
                    raise VectorError(f"line {after + 1}: a blank line must follow the second {SEPARATOR}")
                return lines[start + 1 : position], after
        raise VectorError(f"line {start + 1}: two lines of {SEPARATOR} must end the block")
    end = start
    while end < len(lines) and lines[end].strip():
        end += 1
    return lines[start:end], end


def _words(line: str) -> tuple[str, tuple[Argument, ...]]:
    command, _, rest = line.partition(" ")
    arguments = []
    rest = rest.strip(" ")
    while rest:
        argument, rest = _argument(rest)
        arguments.append(argument)
        rest = rest.lstrip(" ")
    return command, tuple(arguments)


def _argument(text: str) -> tuple[Argument, str]:
    """The first argument of ``text``, and what follows it."""
    key = _KEY.match(text)
    if key is None:
        raise VectorError(f"no key before {text!r}")
    after = text[key.end() :]
    if not after.startswith("="):
        return Argument(key.group()), after
    after = after[1:]
    if after.startswith("("):
        values, after = _list(after)
        if after and not after.startswith(" "):
            raise VectorError(f"no space before {after!r}")
        return Argument(key.group(), values), after
    value, space, after = after.partition(" ")
    return Argument(key.group(), (value,)), space + after


def _list(text: str) -> tuple[tuple[str, ...], str]:
    """The values in the parentheses that ``text`` begins with, and what follows them."""
    depth, start, values = 0, 1, []
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if (letter == "," and depth == 1) or not depth:
            values.append(text[start:position].lstrip(" "))
            start = position + 1
        if not depth:
            return (tuple(values) if values != [""] else ()), text[position + 1 :]
    raise VectorError(f"no closing parenthesis in {text!r}")
