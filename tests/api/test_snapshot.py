"""Maintenance.Snapshot on a member without a disk."""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

from tests.api.calls import APICase, FakeStream
from twistedetcd.api.snapshot import MESSAGE_BYTES, SHARE_BYTES, SNAPSHOTS_MAX
from twistedetcd.backends.memory import MemoryView
from twistedetcd.errors import (
    BackendError,
    NoLeaderError,
    SnapshotBrokenOffError,
    StoppedError,
    TooManyRequestsError,
)
from twistedetcd.images import Outgoing
from twistedetcd.mvcc.work import finish
from twistedetcd.pb.rpc_pb2 import SnapshotRequest, SnapshotResponse
from twistedetcd.protocols.grpc import Receiver
from twistedetcd.snap.bbolt.writing import CHUNK_BYTES, measure

SNAPSHOT = b"/etcdserverpb.Maintenance/Snapshot"
STOPPED = (StoppedError.code, StoppedError.message)
BROKEN_OFF = (SnapshotBrokenOffError.code, SnapshotBrokenOffError.message)
VALUE = bytes(100_000)
KEYS = 12
TURNS = 200  # more than any of these snapshots takes
_QUEUED_BYTES_MAX = SHARE_BYTES + CHUNK_BYTES + 2000  # with what stands around the pieces of a share


class SnapshotCase(APICase):
    """A store of several shares; those who take it; and how often each image was closed."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(KEYS):
            self.put(b"k%02d" % number, VALUE)
        self.receivers: dict[FakeStream, Receiver] = {}
        self.closed: dict[Outgoing, int] = {}
        close = Outgoing.close

        def counted(image: Outgoing) -> None:
            self.closed[image] = self.closed.get(image, 0) + 1
            close(image)

        self.patch(Outgoing, "close", counted)

    def take(self, *headers: tuple[bytes, bytes], window: int | None = None) -> FakeStream:
        """Ask for a snapshot; the turn does not end yet."""
        call: Any = FakeStream(*headers)
        call.window = window
        stream = self.methods[SNAPSHOT].stream
        assert stream is not None
        receiver = self.receivers[call] = stream(call)
        receiver.message_received(SnapshotRequest().SerializeToString())
        receiver.half_closed()
        fake: FakeStream = call
        return fake

    def turns(self, count: int = TURNS) -> None:
        for _ in range(count):
            self.running.one_turn()

    def read(self, call: FakeStream, window: int | None = None) -> None:
        """The client takes more."""
        if call.open(window):
            self.receivers[call].writable()
        self.turns()

    def hang_up(self, call: FakeStream) -> None:
        """The client goes away."""
        call.done = True
        self.receivers[call].cancelled()

    def file(self, call: FakeStream) -> bytes:
        """What a client made of the messages that it received."""
        return b"".join(SnapshotResponse.FromString(message).blob for message in call.messages())

    def image(self) -> bytes:
        """The engine's content as a file."""
        view = self.running.backend.read()
        data = b"".join(finish(measure(view)).chunks())
        view.close()
        return data + hashlib.sha256(data).digest()

    def assert_nothing_left(self, images: int = 1) -> None:
        """So many images were made, each closed once; no view is open but the member's own."""
        self.assertEqual([1] * images, list(self.closed.values()))
        self.assertEqual(1, len(self.running.backend.views))


class FileTests(SnapshotCase):
    """What a client receives."""

    def test_messages(self) -> None:
        """Pieces of 32 KiB and what remains after each, then the digest; all with version, without header."""
        call = self.take()
        self.turns()
        self.assertTrue(call.finished)
        *pieces, digest = [SnapshotResponse.FromString(message) for message in call.messages()]
        data = b"".join(piece.blob for piece in pieces)
        self.assertEqual(self.image(), data + digest.blob)
        self.assertEqual({MESSAGE_BYTES}, {len(piece.blob) for piece in pieces[:-1]})
        remaining = [len(data) - MESSAGE_BYTES * number for number in range(1, len(pieces))]
        self.assertEqual([*remaining, 0, 0], [each.remaining_bytes for each in (*pieces, digest)])
        self.assertEqual({"3.6.0"}, {each.version for each in (*pieces, digest)})
        self.assertFalse(any(each.HasField("header") for each in (*pieces, digest)))
        self.assert_nothing_left()

    def test_acknowledged(self) -> None:
        """All that was acknowledged before is in it, in the engine or not; what comes later is not."""
        self.put(b"last", b"acknowledged before")
        self.assertNotIn(b"acknowledged before", self.image())
        call = self.take(window=0)
        self.turns()
        before = self.image()
        self.put(b"later", b"too late")
        self.running.pump(0.5)
        self.assertIn(b"too late", self.image())
        self.read(call)
        self.assertEqual(before, self.file(call))
        self.assertIn(b"acknowledged before", before)

    def test_learner(self) -> None:
        """A learner gives one like everybody else: it is its own store."""
        self.patch(type(self.member), "learner", True)
        call = self.take()
        self.turns()
        self.assertEqual(self.image(), self.file(call))

    def test_without_a_leader(self) -> None:
        """It needs no leader, unless the client wants one."""
        self.running.raft._raft.lead = 0
        refused = self.take((b"hasleader", b"true"))
        self.assertEqual((NoLeaderError.code, NoLeaderError.message), refused.status)
        call = self.take()
        self.turns()
        self.assertEqual(self.image(), self.file(call))


class PaceTests(SnapshotCase):
    """Nobody waits for a snapshot, and it waits for its client."""

    def test_a_share_a_turn(self) -> None:
        """In one turn not more than a share is made."""
        call = self.take()
        sizes = []
        while not call.done:
            self.turns(1)
            sizes.append(len(self.file(call)))
        self.assertLessEqual(max(sizes), SHARE_BYTES + CHUNK_BYTES)
        self.assertGreater(sum(map(bool, sizes)), 5)

    def test_client_that_does_not_read(self) -> None:
        """What waits for it is bounded; it gets all the same when it reads, however slowly."""
        call = self.take(window=0)
        self.turns()
        assert call.queue is not None
        self.assertLessEqual(call.queue.bytes, _QUEUED_BYTES_MAX)
        waiting = call.queue.bytes
        self.read(call, waiting - 1)
        assert call.queue is not None
        self.assertEqual(1, call.queue.bytes)
        data = self.file(call)
        while not call.done:
            self.read(call, 50_000)
            self.assertLessEqual(call.queue.bytes if call.queue else 0, _QUEUED_BYTES_MAX)
            data += self.file(call)
        self.read(call)
        self.assertEqual(self.image(), data + self.file(call))
        self.assert_nothing_left()

    def test_too_many(self) -> None:
        """So many at once and no more; when one has gone, there is room for another."""
        calls = [self.take(window=0) for _ in range(SNAPSHOTS_MAX)]
        self.turns()
        too_many = (TooManyRequestsError.code, TooManyRequestsError.message)
        self.assertEqual(too_many, self.take().status)
        self.hang_up(calls[0])
        another = self.take()
        self.turns()
        self.assertTrue(another.finished)
        for call in calls[1:]:
            self.read(call)
            self.assertTrue(call.finished)
        self.assert_nothing_left(SNAPSHOTS_MAX + 1)


class EndTests(SnapshotCase):
    """However a snapshot ends, its image is closed once and its view is gone."""

    def test_client_goes_away(self) -> None:
        """Whenever the client goes, the work ends at once."""
        self.running.writer.holding = True
        at_the_writer = self.take()
        self.hang_up(at_the_writer)
        self.running.writer.holding = False
        self.running.writer.release()
        self.assert_nothing_left(0)
        measured = self.take()
        self.turns(1)
        self.assertEqual(2, len(self.running.backend.views))
        self.hang_up(measured)
        self.assert_nothing_left(0)
        sent = self.take()
        while not sent.messages():
            self.turns(1)
        self.hang_up(sent)
        self.assert_nothing_left(1)
        waited_for = self.take(window=0)
        self.turns()
        self.hang_up(waited_for)
        self.assert_nothing_left(2)
        self.turns()
        self.assertEqual([], sent.messages())

    def test_member_stops(self) -> None:
        """Whoever is being served is told, and nobody is served any more."""
        waited_for = self.take(window=0)
        self.turns()
        sent = self.take()
        while not sent.messages():
            self.turns(1)
        measured = self.take()
        self.running.put(b"k")
        self.turns(1)
        self.running.writer.holding = True
        at_the_writer = self.take()
        stopped = self.member.stop()
        for call in (waited_for, sent, measured, at_the_writer):
            self.assertEqual(STOPPED, call.status)
        self.assertEqual(STOPPED, self.take().status)
        self.running.writer.holding = False
        self.running.writer.release()
        self.successResultOf(stopped)
        self.assert_nothing_left(2)

    def test_engine_refuses_in_the_middle(self) -> None:
        """The client is told that it does not have all, and the log has the reason."""
        call = self.take()
        while not call.messages():
            self.turns(1)
        self.patch(MemoryView, "_chunk", _refuse)
        self.turns()
        self.assertEqual(BROKEN_OFF, call.status)
        self.assert_nothing_left()

    def test_engine_refuses_at_the_beginning(self) -> None:
        """It gives no view: the client is told the same."""
        self.running.pump(0.5)
        self.patch(self.running.backend, "read", _refuse)
        self.assertEqual(BROKEN_OFF, self.take().status)
        self.assert_nothing_left(0)

    def test_engine_fails(self) -> None:
        """When it refuses what is to be flushed, the member stops; the client is told once."""
        self.put(b"k")
        self.running.backend.error = BackendError("no space")
        call = self.take()
        self.turns()
        self.assertEqual(STOPPED, call.status)
        self.assertEqual(1, len(self.running.failures))


def _refuse(*_: Any) -> NoReturn:
    raise BackendError("the disk is broken")
