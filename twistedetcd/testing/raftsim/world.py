"""What all members of one simulation share."""

from __future__ import annotations

from collections import Counter
from random import Random

from twistedetcd.raft.types import Message, Ready
from twistedetcd.testing.raftsim.disk import Disk
from twistedetcd.testing.raftsim.history import History
from twistedetcd.testing.raftsim.network import Network
from twistedetcd.testing.raftsim.profile import Profile
from twistedetcd.testing.raftsim.transcript import Transcript

COUNTERS = (
    "elections",
    "leaders",
    "conf changes applied",
    "joint configurations entered",
    "joint configurations left",
    "snapshots installed",
    "transfers",
    "reads answered",
    "crashes with loss",
    "truncations",
)
"""What a simulation has to reach to be worth its time; `World.coverage` counts them."""


class World:
    """
    Attributes:
        random: The one source of chance.
        profile: What kind of trouble there is.
        network: Between the members.
        history: What they did so far.
        disks: By member id.
        coverage: How often each of `COUNTERS` happened.
        transcript: Where it is written down, if it is.
    """

    def __init__(
        self, random: Random, profile: Profile, history: History, transcript: Transcript | None
    ) -> None:
        self.random, self.profile, self.history, self.transcript = random, profile, history, transcript
        self.network = Network(random, profile)
        self.disks: dict[int, Disk] = {}
        self.coverage: Counter[str] = Counter()


def brief_ready(ready: Ready) -> str:
    """What a Ready asks for but its messages, which are noted when they leave, on one line."""
    words = [f"hands out {ready.hard_state or 'no state'}, must sync {ready.must_sync}"]
    words += [str(ready.soft_state)] if ready.soft_state is not None else []
    words += [f"snapshot {ready.snapshot.index}/{ready.snapshot.term}"] if ready.snapshot is not None else []
    for name, entries in (("entries", ready.entries), ("committed", ready.committed)):
        words += [f"{name} {entries[0].index}/{entries[0].term}..{entries[-1].index}"] if entries else []
    return ", ".join(words)


def brief(message: Message) -> str:
    """A message on one line, without what is empty."""
    words = [f"{message.type.name} {message.sender}->{message.to} term {message.term}"]
    for name in ("log_term", "index", "commit", "reject", "reject_hint", "context"):
        value = getattr(message, name)
        words += [f"{name} {value!r}"] if value else []
    if message.entries:
        first, last = message.entries[0], message.entries[-1]
        words.append(f"entries {first.index}/{first.term}..{last.index}/{last.term}")
    if message.snapshot is not None:
        words.append(f"snapshot {message.snapshot.index}/{message.snapshot.term}")
    return " ".join(words)
