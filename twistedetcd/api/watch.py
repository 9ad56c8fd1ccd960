"""
etcdserverpb.Watch.

One stream carries many watches.  Everything goes out through the one call, so it arrives in the order in
which it was said: a watch's events after its creation, a revision of progress after the events up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from twistedetcd.api import watchbytes
from twistedetcd.api.calls import DEAF, check_terms, refuse
from twistedetcd.api.watchbytes import CANCELED, CREATED, Told, id_field
from twistedetcd.apply.ranges import interval_end
from twistedetcd.errors import (
    Code,
    CompactedError,
    DuplicateWatchIDError,
    EmptyWatchRangeError,
    EtcdError,
    UnreadResponsesError,
)
from twistedetcd.interfaces import IWatchReceiver
from twistedetcd.mvcc.events import Batch, Options
from twistedetcd.pb.rpc_pb2 import WatchCreateRequest, WatchRequest
from twistedetcd.protocols.grpc import Call, Method, Receiver
from twistedetcd.server.member import EtcdServer

QUEUE_BYTES_MAX = 256 * 1024
"""Events that wait on a stream for its client: above it they stay in the history."""
CONTROL_BYTES_MAX = 1024 * 1024
"""Other responses that wait there: above it the stream is ended."""
HEAD_BYTES_MAX = 128
"""More than what stands before the events in a response."""
STREAMS = "watch"
"""What watch streams are counted under."""
_ALL = -1  # the id in an answer that is about all watches of a stream


class WatchOptions(NamedTuple):
    """
    Numbers for the watch service.

    Attributes:
        fragment_bytes: A response as long as this is cut, if the client wants that.
        progress_seconds: ``--watch-progress-notify-interval``.
        draw: A random number from 0 to 1, so that not all streams report progress at the same time.
    """

    fragment_bytes: int = 2 * 1024 * 1024
    progress_seconds: float = 600.0
    draw: Callable[[], float] = lambda: 0.0


class WatchAPI:
    """The watch calls of one member."""

    def __init__(self, member: EtcdServer, options: WatchOptions) -> None:
        self.member = member
        self.options = options
        self._told: Told | None = None

    def methods(self) -> dict[str, Method]:
        """By name."""
        return {"Watch": Method(stream=self.watch)}

    def watch(self, call: Call) -> Receiver:
        """Watch."""
        needs_leader = False
        if call.request.terms is not None:
            try:
                check_terms(self.member, call.request.terms)
            except EtcdError as error:
                refuse(call, error)
                return DEAF
            needs_leader = call.request.terms.require_leader
        return WatchStream(self, call, needs_leader)

    def header(self, revision: int) -> bytes:
        """A response header."""
        return self.member.header.field(revision, self.member.applied_term)

    def told(self, batch: Batch) -> Told:
        """What a batch says; unless it is large, kept for all who are told it, one after the other."""
        told = self._told
        if told is None or told.batch is not batch:
            told = Told(self.header(batch.revision), batch)
            self._told = told if batch.bytes <= QUEUE_BYTES_MAX else None
        return told


class _Watched:
    """
    A watch of a stream.

    Attributes:
        id: As a field of a response.
        fragment: Whether large responses are to be cut.
        start: The first revision that was asked for; 0 for the next one.
        quiet: Whether it was told nothing since progress was reported last.
        watch: What the store knows of it.
    """

    __slots__ = ("fragment", "id", "quiet", "start", "watch")

    def __init__(self, id: bytes, request: WatchCreateRequest) -> None:
        self.id = id
        self.fragment: bool = request.fragment
        self.start: int = request.start_revision
        self.quiet = True
        self.watch: Any = None


@implementer(IWatchReceiver)
class WatchStream:
    """
    One stream: its client's wishes, and its watches.

    Args:
        api: What all streams share.
        call: The stream.
        needs_leader: Whether it ends when there is no leader.
    """

    def __init__(self, api: WatchAPI, call: Call, needs_leader: bool) -> None:
        self._api = api
        self._member = api.member
        self._store = api.member.store
        self._watches = api.member.watches
        self._call = call
        self._by_id: dict[int, _Watched] = {}
        self._notified: dict[int, _Watched] = {}
        """Those that want to hear of progress."""
        self._next_id = 0
        self._control_bytes = 0
        self._small_bytes = min(QUEUE_BYTES_MAX, api.options.fragment_bytes - HEAD_BYTES_MAX)
        """Events of this size need not be looked at one by one."""
        seconds = api.options.progress_seconds
        self._progress_seconds = seconds + seconds / 10 * api.options.draw()
        self._began = self._member.clock.seconds()
        self._timer: IDelayedCall | None = None
        self._member.streams.add(self.end, STREAMS, needs_leader)

    # What the client says.

    def message_received(self, message: bytes) -> None:
        try:
            request = WatchRequest.FromString(message)
        except DecodeError as error:
            self._fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")
            return
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._progress()

    def half_closed(self) -> None:
        """Events keep coming: only the end of the call ends the stream."""

    def cancelled(self) -> None:
        self._forget()

    def writable(self) -> None:
        self._control_bytes = 0
        self._watches.resume(self)

    def _create(self, request: WatchCreateRequest) -> None:
        try:
            self._check(request)
        except EtcdError as error:
            self._send(watchbytes.refused(self._header(), error.message))
            return
        watch_id = request.watch_id or self._unused_id()
        watched = _Watched(id_field(watch_id), request)
        self._send(self._header() + watched.id + CREATED)
        if self._call.done:
            return
        self._by_id[watch_id] = watched
        if request.progress_notify:
            self._notified[watch_id] = watched
            self._set_timer()
        filters = request.filters
        options = Options(
            puts=WatchCreateRequest.NOPUT not in filters,
            deletes=WatchCreateRequest.NODELETE not in filters,
            previous=request.prev_kv,
        )
        key, end = request.key or b"\0", interval_end(request.range_end)
        watched.watch = self._watches.watch(key, end, self, request.start_revision, watched, options)

    def _check(self, request: WatchCreateRequest) -> None:
        """
        Raises:
            CompactedError: A negative start.
            EmptyWatchRangeError: A range that no key can be in.
            DuplicateWatchIDError: The id is in use.
        """
        if request.start_revision < 0:
            raise CompactedError
        if interval_end(request.range_end) and (request.key or b"\0") >= request.range_end:
            raise EmptyWatchRangeError
        if request.watch_id in self._by_id and request.watch_id:
            raise DuplicateWatchIDError

    def _unused_id(self) -> int:
        while self._next_id in self._by_id:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, watch_id: int) -> None:
        watched = self._by_id.pop(watch_id, None)
        if watched is not None:
            self._notified.pop(watch_id, None)
            self._watches.cancel(watched.watch)
            self._send(self._header() + watched.id + CANCELED)

    # Progress.

    def _progress(self) -> None:
        """Answer if that is true of all watches; who gets no answer asks again."""
        if self._by_id and self.ready and all(map(self._is_current, self._by_id.values())):
            self._send(self._api.header(self._watches.revision) + id_field(_ALL))

    def _is_current(self, watched: _Watched) -> bool:
        """Whether it was told of everything, and that includes its start."""
        synced: bool = watched.watch.synced
        return synced and self._watches.revision >= watched.start

    def _set_timer(self) -> None:
        """To the next multiple of the interval since the stream began."""
        if self._timer is None:
            clock = self._member.clock
            passed = (clock.seconds() - self._began) % self._progress_seconds
            self._timer = clock.callLater(self._progress_seconds - passed, self._report_progress)

    def _report_progress(self) -> None:
        self._timer = None
        for watched in list(self._notified.values()):
            if watched.quiet and self.ready and self._is_current(watched):
                self._send(self._api.header(self._watches.revision) + watched.id)
            watched.quiet = True
        if self._notified and not self._call.done:
            self._set_timer()

    # What the store says.

    @property
    def ready(self) -> bool:
        queue = self._call.queue
        return queue is None or queue.bytes <= QUEUE_BYTES_MAX

    def changed(self, watches: Sequence[Any], batch: Batch) -> Sequence[Any]:
        queue = self._call.queue
        if queue is not None and not self.ready:
            return watches
        told = self._api.told(batch)
        if len(told.events) * len(watches) <= self._small_bytes:
            self._call.send_prefixed(told.messages([watch.name.id for watch in watches]))
        else:
            for position, watch in enumerate(watches):
                if not self.ready:
                    watches, rest = watches[:position], watches[position:]
                    self._heard(watches)
                    return rest
                self._send_large(told, watch.name)
        self._heard(watches)
        return ()

    def _send_large(self, told: Told, watched: _Watched) -> None:
        if watched.fragment:
            for fragment in told.fragments(watched.id, self._api.options.fragment_bytes):
                self._call.send(fragment)
        else:
            self._call.send_prefixed(told.messages([watched.id]))

    def _heard(self, watches: Sequence[Any]) -> None:
        if self._notified:
            for watch in watches:
                watch.name.quiet = False

    def compacted(self, watch: Any, compact_revision: int) -> None:
        # The id stays in use until the client cancels it, and there is no progress until then.
        watched: _Watched = watch.name
        self._send(watchbytes.compacted(self._api.header(0), watched.id, compact_revision))

    # Life.

    def _header(self) -> bytes:
        return self._api.header(self._store.revision)

    def _send(self, message: bytes) -> None:
        """Send anything but events."""
        if self._call.send(message):
            self._control_bytes += len(message)
            if self._control_bytes > CONTROL_BYTES_MAX:
                self.end(UnreadResponsesError())

    def end(self, error: EtcdError) -> None:
        """End the stream; the client is told why."""
        self._fail(error.code, error.message)

    def _fail(self, code: Code, message: str) -> None:
        self._call.fail(code, message)
        self._forget()

    def _forget(self) -> None:
        self._member.streams.remove(self.end)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        by_id, self._by_id = self._by_id, {}
        self._notified = {}
        for watched in by_id.values():
            self._watches.cancel(watched.watch)
