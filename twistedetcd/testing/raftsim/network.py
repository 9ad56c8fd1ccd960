"""A network that loses, repeats, delays and reorders, and whose links break in one direction at a time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twistedetcd.raft.types import Message, MessageType
from twistedetcd.testing.raftsim.profile import Profile

FLIGHT_MAX = 600
"""Messages under way; the oldest are lost beyond that."""

ATTIC_MAX = 60
"""Messages kept to arrive long after their time."""

_NOTICES = frozenset({MessageType.UNREACHABLE, MessageType.SNAP_STATUS})


class Network:
    """
    Messages under way, oldest first.

    What becomes of a message may be told to its sender: an UNREACHABLE or a SNAP_STATUS from whom it was for
    travels here too, and is never lost (every snapshot sent must be reported on).
    """

    def __init__(self, random: Random, profile: Profile) -> None:
        self._random, self._profile = random, profile
        self._flight: list[Message] = []
        self._attic: list[Message] = []
        self._broken: dict[tuple[int, int], bool] = {}

    def __len__(self) -> int:
        return len(self._flight)

    def send(self, message: Message) -> None:
        """Put a message on its way."""
        self._flight.append(message)
        if len(self._flight) > FLIGHT_MAX:
            self.lose(self._flight.pop(0))

    def take(self, *, calm: bool = False) -> Message | None:
        """
        The next message to arrive.

        Args:
            calm: In order, without faults of its own; broken links stay broken.

        Returns:
            ``None`` when none arrives this time.
        """
        random, profile = self._random, self._profile
        if self._attic and not calm and random.random() < 0.06:
            return self._attic.pop(random.randrange(len(self._attic)))
        if not self._flight:
            return None
        overtakes = not calm and random.random() < profile.reorder
        message = self._flight.pop(random.randrange(len(self._flight)) if overtakes else 0)
        if message.type in _NOTICES:
            return message
        if (message.sender, message.to) in self._broken:
            # Most are lost; some arrive when everybody has forgotten them.
            if random.random() < 0.2:
                self._keep(message)
            self.lose(message)
            return None
        if not calm:
            if random.random() < profile.drop:
                self.lose(message)
                return None
            if random.random() < profile.duplicate:
                self._keep(message)
        if message.type is MessageType.SNAP:
            self._report(message, reject=False)
        return message

    def pick(self, wanted: Callable[[Message], bool]) -> Message | None:
        """The oldest message that is wanted, taken out; the others wait, and broken links matter no more."""
        for position, message in enumerate(self._flight):
            if wanted(message) and message.type not in _NOTICES:
                del self._flight[position]
                if message.type is MessageType.SNAP:
                    self._report(message, reject=False)
                return message
        return None

    def echo(self, wanted: Callable[[Message], bool]) -> None:
        """What is wanted arrives twice, the second time long after."""
        for message in filter(wanted, self._flight):
            self._keep(message)

    def _keep(self, message: Message) -> None:
        # A read must be asked for once: raft would confirm the second with late answers to the first.
        if message.type is MessageType.READ_INDEX:
            return
        self._attic.append(message)
        if len(self._attic) > ATTIC_MAX:
            self._attic.pop(0)

    def lose(self, message: Message) -> None:
        """A message does not arrive; its sender may be told."""
        if message.type is MessageType.SNAP:
            self._report(message, reject=True)
        elif message.type not in _NOTICES and self._random.random() < 0.2:
            self.send(Message(MessageType.UNREACHABLE, to=message.sender, sender=message.to))

    def _report(self, message: Message, *, reject: bool) -> None:
        self.send(Message(MessageType.SNAP_STATUS, to=message.sender, sender=message.to, reject=reject))

    def break_link(self, sender: int, to: int) -> None:
        """Nothing arrives that way."""
        self._broken[sender, to] = True

    def heal(self) -> None:
        """Every link works."""
        self._broken.clear()

    def forget(self) -> None:
        """What waits to arrive long after its time never will."""
        self._attic.clear()
