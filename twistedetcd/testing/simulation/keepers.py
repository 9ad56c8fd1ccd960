"""Clients that keep a lease alive for long, with a key that is there as long as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    PutRequest,
)
from twistedetcd.testing.simulation.caller import Caller

if TYPE_CHECKING:
    from twistedetcd.testing.simulation.machine import Machine


class Keeper:
    """
    One who keeps a lease, and then another.

    Args:
        caller: Makes its calls.
        number: Its number: its leases have ids that nobody else gives.
        machines: Whom it may ask; it stays with one as long as that answers.
    """

    def __init__(self, caller: Caller, number: int, machines: Sequence[Machine]) -> None:
        self._caller = caller
        self._random = caller.world.random(f"keeper {caller.name}")
        self._number = number
        self._machines = machines
        self._granted = 0
        self._stopped = False

    def run(self) -> Deferred[None]:
        """Go on until `stop`; fires when the last thing is done."""
        return Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """Keep nothing any longer."""
        self._stopped = True

    async def _run(self) -> None:
        while not self._stopped:
            await self._caller.pause(self._random.uniform(0.0, 1.0))
            self._granted += 1
            await self._keep(self._number << 32 | self._granted)

    async def _keep(self, lease: int) -> None:
        random, caller = self._random, self._caller
        machine = random.choice(self._machines)
        ttl = random.choice((2, 3, 5))
        granted = await caller.ask(machine, LeaseGrantRequest(ID=lease, TTL=ttl))
        if not isinstance(granted, LeaseGrantResponse):
            return
        await caller.ask(machine, PutRequest(key=b"kept/%d" % self._number, value=b"%x" % lease, lease=lease))
        until = caller.world.clock.seconds() + random.uniform(2.0, 15.0)
        while caller.world.clock.seconds() < until and not self._stopped:
            await caller.pause(random.uniform(0.2, 0.5) * granted.TTL)
            kept = await caller.ask(machine, LeaseKeepAliveRequest(ID=lease), ttl / 2)
            if not isinstance(kept, LeaseKeepAliveResponse):
                machine = random.choice(self._machines)
            elif kept.TTL <= 0:
                return
        if random.random() < 0.5:
            await caller.ask(machine, LeaseRevokeRequest(ID=lease))
