"""What a member is among the others: who they are, what it may do, who leads, and which version all know."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import (
    ConnectionLostError,
    EtcdError,
    LeaderFailedError,
    NeverProposedError,
    TimeoutError,
)
from twistedetcd.interfaces import IPeerTransport
from twistedetcd.raft.types import NOBODY, ConfChange, ConfState, Entry
from twistedetcd.server.exchange import Exchange
from twistedetcd.server.headstart import HeadStart
from twistedetcd.server.membership import Membership
from twistedetcd.server.peers import Peers
from twistedetcd.server.publishing import Publishing
from twistedetcd.server.raftnode import RaftNode
from twistedetcd.server.transfer import Transfer
from twistedetcd.server.versions import Versions
from twistedetcd.server.wait import Waiter


class Options(NamedTuple):
    """What a member is told of its cluster at its start."""

    transport: IPeerTransport
    """The way to the others."""
    version: str
    """Of this server, as members of a cluster compare it."""
    strict_reconfiguration: bool = True
    """``--strict-reconfig-check``."""
    hurry: Callable[[], None] | None = None
    """See `Peers`; as what wakes the member if not given."""
    head_start: bool = False
    """``--initial-election-tick-advance``: see `twistedetcd.server.headstart`."""


class Host(Protocol):
    """The member; see `twistedetcd.server.member.EtcdServer`."""

    def propose_own(self, kind: str, message: Any, waiter: Waiter | None) -> None:
        """Propose what the member has to say itself."""

    def propose_as_leader(self, kind: str, raw: bytes, message: Any, waiter: Waiter | None) -> None:
        """Propose if it leads; raises `EtcdError` if not."""

    def removed(self) -> None:
        """It is no member any more."""

    def vet(self, entry: Entry) -> bool:
        """Whether an entry that another member wants in the log may be there."""


class Clustering:
    """
    One member's place in its cluster.

    Args:
        clock: For time limits.
        identity: The member.
        cluster_id: The cluster's id.
        cluster: The members.
        options: See there.
        member: The member itself.
        new_id: Gives ids to requests.
        wake: Makes sure that what was told to raft is acted upon before this reactor turn ends.
        request_timeout_seconds: How long a request may wait.
        election_timeout_seconds: How long it takes to find that there is no leader.

    Attributes:
        alone: Whether nobody else has a vote: then it leads, and need not ask.
        learner: Whether it has none itself.
        configuration: Raft's, after the last entry whose effects are there.  Raft itself may be further: it
            knows that of a snapshot before the store has it.
        peers: The way to the others.
        membership: How they become others.
    """

    def __init__(
        self,
        clock: IReactorTime,
        identity: Member,
        cluster_id: int,
        cluster: Cluster,
        options: Options,
        member: Host,
        new_id: Callable[[], int],
        wake: Callable[[], None],
        request_timeout_seconds: float,
        election_timeout_seconds: float,
    ) -> None:
        self._clock = clock
        self._id = identity.id
        self._cluster = cluster
        self._member = member
        self._request_timeout_seconds = request_timeout_seconds
        self._election_timeout_seconds = election_timeout_seconds
        self._led_since = -2 * election_timeout_seconds
        """When it last heard of a new leader."""
        self._leaderless_since = -inf
        """If it knows no leader: since when."""
        self._leaving: IDelayedCall | None = None
        self._node: RaftNode | None = None
        self.alone = self.learner = False
        self.configuration = ConfState()
        self.peers = Peers(
            clock,
            options.transport,
            identity.id,
            cluster_id,
            cluster,
            wake,
            options.hurry or wake,
            lambda: self._lead,
            member.removed,
            member.vet,
            request_timeout_seconds,
        )
        self.membership = Membership(
            clock,
            cluster,
            identity.id,
            self.peers,
            new_id,
            wake,
            options.strict_reconfiguration,
            request_timeout_seconds,
            self.members_changed,
        )
        self._transfer = Transfer(clock, cluster, identity.id, self.peers.active_since, wake)
        self._versions = Versions(
            clock, cluster, identity.id, options.version, self.peers, member.propose_as_leader
        )
        self._publishing = Publishing(clock, identity, cluster, member.propose_own)
        self._has_head_start = options.head_start
        self._head_start = HeadStart(clock, self._heard, lambda: self._lead != NOBODY, self._hasten)

    @property
    def _lead(self) -> int:
        return self._node.raft.lead if self._node is not None else NOBODY

    # Life.

    def start(self, node: RaftNode, exchange: Exchange) -> None:
        """
        Begin.

        Args:
            node: Raft's driver, not started yet.
            exchange: How whole stores come and go.
        """
        self._node = node
        node.on_lead.append(self._lead_changed)
        node.on_leader.append(self._versions.lead)
        node.on_follower.append(self._versions.stop)
        self.membership.start(node)
        self.peers.start(node, exchange)
        self.members_changed()
        self._publishing.start()
        if self._has_head_start:
            self._head_start.start()

    def _heard(self) -> int:
        others = [member.id for member in self._cluster.members if member.id != self._id]
        return sum(self.peers.active_since(other) is not None for other in others)

    def _hasten(self) -> None:
        assert self._node is not None, "not started"
        self._node.hasten_election()

    def hand_over(self) -> Deferred[None]:
        """Before it stops: fires when somebody else leads, or that was tried for long enough."""
        assert self._node is not None, "not started"
        return self._transfer.hand_over(self._node, self._election_timeout_seconds)

    def halt(self) -> None:
        """The member stops: nothing more is begun, and those who wait are told."""
        self._head_start.stop()
        self._publishing.stop()
        self._versions.stop()
        self._transfer.stop()
        self.membership.fail_all()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def stop(self) -> Deferred[None]:
        """Fires once no connection is left."""
        return self.peers.stop()

    def expire(self, now: float) -> None:
        """Tell those whose time is up."""
        self.membership.expire(now, self.too_late)

    # Who leads.

    def move_leader(self, to: int) -> Deferred[None]:
        """
        Hand over leadership.

        Raises:
            EtcdError: See `Transfer.move`.
        """
        assert self._node is not None, "not started"
        return self._transfer.move(self._node, to, self._request_timeout_seconds)

    def _lead_changed(self, lead: int) -> None:
        if lead != NOBODY:
            self._led_since = self._clock.seconds()
        else:
            self._leaderless_since = self._clock.seconds()
        self._transfer.lead_changed(lead)

    def too_late(self, deadline: float) -> EtcdError:
        """Why a request may not have been carried out until then (upstream's ``parseProposeCtxErr``)."""
        began, lead = deadline - self._request_timeout_seconds, self._lead
        if self._led_since - 2 * self._election_timeout_seconds < began < self._led_since:
            return LeaderFailedError()
        if lead == NOBODY and self._leaderless_since <= began:
            return NeverProposedError()
        if lead == NOBODY or (lead != self._id and self.peers.active_since(lead) is None):
            return ConnectionLostError()
        return TimeoutError()

    # Who there is.

    @property
    def published(self) -> bool:
        """Whether the cluster knows what this member is called, and which version all know."""
        return bool(self._publishing.done and self._cluster.version)

    def apply(self, change: ConfChange) -> None:
        """Carry out a committed change of membership."""
        self.membership.apply(change)

    def members_changed(self) -> None:
        """The membership is another one than before: what that means for this member."""
        assert self._node is not None, "not started"
        self.alone = self._node.raft.alone
        self.configuration = self._node.raft.status().configuration
        ourselves = self._cluster.member(self._id)
        self.learner = ourselves is not None and ourselves.is_learner
        self.peers.members_changed()
        if self._cluster.is_removed(self._id) and self._leaving is None:
            # The others must hear first that this is committed.
            self._leaving = self._clock.callLater(self._election_timeout_seconds, self._leave)

    def _leave(self) -> None:
        self._leaving = None
        self._member.removed()
