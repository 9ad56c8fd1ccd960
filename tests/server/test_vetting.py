"""What another member may want in the log."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Encoder
from twistedetcd.cluster.members import Member
from twistedetcd.cluster.roster import Roster
from twistedetcd.pb.raft_internal_pb2 import InternalRaftRequest
from twistedetcd.pb.rpc_pb2 import AuthEnableRequest, PutRequest
from twistedetcd.raft.changebytes import encode_change
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)
from twistedetcd.server.vetting import can_be_carried_out

MEMBER = Member(5, ("http://five:2380",))


def change(one: ConfChange | ConfChangeV2) -> Entry:
    kind, data = encode_change(one)
    return Entry(0, 0, data, kind)


class VettingTests(SynchronousTestCase):
    """Once committed, an entry that cannot be carried out stops every member, now and at each restart."""

    def test_requests(self) -> None:
        """A request that this version carries out may be there; nothing else may."""
        put = Encoder(1).encode(kinds.PUT, PutRequest(key=b"k").SerializeToString())
        self.assertTrue(can_be_carried_out(Entry(0, 0, put), Roster()))
        unknown = InternalRaftRequest(auth_enable=AuthEnableRequest()).SerializeToString()
        for data in (b"", b"\xff\xff\xff\xff", b"\x08\x01", put[:-1], unknown):
            self.assertFalse(can_be_carried_out(Entry(0, 0, data), Roster()), data)

    def test_changes(self) -> None:
        """A change of membership that the members could read, whether or not they will refuse it."""
        add = ConfChange(1, ConfChangeType.ADD_NODE, 5, MEMBER.to_context())
        self.assertTrue(can_be_carried_out(change(add), Roster()))
        self.assertTrue(can_be_carried_out(change(ConfChange(1, ConfChangeType.REMOVE_NODE, 9)), Roster()))
        for bad in (
            add._replace(context=b"not JSON"),
            add._replace(context=b"[" * 100_000),
            add._replace(node_id=6),
            add._replace(type=17),
            ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.REMOVE_NODE, 5),)),
        ):
            self.assertFalse(can_be_carried_out(change(bad), Roster()), bad)
        self.assertFalse(can_be_carried_out(Entry(0, 0, b"\xff", EntryType.CONF_CHANGE), Roster()))
