"""
The simulation notices when a promise is broken on purpose: each test breaks one, and names who notices.

A seed that catches a fault today may miss it when something else changes, as everything after that goes
another way; so each row has several seeds, and one of them has to catch it.  To find others, run a test with
``range(100)`` in its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.test_machine import Scene
from twistedetcd.api.watch import WatchStream
from twistedetcd.apply import responses, store, txn
from twistedetcd.interfaces import Work
from twistedetcd.mvcc.store import Store
from twistedetcd.pb.rpc_pb2 import MemberAddRequest
from twistedetcd.raft import reads
from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import NOBODY, ConfChange, ConfChangeType, ConfState
from twistedetcd.schema import KEY
from twistedetcd.server.bootstrap import AppliedMark
from twistedetcd.server.leases import Leases
from twistedetcd.server.member import EtcdServer
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.testing.checks import Rule, Unknown
from twistedetcd.testing.simulation.ending import check_membership
from twistedetcd.testing.simulation.run import run
from twistedetcd.wal.log import SegmentedWAL

SECONDS = 25.0
LOST = "or part of the log is lost"
"""In the text of a problem: a member notices by itself that something durable is missing."""
RAFT = "its raft counts"
"""Likewise: raft's members are others than the cluster's."""
CHRONICLE = "elsewhere"
"""In the text of a problem: two members, or two lives of one, have different histories."""


class Caught(NamedTuple):
    """Which rule may be found broken, or what a problem may say; what goes wrong besides; seeds."""

    by: tuple[Rule | str, ...]
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    members: int = 3


CAUGHT: Mapping[str, Caught] = {
    "reply_before_sync": Caught((Rule.KEPT, Rule.DURABLE, LOST), ("crash", "crash-all"), (1, 2, 3), 1),
    "read_of_a_deposed_leader": Caught((Rule.FRESH,), ("depose",), (10, 11, 13, 15)),
    "apply_twice": Caught((CHRONICLE,), ("crash", "kill"), (2, 3, 4)),
    "index_ahead_of_its_data": Caught((CHRONICLE, LOST), ("crash", "kill"), (1, 2, 3)),
    "snapshot_without_its_tail": Caught((CHRONICLE,), ("away",), (1, 2, 3)),
    "lease_of_a_deposed_leader": Caught((Rule.LEASE_KEPT,), ("depose", "partition"), (1, 2, 3, 4, 5, 6)),
    "watch_that_skips": Caught((Rule.RELIABLE,), ("kill",), (1, 2, 3)),
    "follower_that_does_not_wait": Caught((Rule.FRESH, Rule.MONOTONIC), ("network",), (1, 2, 3)),
    "revision_that_goes_back": Caught((CHRONICLE,), ("kill",), (1, 2, 3)),
    "removed_member_that_votes": Caught((RAFT,), ("members",), (5, 6, 7)),
    "half_a_transaction": Caught((Rule.KEPT,), (), (1, 2, 3)),
}
"""By the name of the test."""


class MutationTests(SynchronousTestCase):
    """Each test says what is done wrong."""

    def assert_caught(self) -> None:
        """One of the seeds finds it."""
        caught = CAUGHT[self._testMethodName.removeprefix("test_")]
        found: list[object] = []
        for seed in caught.seeds:
            outcome = run(seed, SECONDS, caught.members, caught.kinds)
            for rule in caught.by:
                if isinstance(rule, str) and any(rule in problem for problem in outcome.problems):
                    return
                if any(violation.rule is rule for violation in outcome.violations):
                    return
            found.append((seed, [each.rule for each in outcome.violations], outcome.problems))
        self.fail(f"none of the seeds found it: {found}")

    def test_reply_before_sync(self) -> None:
        """The log says that it has what it only wrote."""

        def only_write(wal: SegmentedWAL, file: Any, offset: int, data: bytes) -> float:
            file.write(offset, data)
            return 0.0

        self.patch(SegmentedWAL, "_store", only_write)
        self.assert_caught()

    def test_read_of_a_deposed_leader(self) -> None:
        """A leader answers reads without asking whether it still leads."""
        self.patch(reads, "_begin", lambda raft, message: reads._answer(raft, message, raft.log.committed))
        self.assert_caught()

    def _write_mark(self, distance: int) -> None:
        write = AppliedMark.write

        def wrong(mark: AppliedMark, index: int, term: int, conf_state: Any) -> None:
            write(mark, index + distance, term, conf_state)

        self.patch(AppliedMark, "write", wrong)

    def test_apply_twice(self) -> None:
        """A restart begins at the last entry that was applied, not after it."""
        self._write_mark(-1)
        self.assert_caught()

    def test_index_ahead_of_its_data(self) -> None:
        """The consistent index says that an entry is there whose data is not."""
        self._write_mark(1)
        self.assert_caught()

    def test_snapshot_without_its_tail(self) -> None:
        """The last keys of a snapshot are not installed."""
        pairs = ImageFile.pairs

        def without_tail(image: ImageFile, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
            kept = list(pairs(image, bucket))
            return iter(kept[:-1] if bucket == KEY else kept)

        self.patch(ImageFile, "pairs", without_tail)
        self.assert_caught()

    def test_lease_of_a_deposed_leader(self) -> None:
        """A leader that is none any more goes on to renew and to end leases."""
        self.patch(Leases, "follow", lambda leases: None)
        self.assert_caught()

    def test_watch_that_skips(self) -> None:
        """A watch that goes on for another begins one revision too late."""
        create = WatchStream._create

        def late(stream: WatchStream, request: Any) -> None:
            request.start_revision += request.start_revision > 1
            create(stream, request)

        self.patch(WatchStream, "_create", late)
        self.assert_caught()

    def test_follower_that_does_not_wait(self) -> None:
        """A member answers linearizable reads from what it has."""
        self.patch(EtcdServer, "read", lambda member, execute, call, request: execute(call, request))
        self.assert_caught()

    def test_revision_that_goes_back(self) -> None:
        """A restart counts one revision less than there were."""
        restore = Store.restore

        def forgetful(store: Store) -> Work[dict[bytes, int]]:
            leases = yield from restore(store)
            store.revision = max(1, store.compact_revision, store.revision - 1)
            return leases

        self.patch(Store, "restore", forgetful)
        self.assert_caught()

    def test_removed_member_that_votes(self) -> None:
        """A member that was removed is counted all the same, in votes and in commits."""
        apply = RawNode.apply_conf_change

        def keep(node: RawNode, change: ConfChange) -> ConfState:
            removes = change.as_v2().changes[0].type == ConfChangeType.REMOVE_NODE
            return apply(node, change._replace(node_id=NOBODY) if removes else change)

        self.patch(RawNode, "apply_conf_change", keep)
        self.assert_caught()

    def test_half_a_transaction(self) -> None:
        """The last put of a transaction is answered, and not done."""
        carry_out = txn.carry_out

        def half(view: Any, path: txn.Path, pace: Any) -> Work[list[bytes]]:
            *others, last = path.operations or [(txn.RANGE, None)]
            if not others or last[0] != txn.PUT:
                return (yield from carry_out(view, path, pace))
            results = yield from carry_out(view, path._replace(operations=others), pace)
            put = responses.put_response(responses.inner_header(view.revision), None)
            return [*results, responses.delimited(responses.RESPONSE_PUT, put)]

        self.patch(store.txn, "carry_out", half)
        self.assert_caught()


class ChangeSceneTests(Scene):
    """What hardly any seed brings about: a change of membership that is proposed, and never committed."""

    members = 3

    def propose_in_vain(self) -> list[str]:
        """A leader that is cut off is asked to add a member; what is wrong after it is back."""
        leader = self.cluster.leader()
        assert leader is not None
        others = [machine.member_id for machine in self.cluster.machines if machine is not leader]
        self.world.clock.advance(6.0)  # it must have been connected for so long, or it proposes nothing
        self.world.network.partition([leader.member_id], others)
        added = self.begin(MemberAddRequest(peerURLs=["http://10.0.0.9:2380"], isLearner=True), leader)
        self.world.clock.advance(6.0)
        self.assertIsInstance(added[0], Unknown)
        self.world.network.heal()
        self.serve()
        self.world.clock.advance(3.0)
        check_membership(self.cluster)
        problems = list(self.world.problems)
        self.world.problems.clear()
        return problems

    def test_in_vain(self) -> None:
        """It leaves no trace."""
        self.assertEqual([], self.propose_in_vain())

    def test_change_before_its_commit(self) -> None:
        """Whoever proposes a change of membership counts with it at once: that is noticed."""
        propose = RawNode.propose_conf_change

        def at_once(node: RawNode, change: ConfChange) -> None:
            propose(node, change)
            node.apply_conf_change(change)

        self.patch(RawNode, "propose_conf_change", at_once)
        [problem] = self.propose_in_vain()
        self.assertIn(RAFT, problem)
