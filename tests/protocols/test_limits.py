"""grpc: what calls may keep of us."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocols.client import (
    START,
    data,
    headers,
    message,
    request,
    reset,
    window,
)
from tests.protocols.client import settings as setting
from tests.protocols.grpccase import ECHO, STREAM, WAIT, Case
from twistedetcd.errors import Code
from twistedetcd.protocols import calls, grpc
from twistedetcd.protocols.framing import WAITING_BYTES_MAX
from twistedetcd.protocols.grpc import Call, Method


class LimitTests(Case):
    """What calls may keep of us."""

    def test_unfinished_bodies(self) -> None:
        """Bodies that are not complete share one limit; the call that goes above it is ended."""
        self.patch(grpc, "PARTIAL_BYTES_MAX", 50_000)
        part = b"\0\0\1\0\0" + bytes(9_995)
        for stream in (1, 3, 5, 7, 9):
            self.say(headers(stream, request(STREAM if stream == 3 else WAIT)), data(stream, part, end=False))
        self.assertEqual({}, self.responses)
        self.say(data(3, b"x", end=False))
        code, text = self.responses[3].status
        self.assertEqual(
            (Code.RESOURCE_EXHAUSTED, "grpc: too many unfinished messages on this connection"), (code, text)
        )
        self.assertEqual(["cancelled"], self.receivers[0].told)
        self.assertEqual(40_000, self.server._partial_bytes)
        self.say(reset(1), data(5, bytes(55_541)[:10_000]))
        self.assertEqual(20_000, self.server._partial_bytes)

    def test_how_much(self) -> None:
        """The limit is 48 MiB for a connection; so is that for responses that wait."""
        self.assertEqual(48 << 20, grpc.PARTIAL_BYTES_MAX)
        self.assertEqual(48 << 20, WAITING_BYTES_MAX)

    def ask(self, *streams: int, path: bytes = WAIT) -> None:
        """Calls, in one piece."""
        self.say(b"".join(headers(n, request(path)) + data(n, message(b"x")) for n in streams))

    def codes(self) -> dict[int, int]:
        """How the calls that ended did."""
        return {n: response.status[0] for n, response in self.responses.items() if response.ended}

    def test_unread_in_one_turn(self) -> None:
        """Large answers stop at the limit though nothing was taken yet; small ones and errors pass."""
        for length in (3000, 50_000):
            self.setUp()
            self.server.unread_bytes_max = 100_000
            self.say(setting((4, 2**31 - 1)), window(0, 2**31 - 1 - 65535))
            self.ask(*range(1, 101, 2))
            for call, _ in self.waiting[:-1]:
                call.reply(bytes(length))
            self.waiting[-1][0].reply(bytes(100))
            self.responses.take(b"".join(self.server.taken()))
            codes = list(self.codes().values())
            passed = 100_000 // length + 1
            self.assertEqual([0] * passed + [8] * (49 - passed) + [0], codes)
            self.assertEqual(
                (Code.RESOURCE_EXHAUSTED, "grpc: too many bytes of responses unread on this connection"),
                self.responses[97].status,
            )
            self.assert_quiet()

    def test_unread_for_a_window(self) -> None:
        """Above the limit the handlers are not even asked, until the client took what there is."""
        self.server.unread_bytes_max = 72_000
        self.ask(*range(1, 11, 2))
        for call, _ in self.waiting[:4]:
            call.reply(bytes(70_000))
        self.say()
        self.assertEqual({5: 8, 7: 8}, self.codes())
        self.ask(11, 13)
        self.say(headers(15, request(WAIT)), data(15, message(b"x"), end=False), data(15, b""))
        self.assertEqual(5, len(self.waiting))
        self.assertEqual({5: 8, 7: 8, 11: 8, 13: 8, 15: 8}, self.codes())
        self.say(window(0, 1 << 20), window(1, 1 << 20), window(3, 1 << 20))
        self.ask(17)
        self.assertEqual(6, len(self.waiting))
        self.ask(19, path=ECHO)
        self.assertEqual(0, self.codes()[19])
        self.assertEqual(0, self.server.unread_bytes())

    def test_held_bytes_count(self) -> None:
        """So does what the owner could not write."""
        self.server.unread_bytes_max = 100_000
        self.server.held_bytes = 100_001
        self.ask(1)
        self.waiting[0][0].reply(bytes(3000))
        self.say()
        self.assertEqual({1: 8}, self.codes())

    def test_answer_too_large(self) -> None:
        """An answer above the limit is an error like any other."""
        self.assertEqual(2**31 - 1, grpc.SENT_MESSAGE_BYTES_MAX)
        self.patch(calls, "SENT_MESSAGE_BYTES_MAX", 5000)
        self.ask(1, 3)
        self.say(headers(5, request(STREAM)), headers(7, request(STREAM)))
        self.waiting[0][0].reply(bytes(5001))
        self.waiting[1][0].reply(bytes(5000))
        self.assertEqual(0, self.receivers[0].call.send(bytes(5001)))
        self.receivers[1].call.send(bytes(5000))
        self.assertEqual(0, self.receivers[1].call.send(bytes(5001)))
        self.say()
        too_large = (
            Code.RESOURCE_EXHAUSTED,
            "grpc: trying to send message larger than max (5001 vs. 5000)",
        )
        for stream in (1, 5, 7):
            self.assertEqual(too_large, self.responses[stream].status)
        self.assertEqual([bytes(5000)] * 2, [self.responses[n].messages[0] for n in (3, 7)])
        self.assertEqual(["cancelled"] * 2, [told for receiver in self.receivers for told in receiver.told])
        self.assert_quiet()

    def test_busy(self) -> None:
        """Busy are the calls that the application has, not those that wait for the client."""
        for stream in (1, 3, 5):
            self.say(headers(stream, request(WAIT)), data(stream, message(b"x")))
        self.say(headers(7, request(WAIT)), headers(9, request(STREAM)))
        self.assertEqual(3, self.server.in_progress)
        self.waiting[0][0].reply(bytes(100_000))
        self.assertIn(1, self.server.http2.streams)
        self.assertEqual(2, self.server.in_progress)

    steps = st.sampled_from(["open", "message", "large", "half", "end", "reset", "reply", "fail", "expire"])

    @given(st.lists(st.tuples(steps, st.integers(0, 3)), max_size=25), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_busy_count(self, steps: list[tuple[str, int]], one_piece: bool) -> None:
        """However calls begin and end, the count is of those the application has."""
        waiting: dict[int, Call] = {}

        def wait(call: Call, body: bytes) -> None:
            waiting[call.id] = call
            call.on_cancelled = lambda: waiting.pop(call.id) and None

        server = self.connection({WAIT: Method(unary=wait)})
        server.receive(START, 0.0)
        opened: list[int] = []
        said = []
        for step, which in steps:
            if step == "open":
                opened.append(2 * len(opened) + 1)
                said.append(headers(opened[-1], request(WAIT, (b"grpc-timeout", b"%dS" % (which + 1)))))
            elif not opened:
                continue
            stream = opened[which % len(opened)]
            said += {
                "message": [data(stream, message(b"x"))],
                "large": [data(stream, message(bytes(5000))[:100], end=False), data(stream, b"")],
                "half": [data(stream, message(b"x")[:3], end=False)],
                "end": [data(stream, b"")],
                "reset": [reset(stream)],
            }.get(step, [])
            if not one_piece or step in ("reply", "fail", "expire"):
                server.receive(b"".join(said), 0.0)
                said = []
            if step == "expire":
                server.expire(float(which + 1))
            elif step in ("reply", "fail") and stream in waiting:
                call = waiting.pop(stream)
                if step == "reply":
                    call.reply(b"y")
                else:
                    call.fail(Code.ABORTED, "no")
            if not server.http2.closed and not said:
                self.assertEqual(len(waiting), server.in_progress)
