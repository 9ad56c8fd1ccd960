"""Leadership handed over."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import BadLeaderTransfereeError, NotLeaderError, TransferTooSlowError
from twistedetcd.mvcc.pending import Pending
from twistedetcd.server.transfer import Transfer

SELF = 1


class Driver:
    """Raft's, on a leader."""

    def __init__(self) -> None:
        self.is_leader = True
        self.asked: list[int] = []

    def transfer_leader(self, to: int) -> None:
        self.asked.append(to)


class TransferTests(SynchronousTestCase):
    """A leader of three voters and a learner."""

    def setUp(self) -> None:
        self.clock, self.driver = Clock(), Driver()
        cluster = Cluster(Pending(MemoryBackend()))
        for number in (SELF, 2, 3):
            cluster.add(Member(number, (f"http://{number}:2380",)))
        cluster.add(Member(4, ("http://4:2380",), is_learner=True))
        self.heard: dict[int, float] = {2: 5.0, 3: 1.0, 4: 0.0}
        self.woken = 0
        self.transfer = Transfer(self.clock, cluster, SELF, self.heard.get, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def test_moved(self) -> None:
        """It is done when this member knows that the other one leads."""
        moved = self.transfer.move(self.driver, 2, 7.0)
        self.assertEqual(([2], 1), (self.driver.asked, self.woken))
        for lead in (0, 3):
            self.transfer.lead_changed(lead)
            self.assertNoResult(moved)
        self.transfer.lead_changed(2)
        self.successResultOf(moved)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_refused(self) -> None:
        """Only a leader can, and only to a voter; to itself it has nothing to do."""
        for to in (4, 9):
            self.failureResultOf(self.transfer.move(self.driver, to, 7.0), BadLeaderTransfereeError)
        self.successResultOf(self.transfer.move(self.driver, SELF, 7.0))
        self.driver.is_leader = False
        self.failureResultOf(self.transfer.move(self.driver, 2, 7.0), NotLeaderError)
        self.assertEqual([], self.driver.asked)

    def test_too_slow(self) -> None:
        """It is given up in the end; what comes of it later is nobody's business."""
        moved = self.transfer.move(self.driver, 2, 7.0)
        self.clock.advance(7.0)
        self.failureResultOf(moved, TransferTooSlowError)
        self.transfer.lead_changed(2)

    def test_before_it_stops(self) -> None:
        """A leader that stops hands over to the voter that it has heard for longest, for so long."""
        handed = self.transfer.hand_over(self.driver, 1.0)
        self.assertEqual([3], self.driver.asked)
        self.clock.advance(1.0)
        self.successResultOf(handed)

    def test_nobody_to_hand_over_to(self) -> None:
        """Who hears no voter, or does not lead, just stops."""
        del self.heard[2], self.heard[3]
        self.successResultOf(self.transfer.hand_over(self.driver, 1.0))
        self.heard[2] = 1.0
        self.driver.is_leader = False
        self.successResultOf(self.transfer.hand_over(self.driver, 1.0))
        self.assertEqual([], self.driver.asked)

    def test_stopped(self) -> None:
        """Whoever waits is told when the member stops."""
        moved = self.transfer.move(self.driver, 2, 7.0)
        self.transfer.stop()
        self.failureResultOf(moved, TransferTooSlowError)
        self.assertEqual([], self.clock.getDelayedCalls())
