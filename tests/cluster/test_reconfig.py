"""Changes of membership that could cost the quorum are not even proposed (KF-58)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.members import Member
from twistedetcd.cluster.reconfig import (
    refuse_adding,
    refuse_lagging,
    refuse_promoting,
    refuse_removing,
)
from twistedetcd.errors import EtcdError, LearnerNotReadyError, MemberNotEnoughStartedError, UnhealthyError

START, HEALTH = MemberNotEnoughStartedError, UnhealthyError
LEARNER = 99
DEAD, ALIVE, STEADY = "dead", "alive", "steady"


def cluster(voters: int, started: int) -> list[Member]:
    """Voters 1, 2 … of which the first ones have started, and a learner that has not."""
    members = [Member(n, (), name="started" if n <= started else "") for n in range(1, voters + 1)]
    return [*members, Member(LEARNER, (), is_learner=True)]


class TableCase(SynchronousTestCase):
    """We are voter 1."""

    def assert_refusal(
        self, expected: type[EtcdError] | None, actual: EtcdError | None, case: object
    ) -> None:
        """It is that one, or none."""
        self.assertEqual(expected, actual and type(actual), case)


class AddTests(TableCase):
    """Adding counts the new member as one that is down."""

    def test_voter(self) -> None:
        """The started and the steady, ourselves included, must each be a quorum of one voter more."""
        for voters, needed in {1: 1, 2: 2, 3: 3, 4: 3, 5: 4}.items():
            for started in range(voters + 1):
                for steady in range(1, voters + 1):
                    expected = START if started < needed else HEALTH if steady < needed else None
                    actual = refuse_adding(cluster(voters, started), set(range(2, steady + 1)), 1, False)
                    self.assert_refusal(expected, actual, (voters, started, steady))

    def test_learner(self) -> None:
        """A learner must only find enough members connected, and one member is enough for itself."""
        for voters, needed in {1: 1, 2: 2, 3: 3, 4: 3, 5: 4}.items():
            for steady in range(1, voters + 1):
                actual = refuse_adding(cluster(voters, 0), set(range(2, steady + 1)), 1, True)
                self.assert_refusal(HEALTH if steady < needed else None, actual, (voters, steady))

    def test_three_with_one_down(self) -> None:
        """A fourth voter is refused while one of three is down: with the new one, two of four would be."""
        self.assert_refusal(HEALTH, refuse_adding(cluster(3, 3), {1, 2}, 1, False), "one down")
        self.assert_refusal(None, refuse_adding(cluster(4, 4), {1, 2, 3}, 1, False), "four, one down")

    def test_learners_do_not_count(self) -> None:
        """That a learner is connected helps no quorum."""
        self.assert_refusal(HEALTH, refuse_adding(cluster(2, 2), {1, LEARNER}, 1, False), "learner")


class RemoveTests(TableCase):
    """Removing must leave a quorum of those that remain."""

    def test_started(self) -> None:
        """Enough of the remaining voters have started, whoever is connected; the last voter stays."""
        for voters, needed in {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}.items():
            for started in range(voters):
                # The last voter goes, which is not among the started.
                actual = refuse_removing(
                    voters, cluster(voters, started), set(), set(), 1 if voters > 1 else 9
                )
                self.assert_refusal(START if started < needed else None, actual, (voters, started))
        self.assert_refusal(START, refuse_removing(1, cluster(1, 1), {1}, {1}, 1), "the only one")

    def test_active(self) -> None:
        """An active member may go if the steady ones without it are a quorum of the remaining."""
        for voters, needed in {2: 2, 3: 3, 4: 3, 5: 4}.items():
            for steady in range(1, voters + 1):
                connected = set(range(2, steady + 1))
                members = cluster(voters, voters)
                expected = HEALTH if steady < needed else None
                for number in (1, voters):
                    actual = refuse_removing(number, members, connected | {voters}, connected, 1)
                    self.assert_refusal(expected, actual, (number, voters, steady))

    def test_dead(self) -> None:
        """One that is not connected may go: no quorum counts on it now."""
        for voters in (2, 3, 4, 5):
            actual = refuse_removing(voters, cluster(voters, voters), set(), set(), 1)
            self.assert_refusal(None, actual, voters)

    def test_learner(self) -> None:
        """A learner is free to go, and for nobody it is told elsewhere."""
        for number in (LEARNER, 50):
            self.assert_refusal(None, refuse_removing(number, cluster(1, 0), set(), set(), 1), number)


class PromoteTests(TableCase):
    """A promoted learner needs a quorum around it."""

    def test_started(self) -> None:
        """With the learner, the started are a quorum of one voter more."""
        for voters, needed in {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}.items():
            for started in range(voters + 1):
                actual = refuse_promoting(cluster(voters, started))
                self.assert_refusal(START if started < needed else None, actual, (voters, started))

    def test_lagging(self) -> None:
        """It needs nine tenths of the leader's log; one that never started has nothing."""
        for match, leader, expected in (
            (0, 1, LearnerNotReadyError),
            (89, 100, LearnerNotReadyError),
            (90, 100, None),
            (9 * 10**17 - 1, 10**18, LearnerNotReadyError),
            (9 * 10**17, 10**18, None),
        ):
            self.assert_refusal(expected, refuse_lagging(match, leader), (match, leader))
