"""A client's way to call members, which writes down what it asked and what it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred

from twistedetcd.errors import Code
from twistedetcd.pb.services import METHODS, Method
from twistedetcd.testing.checks import Operation, Refused, Unknown, Watch, outcome
from twistedetcd.testing.simulation.calls import REFUSED, ClientCall, Road

if TYPE_CHECKING:
    from random import Random

    from twistedetcd.testing.clock import TimedCall
    from twistedetcd.testing.simulation.machine import Machine
    from twistedetcd.testing.simulation.world import World

Outcome = Message | Refused | Unknown
GAVE_UP = "gave up waiting"
_METHODS: dict[type[Message], Method] = {method.request: method for method in METHODS.values()}


class Record:
    """All that clients saw."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.watches: list[Watch] = []


class Caller:
    """
    One client's calls.

    Args:
        world: Where.
        name: The client's.
        random: How its calls fare on the way.
        road: How well it reaches members.
        record: Where all is written down.
    """

    def __init__(self, world: World, name: str, random: Random, road: Road, record: Record) -> None:
        self.world = world
        self.name = name
        self.random = random
        self.road = road
        self.record = record

    def ask(self, machine: Machine, request: Message, timeout_seconds: float = 5.0) -> Deferred[Outcome]:
        """
        Make a call, and write it down; one that certainly did not reach a member is not.

        Args:
            machine: Whose member is asked.
            request: What; of a stream's method, the one message that is sent.
            timeout_seconds: How long to wait.

        Returns:
            Fires with what came of it.
        """
        return _Asking(self, machine, request, timeout_seconds).answered

    def call(self, received: Any, ended: Any) -> ClientCall:
        """A call of its own kind, of which nothing is written down."""
        return ClientCall(self.world, self.random, self.road, received, ended)

    def pause(self, seconds: float) -> Deferred[None]:
        """Do nothing for a while."""
        over: Deferred[None] = Deferred()
        self.world.clock.callLater(seconds, over.callback, None)
        return over


class _Asking:
    """One call with one answer."""

    def __init__(self, caller: Caller, machine: Machine, request: Message, timeout_seconds: float) -> None:
        method = _METHODS[type(request)]
        self._caller = caller
        self._machine = machine
        self._request = request
        self._response = method.response
        self._stream = method.client_streaming
        self._called_at = caller.world.clock.seconds()
        self._message: bytes | None = None
        self.answered: Deferred[Outcome] = Deferred()
        self._timeout: TimedCall = caller.world.clock.callLater(timeout_seconds, self._late)
        self._call = caller.call(self._received, self._ended)
        metadata = ((b"hasleader", b"true"),) if caller.random.random() < 0.2 else ()
        message = request.SerializeToString()
        self._call.begin(machine, method.path, None if self._stream else message, *metadata)
        if self._stream:
            self._call.send(message)

    def _received(self, message: bytes) -> None:
        self._message = message
        if self._stream:
            self._call.half_close()
            self._ended(Code.OK, "")

    def _ended(self, code: Code, text: str) -> None:
        if self.answered.called:
            return
        if code is Code.OK and self._message is not None:
            self._over(self._response.FromString(self._message))
        elif code is Code.OK:
            self._over(Unknown("no answer"))
        elif text == REFUSED:
            self._timeout.cancel()
            self.answered.callback(Refused(code, text))
        else:
            self._over(outcome(code, text))

    def _late(self) -> None:
        self._call.give_up()
        self._over(Unknown(GAVE_UP), returned=False)

    def _over(self, result: Outcome, returned: bool = True) -> None:
        if returned:
            self._timeout.cancel()
        caller, machine = self._caller, self._machine
        life = self._call.life
        operation = Operation(
            client=caller.name,
            called_at=self._called_at,
            returned_at=caller.world.clock.seconds() if returned else None,
            request=self._request,
            outcome=result,
            member=machine.name if life is None else f"{machine.name}.{life.number}",
        )
        caller.record.operations.append(operation)
        if caller.world.transcript is not None:
            caller.world.note(caller.name, str(operation).removeprefix(caller.name))
        self.answered.callback(result)
