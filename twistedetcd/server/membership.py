"""
Changes of membership: checked, proposed, carried out on every member, and told to whoever asked.

What would cost the quorum is refused before it is in anybody's log (``--strict-reconfig-check``); what does
not fit the membership is refused when it is applied, on all members alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from twistedetcd.cluster.members import Cluster, Member, member_id
from twistedetcd.cluster.reconfig import (
    STEADY_SECONDS,
    refuse_adding,
    refuse_lagging,
    refuse_promoting,
    refuse_removing,
)
from twistedetcd.errors import (
    BadAnswerError,
    EtcdError,
    MemberNotFoundError,
    MemberNotLearnerError,
    NoLeaderError,
    RequestTooLargeError,
    StoppedError,
    TooManyRequestsError,
)
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import NOBODY, ConfChange, ConfChangeType, Role
from twistedetcd.server.peers import Peers, read_number
from twistedetcd.server.proposals import Proposals

CHANGES_MAX = 100  # of membership that wait to be carried out
CONTEXT_BYTES_MAX = 64 * 1024  # of what describes a member: its peer URLs, nearly all of it
PROMOTE = "promote"
"""What the leader is asked to do to a learner: eight bytes of its id; answered with all members, in JSON."""


class Driver(Protocol):
    """What of raft's driver is needed; see `twistedetcd.server.raftnode.RaftNode`."""

    @property
    def raft(self) -> RawNode:
        """The state machine."""

    @property
    def proposals(self) -> Proposals:
        """What waits to be proposed."""

    def when_advanced(self, go_on: Callable[[], None]) -> None:
        """Call back once raft takes the next change."""


class Membership:
    """
    How the members become others.

    Args:
        clock: For deadlines, and for the ids of new members.
        cluster: Who they are.
        ourselves: This member's id.
        peers: The way to the others.
        new_id: Gives ids to requests.
        wake: Makes sure that what was proposed is looked at before this reactor turn ends.
        strict: ``--strict-reconfig-check``.
        timeout_seconds: How long a change may take.
        changed: Called when a change was carried out here.
    """

    def __init__(
        self,
        clock: IReactorTime,
        cluster: Cluster,
        ourselves: int,
        peers: Peers,
        new_id: Callable[[], int],
        wake: Callable[[], None],
        strict: bool,
        timeout_seconds: float,
        changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        self._id = ourselves
        self._peers = peers
        self._new_id = new_id
        self._wake = wake
        self._strict = strict
        self._timeout_seconds = timeout_seconds
        self._changed = changed
        self._driver: Driver | None = None
        self._waiting: dict[int, tuple[float, Deferred[None]]] = {}
        peers.answers[PROMOTE] = self._answer_promote

    def start(self, driver: Driver) -> None:
        """Begin."""
        self._driver = driver

    # Asked by clients.  Each returns a Deferred that fires once the change is in force here.

    def add(self, peer_urls: Sequence[str], learner: bool) -> tuple[Member, Deferred[None]]:
        """
        Add a member.

        Returns:
            The member, and a Deferred.

        Raises:
            EtcdError: It is refused, now or when it is applied.
        """
        urls = tuple(sorted(peer_urls))
        number = member_id(urls, "", int(self._clock.seconds()))
        member = Member(number, urls, learner)
        if self._strict:
            _raise(refuse_adding(self._cluster.members, self._steady(), self._id, learner))
        kind = ConfChangeType.ADD_LEARNER_NODE if learner else ConfChangeType.ADD_NODE
        return member, self._propose(kind, number, member.to_context())

    def remove(self, number: int) -> Deferred[None]:
        """
        Remove a member.

        Raises:
            EtcdError: It is refused, now or when it is applied.
        """
        self._check_there(number)
        if self._strict:
            members = self._cluster.members
            _raise(refuse_removing(number, members, self._active(), self._steady(), self._id))
        return self._propose(ConfChangeType.REMOVE_NODE, number, b"")

    def update(self, number: int, peer_urls: Sequence[str]) -> Deferred[None]:
        """
        Give a member other peer URLs.

        Raises:
            EtcdError: It is refused when it is applied.
        """
        self._check_there(number)
        member = Member(number, tuple(peer_urls))
        return self._propose(ConfChangeType.UPDATE_NODE, number, member.to_context())

    def promote(self, number: int) -> Deferred[list[Member]]:
        """
        Make a learner a voter; the leader knows whether it is ready.

        Returns:
            Fires with all members.

        Raises:
            EtcdError: It is refused, now or when it is applied.
        """
        return self._peers.ask_leader(PROMOTE, number.to_bytes(8, "big"), ask_once=True).addCallback(_members)

    def _answer_promote(self, body: bytes) -> Deferred[bytes]:
        assert self._driver is not None, "not started"
        number = read_number(body)
        status = self._driver.raft.status()
        if status.soft_state.role is not Role.LEADER:
            raise NoLeaderError
        member = self._cluster.member(number)
        if member is None:
            raise MemberNotFoundError
        if not member.is_learner:
            raise MemberNotLearnerError
        match = status.progress[number].match if number in status.progress else 0
        _raise(refuse_lagging(match, status.progress[self._id].match))
        if self._strict:
            _raise(refuse_promoting(self._cluster.members))
        context = member._replace(is_learner=False).to_context(is_promote=True)
        promoted = self._propose(ConfChangeType.ADD_NODE, number, context)
        return promoted.addCallback(lambda _: _encoded(self._cluster.members))

    def _check_there(self, number: int) -> None:
        """
        Raises:
            MemberNotFoundError: There will never be such a member, whatever others know more than this one.
        """
        if number == NOBODY or self._cluster.is_removed(number):
            raise MemberNotFoundError

    def _steady(self) -> set[int]:
        latest = self._clock.seconds() - STEADY_SECONDS
        return {one.id for one in self._cluster.members if (self._since(one.id) or latest + 1) <= latest}

    def _active(self) -> set[int]:
        return {one.id for one in self._cluster.members if self._since(one.id) is not None}

    def _since(self, number: int) -> float | None:
        return None if number == self._id else self._peers.active_since(number)

    def _propose(self, kind: ConfChangeType, number: int, context: bytes) -> Deferred[None]:
        assert self._driver is not None, "not started"
        if len(context) > CONTEXT_BYTES_MAX:
            return fail(RequestTooLargeError())
        if len(self._waiting) >= CHANGES_MAX:
            return fail(TooManyRequestsError())
        change = ConfChange(self._new_id(), kind, number, context)
        done: Deferred[None] = Deferred()
        self._waiting[change.id] = self._clock.seconds() + self._timeout_seconds, done
        self._driver.proposals.add_change(change)
        self._wake()
        return done

    def expire(self, now: float, error_of: Callable[[float], EtcdError]) -> None:
        """Tell those whose time is up."""
        for number, (deadline, done) in list(self._waiting.items()):
            if deadline <= now:
                del self._waiting[number]
                done.errback(error_of(deadline))

    def fail_all(self) -> None:
        """The member stops."""
        waiting, self._waiting = self._waiting, {}
        for _, done in waiting.values():
            done.errback(StoppedError())

    # Carried out.

    def apply(self, change: ConfChange) -> None:
        """
        Carry out a committed change, here and in raft, and tell whoever asked for it.

        They are told when raft takes the next change: not before this one is behind it.
        """
        assert self._driver is not None, "not started"
        refused = self._cluster.apply(change)
        self._driver.raft.apply_conf_change(change if refused is None else change._replace(node_id=NOBODY))
        if refused is None:
            self._changed()
        waiting = self._waiting.pop(change.id, None)
        if waiting is not None:
            done, result = waiting[1], refused
            self._driver.when_advanced(
                lambda: done.callback(None) if result is None else done.errback(result)
            )


def _raise(error: EtcdError | None) -> None:
    if error is not None:
        raise error


def _encoded(members: Sequence[Member]) -> bytes:
    return b"[" + b",".join(member.to_json() for member in members) + b"]"


def _members(data: bytes) -> list[Member]:
    try:
        return [Member.from_fields(fields) for fields in json.loads(data)]
    except (ValueError, TypeError, RecursionError) as error:
        raise BadAnswerError from error
