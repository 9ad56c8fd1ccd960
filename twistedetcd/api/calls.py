"""How a handler that takes a parsed message and may raise becomes a gRPC method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.errors import (
    BackendError,
    Code,
    EtcdError,
    InvalidClientAPIVersionError,
    NotSupportedForLearnerError,
    UnsupportedError,
)
from twistedetcd.interfaces import Work
from twistedetcd.mvcc.work import begin
from twistedetcd.protocols.grpc import Call, Method, Receiver, Request
from twistedetcd.server.member import EtcdServer

_log = Logger()

Handler = Callable[[Call, bytes, Any], None]
"""Takes the call, the request's bytes and the request; raises `EtcdError` to refuse it."""


class Terms(NamedTuple):
    """What a caller's metadata asks for; made once for each distinct header block."""

    require_leader: bool
    bad_client_version: bool


def terms(request: Request) -> Terms | None:
    """The terms of a call; ``None`` for the many that ask for nothing."""
    require_leader = request.metadata(b"hasleader") == b"true"
    version = request.metadata(b"client-api-version") or b""
    try:
        version.decode("utf-8")
        bad_version = False
    except UnicodeDecodeError:
        bad_version = True
    return Terms(require_leader, bad_version) if require_leader or bad_version else None


def refuse(call: Call, error: EtcdError) -> None:
    """Answer with an error."""
    call.fail(error.code, error.message)


def method(member: EtcdServer, request_class: Any, handle: Handler) -> Method:
    """A unary method whose requests are of one class."""
    parse = request_class.FromString

    def unary(call: Call, raw: bytes) -> None:
        try:
            message = parse(raw)
            if call.request.terms is not None:
                check_terms(member, call.request.terms)
            handle(call, raw, message)
        except EtcdError as error:
            refuse(call, error)
        except BackendError:
            _failed(call)
        except DecodeError as error:
            call.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")

    return Method(unary=unary)


def check_terms(member: EtcdServer, asked: Terms) -> None:
    """
    Raises:
        InvalidClientAPIVersionError: The client's version is not text.
        NoLeaderError: It wants a member that knows a leader, and there is none.
    """
    if asked.bad_client_version:
        raise InvalidClientAPIVersionError
    member.require_leader()


class _Deaf:
    """The application's end of a call that is over."""

    def message_received(self, message: bytes) -> None:
        """Too late."""

    def half_closed(self) -> None:
        """Too late."""

    def cancelled(self) -> None:
        """Too late."""

    def writable(self) -> None:
        """Nothing is sent."""


DEAF: Receiver = _Deaf()


def unsupported(path: str) -> Method:
    """
    A method of etcd that this version does not serve.

    Refused when it begins: some clients end their side of a stream only after the first answer.
    """

    def stream(call: Call) -> Receiver:
        refuse(call, UnsupportedError(f"{path} is not supported by this version of twistedetcd"))
        return DEAF

    return Method(stream=stream)


def not_for_learners(member: EtcdServer, served: Method) -> Method:
    """A method that a learner refuses."""

    def unary(call: Call, raw: bytes) -> None:
        if member.learner:
            refuse(call, NotSupportedForLearnerError())
        else:
            served.unary(call, raw)  # type: ignore[misc]

    def stream(call: Call) -> Receiver:
        if member.learner:
            refuse(call, NotSupportedForLearnerError())
            return DEAF
        return served.stream(call)  # type: ignore[misc]

    return Method(unary=unary) if served.unary is not None else Method(stream=stream)


def _failed(call: Call, failure: Failure | None = None) -> None:
    _log.failure("A request failed", failure)
    call.fail(Code.INTERNAL, "internal error")


def serve(member: EtcdServer, call: Call, work: Work[list[bytes]]) -> None:
    """Answer, in parts, with what some work brings: at once if that is quickly done, else when it is."""
    try:
        response = begin(work)
    except EtcdError as error:
        refuse(call, error)
    else:
        if isinstance(response, list):
            call.reply_in_parts(response)
        else:
            answer(call, member.read_slowly(response), call.reply_in_parts)


def answer(call: Call, result: Deferred[Any], reply: Callable[[Any], None] | None = None) -> None:
    """
    Answer with what a Deferred brings.

    Args:
        call: Whom.
        result: A response; or a failure, with which the call ends.
        reply: How a response is sent; `Call.reply` unless given.
    """

    def failed(failure: Failure) -> None:
        error = failure.value
        if isinstance(error, EtcdError):
            refuse(call, error)
        else:
            _failed(call, failure)

    result.addCallback(reply or call.reply).addErrback(failed)
