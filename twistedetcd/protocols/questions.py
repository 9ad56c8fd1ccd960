"""What members ask each other beside raft: questions under way, and their answers."""

from __future__ import annotations

import struct
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedetcd.errors import Code, EtcdError, TimeoutError, TooManyRequestsError
from twistedetcd.interfaces import IRaftReceiver
from twistedetcd.protocols.frames import FrameError, Kind, frame
from twistedetcd.protocols.peer import PeerConnection

ASKS_MAX = 1000
"""Questions of ours that wait for an answer; more are not asked."""
ANSWERING_MAX = 1000
"""Questions of others that are being answered; more are refused."""
QUESTION_BYTES_MAX = 64 * 1024
"""The longest question, as a frame."""
ANSWER_BYTES_MAX = 8 << 20
"""The longest answer; one that is longer is refused."""

_NUMBER = struct.Struct(">Q")
_log = Logger()


class Questions:
    """
    One member's.

    Args:
        clock: For how long an answer is waited for.
        receiver: Who answers those of others.
    """

    def __init__(self, clock: IReactorTime, receiver: IRaftReceiver) -> None:
        self._clock = clock
        self._receiver = receiver
        self._number = 0
        self._asked: dict[int, tuple[int, Deferred[bytes], IDelayedCall]] = {}
        self._answering = 0

    def ask(
        self, member: int, kind: str, body: bytes, timeout_seconds: float, send: Callable[[bytes], object]
    ) -> Deferred[bytes]:
        """As `IPeerTransport.ask`; ``send`` is called with the frame."""
        if len(self._asked) >= ASKS_MAX:
            return fail(TimeoutError())
        self._number += 1
        answer: Deferred[bytes] = Deferred()
        late = self._clock.callLater(timeout_seconds, self._late, self._number)
        self._asked[self._number] = (member, answer, late)
        word = kind.encode()
        data = frame(Kind.ASK, _NUMBER.pack(self._number), bytes((len(word),)), word, body)
        assert len(data) <= QUESTION_BYTES_MAX, "questions are short"
        send(data)
        return answer

    def _late(self, number: int) -> None:
        _, answer, _ = self._asked.pop(number)
        answer.errback(TimeoutError())

    def stop(self) -> None:
        """No answer will come."""
        asked, self._asked = self._asked, {}
        for _, answer, late in asked.values():
            late.cancel()
            answer.errback(TimeoutError())

    def taken(self, connection: PeerConnection, kind: Kind, body: bytes) -> None:
        """
        A frame came that is a question or an answer.

        Raises:
            FrameError: It makes no sense.
        """
        if len(body) <= _NUMBER.size - (kind is Kind.ANSWER):
            raise FrameError(f"a frame of kind {kind.name} with {len(body)} bytes")
        if kind is Kind.ASK and len(body) > QUESTION_BYTES_MAX:
            raise FrameError(f"a question of {len(body)} bytes, where {QUESTION_BYTES_MAX} are allowed")
        [number], rest = _NUMBER.unpack_from(body), body[_NUMBER.size :]
        if kind is Kind.ASK:
            self._answer(connection, number, rest)
            return
        assert connection.theirs is not None, "it said who it is"
        member, answer, late = self._asked.get(number, (0, None, None))
        if answer is None or late is None or member != connection.theirs.sender:
            return  # too late
        del self._asked[number]
        late.cancel()
        if kind is Kind.ANSWER:
            answer.callback(rest)
        else:
            answer.errback(_error(rest))

    def _answer(self, connection: PeerConnection, number: int, rest: bytes) -> None:
        assert connection.theirs is not None, "it said who it is"
        length = rest[0]
        try:
            word = rest[1 : 1 + length].decode()
        except UnicodeDecodeError as error:
            raise FrameError("a question whose kind is no text") from error
        if self._answering >= ANSWERING_MAX:
            self._refuse(Failure(TooManyRequestsError()), connection, number)
            return
        self._answering += 1
        asked = maybeDeferred(self._receiver.answer, connection.theirs.sender, word, rest[1 + length :])
        asked.addBoth(self._answered)
        asked.addCallbacks(self._send, self._refuse, (connection, number), {}, (connection, number), {})

    def _answered(self, result: bytes | Failure) -> bytes | Failure:
        self._answering -= 1
        return result

    def _send(self, body: bytes, connection: PeerConnection, number: int) -> None:
        if len(body) > ANSWER_BYTES_MAX:
            error = EtcdError(f"the answer has {len(body)} bytes, and {ANSWER_BYTES_MAX} are allowed")
            self._refuse(Failure(error), connection, number)
            return
        connection.send([frame(Kind.ANSWER, _NUMBER.pack(number), body)])

    def _refuse(self, failure: Failure, connection: PeerConnection, number: int) -> None:
        error = failure.value
        if isinstance(error, EtcdError):
            code, text = error.code, error.message
        else:
            _log.failure("A question of another member could not be answered", failure)
            code, text = Code.INTERNAL, "internal error"
        connection.send([frame(Kind.NO_ANSWER, _NUMBER.pack(number), bytes((code,)), text.encode())])


def _error(rest: bytes) -> EtcdError:
    error = EtcdError(rest[1:].decode(errors="replace"))
    try:
        error.code = Code(rest[0])
    except ValueError:
        error.code = Code.UNKNOWN
    return error
