"""A member says through the log what it is called and where clients find it: it is known to have started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedetcd.apply import request as kinds
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import Code
from twistedetcd.pb.membership_pb2 import ClusterMemberAttrSetRequest
from twistedetcd.server.wait import Waiter

AGAIN_SECONDS = 1.0
"""It is proposed again after so long: on its way to a leader it may get lost, and twice does no harm."""


class Publishing:
    """
    Proposes one member's attributes until they are applied.

    Args:
        clock: For trying again.
        identity: The member.
        cluster: The members as they are known.
        propose: Proposes a request of the member's own, whether or not there is a leader.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        identity: Member,
        cluster: Cluster,
        propose: Callable[[str, Any, Waiter | None], None],
    ) -> None:
        self._clock = clock
        self._identity = identity
        self._cluster = cluster
        self._propose = propose
        self._timer: IDelayedCall | None = None
        self._stopped = False

    @property
    def done(self) -> bool:
        """Whether the cluster knows."""
        known = self._cluster.member(self._identity.id)
        return known is not None and known[3:] == self._identity[3:]

    def start(self) -> None:
        """Begin."""
        self._timer = None
        if self.done:
            return
        self._timer = self._clock.callLater(AGAIN_SECONDS, self.start)
        attributes = ClusterMemberAttrSetRequest(member_ID=self._identity.id)
        attributes.member_attributes.name = self._identity.name
        attributes.member_attributes.client_urls.extend(self._identity.client_urls)
        self._propose(kinds.CLUSTER_MEMBER_ATTR_SET, attributes, self)

    def stop(self) -> None:
        """Give it up."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reply(self, message: bytes) -> None:
        """See `Waiter`.  If another one of that id was removed meanwhile, it changed nothing."""

    def fail(self, code: Code, message: str) -> None:
        """See `Waiter`."""
        if not self._stopped and not self.done:
            self._log.warn("Could not publish what this member is called: {reason}", reason=message)
