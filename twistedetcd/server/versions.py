"""The leader has the members agree on the lowest version that all of them know: the cluster version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedetcd.apply import request as kinds
from twistedetcd.cluster.members import Cluster
from twistedetcd.cluster.version import Version, decide
from twistedetcd.errors import EtcdError
from twistedetcd.pb.membership_pb2 import ClusterVersionSetRequest
from twistedetcd.server.peers import Peers
from twistedetcd.server.wait import Waiter

LOOK_SECONDS = 4.0
ANSWER_SECONDS = 1.0
VERSION = "version"
"""What members are asked: for the version of their server, as text."""


class Versions:
    """
    What the leader does about the cluster's version.

    Args:
        clock: For looking at intervals.
        cluster: Who there is, and what was agreed on.
        ourselves: This member's id.
        own: The version of its server.
        peers: The way to the others.
        propose: Proposes a request if this member leads; raises `EtcdError` if not.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        cluster: Cluster,
        ourselves: int,
        own: str,
        peers: Peers,
        propose: Callable[[str, bytes, Any, Waiter | None], None],
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        self._id = ourselves
        self._own = own
        self._peers = peers
        self._propose = propose
        self._timer: IDelayedCall | None = None
        self._term = 0  # of office: what was asked in an earlier one is not listened to
        peers.answers[VERSION] = lambda body: succeed(own.encode())

    def lead(self) -> None:
        """The member leads."""
        self._term += 1
        if self._timer is None:
            self._look()

    def stop(self) -> None:
        """It does not, or not any more."""
        self._term += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look)
        others = [member.id for member in self._cluster.members if member.id != self._id]
        asked = [self._ask(number) for number in others]
        DeferredList(asked).addCallback(self._answered, others, self._term)

    def _ask(self, number: int) -> Deferred[Version | None]:
        answer = self._peers.ask(number, VERSION, b"", ANSWER_SECONDS)
        return answer.addCallback(lambda text: Version.parse(text.decode())).addErrback(self._unknown)

    def _unknown(self, failure: Any) -> None:
        failure.trap(EtcdError, ValueError)

    def _answered(self, results: list[tuple[bool, Any]], others: list[int], term: int) -> None:
        if term != self._term:
            return
        servers: dict[int, Version | None] = {self._id: Version.parse(self._own)}
        servers.update(zip(others, (version for _, version in results), strict=True))
        current = Version.parse(self._cluster.version) if self._cluster.version else None
        decided = decide(servers, current)
        if decided is not None:
            try:
                request = ClusterVersionSetRequest(ver=str(decided))
                self._propose(kinds.CLUSTER_VERSION_SET, request.SerializeToString(), request, None)
            except EtcdError as error:
                self._log.debug("The cluster's version was not proposed: {error}", error=error)
