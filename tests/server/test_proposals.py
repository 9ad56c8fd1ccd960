"""What becomes of proposals, on a leader and on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft.errors import ProposalDroppedError
from twistedetcd.raft.types import ConfChange, Role
from twistedetcd.server import proposals as module
from twistedetcd.server.proposals import Proposals


class FakeRaft:
    """Takes what it is given, unless it is told not to."""

    def __init__(self) -> None:
        self.role = Role.LEADER
        self.term = 3
        self.drops = False
        self.taken: list[Any] = []

    def propose(self, datas: Sequence[bytes]) -> None:
        if self.drops:
            raise ProposalDroppedError
        self.taken.append(list(datas))

    def propose_conf_change(self, change: ConfChange) -> None:
        if self.drops:
            raise ProposalDroppedError
        self.taken.append(change)


class ProposalsTests(SynchronousTestCase):
    """In the order they came, and each at most once."""

    def setUp(self) -> None:
        self.raft: Any = FakeRaft()
        self.sent_on: list[list[bytes]] = []
        self.dropped: list[bytes] = []
        self.proposals = Proposals(self.raft, self)

    def forwarded(self, proposals: Sequence[bytes]) -> None:
        self.sent_on.append(list(proposals))

    def not_proposed(self, proposals: Sequence[bytes]) -> None:
        self.dropped += proposals

    def test_leader(self) -> None:
        """A leader appends all that the turn brought at once; changes of membership follow."""
        change = ConfChange(1)
        self.proposals.waiting += [b"a", b"b"]
        self.proposals.add_change(change)
        self.proposals.propose()
        self.proposals.propose()
        self.assertEqual([[b"a", b"b"], change], self.raft.taken)
        self.assertEqual([], self.sent_on)

    def test_sent_on(self) -> None:
        """Others send them on, in messages of bounded size; a larger one goes by itself."""
        self.patch(module, "FORWARDED_BYTES", 4)
        self.raft.role = Role.FOLLOWER
        self.proposals.waiting += [b"aa", b"bb", b"c", b"dddddd", b"e"]
        self.proposals.propose()
        pieces = [[b"aa", b"bb"], [b"c"], [b"dddddd"], [b"e"]]
        self.assertEqual((pieces, pieces), (self.raft.taken, self.sent_on))

    def test_not_taken(self) -> None:
        """What raft does not take, while leadership moves, waits for the next leader; a change does not."""
        self.raft.drops = True
        self.proposals.waiting += [b"a"]
        self.proposals.add_change(ConfChange(1))
        self.proposals.propose()
        self.raft.drops = False
        self.proposals.propose()
        self.assertEqual([[b"a"]], self.raft.taken)

    def test_only_in_office(self) -> None:
        """What only a leader may want is not sent on, and not proposed in a later term of office."""
        for role, term in ((Role.FOLLOWER, 3), (Role.LEADER, 5)):
            self.raft.role, self.raft.term = Role.LEADER, 3
            mine = b"revoke %d" % term
            self.assertTrue(self.proposals.add_as_leader(mine))
            self.proposals.waiting.append(b"put %d" % term)
            self.raft.role, self.raft.term = role, term
            self.proposals.propose()
            self.assertEqual([b"put %d" % term], self.raft.taken[-1])
            self.assertEqual(mine, self.dropped[-1])
        self.raft.role = Role.FOLLOWER
        self.assertFalse(self.proposals.add_as_leader(b"revoke"))
        self.assertEqual([], self.proposals.waiting)

    def test_still_in_office(self) -> None:
        """In the same term it is, also after raft did not take it the first time."""
        self.proposals.add_as_leader(b"revoke")
        self.raft.drops = True
        self.proposals.propose()
        self.raft.drops = False
        self.proposals.propose()
        self.assertEqual(([[b"revoke"]], []), (self.raft.taken, self.dropped))

    def test_given_up(self) -> None:
        """Those that nobody waits for any more are forgotten."""
        wanted, late = b"wanted", b"late"
        self.proposals.add_as_leader(late)
        self.proposals.waiting.append(wanted)
        self.proposals.keep({id(wanted): None})
        self.assertEqual([wanted], self.proposals.waiting)
        self.proposals.waiting.append(late)  # stands for another one in the same place of the memory
        self.raft.term = 4
        self.proposals.propose()
        self.assertEqual(([[wanted, late]], []), (self.raft.taken, self.dropped))
