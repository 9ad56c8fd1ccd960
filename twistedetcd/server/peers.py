"""
The other members: what they say goes to raft, what raft says goes to them, and either may ask the other.

Raft's messages go through the transport as they are; a snapshot is only announced by raft, and carries the
store as it is when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import (
    BadAnswerError,
    EtcdError,
    LeaderChangedError,
    MemberRemovedError,
    NoLeaderError,
    NotPrimaryError,
    StoppedError,
    TimeoutError,
    TooManyRequestsError,
    UnsupportedError,
)
from twistedetcd.interfaces import (
    IImage,
    IImageSink,
    IPeerObservatory,
    IPeerTransport,
    IRaftReceiver,
    PeerStatistics,
)
from twistedetcd.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    NOBODY,
    Entry,
    Message,
    MessageType,
    Snapshot,
)

SNAPSHOTS_MAX = 16  # on their way to others at the same time
AGAIN_SECONDS = 0.5  # to a member that did not take one: the next goes out after so long,
AGAIN_SECONDS_MAX = 5.0  # then after twice as long, and so on up to this
CATCH_UP_SECONDS = 30.0  # for a member that got one, before it must have asked for what comes after it
QUESTIONS_MAX = 1000  # of this member that wait for a leader to ask
ASK_SECONDS = 1.0  # how long one member is waited for, before whoever leads by then is asked
ASK_AGAIN_SECONDS = 0.05
_AGAIN = {
    error.message
    for error in (NoLeaderError, NotPrimaryError, LeaderChangedError, StoppedError, TimeoutError)
}

Answer = Callable[[bytes], Deferred[bytes]]
"""Answers what another member asks; raises `EtcdError`, or fails with it, to refuse."""


class Driver(Protocol):
    """What of raft's driver the peers need; see `twistedetcd.server.raftnode.RaftNode`."""

    def step(self, message: Message) -> None:
        """Take in a message."""

    def report_unreachable(self, member: int) -> None:
        """Messages were lost."""

    def report_snapshot(self, member: int, *, delivered: bool) -> None:
        """A snapshot arrived, or did not."""


class Exchange(Protocol):
    """How stores come and go; see `twistedetcd.server.exchange.Exchange`."""

    def image(self) -> Deferred[tuple[Snapshot, IImage]]:
        """The store as it is now."""

    def sink(self, message: Message, arrived: Callable[[Message], None]) -> IImageSink:
        """Takes one in; ``arrived`` is called with its message once it is durable."""


@implementer(IRaftReceiver)
class Peers:
    """
    One member's way to the others.

    Args:
        clock: For asking again.
        transport: The way itself.
        ourselves: This member's id.
        cluster_id: The cluster's.
        cluster: Who the others are.
        wake: Makes sure that what was told to raft is acted upon before this reactor turn ends.
        hurry: The same for what other members wait for: at once, if that is of use.
        lead: Says who leads, 0 for nobody.
        removed: Called when others say that this member is no member any more.
        vet: Whether an entry that another member wants in the log may be there: once it is committed, every
            member has to carry it out.
        request_timeout_seconds: How long the leader is asked.

    Attributes:
        answers: What others may ask, by kind.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        transport: IPeerTransport,
        ourselves: int,
        cluster_id: int,
        cluster: Cluster,
        wake: Callable[[], None],
        hurry: Callable[[], None],
        lead: Callable[[], int],
        removed: Callable[[], None],
        vet: Callable[[Entry], bool],
        request_timeout_seconds: float,
    ) -> None:
        self._clock = clock
        self._transport = IPeerTransport(transport)
        self.member_id = ourselves
        self.cluster_id = cluster_id
        self._cluster = cluster
        self._wake = wake
        self._hurry = hurry
        self._stepped = False
        self._lead = lead
        self._told_removed = removed
        self._vet = vet
        self._request_timeout_seconds = request_timeout_seconds
        self._driver: Driver | None = None
        self._exchange: Exchange | None = None
        self._known: dict[int, tuple[str, ...]] = {}
        self._sending = 0
        self._shipped_at = -inf
        self._not_taken: dict[int, tuple[float, float]] = {}
        """Who did not take the last one: until when there is no other, and after how long that was."""
        self._asking = 0
        self._stopped = False
        self.answers: dict[str, Answer] = {}

    # Life.

    def start(self, driver: Driver, exchange: Exchange) -> None:
        """
        Begin to listen and to dial.

        Args:
            driver: Raft's.
            exchange: How stores come and go.
        """
        self._driver, self._exchange = driver, exchange
        self._transport.start(self)
        self.members_changed()

    def stop(self) -> Deferred[None]:
        """Fires once nothing is left."""
        self._stopped = True
        return self._transport.stop()

    def members_changed(self) -> None:
        """The members, or their addresses, are others than before."""
        members: Mapping[int, Member] = {
            one.id: one for one in self._cluster.members if one.id != self.member_id
        }
        for number in [number for number in self._known if number not in members]:
            del self._known[number]
            self._not_taken.pop(number, None)
            self._transport.remove_peer(number)
        for number, member in members.items():
            if self._known.get(number) != member.peer_urls:
                self._known[number] = member.peer_urls
                self._transport.add_peer(number, member.peer_urls)

    def statistics(self) -> Mapping[int, PeerStatistics]:
        """As `IPeerObservatory.statistics`; nothing of a transport that does not count."""
        if not IPeerObservatory.providedBy(self._transport):
            return {}
        found: Mapping[int, PeerStatistics] = self._transport.statistics()
        return found

    def active_since(self, member: int) -> float | None:
        """As `IPeerTransport.active_since`."""
        since: float | None = self._transport.active_since(member)
        return since

    @property
    def shipping(self) -> bool:
        """See `twistedetcd.server.raftnode.Peers`."""
        return self._sending > 0 or self._clock.seconds() - self._shipped_at < CATCH_UP_SECONDS

    # What raft says.

    def send(self, messages: Sequence[Message]) -> None:
        """
        See `twistedetcd.server.raftnode.Peers`; to who was removed, nothing is said.

        Others that are no members may be members of whom this one has not heard yet, even the leader: it has
        just joined, or was away.  The transport knows whether they speak to us.
        """
        known, removed = self._known, self._cluster.is_removed
        for message in messages:
            if message.type is MessageType.SNAP or message.to not in known:
                break
        else:
            self._transport.send(messages)
            return
        for message in messages:
            if message.type is MessageType.SNAP:
                self._send_snapshot(message)
        messages = [one for one in messages if one.type is not MessageType.SNAP and not removed(one.to)]
        if messages:
            self._transport.send(messages)

    def _send_snapshot(self, message: Message) -> None:
        until, _ = self._not_taken.get(message.to, (-inf, 0.0))
        too_soon = self._clock.seconds() < until
        if message.to not in self._known or self._sending >= SNAPSHOTS_MAX or too_soon:
            self._clock.callLater(0, self._report, message.to, False)
            return
        assert self._exchange is not None, "not started"
        self._sending += 1
        self._exchange.image().addCallback(self._ship, message).addErrback(self._not_shipped, message)

    def _ship(self, shipment: tuple[Snapshot, IImage], message: Message) -> None:
        snapshot, image = shipment
        if self._stopped or message.to not in self._known:
            image.close()
            self._shipped(message.to, False)
            return
        self._log.info(
            "Send a snapshot at {index} to member {to:x}, {size} bytes",
            index=snapshot.index,
            to=message.to,
            size=image.size_bytes,
        )
        self._transport.send_snapshot(message._replace(snapshot=snapshot), image)

    def _not_shipped(self, failure: Failure, message: Message) -> None:
        if not failure.check(StoppedError):
            self._log.warn(
                "No snapshot for member {to:x}: {error}", to=message.to, error=failure.getErrorMessage()
            )
        self._shipped(message.to, False)

    def _shipped(self, member: int, delivered: bool) -> None:
        self._sending -= 1
        self._shipped_at = now = self._clock.seconds()
        if delivered:
            self._not_taken.pop(member, None)
        else:
            _, last = self._not_taken.get(member, (0.0, AGAIN_SECONDS / 2))
            pause = min(2 * last, AGAIN_SECONDS_MAX)
            self._not_taken[member] = now + pause, pause
        self._report(member, delivered)

    def _report(self, member: int, delivered: bool) -> None:
        if not self._stopped and self._driver is not None:
            self._driver.report_snapshot(member, delivered=delivered)
            self._wake()

    # What the others say.

    def admit(self, sender: int) -> None:
        """See `IRaftReceiver.admit`."""
        if self._cluster.is_removed(sender):
            raise MemberRemovedError

    def receive(self, message: Message) -> None:
        """See `IRaftReceiver.receive`."""
        if self._cluster.is_removed(message.sender):
            raise MemberRemovedError
        if message.to != self.member_id:
            self._log.warn("Dropped a message for member {to:x}, which is not this one", to=message.to)
            return
        # Those are a member's own threads to raft; and a snapshot counts only once its image is here.
        if message.sender in (APPEND_THREAD, APPLY_THREAD) or message.type is MessageType.SNAP:
            self._log.warn("Dropped a {kind} that no member sends", kind=message.type.name)
            return
        if message.type is MessageType.PROP:
            entries = tuple(entry for entry in message.entries if self._vet(entry))
            if not entries:
                return
            message = message._replace(entries=entries)
        self._step(message)

    def received(self) -> None:
        """See `IRaftReceiver.received`."""
        if self._stepped:
            self._stepped = False
            self._hurry()

    def _step(self, message: Message) -> None:
        if self._driver is not None and not self._stopped:
            self._driver.step(message)
            self._stepped = True

    def _arrived(self, message: Message) -> None:
        self._step(message)
        self.received()

    def receive_snapshot(self, message: Message) -> IImageSink:
        """See `IRaftReceiver.receive_snapshot`."""
        if self._cluster.is_removed(message.sender):
            raise MemberRemovedError
        if self._stopped:
            raise StoppedError
        if message.to != self.member_id or message.snapshot is None:
            raise UnsupportedError(f"that is no snapshot for member {self.member_id:x}")
        assert self._exchange is not None, "not started"
        return self._exchange.sink(message, self._arrived)

    def unreachable(self, member: int) -> None:
        """See `IRaftReceiver.unreachable`."""
        if self._driver is not None and not self._stopped:
            self._driver.report_unreachable(member)

    def snapshot_sent(self, member: int, delivered: bool) -> None:
        """See `IRaftReceiver.snapshot_sent`."""
        self._shipped(member, delivered)

    def removed(self) -> None:
        """See `IRaftReceiver.removed`."""
        if not self._stopped:
            self._told_removed()

    # Questions.

    def answer(self, sender: int, kind: str, body: bytes) -> Deferred[bytes]:
        """See `IRaftReceiver.answer`."""
        if self._stopped:
            return fail(StoppedError())
        answer = self.answers.get(kind)
        if answer is None:
            return fail(UnsupportedError(f"this member does not answer {kind!r}"))
        try:
            return answer(body)
        except EtcdError as error:
            return fail(error)

    def ask(self, member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        """As `IPeerTransport.ask`; a question to this very member is answered here."""
        if member == self.member_id:
            return self.answer(member, kind, body)
        asked: Deferred[bytes] = self._transport.ask(member, kind, body, timeout_seconds)
        return asked

    def ask_leader(self, kind: str, body: bytes, ask_once: bool = False) -> Deferred[bytes]:
        """
        Ask whoever leads; again while nobody does, or who was asked does not, or cannot be reached.

        Args:
            kind: As for `ask`.
            body: Likewise.
            ask_once: Not again after a question that was not answered in time: what it asked may be done.

        Raises:
            EtcdError: The leader's refusal; `NoLeaderError` or `TimeoutError` if nobody could be asked.
            TooManyRequestsError: Too many questions wait already.
        """
        if self._asking >= QUESTIONS_MAX:
            return fail(TooManyRequestsError())
        self._asking += 1
        until = self._clock.seconds() + self._request_timeout_seconds
        return Deferred.fromCoroutine(self._ask_leader(kind, body, until, ask_once)).addBoth(self._asked)

    def _asked(self, result: bytes | Failure) -> bytes | Failure:
        self._asking -= 1
        return result

    async def _ask_leader(self, kind: str, body: bytes, until: float, ask_once: bool) -> bytes:
        last: EtcdError = NoLeaderError()
        while (left := until - self._clock.seconds()) > 0 and not self._stopped:
            leader = self._lead()
            if leader == NOBODY:
                last = NoLeaderError()
            else:
                try:
                    return await self.ask(leader, kind, body, left if ask_once else min(left, ASK_SECONDS))
                except EtcdError as error:
                    if error.message not in _AGAIN or (ask_once and error.message == TimeoutError.message):
                        raise
                    last = error
            await self._pause(min(ASK_AGAIN_SECONDS, left))
        raise StoppedError if self._stopped else last

    def _pause(self, seconds: float) -> Deferred[None]:
        pause: Deferred[None] = Deferred()
        self._clock.callLater(seconds, pause.callback, None)
        return pause


def read_number(data: bytes) -> int:
    """
    An unsigned number in a question or an answer.

    Raises:
        BadAnswerError: It does not have eight bytes.
    """
    if len(data) != 8:
        raise BadAnswerError
    return int.from_bytes(data, "big")
