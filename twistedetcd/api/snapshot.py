"""
Maintenance.Snapshot: the store as one file, which etcd's tools keep, check and restore.

The client sets the pace: the next share of the file is made once all of the last one has gone out, and not
before the next turn of the reactor.  So one who does not read costs a share, and others get their turns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twistedetcd.api.waiting import LastingCall, lasting
from twistedetcd.errors import BackendError, SnapshotBrokenOffError, TooManyRequestsError
from twistedetcd.interfaces import IImage
from twistedetcd.pb.rpc_pb2 import SnapshotRequest, SnapshotResponse
from twistedetcd.protocols.grpc import Method
from twistedetcd.schema import STORAGE_FORMAT
from twistedetcd.server.member import EtcdServer

SNAPSHOTS_MAX = 4  # at the same time, each with a reader of the engine, beyond which more are refused
SHARE_BYTES = 128 * 1024  # of a snapshot in one turn, and at most so much more as a chunk of the image has
MESSAGE_BYTES = 32 * 1024  # of the file in one message, as etcd cuts it
_VERSION = STORAGE_FORMAT.decode()


class SnapshotAPI:
    """The snapshots that clients take of one member."""

    _log = Logger()

    def __init__(self, member: EtcdServer) -> None:
        self._member = member
        self._under_way = 0

    def method(self) -> Method:
        """Snapshot."""
        return lasting(self._member, SnapshotRequest, self.snapshot, keep_code=True)

    async def snapshot(self, call: LastingCall, request: Any) -> bytes:
        """
        Send the store as it is now.

        Returns:
            The last message, with the digest of all the others have.

        Raises:
            TooManyRequestsError: As many as there may be are under way.
            SnapshotBrokenOffError: The engine refused.
            StoppedError: The member stops.
            CancelledError: The client has gone.
        """
        if self._under_way >= SNAPSHOTS_MAX:
            raise TooManyRequestsError
        self._under_way += 1
        sending = Deferred.fromCoroutine(self._send(call))
        call.on_gone = sending.cancel
        try:
            return await sending
        except BackendError as error:
            self._log.warn("A snapshot broke off: {error}", error=error)
            raise SnapshotBrokenOffError from error
        finally:
            self._under_way -= 1

    async def _send(self, call: LastingCall) -> bytes:
        state, image = await self._member.image()
        size = image.size_bytes
        try:
            self._log.info(
                "Send a client the snapshot at {index}, {size} bytes", index=state.index, size=size
            )
            digest = hashlib.sha256()
            sent = 0
            for share in _shares(image):
                digest.update(share)
                for at in range(0, len(share), MESSAGE_BYTES):
                    blob = share[at : at + MESSAGE_BYTES]
                    sent += len(blob)
                    waiting = call.call.send(_message(blob, size - sent))
                if waiting:
                    await _gone_out(call)
                await deferLater(self._member.clock, 0)
        finally:
            image.close()
        self._log.info("Sent a client the snapshot at {index}", index=state.index)
        return _message(digest.digest(), 0)


def _shares(image: IImage) -> Iterator[bytes]:
    """An image in pieces for a turn each, all but the last of them of whole messages."""
    share = bytearray()
    for chunk in image.chunks():
        share += chunk
        if len(share) >= SHARE_BYTES:
            whole = len(share) - len(share) % MESSAGE_BYTES
            yield bytes(share[:whole])
            del share[:whole]
    if share:
        yield bytes(share)


def _message(blob: bytes, remaining_bytes: int) -> bytes:
    response = SnapshotResponse(blob=blob, remaining_bytes=remaining_bytes, version=_VERSION)
    return response.SerializeToString()


def _gone_out(call: LastingCall) -> Deferred[None]:
    """Fires, once, when nothing waits for the client any more."""
    gone_out: Deferred[None] = Deferred()
    call.on_writable = lambda: None if gone_out.called else gone_out.callback(None)
    return gone_out
