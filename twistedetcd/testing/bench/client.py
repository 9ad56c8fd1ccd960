"""
The client's side of unary gRPC, on the codec of ``protocols``: small, blocking, and quick enough for a load.

`Inbox` is the state machine: what a server sent in, answers out.  `Client` puts a socket under it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from twistedetcd.protocols.framing import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_MAX,
    WINDOW_UPDATE,
    frame,
    unpack_header,
)
from twistedetcd.protocols.hpack import Decoder, Header, encode

RECEIVE_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
REMEMBERED_BLOCKS_MAX = 1000
_OK = b"0"


class Answer(NamedTuple):
    """
    How one call ended.

    Attributes:
        stream_id: Of the call.
        status: The value of ``grpc-status``; empty when the server sent none.
        text: The value of ``grpc-message``.
        body: The bytes of all DATA frames.
    """

    stream_id: int
    status: bytes
    text: bytes
    body: bytes | bytearray

    @property
    def ok(self) -> bool:
        return self.status == _OK


class ServerFaultError(Exception):
    """The server hung up, or sent what an HTTP/2 server for gRPC does not send."""


class CallError(Exception):
    """A call was answered with a status other than OK."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status.decode()}: {unquote(answer.text.decode())}")
        self.answer = answer


class Inbox:
    """
    What a server sends on one connection, taken apart.

    Only the connection's window is kept: a request must fit the window that a stream begins with.
    """

    def __init__(self) -> None:
        window = (WINDOW_MAX - DEFAULT_WINDOW).to_bytes(4, "big")
        settings = SETTING.pack(4, WINDOW_MAX) + SETTING.pack(2, 0)  # INITIAL_WINDOW_SIZE; no ENABLE_PUSH
        self.out: list[bytes] = [PREFACE, frame(SETTINGS, 0, 0, settings), frame(WINDOW_UPDATE, 0, 0, window)]
        """What must be written; the owner empties it."""
        self.window = DEFAULT_WINDOW
        """Bytes of DATA that the server will still take; the owner subtracts what it sends."""
        self._decoder = Decoder()
        self._remembered: dict[bytes, tuple[bytes, bytes]] = {}
        self._bodies: dict[int, bytes | bytearray] = {}
        self._rest = b""
        self._received = 0

    def receive(self, data: bytes) -> list[Answer]:
        """
        Take in the next bytes, cut anywhere.

        Raises:
            ServerFaultError: The server gave up the connection or broke its rules.
        """
        if self._rest:
            data = self._rest + data
        answers: list[Answer] = []
        bodies = self._bodies
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream_id = unpack_header(data, at)
            start = at + 9
            stop = start + (high << 8 | low)
            if stop > end:
                break
            at = stop
            if kind == DATA and not flags & (PADDED | END_STREAM):
                self._received += stop - start
                before = bodies.get(stream_id)
                if before is None:
                    bodies[stream_id] = data[start:stop]
                else:
                    # Large ones come in thousands of frames.
                    held = before if isinstance(before, bytearray) else bytearray(before)
                    held += data[start:stop]
                    bodies[stream_id] = held
            elif kind == HEADERS and flags & END_HEADERS and not flags & (PADDED | PRIORITIZED):
                block = data[start:stop]
                status, text = self._remembered.get(block) or self._fields(block)
                if flags & END_STREAM:
                    answers.append(Answer(stream_id, status, text, bodies.pop(stream_id, b"")))
            else:
                self._control(kind, flags, stream_id, data[start:stop])
        self._rest = data[at:]
        if self._received > WINDOW_MAX // 4:
            self.out.append(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0
        return answers

    def take_bodies(self) -> dict[int, bytes]:
        """What came of responses that are not complete, by stream; for streams that last."""
        bodies, self._bodies = self._bodies, {}
        return {stream_id: bytes(body) for stream_id, body in bodies.items()}

    def _fields(self, block: bytes) -> tuple[bytes, bytes]:
        headers = dict(self._decoder.decode(block))
        fields = headers.get(b"grpc-status", b""), headers.get(b"grpc-message", b"")
        if self._decoder.touched:  # the same bytes may now mean something else
            self._remembered.clear()
        elif len(self._remembered) < REMEMBERED_BLOCKS_MAX:
            self._remembered[block] = fields
        return fields

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == SETTINGS:
            if not flags & ACK:
                self.out.append(frame(SETTINGS, ACK, 0))
        elif kind == PING:
            if not flags & ACK:
                self.out.append(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            if stream_id == 0:
                self.window += int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            raise ServerFaultError(f"the server ended the connection: {payload[8:].decode(errors='replace')}")
        elif kind in (DATA, HEADERS, RST_STREAM, CONTINUATION):
            raise ServerFaultError(f"unexpected frame of type {kind} with flags {flags}")


class Client:
    """
    One connection to a server on this machine.

    Raises:
        OSError: Nobody listens.
    """

    def __init__(self, port: int, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inbox = Inbox()
        self._next_id = 1
        self._authority = b"127.0.0.1:%d" % port
        self._flush()

    def close(self) -> None:
        self._socket.close()

    def call(self, path: bytes, message: bytes) -> bytes:
        """
        Make one call and wait for its answer.

        Raises:
            CallError: The status is not OK.
            ServerFaultError: The connection is of no more use.
            OSError: The same.
        """
        return next(self.call_each(path, [message]))

    def begin(self, path: bytes, message: bytes) -> None:
        """Send one call; `finish` waits for its answer, and no other call is made before."""
        block = encode(request_headers(path, self._authority))
        self._socket.sendall(request_frames(self._next_id, block, message))
        self._inbox.window -= 5 + len(message)
        self._next_id += 2

    def finish(self) -> bytes:
        """
        The answer to the call that was begun.

        Raises:
            As for `call`.
        """
        answers: list[Answer] = []
        while not answers:
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise ServerFaultError("the server hung up")
            answers = self._inbox.receive(data)
            self._flush()
        [answer] = answers
        if not answer.ok:
            raise CallError(answer)
        return bytes(answer.body[5:])

    def call_each(self, path: bytes, messages: Sequence[bytes], streams: int = 10) -> Iterator[bytes]:
        """
        Make calls with messages of one size, ``streams`` at a time; their answers in the order they come.

        Raises:
            As for `call`.
        """
        block = encode(request_headers(path, self._authority))
        first = self._next_id
        frames = [
            request_frames(first + 2 * number, block, message) for number, message in enumerate(messages)
        ]
        for answer in self.exchange(frames, 5 + len(messages[0]), streams):
            if not answer.ok:
                raise CallError(answer)
            yield bytes(answer.body[5:])

    def exchange(self, frames: Sequence[bytes], body_bytes: int, streams: int) -> Iterator[Answer]:
        """
        Send requests that are frames already, as many at a time as ``streams`` and the window allow.

        Args:
            frames: The requests; their stream ids must follow those used before.
            body_bytes: How much of the window each one takes.
            streams: How many may wait for their answers.

        Raises:
            ServerFaultError: The connection is of no more use.
            OSError: The same.
        """
        inbox = self._inbox
        sent, done, total = 0, 0, len(frames)
        self._next_id += 2 * total
        while done < total:
            room = min(streams - (sent - done), total - sent, inbox.window // body_bytes)
            if room > 0:
                self._socket.sendall(b"".join(frames[sent : sent + room]))
                inbox.window -= room * body_bytes
                sent += room
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise ServerFaultError("the server hung up")
            answers = inbox.receive(data)
            done += len(answers)
            yield from answers
            if inbox.out:
                self._flush()

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._inbox.out))
        self._inbox.out.clear()


def request_headers(path: bytes, authority: bytes) -> list[Header]:
    """What grpc-go sends, in its order."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-go/1.59.0"),
        (b"te", b"trailers"),
    ]


def request_frames(stream_id: int, block: bytes, message: bytes) -> bytes:
    """A whole request; the body is cut into frames that every server must take."""
    body = b"\0" + len(message).to_bytes(4, "big") + message
    if len(body) > DEFAULT_WINDOW:
        raise ValueError(f"a request of {len(body)} bytes does not fit a stream's first window")
    pieces = [body[at : at + FRAME_BYTES_MAX] for at in range(0, len(body), FRAME_BYTES_MAX)]
    parts = [frame(HEADERS, END_HEADERS, stream_id, block)]
    parts += [frame(DATA, 0, stream_id, piece) for piece in pieces[:-1]]
    parts.append(frame(DATA, END_STREAM, stream_id, pieces[-1]))
    return b"".join(parts)
