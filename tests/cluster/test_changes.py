"""Changes of membership, validated and carried out when they are applied (reference, storage section 19)."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.legacytree import decode_membership, encode_membership
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import (
    BackendError,
    EtcdError,
    MemberExistError,
    MemberNotFoundError,
    MemberNotLearnerError,
    PeerURLExistError,
    TooManyLearnersError,
)
from twistedetcd.mvcc.pending import Pending
from twistedetcd.raft.types import ConfChange, ConfChangeType
from twistedetcd.schema import MEMBERS, MEMBERS_REMOVED

ONE = Member(1, ("http://a:2380",), name="one", client_urls=("http://a:2379",))
TWO = Member(2, ("http://b:2380", "http://c:2380"))
LEARNER = Member(0x3F, ("http://d:2380",), is_learner=True)


def adding(member: Member) -> ConfChange:
    """The change that adds it."""
    kind = ConfChangeType.ADD_LEARNER_NODE if member.is_learner else ConfChangeType.ADD_NODE
    return ConfChange(7, kind, member.id, member.to_context())


def promoting(number: int) -> ConfChange:
    """The change that makes a learner a voter, as etcd writes it."""
    context = json.dumps({"id": number, "peerURLs": None, "isPromote": True}).encode()
    return ConfChange(8, ConfChangeType.ADD_NODE, number, context)


def updating(number: int, *peer_urls: str) -> ConfChange:
    """The change that gives a member other peer URLs."""
    return ConfChange(9, ConfChangeType.UPDATE_NODE, number, Member(number, peer_urls).to_json())


def removing(number: int) -> ConfChange:
    """The change that removes a member."""
    return ConfChange(10, ConfChangeType.REMOVE_NODE, number)


class ChangesCase(SynchronousTestCase):
    """A cluster of one member."""

    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.pending = Pending(self.backend)
        self.cluster = Cluster(self.pending)
        self.apply(adding(ONE))

    def apply(self, *changes: ConfChange) -> None:
        """Carry out changes that are not refused; backend and snapshots have the same then (KF-54)."""
        for change in changes:
            self.assertIsNone(self.cluster.refusal(change))
            self.assertIsNone(self.cluster.apply(change))
        restarted = self.restarted()
        self.assertEqual(self.cluster.members, restarted.members)
        self.assertEqual(self.cluster.removed, restarted.removed)
        dump = encode_membership(self.cluster.members, self.cluster.removed, self.cluster.version)
        self.assertEqual((self.cluster.members, self.cluster.removed), decode_membership(dump)[:2])

    def restarted(self) -> Cluster:
        """What a start finds."""
        cluster = Cluster(self.pending)
        cluster.restore()
        return cluster

    def assert_refused(self, error: type[EtcdError], *changes: ConfChange) -> None:
        """Each is refused, and changes nothing."""
        before = self.cluster.members, self.cluster.removed, self.pending.operations
        for change in changes:
            self.assertIsInstance(self.cluster.refusal(change), error)
            self.assertIsInstance(self.cluster.apply(change), error)
        after = self.cluster.members, self.cluster.removed, self.pending.operations
        self.assertEqual(before, after)


class AddTests(ChangesCase):
    """Adding a voter, adding a learner."""

    def test_add(self) -> None:
        """A new member is as its change describes it; the change's type says whether it votes."""
        self.apply(adding(TWO), adding(LEARNER))
        self.assertEqual([ONE, TWO, LEARNER], self.cluster.members)
        self.assertEqual(([ONE, TWO], [LEARNER]), (self.cluster.voters, self.cluster.learners))
        self.apply(removing(LEARNER.id))
        change = adding(LEARNER._replace(id=4))._replace(context=Member(4, ("http://e:2380",)).to_context())
        self.apply(change)
        self.assertEqual([Member(4, ("http://e:2380",), is_learner=True)], self.cluster.learners)

    def test_started(self) -> None:
        """A member is known to have started once it has a name."""
        self.assertEqual([True, False], [ONE.is_started, TWO.is_started])

    def test_look_up(self) -> None:
        """Members are found by id, name and peer URL."""
        self.apply(adding(TWO))
        self.assertEqual((ONE, None), (self.cluster.member(1), self.cluster.member(3)))
        self.assertEqual((ONE, None), (self.cluster.named("one"), self.cluster.named("two")))
        self.assertEqual(TWO, self.cluster.at_peer_url("http://c:2380"))
        self.assertIsNone(self.cluster.at_peer_url("http://e:2380"))

    def test_there_already(self) -> None:
        """An id or a peer URL that is in use is refused: the id first."""
        self.assert_refused(MemberExistError, adding(ONE), adding(Member(1, ("http://e:2380",))))
        self.assert_refused(PeerURLExistError, adding(Member(2, ("http://e:2380", "http://a:2380"))))

    def test_too_many_learners(self) -> None:
        """One learner, unless more are allowed; a peer URL in use is told first."""
        self.apply(adding(LEARNER))
        self.assert_refused(TooManyLearnersError, adding(Member(4, ("http://e:2380",), is_learner=True)))
        self.assert_refused(PeerURLExistError, adding(LEARNER._replace(id=4)))
        self.apply(adding(TWO))
        roomy = Cluster(self.pending, learners_max=2)
        roomy.restore()
        self.assertIsNone(roomy.apply(adding(Member(4, ("http://e:2380",), is_learner=True))))
        self.assertEqual(2, len(roomy.learners))

    def test_nobody(self) -> None:
        """A change that names nobody changes nothing, and is not refused."""
        operations = self.pending.operations
        self.apply(ConfChange())
        self.assertEqual(operations, self.pending.operations)

    def test_damaged(self) -> None:
        """A context that is no member, or another one, is damage: no member may guess."""
        for context in (b"", b"{", b"[]", b"null", ONE.to_json()):
            for kind in (
                ConfChangeType.ADD_NODE,
                ConfChangeType.ADD_LEARNER_NODE,
                ConfChangeType.UPDATE_NODE,
            ):
                change = ConfChange(7, kind, 2, context)
                self.assertRaises(ValueError, self.cluster.apply, change)


class PromoteTests(ChangesCase):
    """Making a voter of a learner."""

    def test_promote(self) -> None:
        """It votes, for good; all else of it stays; then there is room for another learner (KF-54)."""
        self.apply(adding(LEARNER))
        self.cluster.set_attributes(LEARNER.id, "three", ("http://d:2379",))
        self.apply(promoting(LEARNER.id))
        expected = Member(LEARNER.id, LEARNER.peer_urls, False, "three", ("http://d:2379",))
        self.assertEqual([ONE, expected], self.cluster.voters)
        self.apply(adding(Member(4, ("http://e:2380",), is_learner=True)), promoting(4), removing(4))
        self.assertEqual([], self.cluster.learners)

    def test_no_learner(self) -> None:
        """A voter cannot be promoted, nor can nobody."""
        self.assert_refused(MemberNotLearnerError, promoting(1))
        self.assert_refused(MemberNotFoundError, promoting(2))


class UpdateTests(ChangesCase):
    """Giving a member other peer URLs."""

    def test_update(self) -> None:
        """Only the peer URLs change; some of the old ones may stay."""
        self.apply(adding(TWO), updating(1, "http://e:2380", "http://a:2380"))
        self.assertEqual(ONE._replace(peer_urls=("http://e:2380", "http://a:2380")), self.cluster.member(1))

    def test_learner_stays_one(self) -> None:
        """A learner with other URLs still does not vote, counts as a learner, and can be promoted (KF-55)."""
        self.apply(adding(LEARNER), updating(LEARNER.id, "http://e:2380"))
        self.assertEqual([LEARNER._replace(peer_urls=("http://e:2380",))], self.cluster.learners)
        self.assert_refused(TooManyLearnersError, adding(Member(4, ("http://f:2380",), is_learner=True)))
        self.apply(promoting(LEARNER.id))
        self.assertEqual([], self.cluster.learners)

    def test_refused(self) -> None:
        """Nobody, or a URL that another member has."""
        self.apply(adding(TWO))
        self.assert_refused(MemberNotFoundError, updating(3, "http://e:2380"))
        self.assert_refused(PeerURLExistError, updating(2, "http://e:2380", "http://a:2380"))


class RemoveTests(ChangesCase):
    """Removing a member, which is for ever."""

    def test_remove(self) -> None:
        """It is gone; that it was there is kept, in etcd's form; its URLs are free again."""
        self.apply(adding(LEARNER), removing(LEARNER.id))
        self.assertEqual(([ONE], [0x3F]), (self.cluster.members, self.cluster.removed))
        self.assertEqual((True, False), (self.cluster.is_removed(0x3F), self.cluster.is_removed(1)))
        self.assertIsNone(self.pending.get(MEMBERS, b"3f"))
        self.assertEqual(b"removed", self.pending.get(MEMBERS_REMOVED, b"3f"))
        self.apply(adding(LEARNER._replace(id=4)))

    def test_id_never_comes_back(self) -> None:
        """No change that names a removed id has any effect, after a restart neither (KF-56)."""
        self.apply(adding(LEARNER), removing(LEARNER.id))
        changes = adding(LEARNER), promoting(0x3F), updating(0x3F, "http://e:2380"), removing(0x3F)
        self.assert_refused(MemberNotFoundError, *changes)
        self.cluster = self.restarted()
        self.assert_refused(MemberNotFoundError, *changes)

    def test_nobody(self) -> None:
        """Who was never there is not found, and not noted as removed."""
        self.assert_refused(MemberNotFoundError, removing(3))
        self.assertFalse(self.cluster.is_removed(3))

    def test_damaged(self) -> None:
        """A removed id that does not read back keeps the start from going on."""
        self.pending.put(MEMBERS_REMOVED, b"xyz", b"removed")
        self.assertRaises(BackendError, self.restarted)


class ReplayTests(ChangesCase):
    """Entries come again when the log reaches further back than the backend (KF-57)."""

    def test_replay_onto_the_end(self) -> None:
        """Whatever is replayed onto a state that has it all changes nothing and does not fail."""
        history = adding(LEARNER), promoting(0x3F), updating(0x3F, "http://e:2380"), removing(0x3F)
        self.apply(*history)
        before, operations = self.cluster.members, self.pending.operations
        for change in history:
            self.cluster.apply(change)
        self.cluster.set_attributes(0x3F, "three", ("http://d:2379",))
        self.assertEqual((before, operations), (self.cluster.members, self.pending.operations))

    def test_restore_forgets(self) -> None:
        """Restoring again, as from a received snapshot, leaves nothing of what was known before."""
        self.apply(adding(LEARNER), adding(TWO), removing(2))
        for bucket, key in ((MEMBERS, b"3f"), (MEMBERS_REMOVED, b"2")):
            self.pending.delete(bucket, key)
        self.cluster.restore()
        self.assertEqual(([ONE], []), (self.cluster.members, self.cluster.removed))
