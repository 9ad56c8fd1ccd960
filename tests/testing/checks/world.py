"""
A cluster that does all right, by construction, and clients who see as little of it as real ones do.

One model decides everything, at one moment between call and answer; members hold its history up to somewhere.
Answers come late or never, and what was given up may happen long after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.testing.checks.requests import Requests
from twistedetcd.errors import EtcdError
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    HashKVRequest,
    HashKVResponse,
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    ResponseHeader,
    TxnRequest,
    WatchCreateRequest,
    WatchResponse,
)
from twistedetcd.pb.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from twistedetcd.testing.checks import Change, History, Operation, Unknown, Watch, Witness, outcome
from twistedetcd.testing.checks.effects import is_linearizable
from twistedetcd.testing.checks.leases import LeaseTerms
from twistedetcd.testing.checks.model import Model
from twistedetcd.testing.checks.ranges import inside

CLUSTER_ID = 7
GRACE = 1.0
TTL = 3
MEMBERS = ["m1", "m2", "m3"]


class Store(Model):
    """A model that keeps its changes, and when they were made."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.changes: list[Change] = []

    def commit(self, events: Sequence[Event]) -> None:
        super().commit(events)
        if events:
            self.changes.append(Change(self.revision, tuple(events), self._world.now))


class World:
    """Everything there is.  The same seed makes the same history."""

    def __init__(self, seed: int, calls: int = 120, unknown: float = 0.1) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.store = Store(self)
        self.requests = Requests(self.random)
        self.operations: list[Operation] = []
        self.watches: list[Watch] = []
        self.watchers: list[Watcher] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._calls, self._unknown = calls, unknown
        self._applied = dict.fromkeys(MEMBERS, 1)
        self._views = {name: Model(strict_leases=False) for name in MEMBERS}
        self._expiry: dict[int, float] = {}
        self._leases = 0
        self.expired = 0
        self._waiting: list[tuple[bytes, bytes, Call]] = []
        self._holding: list[bytes] = []

    def run(self) -> World:
        for number in range(6):
            self._at(self.random.random(), lambda name=f"c{number}": self._client(name))
        for _ in range(4):
            watcher = Watcher(self)
            self.watchers.append(watcher)
            self._at(self.random.random() * 3, watcher.begin)
        self._at(0.0, self._tick)
        while self._queue:
            self.now, _, action = heappop(self._queue)
            action()
            for name, key, call in list(self._waiting):
                if self._is_first(name, key):
                    self._waiting.remove((name, key, call))
                    call.locked(key)
        for _, _, call in self._waiting:
            call.still_waits()
        for watcher in self.watchers:
            watcher.finish()
        return self

    @property
    def history(self) -> History:
        return History(self.operations, self.watches)

    @property
    def witness(self) -> Witness:
        return Witness(self.store.changes)

    @property
    def terms(self) -> LeaseTerms:
        return LeaseTerms(0.0, GRACE, [(0.0, self.now)])

    # Time.

    def _at(self, at: float, action: Callable[[], None]) -> None:
        self._scheduled += 1
        heappush(self._queue, (at, self._scheduled, action))

    def later(self, action: Callable[[], None], longest: float = 0.5) -> None:
        self._at(self.now + self.random.random() * longest, action)

    def _tick(self) -> None:
        """Leases end, members catch up; until all calls were made and all leases are gone."""
        for lease, expiry in sorted(self._expiry.items()):
            if expiry <= self.now:
                self._end_lease(lease)
        for name in MEMBERS:
            self._applied[name] = self.random.randint(self._applied[name], self.store.revision)
        if self._calls > 0 or self._expiry:
            self._at(self.now + 0.2, self._tick)

    def _end_lease(self, lease: int) -> None:
        del self._expiry[lease]
        self.expired += bool(self.store.keys_of(lease))
        self.store.apply(LeaseRevokeRequest(ID=lease))

    # Calls.

    def _client(self, name: str) -> None:
        """Call, wait, and call again."""
        if self._calls <= 0:
            return
        self._calls -= 1
        request = self._request()
        member = self.random.choice(MEMBERS)
        give_up = self.random.random() < self._unknown and not isinstance(request, LeaseKeepAliveRequest)
        call = Call(self, name, member, request, give_up)
        self.later(call.happen)

    def _request(self) -> Any:
        random, revision = self.random, self.store.revision
        draw = random.random()
        self.requests.leases = [*self._expiry, 99][-3:] if self._expiry else []
        if draw < 0.3:
            return self.requests.put()
        if draw < 0.38:
            return self.requests.delete()
        if draw < 0.55:
            return self.requests.txn(revision)
        if draw < 0.75:
            return self.requests.range(revision, serializable=random.random() < 0.4)
        if draw < 0.78:
            return CompactionRequest(revision=max(revision - random.randrange(20), 1))
        if draw < 0.82:
            self._leases += 1
            return LeaseGrantRequest(ID=self._leases, TTL=TTL)
        if draw < 0.88 and self._expiry:
            return LeaseKeepAliveRequest(ID=random.choice([*self._expiry]))
        if draw < 0.9 and self._expiry:
            return LeaseRevokeRequest(ID=random.choice([*self._expiry]))
        if draw < 0.95 and self._expiry:
            return LockRequest(name=b"lock", lease=random.choice([*self._expiry]))
        if draw < 0.98 and self._holding:
            return UnlockRequest(key=self._holding.pop())
        return HashKVRequest()

    def carry_out(self, request: Any, member: str) -> Any:
        """Answer a request; refuse it by an `EtcdError`."""
        store = self.store
        if isinstance(request, RangeRequest | TxnRequest) and not is_linearizable(request):
            return self._view(member).apply(request)
        if isinstance(request, LeaseKeepAliveRequest):
            ttl = TTL if request.ID in self._expiry else 0
            if ttl:
                self._expiry[request.ID] = self.now + TTL
            header = ResponseHeader(revision=self._applied[member])
            return LeaseKeepAliveResponse(header=header, ID=request.ID, TTL=ttl)
        if isinstance(request, HashKVRequest):
            revision, compacted = self._applied[member], store.compact_revision
            return HashKVResponse(
                header=ResponseHeader(revision=revision),
                hash=hash((revision, compacted)) & 0xFFFF,
                compact_revision=compacted,
                hash_revision=revision,
            )
        if isinstance(request, UnlockRequest):
            key = request.key
            if store.get(key) is not None:
                store.commit([Event(type=Event.DELETE, kv={"key": key, "mod_revision": store.revision + 1})])
            return UnlockResponse(header=self.header())
        answer = store.apply(request)
        if isinstance(request, LeaseGrantRequest):
            self._expiry[request.ID] = self.now + TTL
        elif isinstance(request, LeaseRevokeRequest):
            self._expiry.pop(request.ID, None)
        return answer

    def lock(self, request: LockRequest, call: Call) -> None:
        """Stand in line; the answer comes when the place is the first."""
        key = b"%s/%x" % (request.name, request.lease)
        if self.store.get(key) is None:
            self.store.apply(PutRequest(key=key, lease=request.lease))
        self._waiting.append((request.name, key, call))

    def hold(self, key: bytes) -> None:
        """Somebody was told that he holds a lock, and will unlock it."""
        self._holding.append(key)

    def _is_first(self, name: bytes, key: bytes) -> bool:
        line = self.store.scan(name + b"/", name + b"0", self.store.revision)
        return bool(line) and min(line, key=lambda item: item.create_revision).key == key

    def _view(self, member: str) -> Model:
        view = self._views[member]
        for change in self.store.changes[view.revision - 1 : self._applied[member] - 1]:
            view.commit(change.events)
        return view

    def applied(self, member: str) -> int:
        return self._applied[member]

    def header(self) -> ResponseHeader:
        return ResponseHeader(revision=self.store.revision)


class Call:
    """One call, from the client's side and from the cluster's."""

    def __init__(self, world: World, client: str, member: str, request: Any, give_up: bool) -> None:
        self.world, self.client, self.member, self.request = world, client, member, request
        self.called_at = world.now
        self.give_up = give_up
        if give_up:
            self._record(world.now + 0.5, Unknown("gave up"))
            world._at(world.now + 0.5, lambda: world._client(client))

    def happen(self) -> None:
        """It is this call's turn in the one order; one that was given up may never have it, or late."""
        world = self.world
        if self.give_up and world.random.random() < 0.5:
            return
        if self.give_up and world.random.random() < 0.3:
            self.give_up = True
            world.later(self._carry_out, 5)
            return
        self._carry_out()

    def _carry_out(self) -> None:
        world, request = self.world, self.request
        try:
            if isinstance(request, LockRequest):
                world.lock(request, self)
                if not self.give_up:
                    world.later(lambda: world._client(self.client))
                return
            answer = world.carry_out(request, self.member)
        except EtcdError as error:
            answer = outcome(error.code, error.message)
        if not self.give_up:
            world.later(lambda: self._return(answer))

    def locked(self, key: bytes) -> None:
        """It is the first in its line."""
        if self.give_up:
            return
        answer = LockResponse(header=self.world.header(), key=key)
        self.world.hold(key)
        self.world.later(lambda: self._record(self.world.now, answer))

    def still_waits(self) -> None:
        """It ends without an answer."""
        if not self.give_up:
            self._record(None, Unknown("waits"))

    def _return(self, answer: Any) -> None:
        self._record(self.world.now, answer)
        self.world._client(self.client)

    def _record(self, returned_at: float | None, answer: Any) -> None:
        if returned_at is not None and hasattr(answer, "header"):
            answer.header.cluster_id, answer.header.member_id = CLUSTER_ID, MEMBERS.index(self.member) + 1
            answer.header.raft_term = 1 + int(returned_at)
        self.world.operations.append(
            Operation(self.client, self.called_at, returned_at, self.request, answer, self.member)
        )


class Watcher:
    """Somebody who watches on and on, with one watch after the other, at one member after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        random = world.random
        self._wish = WatchCreateRequest(
            key=random.choice((b"\0", b"a", b"b")),
            range_end=random.choice((b"\0", b"c", b"")),
            prev_kv=random.random() < 0.5,
            filters=random.choice(([], [], [], [WatchCreateRequest.NOPUT], [WatchCreateRequest.NODELETE])),
            fragment=random.random() < 0.3,
        )
        self._watch: Watch | None = None
        self._next = 0

    def begin(self) -> None:
        world, before = self.world, self._watch
        self.member = world.random.choice(MEMBERS)
        request = WatchCreateRequest()
        request.CopyFrom(self._wish)
        if before is not None:
            request.start_revision = before.next_revision
        elif world.random.random() < 0.5:
            request.start_revision = max(world.store.compact_revision, 1) + world.random.randrange(3)
        self._received: list[tuple[float, WatchResponse]] = []
        self._watch = Watch("w", request, world.now, self._received, None, before)
        self._next = request.start_revision or world.applied(self.member) + 1
        self._send(created=True)
        world.later(self.go_on)

    def _send(self, **fields: Any) -> None:
        header = ResponseHeader(revision=self.world.applied(self.member))
        self._received.append((self.world.now, WatchResponse(header=header, **fields)))

    def _end(self, ended_at: float | None) -> None:
        watch = self._watch
        assert watch is not None
        self._watch = Watch("w", watch.request, watch.called_at, self._received, ended_at, watch.continues)
        self.world.watches.append(self._watch)

    def go_on(self) -> None:
        """Tell it of something, of nothing new, that it was compacted away; or break its stream."""
        world, random = self.world, self.world.random
        if world._calls <= 0:
            return
        # Compaction has passed what it needs, or not: then it must be told.
        if self._next < world.store.compact_revision and random.random() < 0.5:
            self._send(canceled=True, compact_revision=world.store.compact_revision)
            self._end(world.now)
            world.later(self.begin)
            return
        draw = random.random()
        if draw < 0.6:
            self._tell(random.choice((1, 1, 1, 3, 1000)))
        elif draw < 0.7 and self._next > world.applied(self.member) and self._next > 1:
            if world.applied(self.member) >= self._next - 1:
                self._send()
        elif draw < 0.8:
            self._end(world.now)
            world.later(self.begin)
            return
        world.later(self.go_on, 0.3)

    def _tell(self, revisions: int) -> None:
        world = self.world
        last = min(world.applied(self.member), self._next + revisions - 1)
        events = list(self._events(self._next, last))
        self._next = max(self._next, last + 1)
        while events:
            part = len(events)
            if self._wish.fragment and part > 1 and world.random.random() < 0.5:
                part = world.random.randrange(1, part)
            self._send(events=events[:part], fragment=part < len(events))
            events = events[part:]

    def _events(self, first: int, last: int) -> Iterator[Event]:
        wish, world = self._wish, self.world
        for change in world.store.changes:
            if not first <= change.revision <= last:
                continue
            final = {event.kv.key: place for place, event in enumerate(change.events)}
            for place, event in enumerate(change.events):
                compacted = change.revision <= world.store.compact_revision
                if place != final[event.kv.key] and compacted and world.random.random() < 0.5:
                    continue
                if not inside(event.kv.key, wish.key, wish.range_end):
                    continue
                if (WatchCreateRequest.NOPUT, WatchCreateRequest.NODELETE)[event.type] in wish.filters:
                    continue
                told = Event()
                told.CopyFrom(event)
                before = world.store.at(event.kv.key, change.revision - 1)
                created = event.kv.create_revision == change.revision
                gone = change.revision - 1 < world.store.compact_revision
                if wish.prev_kv and before is not None and not created and not gone:
                    told.prev_kv.CopyFrom(before)
                yield told

    def finish(self) -> None:
        """All that is left."""
        if self._watch is None or (self.world.watches and self._watch in self.world.watches):
            return
        for member in MEMBERS:
            self.world._applied[member] = self.world.store.revision
        if self._next < self.world.store.compact_revision:
            self._send(canceled=True, compact_revision=self.world.store.compact_revision)
        else:
            self._tell(10**9)
        self._end(None)
