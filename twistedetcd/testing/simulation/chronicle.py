"""
What happened to the keys, told by the members themselves as they apply it.

Each member has to say the same: a revision that differs between two of them, or between two lives of one, is
noticed at once, and so is one that a member leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from twistedetcd.interfaces import IWatchReceiver
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.testing.checks import Change, Witness
from twistedetcd.testing.simulation.life import Life
from twistedetcd.testing.simulation.world import World


class Chronicle:
    """
    All revisions, from the first on.

    Args:
        world: Whose members tell it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._changes: dict[int, Change] = {}
        world.on_assembled.append(self._listen)

    @property
    def revision(self) -> int:
        """The last revision that any member has told."""
        return len(self._changes) + 1

    def witness(self) -> Witness:
        """
        All of it.

        Raises:
            ValueError: Nobody has told of some revision.
        """
        return Witness([self._changes[revision] for revision in sorted(self._changes)])

    def _listen(self, life: Life) -> None:
        Listener(self, life)

    def told(self, who: str, events: Sequence[bytes]) -> None:
        """A member tells of the events of some revisions, in order."""
        by_revision: dict[int, list[Event]] = {}
        for data in events:
            event = Event.FromString(data)
            by_revision.setdefault(event.kv.mod_revision, []).append(event)
        for revision, changed in by_revision.items():
            known = self._changes.get(revision)
            if known is None:
                self._changes[revision] = Change(revision, changed, self._world.clock.seconds())
            elif known.events != changed:
                text = f"revision {revision} is {_brief(changed)} here, and {_brief(known.events)} elsewhere"
                self._world.problem(who, text)


@implementer(IWatchReceiver)
class Listener:
    """One life's own watch of all keys, from where its store is when it starts."""

    ready = True

    def __init__(self, chronicle: Chronicle, life: Life) -> None:
        assert life.assembly is not None, "it was assembled"
        self._chronicle = chronicle
        self._life = life
        self._watches = life.assembly.member.watches
        self._watches.watch(b"\0", b"", self)

    def changed(self, watches: Sequence[Any], batch: Any) -> Sequence[Any]:
        """See `IWatchReceiver`."""
        if not self._life.dead:
            self._chronicle.told(self._life.machine.name, batch.events)
        return ()

    def compacted(self, watch: Any, compact_revision: int) -> None:
        """See `IWatchReceiver`: what it missed, others have told."""
        self._watches.watch(b"\0", b"", self, compact_revision)


def _brief(events: Sequence[Event]) -> str:
    return ", ".join(
        f"{Event.EventType.Name(event.type)} {event.kv.key!r} {event.kv.value[:20]!r}" for event in events
    )
