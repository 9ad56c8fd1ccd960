"""
A client's calls of a simulated member: gRPC's calls, without HTTP/2, over a network that takes its time.

What goes to the member arrives late or never, and so does what comes back.  A stream loses nothing in its
middle: it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from twistedetcd.api.calls import terms
from twistedetcd.errors import Code
from twistedetcd.protocols.calls import Receiver, Request

if TYPE_CHECKING:
    from twistedetcd.testing.simulation.life import Life
    from twistedetcd.testing.simulation.machine import Machine
    from twistedetcd.testing.simulation.world import World

Header = tuple[bytes, bytes]
REFUSED = "connection refused"
"""What a client is told that never reached the member."""
HUNG_UP = "connection lost"
"""What a client is told when the member is gone."""


@dataclass
class Road:
    """
    How well a client reaches members.

    Attributes:
        latency_seconds: The shortest and the longest time on the way.
        drop: The chance that something is lost, for each way of a call or message.
    """

    latency_seconds: tuple[float, float] = (0.0002, 0.003)
    drop: float = 0.0


class Line:
    """
    One direction of a call: what is sent arrives in order, until something is lost.

    Args:
        world: Where.
        random: What is lost, and how long all else takes.
        road: How well it works.
    """

    def __init__(self, world: World, random: Random, road: Road) -> None:
        self._clock = world.clock
        self._random = random
        self._road = road
        self._free_at = 0.0
        self.broken = False

    def carry(self, arrive: Callable[..., object], *arguments: Any) -> None:
        """Call ``arrive`` at the other end, some time later, unless it is lost."""
        random, road = self._random, self._road
        if road.drop and random.random() < road.drop:
            self.broken = True
        if not self.broken:
            least, most = road.latency_seconds
            now = self._clock.seconds()
            self._free_at = max(self._free_at, now + least + (most - least) * random.random())
            self._clock.callLater(self._free_at - now, arrive, *arguments)


class ClientCall:
    """
    A call, as its client has it.

    Args:
        world: Where.
        random: What is lost on the way, and how long all else takes.
        road: How well members are reached.
        received: Called with each message that comes back.
        ended: Called once when the call is over, with a code, 0 if it went well, and a text.
    """

    def __init__(
        self,
        world: World,
        random: Random,
        road: Road,
        received: Callable[[bytes], object],
        ended: Callable[[Code, str], object],
    ) -> None:
        self._up, self._down = Line(world, random, road), Line(world, random, road)
        self._received = received
        self._ended = ended
        self._member: MemberCall | None = None
        self.over = False

    @property
    def life(self) -> Life | None:
        """Whom it has reached."""
        return None if self._member is None else self._member.life

    def begin(self, machine: Machine, path: str, message: bytes | None, *headers: Header) -> None:
        """
        Call a member, which is not known to be there.

        Args:
            machine: Where it is, or not.
            path: Which method.
            message: The one message of a unary call; ``None`` for a stream.
            headers: Metadata.
        """
        self._up.carry(self._reach, machine, path.encode(), message, headers)

    def _reach(
        self, machine: Machine, path: bytes, message: bytes | None, headers: tuple[Header, ...]
    ) -> None:
        life = machine.life
        if life is None or not life.serves:
            self._down.carry(self.end, Code.UNAVAILABLE, REFUSED)
            return
        self._member = MemberCall(life, self, self._down, headers)
        life.connected[self._member] = None
        life.clock.soon(self._member.begin, path, message)

    def send(self, message: bytes) -> None:
        """Send a message on a stream."""
        self._up.carry(self._tell, "message_received", message)

    def half_close(self) -> None:
        """Send no more."""
        self._up.carry(self._tell, "half_closed")

    def give_up(self) -> None:
        """Wait no longer; the member hears of it, perhaps."""
        if not self.over:
            self.over = True
            self._up.carry(self._tell, "cancelled")

    def _tell(self, what: str, *arguments: Any) -> None:
        member = self._member
        if member is not None and not member.life.dead:
            member.life.clock.soon(member.told, what, *arguments)

    def arrived(self, message: bytes) -> None:
        """A message has come back."""
        if not self.over:
            self._received(message)

    def end(self, code: Code, text: str) -> None:
        """The call is over."""
        if not self.over:
            self.over = True
            self._ended(code, text)


class MemberCall:
    """
    The same call as the member's handlers have it: a `twistedetcd.protocols.calls.Call` to them.

    Args:
        life: Whose.
        client: The other end.
        down: The way there.
        headers: Metadata.

    Attributes:
        done: Whether there is nothing more to say.
        queue: What waits for the client to read it: never anything.
    """

    queue = None

    def __init__(self, life: Life, client: ClientCall, down: Line, headers: tuple[Header, ...]) -> None:
        request = Request(None, None, b"identity", headers, None)
        self.request = request._replace(terms=terms(request))
        self.life = life
        self.done = False
        self.on_cancelled: Callable[[], None] | None = None
        self._client = client
        self._down = down
        self._receiver: Receiver | None = None

    def begin(self, path: bytes, message: bytes | None) -> None:
        """It reaches its handler."""
        assert self.life.assembly is not None, "a member that serves was assembled"
        method = self.life.assembly.methods[path]
        call: Any = self
        if method.unary is not None:
            assert message is not None, f"{path!r} is no stream"
            method.unary(call, message)
            return
        assert method.stream is not None, f"{path!r} is neither"
        self._receiver = method.stream(call)
        if message is not None and not self.done:
            self.told("message_received", message)
            self.told("half_closed")

    def told(self, what: str, *arguments: Any) -> None:
        """The client said something, or is gone."""
        if self.done:
            return
        if what == "cancelled":
            self._over()
            if self._receiver is not None:
                self._receiver.cancelled()
            elif self.on_cancelled is not None:
                self.on_cancelled()
        elif self._receiver is not None:
            getattr(self._receiver, what)(*arguments)

    def hung_up(self) -> None:
        """The member is dead; its clients find out, perhaps."""
        self._down.carry(self._client.end, Code.UNAVAILABLE, HUNG_UP)

    def _over(self) -> None:
        self.done = True
        self.life.connected.pop(self, None)

    # What handlers use.

    def reply(self, message: bytes) -> None:
        """See `twistedetcd.protocols.calls.Call.reply`."""
        if not self.done:
            self.send(message)
            self.finish()

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        """See `twistedetcd.protocols.calls.Call.reply_in_parts`."""
        self.reply(b"".join(parts))

    def send(self, message: bytes) -> int:
        """See `twistedetcd.protocols.calls.Call.send`; nothing ever waits."""
        if not (self.done or self.life.dead):
            self._down.carry(self._client.arrived, message)
        return 0

    def send_prefixed(self, messages: bytes) -> int:
        """See `twistedetcd.protocols.calls.Call.send_prefixed`."""
        for message in _cut(messages):
            self.send(message)
        return 0

    def finish(self) -> None:
        """See `twistedetcd.protocols.calls.Call.finish`."""
        self._end(Code.OK, "")

    def fail(self, code: Code, message: str) -> None:
        """See `twistedetcd.protocols.calls.Call.fail`."""
        self._end(code, message)

    def _end(self, code: Code, text: str) -> None:
        if not (self.done or self.life.dead):
            self._over()
            self._down.carry(self._client.end, code, text)


def _cut(messages: bytes) -> Iterator[bytes]:
    """Messages, each with its prefix, one by one."""
    at = 0
    while at < len(messages):
        length = int.from_bytes(messages[at + 1 : at + 5], "big")
        yield messages[at + 5 : at + 5 + length]
        at += 5 + length
