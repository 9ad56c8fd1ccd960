"""A real etcd starts from a raft snapshot whose members we wrote."""

from __future__ import annotations

from typing import Any

from google_crc32c import value as crc32c
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import Server, reference_server
from twistedetcd.cluster.legacytree import decode_membership, encode_membership
from twistedetcd.pb import rpc_pb2
from twistedetcd.wire import (
    SnapshotEnvelope,
    decode_snapshot,
    decode_snapshot_envelope,
    encode_snapshot,
    encode_snapshot_envelope,
)


class LegacyTreeTests(SynchronousTestCase):
    """The dump of the members."""

    def test_etcd_starts_from_ours(self) -> None:
        """With our dump in place of its own, etcd has the same members, serves, and goes on from there."""
        server = reference_server(self.mktemp())
        self.addCleanup(server.clean_up)
        server.start("--snapshot-count=2")
        members = self.members(server)
        for number in range(8):
            server.call("/etcdserverpb.KV/Put", rpc_pb2.PutRequest(key=b"k", value=b"%d" % number))
        server.stop()
        path = max(server.data.glob("member/snap/*.snap"))
        snapshot = decode_snapshot(decode_snapshot_envelope(path.read_bytes()).data)
        membership = decode_membership(snapshot.data)
        self.assertEqual([one.ID for one in members], [one.id for one in membership.members])
        data = encode_snapshot(snapshot._replace(data=encode_membership(*membership)))
        path.write_bytes(encode_snapshot_envelope(SnapshotEnvelope(crc32c(data), data)))
        server.start("--snapshot-count=2")
        self.assertEqual(members, self.members(server))
        answer = server.call("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest(key=b"k"))
        self.assertEqual(b"7", answer.kvs[0].value)

    def members(self, server: Server) -> list[Any]:
        """As the server lists them."""
        return list(server.call("/etcdserverpb.Cluster/MemberList", rpc_pb2.MemberListRequest()).members)
