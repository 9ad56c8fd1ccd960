"""Who a peer transport calls, and what it sends: doubles that note what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from twistedetcd.errors import MemberRemovedError
from twistedetcd.interfaces import IImage, IImageSink, IRaftReceiver
from twistedetcd.raft.types import Message


@implementer(IRaftReceiver)
class RecordingReceiver:
    """
    A member that notes what it is told.

    Attributes:
        messages: Raft messages.
        batches: How often all that came at once was told.
        lost: Peers that were reported unreachable.
        reports: What became of snapshots: to whom, and whether they were delivered.
        sinks: One for each snapshot that began.
        refusal: Raised when a snapshot begins.
        write_error: Raised when a piece of one is to be written.
        finished: What the end of one returns.
        on_message: Called with each raft message.
        removals: How often it was told that it is no member any more.
        answers: Called with sender, kind and body of each question.
        removed_members: Those who may not talk to it any more.
    """

    def __init__(self, member_id: int = 1, cluster_id: int = 1) -> None:
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.removed_members: set[int] = set()
        self.messages: list[Message] = []
        self.batches = 0
        self.lost: list[int] = []
        self.reports: list[tuple[int, bool]] = []
        self.sinks: list[RecordingSink] = []
        self.refusal: Exception | None = None
        self.write_error: Exception | None = None
        self.finished: Deferred[None] = succeed(None)
        self.on_message: Callable[[Message], object] = id
        self.removals = 0
        self.answers: Callable[[int, str, bytes], Deferred[bytes]] = lambda sender, kind, body: succeed(body)

    def admit(self, sender: int) -> None:
        if sender in self.removed_members:
            raise MemberRemovedError

    def receive(self, message: Message) -> None:
        self.messages.append(message)
        self.on_message(message)

    def received(self) -> None:
        self.batches += 1

    def receive_snapshot(self, message: Message) -> RecordingSink:
        if self.refusal is not None:
            raise self.refusal
        self.sinks.append(RecordingSink(self, message))
        return self.sinks[-1]

    def unreachable(self, member: int) -> None:
        self.lost.append(member)

    def snapshot_sent(self, member: int, delivered: bool) -> None:
        self.reports.append((member, delivered))

    def removed(self) -> None:
        self.removals += 1

    def answer(self, sender: int, kind: str, body: bytes) -> Deferred[bytes]:
        return self.answers(sender, kind, body)


@implementer(IImageSink)
class RecordingSink:
    """
    Takes in an image.

    Attributes:
        data: What came.
        ends: ``finish`` or ``abort``, as often as it was called.
    """

    def __init__(self, receiver: RecordingReceiver, message: Message) -> None:
        self._receiver = receiver
        self.message = message
        self.data = b""
        self.ends: list[str] = []

    def write(self, chunk: bytes) -> None:
        assert not self.ends, "written to after its end"
        if self._receiver.write_error is not None:
            raise self._receiver.write_error
        self.data += chunk

    def finish(self) -> Deferred[None]:
        self.ends.append("finish")
        return self._receiver.finished

    def abort(self) -> None:
        self.ends.append("abort")


@implementer(IImage)
class GivenImage:
    """
    An image to send.

    Attributes:
        closed: How often it was closed.
        half_way: Called when half of it was taken; may raise what reading it may raise.
    """

    def __init__(self, pieces: Sequence[bytes], half_way: Callable[[], object] = int) -> None:
        self._pieces = pieces
        self.half_way = half_way
        self.size_bytes = sum(map(len, pieces))
        self.closed = 0

    def chunks(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._pieces):
            if number == len(self._pieces) // 2:
                self.half_way()
            yield piece

    def close(self) -> None:
        self.closed += 1
