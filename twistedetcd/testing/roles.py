"""``python -m twistedetcd.testing.roles``: the table of who hears what, as it stands in ``docs/raft.md``."""

from __future__ import annotations

from twistedetcd.raft.describe import message_name
from twistedetcd.raft.roles import REACTIONS, Reaction
from twistedetcd.raft.types import MessageType, Role

_ROLES = (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER)


def table() -> str:
    """One row a message type that some role hears, in Markdown."""
    heads = ["Message", *(role.name.replace("_", "-").capitalize() for role in _ROLES)]
    rows = [heads, ["---"] * len(heads)]
    for kind in MessageType:
        reactions = [REACTIONS[role].get(kind) for role in _ROLES]
        if any(reactions):
            rows.append([message_name(kind), *map(_cell, reactions)])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def unheard() -> list[str]:
    """The types that no role hears: what goes to the driver's storage threads."""
    return [
        message_name(kind)
        for kind in MessageType
        if not any(kind in reactions for reactions in REACTIONS.values())
    ]


def _cell(reaction: Reaction | None) -> str:
    """Module and function; a star where only members of the configuration are heard."""
    if reaction is None:
        return ""
    module = reaction.__module__.rpartition(".")[2]
    return f"`{module}.{reaction.__name__}`" + (" *" if hasattr(reaction, "__wrapped__") else "")


if __name__ == "__main__":
    print(table(), end="")
