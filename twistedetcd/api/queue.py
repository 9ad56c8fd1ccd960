"""
Queues of candidates: the keys below a name, each with its owner's lease, in the order of their creation.

The first one has the lock, or leads.  Each waits for the one before it only, so that one wakes when one goes
(upstream's client/v3/concurrency package).
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from twistedetcd.api.within import Within
from twistedetcd.errors import EtcdError
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)

TTL_SECONDS = 60  # of the lease that a candidate gets who brings none


def prefix_of(name: bytes) -> tuple[bytes, bytes]:
    """The range of a name's candidates; no other name's are in it."""
    return name + b"/", name + b"0"


def first_in(name: bytes) -> RangeRequest:
    """Asks for the candidate that came first."""
    key, end = prefix_of(name)
    return RangeRequest(
        key=key, range_end=end, sort_target=RangeRequest.CREATE, sort_order=RangeRequest.ASCEND, limit=1
    )


def created_at(key: bytes, revision: int) -> Compare:
    """Holds if a key exists since a revision; since 0 if it does not exist."""
    return Compare(key=key, target=Compare.CREATE, result=Compare.EQUAL, create_revision=revision)


def delete_candidate(key: bytes, revision: int) -> TxnRequest:
    """Deletes a candidate, and no later one that has the same key."""
    delete = RequestOp(request_delete_range=DeleteRangeRequest(key=key))
    return TxnRequest(compare=[created_at(key, revision)], success=[delete])


class Candidate:
    """
    One who waits for its turn.

    Args:
        within: Makes its calls.
        name: What it waits for.
        lease: Its own; it has one candidate of each name at most.

    Attributes:
        key: Its key.
        revision: When it came; 0 before that.
        entered: What the transaction said by which it came, or by which it was found there.
    """

    entered: TxnResponse

    def __init__(self, within: Within, name: bytes, lease: int) -> None:
        self._within = within
        self._name = name
        self._lease = lease
        self.key = prefix_of(name)[0] + b"%x" % lease
        self.revision = 0
        self._waiting: Deferred[None] | None = None
        self._cancelled = False

    async def enter(self, value: bytes) -> KeyValue | None:
        """
        Take the place at the end of the queue, unless it has one already.

        Returns:
            Its record if it has.

        Raises:
            EtcdError: It could not.
        """
        put = RequestOp(request_put=PutRequest(key=self.key, value=value, lease=self._lease))
        get = RequestOp(request_range=RangeRequest(key=self.key))
        first = RequestOp(request_range=first_in(self._name))
        self.entered = entered = await self._within.txn(
            TxnRequest(compare=[created_at(self.key, 0)], success=[put, first], failure=[get, first])
        )
        before = None if entered.succeeded else entered.responses[0].response_range.kvs[0]
        self.revision = entered.header.revision if before is None else before.create_revision
        return before

    @property
    def is_first(self) -> bool:
        """Whether it was when it entered."""
        return self.entered.responses[1].response_range.kvs[0].create_revision == self.revision

    async def turn(self) -> None:
        """
        Wait until nobody is before it.

        Raises:
            CancelledError: It was given up.
            EtcdError: What is before it cannot be read.
        """
        key, end = prefix_of(self._name)
        before = RangeRequest(
            key=key,
            range_end=end,
            max_create_revision=self.revision - 1,
            sort_target=RangeRequest.CREATE,
            sort_order=RangeRequest.DESCEND,
            limit=1,
        )
        while True:
            if self._cancelled:
                raise CancelledError
            found = await self._within.get(before)
            kvs = found.responses[0].response_range.kvs
            if not kvs:
                return
            if not self._cancelled:
                self._waiting = self._within.gone(kvs[0].key, found.header.revision)
                await self._waiting
                self._waiting = None

    async def still_there(self) -> TxnResponse | None:
        """The answer that shows its key; ``None`` if it has lost its place."""
        found = await self._within.get(RangeRequest(key=self.key))
        kvs = found.responses[0].response_range.kvs
        return found if kvs and kvs[0].create_revision == self.revision else None

    def cancel(self) -> None:
        """Give up; `turn` ends."""
        self._cancelled = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def leave(self) -> None:
        """Make room for those behind it; its lease will, if that cannot be said now."""
        try:
            await self._within.txn(delete_candidate(self.key, self.revision))
        except EtcdError:
            return
