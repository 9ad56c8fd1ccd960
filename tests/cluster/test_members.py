"""Who belongs to the cluster (reference, storage section 19)."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member, cluster_id, member_id
from twistedetcd.errors import BackendError
from twistedetcd.mvcc.pending import Pending
from twistedetcd.schema import CLUSTER, CLUSTER_VERSION, MEMBERS

ONE = Member(0x8E9E05C52164694D, ("http://localhost:2380",))
FULL = Member(5, ("http://a:2380", "http://b:2380"), True, "five", ("http://a:2379",))


class IdTests(SynchronousTestCase):
    """Ids name members for ever, so they are upstream's."""

    def test_one_member(self) -> None:
        """The default cluster of one."""
        number = member_id(["http://localhost:2380"], "etcd-cluster")
        self.assertEqual(0x8E9E05C52164694D, number)
        self.assertEqual(0xCDF818194E3A8C32, cluster_id([number]))

    def test_three_members(self) -> None:
        """The cluster of upstream's Procfile; the order in which members are named means nothing."""
        urls = [f"http://127.0.0.1:{port}" for port in (12380, 22380, 32380)]
        numbers = [member_id([url], "etcd-cluster-1") for url in urls]
        self.assertEqual([0x8211F1D0F64F3269, 0x91BC3C398FB3C146, 0xFD422379FDA50E48], numbers)
        self.assertEqual(0xEF37AD9DC622A7C4, cluster_id(numbers))
        self.assertEqual(0xEF37AD9DC622A7C4, cluster_id(numbers[::-1]))

    def test_urls_are_sorted(self) -> None:
        """A member's id does not depend on the order of its URLs."""
        self.assertEqual(member_id(["http://a", "http://b"], "t"), member_id(["http://b", "http://a"], "t"))

    def test_time(self) -> None:
        """A member added later has the time in its id, as decimal seconds behind the token."""
        added = member_id(["http://a"], "", 1_700_000_000)
        self.assertNotEqual(member_id(["http://a"], ""), added)
        self.assertEqual(member_id(["http://a"], "1700000000"), added)


class MemberTests(SynchronousTestCase):
    """A member as JSON."""

    def test_fields(self) -> None:
        """Upstream's names; what is empty is left out."""
        self.assertEqual(b'{"id":10276657743932975437,"peerURLs":["http://localhost:2380"]}', ONE.to_json())
        expected = {
            "id": 5,
            "peerURLs": ["http://a:2380", "http://b:2380"],
            "isLearner": True,
            "name": "five",
        }
        self.assertEqual({**expected, "clientURLs": ["http://a:2379"]}, json.loads(FULL.to_json()))

    def test_round_trip(self) -> None:
        """What was written is read again, to the type."""
        for member in (ONE, FULL, Member(2**64 - 1, (), name='ü"\\')):
            self.assertEqual(member, Member.from_json(member.to_json()))

    def test_written_by_others(self) -> None:
        """Fields that we do not know are passed over, and null is as good as empty."""
        data = b'{"id":5,"peerURLs":["http://a"],"isPromote":false,"clientURLs":null,"new":{"x":1}}'
        self.assertEqual(Member(5, ("http://a",)), Member.from_json(data))
        self.assertEqual(Member(5, ()), Member.from_json(b'{"id":5,"peerURLs":null,"isPromote":true}'))

    def test_no_member(self) -> None:
        """Anything else is refused."""
        for data in (
            b"",
            b"{",
            b"\xff",
            b"[]",
            b"null",
            b'"id"',
            b"{}",
            b'{"id":5}',
            b'{"id":"5","peerURLs":[]}',
            b'{"id":-1,"peerURLs":[]}',
            b'{"id":18446744073709551616,"peerURLs":[]}',
            b'{"id":5,"peerURLs":"http://a"}',
            b'{"id":5,"peerURLs":[],"clientURLs":"http://a"}',
        ):
            self.assertRaises(ValueError, Member.from_json, data)


class ClusterTests(SynchronousTestCase):
    """The members and the version, kept in the backend."""

    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.pending = Pending(self.backend)
        self.cluster = Cluster(self.pending)

    def restored(self) -> Cluster:
        """What a start finds."""
        batch = self.pending.seal()
        if batch is not None:
            self.backend.write(batch)
            self.pending.committed()
        cluster = Cluster(Pending(self.backend))
        cluster.restore()
        return cluster

    def test_fresh(self) -> None:
        """Nobody, and no version."""
        cluster = self.restored()
        self.assertEqual(([], "", None), (cluster.members, cluster.version, cluster.member(5)))

    def test_restore(self) -> None:
        """Members, what they said of themselves, and the version are there again, by ascending id."""
        self.cluster.add(ONE)
        self.cluster.add(FULL)
        self.cluster.set_version("3.6.0")
        self.cluster.set_attributes(ONE.id, "one", ("http://c", "http://d"))
        cluster = self.restored()
        expected = [FULL, ONE._replace(name="one", client_urls=("http://c", "http://d"))]
        self.assertEqual(expected, self.cluster.members)
        self.assertEqual(expected, cluster.members)
        self.assertEqual("3.6.0", cluster.version)
        self.assertEqual(expected[1], cluster.member(ONE.id))

    def test_on_disk(self) -> None:
        """Ids are lower-case hex without padding, the version is text."""
        self.cluster.add(FULL)
        self.cluster.add(ONE)
        self.cluster.set_version("3.6.0")
        names = [name for name, _ in self.pending.range(MEMBERS, b"", None)]
        self.assertEqual([b"5", b"8e9e05c52164694d"], names)
        self.assertEqual(b"3.6.0", self.pending.get(CLUSTER, CLUSTER_VERSION))

    def test_attributes_of_nobody(self) -> None:
        """A member that was removed meanwhile is not brought back by what it says."""
        self.cluster.set_attributes(7, "seven", ())
        self.assertEqual([], self.cluster.members)
        self.assertEqual(0, self.pending.operations)

    def test_damaged(self) -> None:
        """A member that does not read back keeps the start from going on, with one sentence."""
        self.pending.put(MEMBERS, b"5", b"{}")
        error = self.assertRaises(BackendError, self.restored)
        self.assertNotIn("\n", str(error))
