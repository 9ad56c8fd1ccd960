"""Clients that watch: from now, the past or the future; when their stream breaks they go on elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse
from twistedetcd.testing.checks import Watch
from twistedetcd.testing.simulation.caller import Caller
from twistedetcd.testing.simulation.requests import KEYS, RANGES

if TYPE_CHECKING:
    from twistedetcd.testing.clock import TimedCall
    from twistedetcd.testing.simulation.calls import ClientCall
    from twistedetcd.testing.simulation.machine import Machine

PATH = "/etcdserverpb.Watch/Watch"
CREATED_SECONDS = 3.0
"""A watch that was not created by then is made elsewhere."""
SILENCE_SECONDS = 15.0
"""So is one of which nothing is heard; it asks for progress now and then."""
PROGRESS_SECONDS = 2.0
"""How often it does."""
AGAIN_SECONDS = 0.3
"""A watcher whose stream broke waits about as long."""


class Watcher:
    """
    One who watches, on one stream at a time.

    Args:
        caller: Makes its calls.
        machines: Whom it may ask.
    """

    def __init__(self, caller: Caller, machines: Sequence[Machine]) -> None:
        self.caller = caller
        self._random = caller.world.random(f"watcher {caller.name}")
        self._machines = machines
        self._stopped = False
        self.revision = 1
        """The last that it heard of."""
        self.stream: Stream | None = None

    def run(self) -> Deferred[None]:
        """Go on until `stop`; fires when the last stream is left to itself."""
        return Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """Begin no other stream; the last one goes on."""
        self._stopped = True

    async def _run(self) -> None:
        before: Watch | None = None
        while not self._stopped:
            machine = self._random.choice(self._machines)
            request = self._fresh() if before is None else self._continued(before)
            self.stream = stream = Stream(self, machine, request, before)
            watch = await stream.over
            await self.caller.pause(self._random.expovariate(1 / AGAIN_SECONDS))
            if watch.received:
                before = watch if self._random.random() < 0.8 else None

    def _fresh(self) -> WatchCreateRequest:
        random = self._random
        key, end = random.choice(RANGES) if random.random() < 0.7 else (random.choice(KEYS), b"")
        request = WatchCreateRequest(key=key, range_end=end)
        where = random.choice(("now", "now", "past", "future"))
        if where == "past":
            request.start_revision = max(1, self.revision - random.choice((0, 3, 30, 300)))
        elif where == "future":
            request.start_revision = self.revision + random.choice((2, 10, 50))
        request.prev_kv = random.random() < 0.4
        request.progress_notify = random.random() < 0.5
        request.fragment = random.random() < 0.2
        if random.random() < 0.2:
            request.filters.append(random.choice((WatchCreateRequest.NOPUT, WatchCreateRequest.NODELETE)))
        return request

    def _continued(self, before: Watch) -> WatchCreateRequest:
        request = WatchCreateRequest()
        request.CopyFrom(before.request)
        request.start_revision = before.next_revision
        return request


class Stream:
    """
    One stream with one watch.

    Args:
        watcher: Whose.
        machine: Who serves it.
        request: What is watched.
        continues: The watch that it goes on for.

    Attributes:
        over: Fires with the watch when the stream is.
    """

    def __init__(
        self, watcher: Watcher, machine: Machine, request: WatchCreateRequest, continues: Watch | None
    ) -> None:
        self._watcher = watcher
        self._caller = caller = watcher.caller
        self._clock = caller.world.clock
        self._request = request
        self._continues = continues
        self._called_at = self._clock.seconds()
        self._received: list[tuple[float, WatchResponse]] = []
        self._machine = machine
        self.over: Deferred[Watch] = Deferred()
        self._call: ClientCall = caller.call(self._message, self._ended)
        self._call.begin(machine, PATH, None)
        self._call.send(WatchRequest(create_request=request).SerializeToString())
        self._silence: TimedCall = self._clock.callLater(CREATED_SECONDS, self._give_up)
        self._ask: TimedCall = self._clock.callLater(PROGRESS_SECONDS, self._ask_for_progress)

    def _ask_for_progress(self) -> None:
        self._ask = self._clock.callLater(PROGRESS_SECONDS, self._ask_for_progress)
        self._call.send(WatchRequest(progress_request=WatchProgressRequest()).SerializeToString())

    def _message(self, message: bytes) -> None:
        response = WatchResponse.FromString(message)
        self._received.append((self._clock.seconds(), response))
        self._silence.reset(SILENCE_SECONDS)
        self._watcher.revision = max(self._watcher.revision, response.header.revision)
        if response.canceled:
            self._give_up()

    def _ended(self, code: Code, text: str) -> None:
        self._close(self._clock.seconds())

    def _give_up(self) -> None:
        self._call.give_up()
        self._close(self._clock.seconds())

    def leave(self) -> None:
        """The run is over, and the stream is not."""
        if not self.over.called:
            self._close(None)

    def _close(self, ended_at: float | None) -> None:
        for timer in (self._silence, self._ask):
            if timer.active():
                timer.cancel()
        caller = self._caller
        watch = Watch(caller.name, self._request, self._called_at, self._received, ended_at, self._continues)
        if self._received or ended_at is None:
            caller.record.watches.append(watch)
        caller.world.note(caller.name, f"@{self._machine.name} {str(watch).removeprefix(caller.name)}")
        self.over.callback(watch)
