"""
The simulation notices when a rule of raft is broken on purpose: each test breaks one, and names who notices.

A seed that catches a fault today may miss it when something else in raft changes, as everything after that
goes another way; so each row has several seeds, and one of them has to catch it.  To find others, run a test
with ``range(1000)`` in its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.raft import acknowledged, election, leader, reads, replication, roles, state
from twistedetcd.raft.log import RaftLog
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.readonly import ReadOnly
from twistedetcd.raft.state import Raft
from twistedetcd.raft.types import NOBODY, ConfState, Entry, Message, MessageType, Role
from twistedetcd.testing.raftsim.rules import Rule
from twistedetcd.testing.raftsim.simulation import run
from twistedetcd.testing.raftsim.syncmember import SyncMember

CAUGHT: Mapping[str, tuple[Rule, tuple[int, ...]]] = {
    "vote_twice": (Rule.SINGLE_VOTE, (12, 4, 11, 1, 3)),
    "commit_by_count": (Rule.COMMIT_RULE, (23, 6, 9, 19, 1)),
    "own_vote_at_once": (Rule.OWN_VOTE, (23, 25, 59, 0, 4)),
    "own_append_at_once": (Rule.PROGRESS, (4, 10, 6, 8, 3)),
    "answer_before_append": (Rule.VOUCHING, (4, 12, 23, 15, 6)),
    "answer_without_sync": (Rule.VOUCHING, (11, 3, 13, 20)),
    "vote_for_any_log": (Rule.LEADER_COMPLETENESS, (5, 3, 16, 4, 11)),
    "apply_change_twice": (Rule.RAFT_ITSELF, (14, 11, 15, 12, 10)),
    "term_from_pre_vote": (Rule.PRE_VOTE_IS_FREE, (12, 18, 15, 11, 3)),
    "ack_of_earlier_term": (Rule.STABLE_LOG, (164, 188, 111, 244, 252, 228)),
    "read_named_twice": (Rule.READS, (37, 53, 58, 65, 93, 94)),
    "read_without_quorum": (Rule.READS, (17, 11, 5, 12)),
    "two_changes_in_flight": (Rule.CONFIGURATION_OVERLAP, (11, 12, 9, 5, 10)),
    "heartbeat_tells_too_much": (Rule.COMMIT_TOLD, (4, 6, 8, 11, 3)),
}
"""By the name of the test: the rule that is found broken, and seeds of which one at least finds it."""


class MutationTests(SynchronousTestCase):
    """Each test says what is done wrong."""

    def assert_caught(self) -> None:
        """One of the seeds finds the rule broken."""
        rule, seeds = CAUGHT[self._testMethodName.removeprefix("test_")]
        found = []
        for seed in seeds:
            broken = run(seed).broken
            if broken is not None and broken.rule is rule:
                return
            found.append(broken)
        self.fail(f"none of the seeds {seeds} found {rule.name} broken, only {found}")

    def patch_reaction(self, kind: MessageType, reaction: Callable[[Raft, Message], None]) -> None:
        """Every role reacts to ``kind`` in this way."""
        self.patch(
            roles, "REACTIONS", {role: {**table, kind: reaction} for role, table in roles.REACTIONS.items()}
        )

    def test_vote_twice(self) -> None:
        """A member forgets whom it has voted for in this term."""

        def vote(raft: Raft, message: Message) -> None:
            raft.vote = raft.lead = NOBODY
            election.vote(raft, message)

        self.patch_reaction(MessageType.VOTE, vote)
        self.assert_caught()

    def test_commit_by_count(self) -> None:
        """A leader commits an entry of an older term because a majority holds it (raft paper, figure 8)."""

        def maybe_commit(log: RaftLog, index: int, term: int) -> bool:
            news = index > log.committed
            log.commit_to(index)
            return news

        self.patch(RaftLog, "maybe_commit", maybe_commit)
        self.assert_caught()

    def test_own_vote_at_once(self) -> None:
        """A candidate counts its own vote before that is durable."""
        send = Raft.send

        def send_and_count(raft: Raft, message: Message) -> None:
            send(raft, message)
            if message.type is MessageType.VOTE_RESP and message.to == raft.id:
                raft.tracker.record_vote(raft.id, True)

        self.patch(Raft, "send", send_and_count)
        self.assert_caught()

    def test_own_append_at_once(self) -> None:
        """A leader counts itself before its entries are durable."""

        def append_own(raft: Raft, entries: Sequence[Entry]) -> bool:
            done = replication.append_own(raft, entries)
            raft.tracker.members[raft.id].maybe_update(raft.log.last_index())
            return done

        self.patch(leader, "append_own", append_own)
        self.patch(election, "append_own", append_own)
        self.assert_caught()

    def test_answer_before_append(self) -> None:
        """A member with asynchronous writes acknowledges entries while they are being written."""
        votes = frozenset({MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})
        self.patch(state, "_AFTER_APPEND", votes)
        self.assert_caught()

    def test_answer_without_sync(self) -> None:
        """A member writes, and answers without waiting for the sync."""
        self.patch(SyncMember, "sync", lambda member: None)
        self.assert_caught()

    def test_vote_for_any_log(self) -> None:
        """A voter does not compare logs."""
        self.patch(RaftLog, "is_up_to_date", lambda log, term, index: True)
        self.assert_caught()

    def test_apply_change_twice(self) -> None:
        """A committed change of membership is put in force twice."""
        apply_conf_change = RawNode.apply_conf_change

        def twice(node: RawNode, change: Any) -> ConfState:
            apply_conf_change(node, change)
            return apply_conf_change(node, change)

        self.patch(RawNode, "apply_conf_change", twice)
        self.assert_caught()

    def test_term_from_pre_vote(self) -> None:
        """Being asked for a pre-vote, a member moves to the term it was asked about."""
        later = roles._from_later_term

        def move(raft: Raft, message: Message) -> bool:
            if message.type is MessageType.PRE_VOTE:
                raft.become_follower(message.term, NOBODY)
            return later(raft, message)

        self.patch(roles, "_from_later_term", move)
        self.assert_caught()

    def test_ack_of_earlier_term(self) -> None:
        """The save of an earlier term counts for entries of the same index that are still on their way."""
        earlier = roles._from_earlier_term

        def believe(raft: Raft, message: Message) -> bool:
            if message.type is MessageType.STORAGE_APPEND_RESP:
                acknowledged.saved(raft, message)
                return False
            return earlier(raft, message)

        self.patch(roles, "_from_earlier_term", believe)
        self.assert_caught()

    def test_read_named_twice(self) -> None:
        """All reads of a term go by one context: late answers to the first confirm those after it."""

        def acknowledge(pending: ReadOnly, member: int, context: bytes) -> Mapping[int, int]:
            pending._acknowledged[member] = pending._registered
            return pending._acknowledged

        self.patch(ReadOnly, "acknowledge", acknowledge)
        self.assert_caught()

    def test_read_without_quorum(self) -> None:
        """A leader answers reads without asking whether it still leads."""

        def read_index(raft: Raft, message: Message) -> None:
            reads._answer(raft, message, raft.log.committed)

        table = {**roles.REACTIONS[Role.LEADER], MessageType.READ_INDEX: read_index}
        self.patch(roles, "REACTIONS", {**roles.REACTIONS, Role.LEADER: table})
        self.assert_caught()

    def test_two_changes_in_flight(self) -> None:
        """A leader takes a change of membership while another one is not applied."""
        self.patch(leader, "_objection", lambda raft, change, pending: "")
        self.assert_caught()

    def test_heartbeat_tells_too_much(self) -> None:
        """A heartbeat carries the leader's commit index to whom may hold something else there."""

        def send_heartbeat(raft: Raft, to: int, progress: object, context: bytes) -> None:
            commit = raft.log.committed
            raft.send(Message(MessageType.HEARTBEAT, to=to, commit=commit, context=context))

        self.patch(reads, "_send_heartbeat", send_heartbeat)
        self.assert_caught()
