"""
Clients that use everything: keys, transactions, leases, locks, compactions; each asks any member.

What they may do is in `ACTIONS`, with how often.  A request that the members of this version do not serve is
not in the table: nothing is asked for that is sure to be refused.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from twistedetcd.pb.rpc_pb2 import (
    HashKVRequest,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    MemberListRequest,
    RangeResponse,
)
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest
from twistedetcd.testing.simulation.caller import Caller, Outcome
from twistedetcd.testing.simulation.requests import Requests

if TYPE_CHECKING:
    from twistedetcd.testing.simulation.machine import Machine

LEASES_KEPT = 4
"""How many of its last leases a client remembers."""
BURST = 20
"""How many puts make a burst."""
LOCKS = (b"lock/a", b"lock/b")
LOCK_SECONDS = 8.0
"""How long a client stands in line."""


class Client:
    """
    One client, which does one thing after the other.

    Args:
        caller: Makes its calls.
        number: Its number: leases of its own have ids that nobody else gives.
        machines: Whom it may ask.
        calls_per_second: How much it does while nothing holds it up.
    """

    def __init__(
        self, caller: Caller, number: int, machines: Sequence[Machine], calls_per_second: float
    ) -> None:
        self._caller = caller
        self._random = caller.world.random(f"client {caller.name}")
        self._number = number
        self._machines = machines
        self._pause_seconds = 1.0 / calls_per_second
        self._granted = 0
        self._stopped = False
        self.requests = Requests(self._random, caller.name)
        self._actions = list(ACTIONS)
        self._bounds = list(accumulate(ACTIONS.values()))

    def run(self) -> Deferred[None]:
        """Go on until `stop`; fires when the last thing is done."""
        return Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True

    async def _run(self) -> None:
        while not self._stopped:
            await self._caller.pause(self._random.expovariate(1 / self._pause_seconds))
            if not self._stopped:
                chosen = bisect(self._bounds, self._random.random() * self._bounds[-1])
                await self._actions[chosen](self)

    async def ask(self, request: Any, timeout_seconds: float = 5.0) -> Outcome:
        """Ask anybody."""
        machine = self._random.choice(self._machines)
        answer = await self._caller.ask(machine, request, timeout_seconds)
        header = getattr(answer, "header", None)
        if header is not None:
            self.requests.revision = max(self.requests.revision, header.revision)
        return answer

    # What it may do.

    async def put(self) -> None:
        """Put a key."""
        await self.ask(self.requests.put())

    async def burst(self) -> None:
        """Put many keys at once."""
        await gatherResults([ensureDeferred(self.put()) for _ in range(BURST)])

    async def delete(self) -> None:
        """Delete a key, or some."""
        await self.ask(self.requests.delete())

    async def get(self) -> None:
        """Read what is there."""
        await self.ask(self.requests.range())

    async def get_serializable(self) -> None:
        """Read what one member has."""
        await self.ask(self.requests.range(serializable=True))

    async def get_past(self) -> None:
        """Read what was there."""
        await self.ask(self.requests.past())

    async def txn(self) -> None:
        """A transaction of any kind."""
        await self.ask(self.requests.txn())

    async def swap(self) -> None:
        """Read a key, and put it if nobody else has."""
        request = self.requests.range(serializable=self._random.random() < 0.3)
        found = await self.ask(request)
        if isinstance(found, RangeResponse):
            revision = found.kvs[0].mod_revision if found.kvs else 0
            await self.ask(self.requests.swap(request.key, revision))

    async def compact(self) -> None:
        """Forget some of the past."""
        await self.ask(self.requests.compaction())

    async def grant(self) -> int:
        """A lease; returns its id."""
        self._granted += 1
        lease = self._number << 32 | self._granted
        ttl = self._random.choice((2, 3, 5, 10))
        answer = await self.ask(LeaseGrantRequest(ID=lease, TTL=ttl))
        if isinstance(answer, LeaseGrantResponse):
            self.requests.leases = [*self.requests.leases, lease][-LEASES_KEPT:]
        return lease

    async def _with_lease(self, request: Callable[[int], Any]) -> None:
        if self.requests.leases:
            await self.ask(request(self._random.choice(self.requests.leases)))

    async def keep_alive(self) -> None:
        """Renew a lease."""
        await self._with_lease(lambda lease: LeaseKeepAliveRequest(ID=lease))

    async def time_to_live(self) -> None:
        """How long it lasts."""
        await self._with_lease(lambda lease: LeaseTimeToLiveRequest(ID=lease, keys=True))

    async def revoke(self) -> None:
        """End it."""
        await self._with_lease(lambda lease: LeaseRevokeRequest(ID=lease))

    async def lock(self) -> None:
        """Hold a lock for a while."""
        lease = await self.grant()
        answer = await self.ask(LockRequest(name=self._random.choice(LOCKS), lease=lease), LOCK_SECONDS)
        if isinstance(answer, LockResponse):
            await self._caller.pause(self._random.expovariate(2.0))
            await self.ask(UnlockRequest(key=answer.key))

    async def hash(self) -> None:
        """The hash of what one member has."""
        await self.ask(HashKVRequest())

    async def members(self) -> None:
        """Who the members are."""
        await self.ask(MemberListRequest(linearizable=True))


ACTIONS: Mapping[Callable[[Client], Awaitable[object]], float] = {
    Client.put: 30.0,
    Client.burst: 0.8,
    Client.delete: 6.0,
    Client.txn: 12.0,
    Client.swap: 6.0,
    Client.get: 15.0,
    Client.get_serializable: 6.0,
    Client.get_past: 5.0,
    Client.compact: 0.7,
    Client.grant: 3.0,
    Client.keep_alive: 5.0,
    Client.time_to_live: 2.0,
    Client.revoke: 1.0,
    Client.lock: 1.5,
    Client.hash: 1.0,
    Client.members: 0.5,
}
"""How often what is done."""
