"""How a member says what it is called."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import Code
from twistedetcd.mvcc.pending import Pending
from twistedetcd.raft.types import ConfChange, ConfChangeType
from twistedetcd.server.publishing import AGAIN_SECONDS, Publishing
from twistedetcd.server.wait import Waiter

UNNAMED = Member(7, ("http://a:1",))
NAMED = UNNAMED._replace(name="a", client_urls=("http://a:2",))


class PublishingTests(SynchronousTestCase):
    """Until the cluster knows it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cluster = Cluster(Pending(MemoryBackend()))
        self.change(UNNAMED, ConfChangeType.ADD_NODE)
        self.proposed: list[Any] = []
        self.publishing = Publishing(self.clock, NAMED, self.cluster, self.propose)
        self.publishing.start()

    def change(self, member: Member, kind: ConfChangeType) -> None:
        self.assertIsNone(self.cluster.apply(ConfChange(0, kind, member.id, member.to_context())))

    def propose(self, kind: str, message: Any, waiter: Waiter | None) -> None:
        self.proposed.append(message)

    def test_again(self) -> None:
        """What got lost on its way to a leader is not waited for: it is proposed until it is applied."""
        self.clock.pump([AGAIN_SECONDS] * 3)
        self.assertEqual(4, len(self.proposed))
        self.assertEqual("a", self.proposed[-1].member_attributes.name)
        self.cluster.set_attributes(7, NAMED.name, NAMED.client_urls)
        self.clock.pump([AGAIN_SECONDS] * 3)
        self.assertEqual(4, len(self.proposed))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_refused(self) -> None:
        """A refusal changes nothing."""
        self.publishing.fail(Code.UNAVAILABLE, "etcdserver: no leader")
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(2, len(self.proposed))

    def test_stopped(self) -> None:
        """Stopped, it is not tried again."""
        self.publishing.stop()
        self.publishing.fail(Code.UNAVAILABLE, "etcdserver: server stopped")
        self.clock.advance(10 * AGAIN_SECONDS)
        self.assertEqual(1, len(self.proposed))
