"""What a leader only tells its followers: how far the log is committed.  It can wait for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedetcd.raft.types import Message, MessageType

TELL_SECONDS = 0.001
"""So long a leader waits for entries to send along with what is committed."""


def only_tells(messages: Sequence[Message]) -> bool:
    """Whether messages say what is committed, and nothing else."""
    return all(message.type is MessageType.APP and not message.entries for message in messages)


class Telling:
    """
    Keeps what can wait, to go with the next append, or by itself if none comes soon.

    Args:
        clock: For how long.
        send: Sends what has waited for long enough.
    """

    def __init__(self, clock: IReactorTime, send: Callable[[Sequence[Message]], None]) -> None:
        self._clock = clock
        self._send = send
        self._untold: dict[int, Message] = {}  # by member
        self._timer: IDelayedCall | None = None

    def put_off(self, messages: Sequence[Message]) -> None:
        """Keep messages that only tell; of several to a member the last one says all."""
        for message in messages:
            self._untold[message.to] = message
        if self._timer is None:
            self._timer = self._clock.callLater(TELL_SECONDS, self._tell)

    def along_with(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Messages that are sent now, after what is still to be told to those who get no append with them."""
        if not self._untold:
            return messages
        untold, self._untold = self._untold, {}
        self.stop()
        for message in messages:
            if message.type is MessageType.APP:
                untold.pop(message.to, None)
        return [*untold.values(), *messages]

    def _tell(self) -> None:
        self._timer = None
        self._send(self.along_with(()))

    def stop(self) -> None:
        """Nothing is sent any more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
