"""A watch stream over the wire, and scripts of what is done on one and beside it."""

from __future__ import annotations

import queue
import shlex
import threading
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]

from tests.interop.requests import KV
from tests.interop.servers import Server
from twistedetcd.pb import rpc_pb2
from twistedetcd.pb.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse

WATCH = "/etcdserverpb.Watch/Watch"
RESPONSE_SECONDS_MAX = 20.0
BARRIER = 1_000_000
"""The first id of watches that a script makes to see that nothing else is on its way."""


class Stream:
    """One watch stream; a thread reads it, while ``reading`` is set."""

    def __init__(self, server: Server, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.SimpleQueue[WatchRequest | None] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        handle = server.channel.stream_stream(
            WATCH,
            request_serializer=WatchRequest.SerializeToString,
            response_deserializer=WatchResponse.FromString,
        )
        self.reading = threading.Event()
        self.reading.set()
        self._call = handle(iter(self._requests.get, None), metadata=metadata)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._responses.put(response)
                self.reading.wait()
        except grpc.RpcError as error:
            self._responses.put(error)

    def send(self, request: WatchRequest) -> None:
        self._requests.put(request)

    def half_close(self) -> None:
        self._requests.put(None)

    def next(self) -> Any:
        """The next response, or the error that ended the stream."""
        return self._responses.get(timeout=RESPONSE_SECONDS_MAX)

    def close(self) -> None:
        self._call.cancel()


class Script:
    """
    Carries out lines such as ``put a 1`` on one server, its revisions counted from the beginning.

    Args:
        server: Where.
        prefix: Before every key, so that scripts do not disturb each other.
    """

    def __init__(self, server: Server, prefix: bytes) -> None:
        self._server = server
        self._prefix = prefix
        self._base: int = server.call(f"{KV}Range", rpc_pb2.RangeRequest(key=b"x")).header.revision
        self._streams: dict[str, Stream] = {}
        self._barriers = 0

    def run(self, lines: str) -> list[Any]:
        """Do it all; returns what came where a line says ``expect``."""
        try:
            return [list(found) for line in lines.strip().splitlines() for found in self._do(line)]
        finally:
            for stream in self._streams.values():
                stream.close()

    def _do(self, line: str) -> Iterator[Any]:
        """One line.  ``@NAME`` in front of it names the stream."""
        words = shlex.split(line)
        name = words.pop(0) if words[0].startswith("@") else "@"
        verb, *rest = words
        if verb == "expect":
            stream = self._stream(name)
            yield [normalised(stream.next()) for _ in range(int(rest[0]))]
        elif verb == "silence":
            yield self._until_barrier(self._stream(name))
        elif verb == "repeat":
            for number in range(int(rest[0])):
                yield from self._do(
                    f"{name} " + shlex.join([word.replace("%", str(number)) for word in rest[1:]])
                )
        else:
            getattr(self, f"_{verb}")(name, *rest)

    def _stream(self, name: str) -> Stream:
        if name not in self._streams:
            metadata = (("hasleader", "true"),) if name == "@leader" else ()
            self._streams[name] = Stream(self._server, metadata)
        return self._streams[name]

    def _key(self, text: str) -> bytes:
        return self._prefix + text.encode()

    def _until_barrier(self, stream: Stream) -> list[Any]:
        """What was on its way when a new watch was asked for."""
        self._barriers += 1
        barrier = BARRIER + self._barriers
        stream.send(WatchRequest(create_request=WatchCreateRequest(key=b"barrier", watch_id=barrier)))
        found: list[Any] = []
        while True:
            response = stream.next()
            if isinstance(response, WatchResponse) and response.watch_id == barrier:
                return found
            found.append(normalised(response))

    def _put(self, _: str, key: str, value: str = "v") -> None:
        text = value.encode()
        if value.startswith("*"):
            text = b"x" * int(value[1:])
        self._server.call(f"{KV}Put", rpc_pb2.PutRequest(key=self._key(key), value=text))

    def _delete(self, _: str, key: str, end: str = "") -> None:
        range_end = self._key(end) if end else b""
        self._server.call(
            f"{KV}DeleteRange", rpc_pb2.DeleteRangeRequest(key=self._key(key), range_end=range_end)
        )

    def _txn(self, _: str, *operations: str) -> None:
        request = rpc_pb2.TxnRequest()
        for operation in operations:
            key, is_put, value = operation.partition("=")
            if is_put:
                put = rpc_pb2.PutRequest(key=self._key(key), value=value.encode())
                request.success.add(request_put=put)
            else:
                delete = rpc_pb2.DeleteRangeRequest(key=self._key(key))
                request.success.add(request_delete_range=delete)
        self._server.call(f"{KV}Txn", request)

    def _compact(self, _: str, revision: str) -> None:
        request = rpc_pb2.CompactionRequest(revision=self._base + int(revision), physical=True)
        self._server.call(f"{KV}Compact", request)

    def _create(self, name: str, *fields: str) -> None:
        request = WatchCreateRequest()
        for field in fields:
            key, _, value = field.partition("=")
            if key == "key":
                request.key = self._key(value)
            elif key == "end":
                request.range_end = b"\0" if value == "0" else self._key(value)
            elif key == "start":
                request.start_revision = self._base + int(value)
            elif key == "raw_key":
                request.key = value.encode()
            elif key == "raw_start":
                request.start_revision = int(value)
            elif key == "id":
                request.watch_id = int(value)
            elif key in ("noput", "nodelete"):
                request.filters.append(getattr(WatchCreateRequest, key.upper()))
            else:
                setattr(request, key, True)
        self._stream(name).send(WatchRequest(create_request=request))

    def _cancel(self, name: str, watch_id: str) -> None:
        cancel = rpc_pb2.WatchCancelRequest(watch_id=int(watch_id))
        self._stream(name).send(WatchRequest(cancel_request=cancel))

    def _progress(self, name: str) -> None:
        self._stream(name).send(WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    def _nothing(self, name: str) -> None:
        self._stream(name).send(WatchRequest())

    def _half_close(self, name: str) -> None:
        self._stream(name).half_close()

    def _close(self, name: str) -> None:
        self._streams.pop(name).close()


def normalised(response: Any) -> Any:
    """A response without what differs between any two members."""
    if isinstance(response, grpc.RpcError):
        error: Any = response
        return error.code().value[0], error.details()
    header = response.header
    assert header.cluster_id and header.member_id and header.raft_term, header
    for name in ("cluster_id", "member_id", "raft_term"):
        header.ClearField(name)
    return response
