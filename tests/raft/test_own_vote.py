"""A member leads only once its own vote is durable."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.raft.driver import Member, stored
from twistedetcd.raft.types import APPEND_THREAD, HardState, Message, MessageType, Role


class OwnVoteTests(SynchronousTestCase):
    """With asynchronous storage writes the votes of others may be back before one's own is saved."""

    def test_waits_for_its_own_vote(self) -> None:
        """
        If it led before, a crash could make it forget that, win the same term again with the same votes, and
        put other entries at the indexes and in the term of those that it had sent already.
        """
        storage = stored((1, 2, 3), [], HardState(1, 0, 1))
        node = Member(storage=storage, applied=1, pre_vote=False, async_storage_writes=True).node
        node.campaign()
        ready = node.ready()
        [save] = [message for message in ready.messages if message.to == APPEND_THREAD]
        for voter in (2, 3):
            node.step(Message(MessageType.VOTE_RESP, to=1, sender=voter, term=2))
        self.assertEqual(Role.CANDIDATE, node.role)
        for response in save.responses:
            node.step(response)
        self.assertEqual(Role.LEADER, node.role)
