"""etcdserverpb.Watch, as a client sees it: what is said to each request, and when (reference: section 7)."""

from __future__ import annotations

from typing import Any

from tests.api.calls import APICase, FakeStream
from tests.api.test_metrics import samples
from twistedetcd.api import watch as module
from twistedetcd.api.methods import methods
from twistedetcd.api.metrics import Metrics
from twistedetcd.api.watch import WatchOptions
from twistedetcd.apply import request as kinds
from twistedetcd.errors import Code, StoppedError
from twistedetcd.pb import rpc_pb2
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import (
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)

PATH = b"/etcdserverpb.Watch/Watch"
HAS_LEADER = (b"hasleader", b"true")
PROGRESS_SECONDS = 10.0


def events(response: Any) -> list[tuple[str, bytes, int]]:
    """The events of a response, in brief."""
    return [
        (Event.EventType.Name(event.type), event.kv.key, event.kv.mod_revision) for event in response.events
    ]


class Watcher:
    """A client with one stream."""

    def __init__(self, case: WatchCase, *headers: tuple[bytes, bytes]) -> None:
        self.fake = FakeStream(*headers)
        call: Any = self.fake
        stream = case.methods[PATH].stream
        assert stream is not None
        self._case = case
        self.receiver: Any = stream(call)

    def send(self, request: WatchRequest) -> None:
        self.receiver.message_received(request.SerializeToString())

    def create(self, key: bytes = b"a", **fields: Any) -> None:
        self.send(WatchRequest(create_request=WatchCreateRequest(key=key, **fields)))

    def cancel(self, watch_id: int) -> None:
        self.send(WatchRequest(cancel_request=WatchCancelRequest(watch_id=watch_id)))

    def progress(self) -> None:
        self.send(WatchRequest(progress_request=WatchProgressRequest()))

    def received(self) -> list[Any]:
        """The responses since it was asked last, some turns later."""
        for _ in range(5):
            self._case.running.end_turn()
        return [WatchResponse.FromString(message) for message in self.fake.messages()]

    def open(self, window: int | None = None) -> None:
        if self.fake.open(window):
            self.receiver.writable()


class WatchCase(APICase):
    """A member whose clients watch."""

    def setUp(self) -> None:
        super().setUp()
        self.methods = methods(
            self.member, 3, WatchOptions(fragment_bytes=1000, progress_seconds=PROGRESS_SECONDS)
        )
        self.watcher = Watcher(self)

    def txn(self, *operations: Any) -> None:
        self.running.propose(kinds.TXN, rpc_pb2.TxnRequest(success=operations))
        self.running.end_turn()

    def delete(self, key: bytes) -> None:
        self.running.propose(kinds.DELETE_RANGE, rpc_pb2.DeleteRangeRequest(key=key))
        self.running.end_turn()

    def compact(self, revision: int) -> None:
        self.running.propose(kinds.COMPACTION, rpc_pb2.CompactionRequest(revision=revision))
        self.running.end_turn()


def put(key: bytes, value: bytes = b"v") -> Any:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))


class CreateTests(WatchCase):
    """What is said to a wish to watch."""

    def refusal(self, **fields: Any) -> str:
        """Why it is refused; the response must be the one and the stream go on."""
        self.watcher.create(**fields)
        [response] = self.watcher.received()
        self.assertEqual((-1, True, True), (response.watch_id, response.created, response.canceled))
        self.assertEqual(self.running.store.revision, response.header.revision)
        self.assertIsNone(self.watcher.fake.status)
        reason: str = response.cancel_reason
        return reason

    def test_created(self) -> None:
        """The response has the current revision, who answers, and the id; then come later changes."""
        self.put(b"a")
        self.watcher.create()
        [created] = self.watcher.received()
        term = self.member.applied_term
        header = rpc_pb2.ResponseHeader(cluster_id=8, member_id=7, revision=2, raft_term=term)
        self.assertEqual(WatchResponse(header=header, created=True), created)
        self.put(b"a")
        [response] = self.watcher.received()
        self.assertEqual(([("PUT", b"a", 3)], 3), (events(response), response.header.revision))
        self.assertEqual((0, False), (response.watch_id, response.created))

    def test_ids(self) -> None:
        """Zero takes the next number that is not in use; others are taken as they are, negative ones too."""
        for watch_id in (0, 2, 0, 0, -5, 0):
            self.watcher.create(watch_id=watch_id)
        self.assertEqual([0, 2, 1, 3, -5, 4], [response.watch_id for response in self.watcher.received()])
        self.watcher.cancel(3)
        self.watcher.create()
        self.watcher.create(watch_id=3)
        self.assertEqual([3, 5, 3], [response.watch_id for response in self.watcher.received()])
        self.put(b"a")
        self.assertEqual({0, 1, 2, 3, 4, 5, -5}, {response.watch_id for response in self.watcher.received()})

    def test_refused(self) -> None:
        """A refusal has no id but its reason, and leaves the other watches alone (KF-35)."""
        self.watcher.create(watch_id=7)
        self.watcher.received()
        self.assertEqual("mvcc: watcher range is empty", self.refusal(key=b"b", range_end=b"a"))
        self.assertEqual("mvcc: watcher range is empty", self.refusal(key=b"b", range_end=b"b"))
        self.assertEqual(
            "mvcc: duplicate watch ID provided on the WatchStream", self.refusal(key=b"b", watch_id=7)
        )
        self.assertEqual(
            "etcdserver: mvcc: required revision has been compacted", self.refusal(start_revision=-1)
        )
        # With two faults, the first one counts.
        self.assertEqual(
            "etcdserver: mvcc: required revision has been compacted",
            self.refusal(start_revision=-1, key=b"b", range_end=b"a", watch_id=7),
        )
        self.assertEqual("mvcc: watcher range is empty", self.refusal(key=b"b", range_end=b"a", watch_id=7))
        self.put(b"a")
        self.assertEqual([7], [response.watch_id for response in self.watcher.received()])

    def test_ranges(self) -> None:
        """No key is the key of one zero byte; an end of one zero byte is no end."""
        self.watcher.create(b"", watch_id=1)
        self.watcher.create(b"", range_end=b"\0", watch_id=2)
        self.watcher.create(b"b", range_end=b"c", watch_id=3)
        self.watcher.create(b"b", range_end=b"\0", watch_id=4)
        self.watcher.received()
        for key in (b"\0", b"a", b"b", b"c"):
            self.put(key)
        told: dict[int, list[bytes]] = {1: [], 2: [], 3: [], 4: []}
        for response in self.watcher.received():
            told[response.watch_id] += [key for _, key, _ in events(response)]
        self.assertEqual({1: [b"\0"], 2: [b"\0", b"a", b"b", b"c"], 3: [b"b"], 4: [b"b", b"c"]}, told)

    def test_compacted(self) -> None:
        """First it is created, then it is over, with the compact revision, no reason and a bare header."""
        for _ in range(4):
            self.put(b"a")
        self.compact(4)
        self.watcher.create(start_revision=3)
        created, over = self.watcher.received()
        self.assertEqual((True, False, 5), (created.created, created.canceled, created.header.revision))
        self.assertEqual((0, False, True), (over.watch_id, over.created, over.canceled))
        self.assertEqual(4, over.compact_revision)
        self.assertEqual((0, 7, ""), (over.header.revision, over.header.member_id, over.cancel_reason))
        self.watcher.create(start_revision=4)
        _, response = self.watcher.received()
        self.assertEqual([("PUT", b"a", 4), ("PUT", b"a", 5)], events(response))

    def test_the_id_of_a_compacted_one(self) -> None:
        """It stays in use, and there is no progress, until the client cancels it."""
        for _ in range(3):
            self.put(b"a")
        self.compact(3)
        self.watcher.create(start_revision=2)
        self.watcher.received()
        self.assertEqual("mvcc: watcher range is empty", self.refusal(key=b"b", range_end=b"a"))
        self.watcher.create()
        self.watcher.progress()
        self.assertEqual([1], [response.watch_id for response in self.watcher.received()])
        self.watcher.cancel(0)
        self.watcher.progress()
        canceled, progress = self.watcher.received()
        self.assertEqual((0, True, 4), (canceled.watch_id, canceled.canceled, canceled.header.revision))
        self.assertEqual(-1, progress.watch_id)

    def test_kf_35_from_a_read(self) -> None:
        """After a read at revision r, a watch from r + 1 misses nothing, and one from 0 begins later."""
        self.put(b"b")
        self.put(b"a")
        self.watcher.create(start_revision=3)
        self.watcher.create()
        self.put(b"b")
        received = self.watcher.received()
        self.assertEqual([[("PUT", b"a", 3)]], [events(one) for one in received if not one.created])

    def test_nothing_asked_for(self) -> None:
        """A message without a request is ignored; one that is none ends the stream."""
        self.watcher.receiver.message_received(b"")
        self.assertEqual([], self.watcher.received())
        self.watcher.receiver.message_received(b"\xff")
        status = self.watcher.fake.status
        assert status is not None
        self.assertEqual(Code.INTERNAL, status[0])
        self.assertEqual(0, self.member.streams.count(module.STREAMS))


class EventTests(WatchCase):
    """What changes look like."""

    def test_a_transaction_is_one_response(self) -> None:
        """All of its changes in the range come together, in their order; a delete has key and revision."""
        self.put(b"aa")
        self.watcher.create(range_end=b"b", prev_kv=True)
        self.watcher.received()
        delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"aa"))
        self.txn(put(b"ab"), delete, put(b"b"))
        [response] = self.watcher.received()
        created, deleted = response.events
        self.assertEqual([("PUT", b"ab", 3), ("DELETE", b"aa", 3)], events(response))
        self.assertEqual((b"", 0, 0), (deleted.kv.value, deleted.kv.create_revision, deleted.kv.version))
        self.assertEqual((b"aa", 2), (deleted.prev_kv.key, deleted.prev_kv.mod_revision))
        self.assertFalse(created.HasField("prev_kv"))

    def test_filters(self) -> None:
        """What is filtered is not told, nor anything instead; unknown filters filter nothing."""
        self.watcher.create(filters=[WatchCreateRequest.NOPUT])
        self.watcher.create(filters=[WatchCreateRequest.NODELETE])
        self.watcher.create(filters=[WatchCreateRequest.NODELETE, WatchCreateRequest.NOPUT])
        raw = WatchRequest(create_request=WatchCreateRequest(key=b"a")).SerializeToString()
        self.watcher.receiver.message_received(raw[:1] + bytes((raw[1] + 2,)) + raw[2:] + b"\x28\x07")
        self.watcher.received()
        self.put(b"a")
        self.delete(b"a")
        told = [(response.watch_id, events(response)[0][0]) for response in self.watcher.received()]
        self.assertEqual([(0, "DELETE"), (1, "PUT"), (3, "DELETE"), (3, "PUT")], sorted(told))

    def test_fragments(self) -> None:
        """Asked for, a large response is cut between events; only the last part does not say so."""
        self.watcher.create(range_end=b"b", fragment=True)
        self.watcher.create(range_end=b"b")
        self.watcher.received()
        operations = [put(b"a%d" % number, bytes(200)) for number in range(8)]
        self.txn(*operations)
        received = self.watcher.received()
        cut = [response for response in received if response.watch_id == 0]
        self.assertGreater(len(cut), 1)
        self.assertEqual([True] * (len(cut) - 1) + [False], [response.fragment for response in cut])
        self.assertTrue(all(len(response.SerializeToString()) < 1000 for response in cut))
        whole = [event for response in cut for event in response.events]
        self.assertEqual([operation.request_put.key for operation in operations], [e.kv.key for e in whole])
        [other] = [response for response in received if response.watch_id == 1]
        self.assertEqual((8, False), (len(other.events), other.fragment))

    def test_one_large_event(self) -> None:
        """A single event is not cut, however large."""
        self.watcher.create(fragment=True)
        self.watcher.received()
        self.put(b"a", bytes(5000))
        [response] = self.watcher.received()
        self.assertFalse(response.fragment)


class CancelTests(WatchCase):
    """The end of a watch, and of a stream."""

    def test_cancel(self) -> None:
        """It is confirmed with the current revision, and is the last response; an unknown id is ignored."""
        self.watcher.create()
        self.watcher.received()
        self.put(b"b")
        self.watcher.cancel(0)
        self.watcher.cancel(0)
        self.put(b"a")
        [response] = self.watcher.received()
        self.assertEqual(
            (0, True, False, 2),
            (response.watch_id, response.canceled, response.created, response.header.revision),
        )
        self.assertEqual(0, self.running.watches.count)

    def test_half_close(self) -> None:
        """A client that will ask for nothing more is still told of changes."""
        self.watcher.create()
        self.watcher.receiver.half_closed()
        self.put(b"a")
        self.assertEqual(2, len(self.watcher.received()))

    def test_kf_36_the_end_of_a_stream(self) -> None:
        """However streams and watches end, in whatever order, nothing is left of them."""
        for number in range(200):
            watcher = Watcher(self)
            for start in (0, 1, 1 << 50):
                watcher.create(start_revision=start, progress_notify=number % 3 == 0)
            if number % 2:
                watcher.cancel(number % 3)
            self.put(b"a")
            if number % 5:
                watcher.received()
            watcher.receiver.cancelled()
        for _ in range(5):
            self.running.end_turn()
        watches = self.running.watches
        self.assertEqual(
            (0, 0, 1), (watches.count, watches.lagging, self.member.streams.count(module.STREAMS))
        )
        self.assertIsNone(self.running.store.changes)
        self.assertEqual([], [call for call in self.running.clock.calls if call.time > 5.0])

    def test_the_member_stops(self) -> None:
        """Streams end with it, and say so."""
        self.watcher.create()
        self.member.stop()
        self.assertEqual((StoppedError.code, StoppedError.message), self.watcher.fake.status)


class ProgressTests(WatchCase):
    """Up to which revision everything was told."""

    def test_manual(self) -> None:
        """One answer for all watches, if they were told everything; none without watches."""
        self.watcher.progress()
        self.assertEqual([], self.watcher.received())
        self.watcher.create()
        self.watcher.create(b"b")
        self.put(b"c")
        self.watcher.received()
        self.watcher.progress()
        [response] = self.watcher.received()
        self.assertEqual((-1, 2, []), (response.watch_id, response.header.revision, events(response)))
        self.assertEqual((False, False), (response.created, response.canceled))

    def test_kf_31_it_does_not_overtake(self) -> None:
        """While a watch catches up, or begins later, there is no answer."""
        self.put(b"a")
        self.watcher.create(start_revision=1)
        self.watcher.progress()
        self.assertEqual([False, False], [response.watch_id == -1 for response in self.watcher.received()])
        self.watcher.create(start_revision=4)
        self.watcher.progress()
        self.put(b"a")
        self.watcher.progress()
        self.assertEqual([False, False], [response.watch_id == -1 for response in self.watcher.received()])
        self.put(b"a")
        self.watcher.progress()
        *_, last = self.watcher.received()
        self.assertEqual((-1, 4), (last.watch_id, last.header.revision))

    def test_nothing_while_it_waits(self) -> None:
        """A client that does not read is owed no answer."""
        self.watcher.create()
        self.watcher.received()
        self.watcher.open(100)
        self.put(b"a", bytes(module.QUEUE_BYTES_MAX + 1000))
        self.watcher.progress()
        self.watcher.open()
        self.assertEqual([1], [len(response.events) for response in self.watcher.received()])

    def test_kf_33_periodic(self) -> None:
        """A quiet watch that asked for it is told the revision now and then, whatever happens elsewhere."""
        self.watcher.create(progress_notify=True)
        self.watcher.create(b"b", progress_notify=True)
        self.watcher.create(b"c")
        self.watcher.create(b"d", progress_notify=True, start_revision=10)
        self.watcher.received()
        self.put(b"b")
        self.assertEqual([1], [response.watch_id for response in self.watcher.received()])
        self.running.pump(0.1)
        for number in range(1, 4):
            self.put(b"x")
            self.running.pump(PROGRESS_SECONDS)
            told = [(response.watch_id, response.header.revision) for response in self.watcher.received()]
            # The second one had an event in the first interval.
            self.assertEqual([(0, number + 2)] if number == 1 else [(0, number + 2), (1, number + 2)], told)

    def test_the_interval_counts_from_the_stream(self) -> None:
        """As with etcd, a watch that comes late does not wait for a whole interval."""
        self.running.pump(PROGRESS_SECONDS - 1)
        self.watcher.create(progress_notify=True)
        self.assertEqual(1, len(self.watcher.received()))
        self.running.pump(1.1)
        [response] = self.watcher.received()
        self.assertEqual((False, 0), (response.created, response.watch_id))


class MetricsTests(WatchCase):
    """What ``/metrics`` tells of watches."""

    def test_values(self) -> None:
        """Streams, watches, those that lag behind, and events as often as they were told."""
        self.watcher.create()
        self.watcher.create(b"a")
        Watcher(self)
        self.put(b"a")
        self.watcher.received()
        self.watcher.open(10)
        self.put(b"a", bytes(module.QUEUE_BYTES_MAX))
        self.put(b"a")
        found = samples(Metrics(self.member).text())
        for name, value in (
            ("watch_stream_total", 2),
            ("watcher_total", 2),
            ("slow_watcher_total", 2),
            ("events_total", 3),
        ):
            self.assertEqual(value, found[f"etcd_debugging_mvcc_{name}"], name)


class SlowTests(WatchCase):
    """A client that does not read."""

    def test_it_catches_up(self) -> None:
        """What was too much for it comes later, in order and once, and little of it was kept."""
        self.watcher.create()
        self.watcher.create(range_end=b"b", prev_kv=True)
        other = Watcher(self)
        other.create()
        self.watcher.received()
        self.watcher.open(10)
        for _ in range(40):
            self.put(b"a", bytes(50_000))
        self.assertEqual(41, len(other.received()))
        queue = self.watcher.fake.queue
        assert queue is not None
        self.assertLess(queue.bytes, 2 * module.QUEUE_BYTES_MAX)
        told: dict[int, list[int]] = {0: [], 1: []}
        while not self.watcher.fake.open(100_000) or self.running.watches.lagging:
            self.watcher.open(100_000)
            for response in self.watcher.received():
                told[response.watch_id] += [event.kv.mod_revision for event in response.events]
        for response in self.watcher.received():
            told[response.watch_id] += [event.kv.mod_revision for event in response.events]
        self.assertEqual({0: list(range(2, 42)), 1: list(range(2, 42))}, told)

    def test_kf_32_compacted_meanwhile(self) -> None:
        """Each of many watches is told exactly once that its history is gone, however full the stream."""
        for number in range(800):
            self.watcher.create(watch_id=number + 1, prev_kv=True)
        self.watcher.received()
        self.watcher.open(10)
        for _ in range(20):
            self.put(b"a", bytes(1000))
        self.compact(21)
        told: dict[int, list[int]] = {number + 1: [] for number in range(800)}
        over: dict[int, int] = {}
        for _ in range(100):
            self.watcher.open(100_000)
            for response in self.watcher.received():
                self.assertNotIn(response.watch_id, over)
                told[response.watch_id] += [event.kv.mod_revision for event in response.events]
                if response.canceled:
                    over[response.watch_id] = response.compact_revision
        self.assertTrue(over)
        for watch_id, revisions in told.items():
            self.assertEqual(list(range(2, 2 + len(revisions))), revisions)
            self.assertEqual(watch_id in over, len(revisions) < 20, (watch_id, revisions))
        self.assertEqual({21}, set(over.values()))

    def test_it_asks_on_and_on(self) -> None:
        """Who asks and never reads is cut off before the answers cost much."""
        self.watcher.open(0)
        for _ in range(100_000):
            if self.watcher.fake.done:
                break
            self.watcher.create(b"b", range_end=b"a")
        status = self.watcher.fake.status
        assert status is not None
        self.assertEqual(Code.RESOURCE_EXHAUSTED, status[0])


class LeaderTests(WatchCase):
    """``hasleader``."""

    def lose(self) -> None:
        """From now on there is no leader."""
        self.patch(self.member, "_has_leader", lambda: False)
        self.member.streams._has_leader = lambda: False

    def test_none_at_the_beginning(self) -> None:
        """The stream is refused."""
        self.lose()
        watcher = Watcher(self, HAS_LEADER)
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: no leader"), watcher.fake.status)
        watcher.receiver.cancelled()

    def test_lost(self) -> None:
        """The stream ends after three election timeouts; one that did not ask for a leader stays."""
        watcher = Watcher(self, HAS_LEADER)
        watcher.create()
        self.running.pump(5.0)
        self.lose()
        self.running.pump(2.0)
        self.assertIsNone(watcher.fake.status)
        self.running.pump(1.1)
        self.assertEqual((Code.UNAVAILABLE, "etcdserver: no leader"), watcher.fake.status)
        self.assertIsNone(self.watcher.fake.status)
        self.assertEqual(0, self.running.watches.count)

    def test_found_again(self) -> None:
        """A gap that is shorter ends nothing."""
        watcher = Watcher(self, HAS_LEADER)
        streams = self.member.streams
        for _ in range(5):
            streams._has_leader = lambda: False
            self.running.pump(1.5)
            streams._has_leader = lambda: True
            self.running.pump(1.5)
        self.assertIsNone(watcher.fake.status)
