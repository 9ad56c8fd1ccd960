"""Leases and their keys, as committed requests change them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.apply.applying import ENTRY, Applying, op_delete, op_put, op_txn
from twistedetcd.apply import request as kinds
from twistedetcd.apply.request import Request
from twistedetcd.errors import (
    EtcdError,
    KeyNotFoundError,
    LeaseExistError,
    LeaseNotFoundError,
    LeaseTTLTooLargeError,
)
from twistedetcd.mvcc.revision import parse
from twistedetcd.mvcc.work import SLICE_KEYS, finish
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.pb.rpc_pb2 import LeaseRevokeRequest, PutRequest, TxnRequest
from twistedetcd.schema import LEASE

A, B, MISSING = 10, 11, 12


class LeaseCase(SynchronousTestCase):
    """Two leases."""

    def setUp(self) -> None:
        self.member = Applying()
        self.member.grant(A)
        self.member.grant(B)

    def keys(self, lease_id: int) -> list[bytes]:
        return self.member.lessor.keys(lease_id, 10**6)

    def there(self) -> set[bytes]:
        return set(self.member.stack.values())

    def lease_of(self, key: bytes) -> int:
        """As the key's record has it."""
        [record], _ = self.member.store.range(key, None)
        return KeyValue.FromString(record).lease

    def restart(self) -> None:
        """The member starts again, with what its engine has."""
        self.member.stack.restart()
        again = Applying(self.member.stack)
        self.assertEqual(dict(self.member.lessor.lease_of), dict(again.lessor.lease_of))
        self.member = again

    def assertRefused(self, error: type[EtcdError], call: Callable[[], object]) -> None:
        before = self.member.state()
        self.assertRaises(error, call)
        self.assertEqual(before, self.member.state())


class GrantTests(LeaseCase):
    """Granting."""

    def test_response(self) -> None:
        """The answer has the id, the TTL granted and the revision, which a grant does not change."""
        response = self.member.grant(-1, 1)
        self.assertEqual((-1, 2, 1), (response.ID, response.TTL, response.header.revision))

    def test_refused(self) -> None:
        """What cannot be granted changes nothing."""
        self.assertRefused(LeaseExistError, lambda: self.member.grant(A))
        self.assertRefused(LeaseTTLTooLargeError, lambda: self.member.grant(5, 9_000_000_001))
        self.assertRefused(LeaseNotFoundError, lambda: self.member.grant(0))

    def test_checkpoint(self) -> None:
        """A checkpoint is noted; one of a lease that is gone is no matter."""
        self.member.checkpoint(A, 30)
        response = self.member.checkpoint(MISSING, 30)
        self.assertEqual(1, response.header.revision)
        finish(self.member.lessor.promote(0.0, 0.0))
        self.assertEqual((30.0, 60), self.member.lessor.time_to_live(A, 0.0))


class RevokeTests(LeaseCase):
    """Revoking."""

    def test_kf_24_keys_go_in_order(self) -> None:
        """All its keys go in one revision, in byte order, and the lease with them."""
        for key in (b"c", b"a", b"b", b"\0", b"other"):
            self.member.put(key, lease=B if key == b"other" else A)
        before = self.member.store.revision
        response = self.member.revoke(A)
        self.assertEqual(before + 1, response.header.revision)
        self.assertEqual({b"other"}, self.there())
        changes = [
            (parse(record_key)[:2], KeyValue.FromString(record).key)
            for record_key, record in sorted(self.member.stack.stored().items())
            if parse(record_key)[0] == before + 1
        ]
        wanted = [((before + 1, sub), key) for sub, key in enumerate([b"\0", b"a", b"b", b"c"])]
        self.assertEqual(wanted, changes)
        self.assertNotIn(A, self.member.lessor)

    def test_without_keys(self) -> None:
        """A lease without keys uses no revision."""
        response = self.member.revoke(A)
        self.assertEqual(1, response.header.revision)
        self.assertRefused(LeaseNotFoundError, lambda: self.member.revoke(A))
        self.assertRefused(LeaseNotFoundError, lambda: self.member.revoke(0))

    def test_slices(self) -> None:
        """
        A lease with very many keys goes in slices; until the last is gone the others read what was before.

        Lease and keys leave the disk in the same batch.
        """
        count = 5 * SLICE_KEYS
        for number in range(count):
            self.member.put(b"k%05d" % number, lease=A)
        work = self.member.applier.apply(Request(kinds.LEASE_REVOKE, LeaseRevokeRequest(ID=A)), ENTRY)
        assert not isinstance(work, bytes)
        slices = 0
        for _ in work:
            slices += 1
            self.assertEqual(count, self.member.store.range(b"k", b"l", 0, 1)[1])
            self.assertFalse(self.member.stack.pending.whole)
            self.assertIn(A, self.member.lessor)
        self.assertEqual(3, slices)  # the first slice was done, and after the last it ends
        self.assertEqual(set(), self.there())
        self.assertNotIn(A, self.member.lessor)
        [(key, _)] = self.member.stack.pending.range(LEASE, b"", None)
        self.assertEqual(B, int.from_bytes(key, "big"))


class AttachTests(LeaseCase):
    """What a request does to the lease of a key."""

    def test_put(self) -> None:
        """A put gives its key the lease it names, or none."""
        self.member.put(b"k", lease=A)
        self.assertEqual(([b"k"], A), (self.keys(A), self.lease_of(b"k")))
        self.member.put(b"k", lease=B)
        self.assertEqual(([], [b"k"], B), (self.keys(A), self.keys(B), self.lease_of(b"k")))
        self.member.put(b"k")
        self.assertEqual(([], [], 0), (self.keys(A), self.keys(B), self.lease_of(b"k")))

    def test_put_in_a_transaction(self) -> None:
        """A transaction of plain puts takes the leases off their keys."""
        for puts in ([op_put(b"k")], [op_put(b"k"), op_put(b"other")]):
            self.member.put(b"k", lease=A)
            self.member.txn(*puts)
            self.assertEqual(([], 0), (self.keys(A), self.lease_of(b"k")))

    def test_ignore(self) -> None:
        """A put that keeps the lease keeps it; one that keeps the value gives another lease."""
        self.member.put(b"k", b"v", lease=A)
        self.member.put(b"k", b"w", ignore_lease=True)
        self.assertEqual(([b"k"], A), (self.keys(A), self.lease_of(b"k")))
        self.member.put(b"k", ignore_value=True, lease=B)
        self.assertEqual(([b"k"], B), (self.keys(B), self.lease_of(b"k")))
        self.member.put(b"k", ignore_value=True)
        self.assertEqual(([], 0), (self.keys(B), self.lease_of(b"k")))
        self.member.put(b"k", prev_kv=True, lease=B)
        self.member.put(b"k", prev_kv=True)
        self.assertEqual([], self.keys(B))

    def test_kf_23_missing(self) -> None:
        """A put with a lease that does not exist is refused, alone or anywhere in a transaction."""
        self.assertRefused(LeaseNotFoundError, lambda: self.member.put(b"k", lease=MISSING))
        lost = op_put(b"b", lease=MISSING)
        for operations in ([op_put(b"a", lease=A), lost], [op_put(b"a"), op_txn(op_txn(lost))]):
            request = TxnRequest(success=operations)
            self.assertRefused(LeaseNotFoundError, lambda request=request: self.member.apply("txn", request))
        self.assertEqual({}, dict(self.member.lessor.lease_of))

    def test_keeping_nothing(self) -> None:
        """To keep the lease of a key that is not there is refused, and attaches nothing."""
        self.assertRefused(KeyNotFoundError, lambda: self.member.put(b"k", ignore_lease=True))
        self.assertRefused(KeyNotFoundError, lambda: self.member.put(b"k", ignore_value=True, lease=A))
        self.assertEqual([], self.keys(A))

    def test_delete(self) -> None:
        """A deleted key has no lease any more; put again, it has the one it is put with."""
        for key in (b"a", b"b", b"c"):
            self.member.put(key, lease=A)
        self.member.delete(b"a", b"c")
        self.assertEqual([b"c"], self.keys(A))
        self.member.put(b"a")
        self.member.revoke(A)
        self.assertEqual({b"a"}, self.there())

    def test_transaction(self) -> None:
        """In a transaction the last operation on a key counts."""
        self.member.put(b"k", lease=A)
        self.member.txn(op_delete(b"k"), op_txn(op_put(b"k", lease=B)), op_put(b"m", lease=A))
        self.assertEqual(([b"m"], [b"k"]), (self.keys(A), self.keys(B)))
        self.member.txn(op_put(b"k"), op_delete(b"m"))
        self.assertEqual(([], []), (self.keys(A), self.keys(B)))

    def test_kf_43_moved_keys(self) -> None:
        """A key goes with the lease that it was put with last, and with no other; after a restart, too."""
        for restart in (False, True):
            self.member = Applying()
            for lease_id in (A, B):
                self.member.grant(lease_id)
            self.member.put(b"k", lease=A)
            self.member.put(b"k", lease=B)
            self.member.put(b"m", lease=A)
            self.member.put(b"m")
            self.member.put(b"n", lease=A)
            self.member.delete(b"n")
            self.member.put(b"n")
            if restart:
                self.restart()
            self.member.revoke(A)
            self.assertEqual({b"k", b"m", b"n"}, self.there(), restart)
            self.member.revoke(B)
            self.assertEqual({b"m", b"n"}, self.there(), restart)
            for key in (b"k", b"m"):  # a lease that is gone has no say
                self.member.delete(key)
                self.member.put(key)
            self.assertEqual({b"k", b"m", b"n"}, self.there(), restart)

    def test_restart_after_a_key_lost_its_lease(self) -> None:
        """Of a key's records only the newest has a say at the start."""
        self.member.put(b"k", lease=A)
        self.member.put(b"gone", lease=A)
        self.member.delete(b"gone")
        self.member.put(b"k", lease=B)
        self.restart()
        self.assertEqual(([], [b"k"]), (self.keys(A), self.keys(B)))

    def test_without_leases(self) -> None:
        """Keys that have no lease are none of the lessor's business."""
        self.member.lessor.detach = self.fail  # type: ignore[method-assign, assignment]
        self.member.lessor.attach = self.fail  # type: ignore[method-assign, assignment]
        self.member.put(b"k")
        self.member.put(b"k", b"v", prev_kv=True)
        self.member.txn(op_put(b"m"), op_delete(b"k"))
        self.member.delete(b"m")
        self.member.apply(kinds.PUT, PutRequest(key=b"k", value=b"w"))
