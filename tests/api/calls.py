"""Calls of the whole table of methods on a member without a disk."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Running
from twistedetcd.api.calls import terms
from twistedetcd.api.methods import methods
from twistedetcd.errors import Code
from twistedetcd.protocols.calls import message_prefix
from twistedetcd.protocols.framing import SendQueue
from twistedetcd.protocols.grpc import Request

Response = TypeVar("Response")


class FakeCall:
    """A `twistedetcd.protocols.grpc.Call` that keeps its end."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        request = Request(None, None, b"", headers, None)
        self.request = request._replace(terms=terms(request))
        self.replied: bytes | None = None
        self.status: tuple[Code, str] | None = None

    def reply(self, message: bytes) -> None:
        """It went well."""
        assert self.replied is self.status is None, "ended twice"
        self.replied = message

    def reply_in_parts(self, parts: list[bytes]) -> None:
        """Likewise."""
        self.reply(b"".join(parts))

    def fail(self, code: Code, message: str) -> None:
        """It did not."""
        assert self.replied is self.status is None, "ended twice"
        self.status = (code, message)


class FakeStream(FakeCall):
    """
    A streaming call that keeps what is sent.

    Attributes:
        window: Bytes that the client still takes; ``None`` for any number.
    """

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(*headers)
        self.done = False
        self.finished = False
        self.queue: SendQueue | None = None
        self.window: int | None = None
        self._sent = bytearray()

    def send(self, message: bytes) -> int:
        return self.send_prefixed(message_prefix(len(message)) + message)

    def send_prefixed(self, messages: bytes) -> int:
        if self.done:
            return 0
        if self.queue is None:
            self.queue = SendQueue()
        self.queue.parts.append(messages)
        self.queue.bytes += len(messages)
        return self._pump()

    def _pump(self) -> int:
        while self.queue is not None:
            room = self.queue.bytes if self.window is None else min(self.window, self.queue.bytes)
            if not room:
                return self.queue.bytes
            piece = self.queue.take(room)
            self._sent += piece
            if self.window is not None:
                self.window -= len(piece)
            if not self.queue.parts:
                self.queue = None
        return 0

    def open(self, window: int | None = None) -> bool:
        """The client takes more; returns whether all has gone."""
        self.window = window
        return not self._pump()

    def fail(self, code: Code, message: str) -> None:
        if not self.done:
            self.done = True
            super().fail(code, message)

    def finish(self) -> None:
        """It ended well."""
        assert not self.done, "ended twice"
        self.done = self.finished = True

    def messages(self) -> list[bytes]:
        """What the client received since it was asked last."""
        found = []
        while len(self._sent) >= 5:
            length = int.from_bytes(self._sent[1:5], "big")
            if len(self._sent) < 5 + length:
                break
            found.append(bytes(self._sent[5 : 5 + length]))
            del self._sent[: 5 + length]
        return found


class APICase(SynchronousTestCase):
    """A member that serves."""

    def setUp(self) -> None:
        self.running = Running().start()
        self.member = self.running.member
        self.methods = methods(self.member, txn_operations_max=3)

    def begin(self, path: str, request: Any, *headers: tuple[bytes, bytes]) -> FakeCall:
        """Make a call; the turn does not end yet."""
        call: Any = FakeCall(*headers)
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        unary = self.methods[path.encode()].unary
        assert unary is not None, path
        unary(call, raw)
        fake: FakeCall = call
        return fake

    def call(
        self, path: str, request: Any, response: type[Response], *headers: tuple[bytes, bytes]
    ) -> Response:
        """A call that is answered in its turn."""
        call = self.begin(path, request, *headers)
        self.running.end_turn()
        self.assertIsNone(call.status)
        assert call.replied is not None, "no answer"
        parsed: Response = response.FromString(call.replied)  # type: ignore[attr-defined]
        return parsed

    def refused(self, path: str, request: Any, *headers: tuple[bytes, bytes]) -> tuple[Code, str]:
        """The status of a call that is refused in its turn."""
        call = self.begin(path, request, *headers)
        self.running.end_turn()
        assert call.status is not None, call.replied
        return call.status

    def put(self, key: bytes, value: bytes = b"v") -> None:
        """A key."""
        self.running.put(key, value)
        self.running.end_turn()
