"""Calls of the whole table of methods on a member without a disk."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Running
from twistedetcd.api.calls import terms
from twistedetcd.api.methods import methods
from twistedetcd.errors import Code
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
