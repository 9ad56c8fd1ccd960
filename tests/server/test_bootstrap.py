"""How a member comes to be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import MemberError, MemberRemovedError
from twistedetcd.mvcc.pending import Pending
from twistedetcd.raft.changebytes import decode_change, encode_change
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Role,
    Snapshot,
)
from twistedetcd.server.bootstrap import (
    AppliedMark,
    check_identity,
    check_place,
    is_member,
    new_raft,
    restarted_raft,
)

ONE, TWO, THREE = (Member(n, (f"http://m{n}:2380",), name=f"m{n}") for n in (1, 2, 3))
ADD, LEARN, REMOVE = (
    ConfChangeType.ADD_NODE,
    ConfChangeType.ADD_LEARNER_NODE,
    ConfChangeType.REMOVE_NODE,
)


def entry(index: int, kind: ConfChangeType, number: int) -> Entry:
    """A committed change."""
    entry_type, data = encode_change(ConfChange(0, kind, number))
    return Entry(1, index, data, entry_type)


class NewTests(SynchronousTestCase):
    """The founders of a cluster."""

    def test_same_log(self) -> None:
        """Whoever of them it is, and in whatever order they come: one change each, by ascending id."""
        logs = []
        for founders in ((ONE, TWO, THREE), (TWO, THREE, ONE), (THREE, TWO, ONE)):
            raft, _ = new_raft(founders[0], 10, True, lambda n: 0, founders)
            ready = raft.ready()
            self.assertEqual(HardState(1, 0, 3), ready.hard_state)
            self.assertEqual((1, 2, 3), raft.status().configuration.voters)
            logs.append(list(ready.entries))
        self.assertEqual([logs[0]] * 3, logs)
        self.assertEqual([(1, 1), (1, 2), (1, 3)], [(one.term, one.index) for one in logs[0]])
        for member, one in zip((ONE, TWO, THREE), logs[0], strict=True):
            self.assertEqual(ConfChange(0, ADD, member.id, member.to_json()), decode_change(one))

    def test_alone(self) -> None:
        """Without others it is the only one."""
        raft, _ = new_raft(ONE, 10, True, lambda n: 0)
        self.assertEqual((1,), raft.status().configuration.voters)

    def test_joining(self) -> None:
        """A member without a log calls no election and grants no leadership; it takes what a leader sends."""
        raft, _ = restarted_raft(
            5, Snapshot(), HardState(), [], AppliedMark(Pending(MemoryBackend())), 10, True, lambda n: 0
        )
        for _ in range(100):
            raft.tick()
        self.assertEqual((Role.FOLLOWER, False), (raft.role, raft.has_ready()))
        change = entry(1, ADD, 1)
        raft.step(Message(MessageType.APP, to=5, sender=1, term=3, entries=[change], commit=1))
        ready = raft.ready()
        self.assertEqual(([change], [change]), (list(ready.entries), list(ready.committed)))


class IdentityTests(SynchronousTestCase):
    """Whose backend it is."""

    log = (entry(8, LEARN, 5), entry(9, ADD, 5), entry(10, REMOVE, 5), Entry(1, 11, b"x"))

    def test_is_member(self) -> None:
        """From the change that adds it to the one that removes it, as far as one looks."""
        begin = Snapshot(7, 1, ConfState(voters=(1,), learners=(2,)))
        found = [is_member(5, begin, self.log, index) for index in (7, 8, 9, 10, 11)]
        self.assertEqual([False, True, True, False, False], found)
        self.assertEqual([True, True], [is_member(n, begin, self.log, 11) for n in (1, 2)])
        self.assertFalse(is_member(1, Snapshot(), [], 0))

    def test_data_of_another(self) -> None:
        """Who is where the cluster has another member has got the data of the wrong one."""
        cluster = Cluster(Pending(MemoryBackend()))
        cluster.apply(ConfChange(0, ADD, 1, ONE.to_json()))
        cluster.apply(ConfChange(0, ADD, 2, TWO.to_json()))
        for urls in (ONE.peer_urls, ("http://elsewhere:1",), (*TWO.peer_urls, *ONE.peer_urls)):
            check_place(cluster, 1, urls)
        check_place(cluster, 3, TWO.peer_urls)
        error = self.assertRaises(MemberError, check_place, cluster, 1, TWO.peer_urls)
        self.assertIn("says that this is member 2: is it the data of another member?", str(error))

    def test_removed(self) -> None:
        """A member that was removed does not start again."""
        cluster = Cluster(Pending(MemoryBackend()))
        cluster.apply(ConfChange(0, ADD, 1, ONE.to_json()))
        cluster.apply(ConfChange(0, ADD, 2, TWO.to_json()))
        cluster.apply(ConfChange(0, REMOVE, 2))
        check_identity(cluster, 1)
        self.assertRaises(MemberRemovedError, check_identity, cluster, 2)
