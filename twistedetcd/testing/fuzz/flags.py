"""The fuzzer of the configuration: flags, environment and file."""

from __future__ import annotations

import json
import random
from contextlib import suppress

from twistedetcd.config import FILE_KEYS, Answered, parse, variable
from twistedetcd.errors import ConfigError, UsageError
from twistedetcd.flagtable import FLAGS
from twistedetcd.testing.fuzz.run import mutated

NAMES = sorted(FLAGS)
KEYS = sorted(FILE_KEYS)
VALUES = [
    "",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "0x10",
    "99999999999999999999",
    "1e3",
    "5s",
    "-5s",
    "1h1m1.5s",
    "9999999h",
    "http://127.0.0.1:1",
    "http://[::1]:99999",
    "unix://a",
    "https://a.b:1",
    "a=http://127.0.0.1:1",
    "default=http://localhost:2380",
    "a,b",
    "\0",
    "\u0661",
]


def _text(draw: random.Random, text: str) -> str:
    if draw.random() < 0.7:
        return text
    return mutated(draw, text.encode(), 2).decode("utf-8", "surrogateescape")


def configuration(draw: random.Random) -> None:
    """Whatever an operator writes becomes a `Config` or one of the three documented errors."""
    arguments = []
    for _ in range(draw.randint(0, 4)):
        dashes, name, value = draw.choice(["-", "--"]), _text(draw, draw.choice(NAMES)), draw.choice(VALUES)
        arguments.append(f"{dashes}{name}={_text(draw, value)}" if draw.random() < 0.8 else f"{dashes}{name}")
    environment = {
        variable(_text(draw, draw.choice(NAMES))): _text(draw, draw.choice(VALUES))
        for _ in range(draw.randint(0, 2))
    }
    tree: dict[str, object] = {}
    for _ in range(draw.randint(0, 4)):
        below = tree
        *sections, key = draw.choice(KEYS).split(".")
        for section in sections:
            inner = below.setdefault(section, {})
            below = inner if isinstance(inner, dict) else {}
        below[key] = draw.choice([*VALUES, True, None, 1, -1, 1.5, [], ["a"], {"a": 1}, 10**30])
    file = mutated(draw, json.dumps(tree).encode(), 2) if draw.random() < 0.5 else json.dumps(tree).encode()
    if draw.random() < 0.5:
        arguments.append("--config-file=a")
    with suppress(Answered, UsageError, ConfigError):
        parse(arguments, environment, lambda path: file)
