"""The generator that keeps leases alive, and what is asked about leases: the parts that need no server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    ResponseHeader,
)
from twistedetcd.protocols.framing import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from twistedetcd.testing.bench import messages
from twistedetcd.testing.bench.client import ServerFaultError
from twistedetcd.testing.bench.renewals import Renewals
from twistedetcd.testing.bench.rows import GRANT, KEEP_ALIVE, ROWS


def answer(stream_id: int, ttl: int) -> bytes:
    """A response as one frame."""
    header = ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)
    message = LeaseKeepAliveResponse(header=header, ID=7, TTL=ttl).SerializeToString()
    return frame(DATA, 0, stream_id, b"\0" + len(message).to_bytes(4, "big") + message)


class RenewalsTests(SynchronousTestCase):
    """One renewal is on its way on each stream, until all were made."""

    def setUp(self) -> None:
        self.renewals = Renewals(range(7, 9), 5, b"block")
        self.renewals.out.clear()

    def test_begins(self) -> None:
        """Each stream begins with its head and the renewal of its own lease."""
        out = Renewals(range(7, 9), 5, b"block").out
        heads, bodies = out[::2], out[1::2]
        self.assertEqual([frame(HEADERS, END_HEADERS, stream_id, b"block") for stream_id in (1, 3)], heads)
        self.assertEqual([7, 8], [LeaseKeepAliveRequest.FromString(body[14:]).ID for body in bodies])

    def test_as_many_as_wanted(self) -> None:
        """An answer brings the next renewal on its stream; after the last one there is none."""
        made = []
        for _ in range(5):
            self.renewals.receive(answer(1, 60))
            made.append(len(self.renewals.out))
        self.assertEqual([1, 2, 3, 3, 3], made)
        self.assertEqual((5, 5), (self.renewals.answered, self.renewals.succeeded))
        self.assertEqual(5 * (len(answer(1, 60)) - 9), self.renewals.data_bytes)

    def test_gone(self) -> None:
        """What says that a lease is gone is no success, first or later."""
        for data in (answer(1, 60), answer(1, 0), answer(1, 60), answer(3, 0), answer(3, 0)):
            self.renewals.receive(data)
        self.assertEqual((5, 2), (self.renewals.answered, self.renewals.succeeded))

    def test_byte_by_byte(self) -> None:
        """However it is cut, it is the same."""
        for byte in answer(1, 60) + answer(3, 60):
            self.renewals.receive(bytes((byte,)))
        self.assertEqual((2, 2), (self.renewals.answered, len(self.renewals.out)))

    def test_control(self) -> None:
        """What a server asks is answered; what it only says is not."""
        self.renewals.receive(
            frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + frame(PING, 0, 0, b"12345678")
        )
        self.renewals.receive(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") + frame(HEADERS, END_HEADERS, 1, b"x"))
        self.assertEqual([frame(SETTINGS, ACK, 0), frame(PING, ACK, 0, b"12345678")], self.renewals.out)

    def test_faults(self) -> None:
        """A server that gives up a stream, or all of them, is no server to measure."""
        for data in (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"x"),
            frame(RST_STREAM, 0, 1, b"\0\0\0\1"),
            frame(GOAWAY, 0, 0, bytes(8)),
        ):
            self.assertRaises(ServerFaultError, self.renewals.receive, data)


class MessagesTests(SynchronousTestCase):
    """What is asked about leases."""

    def test_own_leases(self) -> None:
        """Connections, rounds and rows have leases of their own, and all requests are of one size."""
        rows = [row for row in ROWS if row.path == KEEP_ALIVE]
        ids = [
            lease_id
            for row in rows
            for number in range(50)
            for connection in range(row.connections)
            for lease_id in messages.own_leases(row.key(number, connection), row.streams)
        ]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(1, len({len(messages.grant(b"", lease_id)) for lease_id in ids}))

    def test_keep_alive(self) -> None:
        """The request renews the first of the connection's leases."""
        key = messages.key(2345)
        request = LeaseKeepAliveRequest.FromString(messages.keep_alive(key))
        self.assertEqual(messages.own_leases(key, 50)[0], request.ID)

    def test_grant(self) -> None:
        """The server chooses the id, and the lease outlasts the measurement."""
        request = LeaseGrantRequest.FromString(messages.grant(b"any"))
        self.assertEqual((0, messages.LEASE_SECONDS), (request.ID, request.TTL))

    def test_grant_problem(self) -> None:
        """An answer must have an id and the TTL that was asked for."""
        [row] = [row for row in ROWS if row.path == GRANT]
        answers = [
            LeaseGrantResponse(ID=1, TTL=messages.LEASE_SECONDS),
            LeaseGrantResponse(ID=1, TTL=1),
            LeaseGrantResponse(TTL=messages.LEASE_SECONDS),
        ]
        problems = [row.problem(each.SerializeToString(), b"any") for each in answers]
        self.assertEqual([False, True, True], [problem is not None for problem in problems])
        self.assertIsNotNone(messages.grant_problem(b"\xff"))
