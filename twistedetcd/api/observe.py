"""Election.Observe: one stream that follows who leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from twistedetcd.api.queue import first_in, prefix_of
from twistedetcd.api.waiting import LastingCall
from twistedetcd.api.within import Within
from twistedetcd.interfaces import IWatchReceiver
from twistedetcd.mvcc.events import Batch, Options
from twistedetcd.pb.kv_pb2 import Event, KeyValue
from twistedetcd.pb.rpc_pb2 import ResponseHeader
from twistedetcd.pb.v3election_pb2 import LeaderResponse

QUEUE_BYTES_MAX = (
    256 * 1024
)  # responses that wait for the client; above it, what it proclaims stays in history
_PUTS = Options(deletes=False)


@implementer(IWatchReceiver)
class Observer:
    """
    One who observes.

    It watches the leader's key while there is one, else all keys of the name for the first to come.

    Args:
        within: Makes its calls.
        call: Whom to tell.
        name: Of the election.
    """

    def __init__(self, within: Within, call: LastingCall, name: bytes) -> None:
        self._within = within
        self._watches = within.member.watches
        self._call = call
        self._name = name
        self._watch: Any = None
        call.on_gone = self._stop
        call.on_writable = self._resume

    async def find(self) -> None:
        """Find who leads, and watch."""
        found = await self._within.get(first_in(self._name))
        kvs = found.responses[0].response_range.kvs
        if kvs:
            self._send(found.header.revision, kvs[0])
            self._watch_leader(kvs[0].key, found.header.revision)
        elif not self._call.call.done:
            key, end = prefix_of(self._name)
            self._watch = self._watches.watch(key, end, self, found.header.revision + 1, False, _PUTS)

    def _watch_leader(self, key: bytes, revision: int) -> None:
        if not self._call.call.done:
            self._watch = self._watches.watch(key, None, self, revision + 1, True)

    @property
    def ready(self) -> bool:
        queue = self._call.call.queue
        return queue is None or queue.bytes <= QUEUE_BYTES_MAX

    def changed(self, watches: Sequence[Any], batch: Batch) -> Sequence[Any]:
        if not self.ready:
            return watches
        for encoded in batch.events:
            event = Event.FromString(encoded)
            if event.type == Event.DELETE:
                self._find_again()
                break
            self._send(event.kv.mod_revision, event.kv)
            if not watches[0].name:  # the first to come leads
                self._stop()
                self._watch_leader(event.kv.key, event.kv.mod_revision)
                break
        return ()

    def compacted(self, watch: Any, compact_revision: int) -> None:
        self._find_again()

    def _find_again(self) -> None:
        self._stop()
        self._call.go_on(self.find())

    def _send(self, revision: int, leader: KeyValue) -> None:
        member = self._within.member
        header = ResponseHeader(
            cluster_id=member.cluster_id,
            member_id=member.identity.id,
            revision=revision,
            raft_term=member.applied_term,
        )
        self._call.call.send(LeaderResponse(header=header, kv=leader).SerializeToString())

    def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            self._watches.cancel(watch)

    def _resume(self) -> None:
        self._watches.resume(self)
