"""The end of the chain: single requests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.apply.applying import CLUSTER_ID, ENTRY, MEMBER_ID, TERM, Applying
from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Request
from twistedetcd.cluster.members import Member
from twistedetcd.errors import CompactedError, FutureRevisionError, KeyNotFoundError, LeaseNotFoundError
from twistedetcd.interfaces import IApplier
from twistedetcd.pb.membership_pb2 import ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from twistedetcd.pb.rpc_pb2 import AlarmRequest, AlarmResponse, AuthEnableRequest, PutRequest, ResponseHeader
from twistedetcd.raft.types import Entry


class KindTests(SynchronousTestCase):
    """What can be applied."""

    def test_known(self) -> None:
        """Members look there before an entry of another one gets into the log."""
        self.assertEqual(kinds.CARRIED_OUT, set(Applying().applier._handlers))


class StoreCase(SynchronousTestCase):
    """A member without content."""

    def setUp(self) -> None:
        self.member = Applying()

    def assertRefused(self, error: type[Exception], key: bytes, **fields: object) -> None:
        before = self.member.state()
        self.assertRaises(error, self.member.put, key, **fields)
        self.assertEqual(before, self.member.state())
        self.assertEqual(before[0] + 1, self.member.put(b"next").header.revision)


class PutTests(StoreCase):
    """Put (reference, API 3)."""

    def test_header(self) -> None:
        """Cluster, member, the revision of the write, the entry's term."""
        expected = ResponseHeader(cluster_id=CLUSTER_ID, member_id=MEMBER_ID, revision=2, raft_term=TERM)
        self.assertEqual(expected, self.member.put(b"k", b"v").header)
        response = self.member.put(b"k", b"v", prev_kv=True)
        self.assertEqual((3, TERM), (response.header.revision, response.header.raft_term))

    def test_term_of_the_entry(self) -> None:
        """The term is that of each entry, when it changes as well."""
        for term in (3, 3, 4, 1 << 40, 4):
            response = self.member.apply(kinds.PUT, PutRequest(key=b"k"), Entry(term, 1))
            self.assertEqual(term, response.header.raft_term)

    def test_previous(self) -> None:
        """prev_kv is the pair before, absent if there was none."""
        self.assertFalse(self.member.put(b"k", b"1", prev_kv=True).HasField("prev_kv"))
        previous = self.member.put(b"k", b"2", prev_kv=True).prev_kv
        self.assertEqual((b"k", b"1", 2, 2, 1), _fields(previous))
        self.assertFalse(self.member.put(b"k", b"3").HasField("prev_kv"))
        self.assertEqual((b"k", b"3", 2, 4, 3), _fields(self.member.put(b"k", prev_kv=True).prev_kv))

    def test_ignore_value(self) -> None:
        """The value stays; version and revision go on."""
        self.member.put(b"k", b"1")
        self.assertFalse(self.member.put(b"k", ignore_value=True).HasField("prev_kv"))
        [item] = self.member.stack.items()
        self.assertEqual((b"k", b"1", 2, 3, 2), _fields(item))

    def test_ignore_needs_the_key(self) -> None:
        """Without a key there is nothing to keep."""
        self.assertRefused(KeyNotFoundError, b"k", ignore_value=True)
        self.assertRefused(KeyNotFoundError, b"k", ignore_lease=True, prev_kv=True)

    def test_lease(self) -> None:
        """A lease that does not exist is refused, before the ignore flags are looked at."""
        self.assertRefused(LeaseNotFoundError, b"k", lease=5)
        self.assertRefused(LeaseNotFoundError, b"k", lease=5, ignore_value=True)

    def test_every_put_counts(self) -> None:
        """Nothing new in it, and still a revision of its own."""
        self.assertEqual([2, 3, 4], [self.member.put(b"k", b"same").header.revision for _ in range(3)])


class DeleteRangeTests(StoreCase):
    """DeleteRange (reference, API 4)."""

    def setUp(self) -> None:
        super().setUp()
        for key in (b"a", b"b", b"c", b"\xff"):
            self.member.put(key, b"v" + key)

    def test_one(self) -> None:
        """One key, once."""
        response = self.member.delete(b"b")
        self.assertEqual((1, 6, 0), (response.deleted, response.header.revision, len(response.prev_kvs)))
        response = self.member.delete(b"b", prev_kv=True)
        self.assertEqual((0, 6, 0), (response.deleted, response.header.revision, len(response.prev_kvs)))
        self.assertEqual(6, self.member.store.revision)

    def test_range(self) -> None:
        """All at one revision; what was there comes back in key order."""
        response = self.member.delete(b"a", b"c", prev_kv=True)
        self.assertEqual((2, 6), (response.deleted, response.header.revision))
        self.assertEqual([b"va", b"vb"], [item.value for item in response.prev_kvs])
        self.assertEqual([b"c", b"\xff"], list(self.member.stack.values()))

    def test_open_end(self) -> None:
        """A zero byte for an end reaches the last key; with a zero byte for a key, everything."""
        self.assertEqual(2, self.member.delete(b"c", b"\0").deleted)
        self.assertEqual(2, self.member.delete(b"\0", b"\0").deleted)
        self.assertEqual({}, self.member.stack.values())

    def test_inverted(self) -> None:
        """An end at or below the key covers nothing, without an error."""
        for end in (b"a", b"b"):
            self.assertEqual(0, self.member.delete(b"b", end).deleted)
        self.assertEqual(5, self.member.store.revision)

    def test_tombstone(self) -> None:
        """What is stored of a deletion is the key and nothing else."""
        self.member.delete(b"a")
        key, record = list(self.member.stack.stored().items())[-1]
        self.assertEqual((b"t", b"\x0a\x01a"), (key[17:], record))


class CompactTests(StoreCase):
    """Compact (reference, API 6)."""

    def test_accepted(self) -> None:
        """Reads fail at once; the work is handed over, not done; the header has the current revision."""
        for value in (b"1", b"2", b"3"):
            self.member.put(b"k", value)
        self.assertEqual(4, self.member.compact(3).header.revision)
        [(revision, work)] = self.member.compactions
        self.assertEqual((3, 3), (revision, len(self.member.stack.stored())))
        self.assertRaises(CompactedError, self.member.store.range, b"k", None, 2)
        list(work)
        self.assertEqual(2, len(self.member.stack.stored()))

    def test_refused(self) -> None:
        """Nothing is handed over."""
        self.assertRaises(FutureRevisionError, self.member.compact, 2)
        self.assertRaises(CompactedError, self.member.compact, -1)
        self.assertEqual([], self.member.compactions)


class OtherTests(StoreCase):
    """What concerns the cluster, and what nobody knows."""

    def test_contract(self) -> None:
        """It is a link like those before it."""
        verifyObject(IApplier, self.member.applier)

    def test_no_alarms(self) -> None:
        """There are none to list."""
        response = self.member.applier.apply(Request(kinds.ALARM, AlarmRequest()), ENTRY)
        parsed = AlarmResponse.FromString(response)
        self.assertEqual((1, 0), (parsed.header.revision, len(parsed.alarms)))

    def test_version_and_attributes(self) -> None:
        """The cluster's version, and what a member says of itself; no revision is used."""
        self.member.cluster.add(Member(5, ("http://a:2380",)))
        attributes = ClusterMemberAttrSetRequest(member_ID=5)
        attributes.member_attributes.name = "five"
        attributes.member_attributes.client_urls.append("http://a:2379")
        apply = self.member.applier.apply
        apply(Request(kinds.CLUSTER_VERSION_SET, ClusterVersionSetRequest(ver="3.6.0")), ENTRY)
        apply(Request(kinds.CLUSTER_MEMBER_ATTR_SET, attributes), ENTRY)
        self.assertEqual("3.6.0", self.member.cluster.version)
        expected = Member(5, ("http://a:2380",), False, "five", ("http://a:2379",))
        self.assertEqual([expected], self.member.cluster.members)
        self.assertEqual(1, self.member.store.revision)

    def test_unknown_kind(self) -> None:
        """A kind that this version cannot carry out must stop the member, and says which it is."""
        request = Request("auth_enable", AuthEnableRequest())
        error = self.assertRaises(ValueError, self.member.applier.apply, request, ENTRY)
        self.assertIn("auth_enable", str(error))


def _fields(item: object) -> tuple[object, ...]:
    names = ("key", "value", "create_revision", "mod_revision", "version")
    return tuple(getattr(item, name) for name in names)
