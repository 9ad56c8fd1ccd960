"""A connection to a peer that is dialed again whenever it is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from twistedetcd.protocols.frames import Hello, Kind
from twistedetcd.protocols.peer import Owner, PeerConnection, Refused
from twistedetcd.protocols.waiting import Waiting

AGAIN_SECONDS = 0.1
"""After the first failure it is dialed again after at most so long; after each further one, twice as long,"""
AGAIN_SECONDS_MAX = 1.0
"""but never longer than that.  Half of it is by chance, so that members do not dial all at once."""


class LineOwner(Protocol):
    """What a line belongs to."""

    def greet(self, connection: PeerConnection, theirs: Hello) -> Hello | None:
        """As `Owner.greet`; likewise the next three."""

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None: ...

    def heard(self, connection: PeerConnection, received_bytes: int) -> None: ...

    def round_trip(self, connection: PeerConnection, seconds: float) -> None: ...

    def connected(self, line: Line) -> None:
        """It is there: what is sent arrives."""

    def disconnected(self, line: Line, why: Refused | Failure, dropped: bool) -> None:
        """It is gone, or could not be made; ``dropped``: something that was sent may be lost with it."""


class Line(Owner):
    """
    The way to a peer.

    Args:
        clock: For dialing again.
        jitter: A `random.random`.
        endpoint: Where a URL leads.
        urls: Where the peer is; one after the other is tried.
        ours: What to say of ourselves.
        frame_bytes_max: The longest frame.
        owner: Whose.

    Attributes:
        url: Where it was dialed last.
    """

    def __init__(
        self,
        clock: IReactorTime,
        jitter: Callable[[], float],
        endpoint: Callable[[str], IStreamClientEndpoint],
        urls: Sequence[str],
        ours: Hello,
        frame_bytes_max: int,
        owner: LineOwner,
    ) -> None:
        self.url = urls[0]
        self._clock = clock
        self._jitter = jitter
        self._endpoint = endpoint
        self._urls = urls
        self._ours = ours
        self._frame_bytes_max = frame_bytes_max
        self._owner = owner
        self._connection: PeerConnection | None = None
        self._dialing: Deferred[Any] | None = None
        self._again: IDelayedCall | None = None
        self._failures = 0
        self._stopped = False
        # What is sent before the first attempt has failed: it may well arrive.
        self._held = Waiting()

    @property
    def connected(self) -> bool:
        """Whether what is sent now arrives, as far as anybody knows."""
        return self._connection is not None and self._connection.open

    def dial(self) -> None:
        """Dial now, if there is neither a connection nor an attempt to make one."""
        if self._stopped or self._dialing is not None or self._connection is not None:
            return
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self.url = url = self._urls[self._failures % len(self._urls)]
        connection = PeerConnection(self, self._clock, self._frame_bytes_max, self._ours)
        factory = Factory.forProtocol(lambda: connection)
        factory.noisy = False
        # An endpoint may fail at once.
        self._dialing = dialing = self._endpoint(url).connect(factory)
        dialing.addCallbacks(self._made, self._failed)

    def stop(self) -> Deferred[None]:
        """No more; fires once nothing is left."""
        self._stopped = True
        self._held.take_all()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._dialing is not None:
            self._dialing.cancel()
        if self._connection is None:
            return succeed(None)
        self._connection.hang_up(Refused("stopped", "not needed any more"))
        return self._connection.when_lost()

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send frames, in order; false if the last of them, or all, are lost."""
        connection = self._connection
        if connection is not None and connection.open:
            return connection.send(frames)
        if self._failures or self._stopped:
            return False
        return self._held.put(frames)

    def _made(self, connection: object) -> None:
        self._dialing = None
        assert isinstance(connection, PeerConnection), "that is what the factory makes"
        self._connection = connection
        if self._stopped:
            connection.hang_up(Refused("stopped", "not needed any more"))
        elif connection.over:
            self._over(Refused("lost", "it hung up at once"))  # before we were told that it was made

    def _failed(self, failure: Failure) -> None:
        self._dialing = None
        if not self._stopped:
            self._over(failure)

    def _over(self, why: Refused | Failure) -> None:
        was_open = self._connection is not None and self._connection.theirs is not None
        self._connection = None
        if self._stopped:
            return
        dropped = bool(self._held.take_all()) or was_open
        seconds = min(AGAIN_SECONDS_MAX, AGAIN_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._again = self._clock.callLater(seconds * (0.5 + 0.5 * self._jitter()), self._dial_again)
        self._owner.disconnected(self, why, dropped)

    def _dial_again(self) -> None:
        self._again = None
        self.dial()

    # What the connection tells.

    def greet(self, connection: PeerConnection, theirs: Hello) -> Hello | None:
        return self._owner.greet(connection, theirs)

    def opened(self, connection: PeerConnection) -> None:
        self._connection = connection  # it may be told before `_made` is
        self._failures = 0
        held = self._held.take_all()
        if held:
            connection.send(held)
        self._owner.connected(self)

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        self._owner.taken(connection, kind, body)

    def heard(self, connection: PeerConnection, received_bytes: int) -> None:
        self._owner.heard(connection, received_bytes)

    def round_trip(self, connection: PeerConnection, seconds: float) -> None:
        self._owner.round_trip(connection, seconds)

    def lost(self, connection: PeerConnection, why: Refused | Failure) -> None:
        if self._dialing is None:  # else `_made` finds out
            self._over(why)
