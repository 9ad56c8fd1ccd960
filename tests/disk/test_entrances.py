"""What a member is when it starts: a founder, one that joins, one that goes on alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase

from tests.disk.life import JournalBackend
from twistedetcd.cluster.founding import Entrance, found
from twistedetcd.cluster.members import Member
from twistedetcd.config import Config, parse
from twistedetcd.disk import Disk, must_join
from twistedetcd.errors import ConfigError, MemberError, MemberRemovedError
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.raft.changebytes import decode_change, encode_change
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    HardState,
    Role,
    Snapshot,
)
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import LogOptions

THREE = "m1=http://a:1,m2=http://b:1,m3=http://c:1"
OPTIONS = LogOptions(run_in_worker=execute, segment_bytes=4096)


def config(*flags: str, cluster: str = THREE) -> Config:
    """That of the first of three members."""
    ours = ["--name=m1", "--data-dir=/d", "--initial-advertise-peer-urls=http://a:1", "--fsync-in=reactor"]
    return parse([*ours, f"--initial-cluster={cluster}", *flags], {}, lambda path: b"")


FOUNDING = found(config())
M1, M2, M3 = (FOUNDING.ourselves, *(member for member in FOUNDING.members if member.name != "m1"))
LEARNER = Member(0x44, ("http://d:1",), is_learner=True)


def change(term: int, index: int, kind: ConfChangeType, member: Member) -> Entry:
    """A change of membership in the log."""
    context = b"" if kind == ConfChangeType.REMOVE_NODE else member.to_context()
    entry_type, data = encode_change(ConfChange(0, kind, member.id, context))
    return Entry(term, index, data, entry_type)


class Life:
    """One start of a member, which applies what its raft hands out; no clients, no peers."""

    def __init__(self, files: SimulatedFiles, config: Config, joined: Entrance | None = None) -> None:
        self.closers: list[Callable[[], object]] = []
        try:
            self.disk = Disk(
                config,
                files,
                lambda directory: JournalBackend(files, directory),
                lambda directory: OPTIONS,
                self.closers,
                joined,
            )
            self.raft, self.storage = self.disk.raft(lambda n: 0)
        except BaseException:
            self.close()
            raise

    def work(self) -> Life:
        """Carry out all that is ready: a change that the backend has is not made a second time."""
        disk = self.disk
        while self.raft.has_ready():
            ready = self.raft.ready()
            disk.wal.save(ready.hard_state, ready.entries)
            if ready.hard_state is not None:
                self.storage.set_hard_state(ready.hard_state)
            self.storage.append(ready.entries)
            for entry in ready.committed:
                if entry.type:
                    one = decode_change(entry)
                    assert isinstance(one, ConfChange)
                    if entry.index > disk.mark.index and disk.cluster.apply(one) is not None:
                        one = ConfChange()
                    self.raft.apply_conf_change(one)
            self.raft.advance()
        return self

    def commit(self, index: int) -> Life:
        """Have the backend note how far it is."""
        disk = self.disk
        disk.mark.write(index, 1, self.raft.status().configuration)
        batch = disk.pending.seal()
        assert batch is not None
        disk.backend.write(batch)
        disk.pending.committed()
        return self

    def lead(self) -> Life:
        """Let time pass until it leads by itself."""
        for _ in range(30):
            self.raft.tick()
            self.work()
        return self

    def log(self, state: HardState, entries: Sequence[Entry]) -> Life:
        """Put what a leader sent into the log."""
        self.disk.wal.save(state, entries)
        return self

    def close(self) -> None:
        """Let go of everything, in order."""
        while self.closers:
            self.closers.pop()()


class EntranceCase(SynchronousTestCase):
    """On one disk."""

    def setUp(self) -> None:
        self.files = SimulatedFiles(Random(1))

    def life(self, *flags: str, joined: Entrance | None = None, cluster: str = THREE) -> Life:
        """Start, until the test is over."""
        life = Life(self.files, config(*flags, cluster=cluster), joined)
        self.addCleanup(life.close)
        return life

    def refused(self, *flags: str, cluster: str = THREE) -> str:
        """Why it does not start."""
        return str(self.assertRaises(MemberError, Life, self.files, config(*flags, cluster=cluster)))


class FounderTests(EntranceCase):
    """A founder among others."""

    def test_founders(self) -> None:
        """All founders are members, with their names, and ids of their own; it leads nobody alone."""
        life = self.life().work()
        self.assertEqual((M1.id, FOUNDING.cluster_id), life.disk.identity)
        self.assertEqual(M1, life.disk.founder)
        self.assertEqual(sorted([M1, M2, M3]), life.disk.cluster.members)
        self.assertEqual(sorted([M1.id, M2.id, M3.id]), list(life.raft.status().configuration.voters))
        life.lead()
        self.assertNotEqual(Role.LEADER, life.raft.role)

    def test_again(self) -> None:
        """A later start finds the same, whatever the flags of founding say by then."""
        self.life().work().commit(3).close()
        life = self.life("--initial-cluster-state=existing", cluster="other=http://z:1").work()
        self.assertEqual((M1.id, FOUNDING.cluster_id), life.disk.identity)
        self.assertEqual(sorted([M1, M2, M3]), life.disk.cluster.members)

    def test_nothing_saved(self) -> None:
        """One that stopped before its first save founds the cluster again, with the same flags only."""
        self.life().close()
        self.assertIn("is empty, and that of member", self.refused("--initial-cluster-token=other"))
        self.assertEqual(3, len(self.life().work().disk.cluster.members))

    def test_refused(self) -> None:
        """Flags that found no cluster of ours leave nothing behind."""
        self.assertRaises(ConfigError, Life, self.files, config(cluster="other=http://a:1"))
        self.assertFalse(self.files.exists("/d"))

    def test_newer_cluster(self) -> None:
        """It does not run in a cluster that acts as a newer version."""
        life = self.life().work()
        life.disk.cluster.set_version("3.7.0")
        life.commit(3).close()
        self.assertIn("is lower than determined cluster version 3.7.0", self.refused())


class JoinTests(EntranceCase):
    """A member that joins."""

    entrance = Entrance(LEARNER, tuple(sorted([LEARNER, M2])), 0x99)

    def test_must_join(self) -> None:
        """Only a new member needs to be told whom it joins."""
        existing = config("--initial-cluster-state=existing")
        self.assertEqual([True, False], [must_join(one, self.files) for one in (existing, config())])
        self.assertIn("are not known", self.refused("--initial-cluster-state=existing"))
        self.life("--initial-cluster-state=existing", joined=self.entrance).close()
        self.assertFalse(must_join(existing, self.files))

    def test_adopted(self) -> None:
        """It has the ids that it was given, an empty log and no members, until a leader sends them."""
        life = self.life("--initial-cluster-state=existing", joined=self.entrance).lead()
        self.assertEqual((LEARNER.id, 0x99), life.disk.identity)
        self.assertEqual(LEARNER, life.disk.founder)
        self.assertEqual((ConfState(), Role.FOLLOWER), (life.raft.status().configuration, life.raft.role))
        self.assertEqual([], life.disk.cluster.members)

    def test_half_way(self) -> None:
        """One that stopped before it read of itself goes on; a backend of somebody else is refused still."""
        add, learn = ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE
        existing = "--initial-cluster-state=existing"
        entries = [change(1, 1, add, M2), Entry(2, 2)]
        self.life(existing, joined=self.entrance).log(HardState(2, 0, 2), entries).close()
        self.life(existing).work().commit(2).close()
        life = self.life(existing)
        self.assertEqual([M2], life.disk.cluster.members)
        life.log(HardState(2, 0, 3), [change(2, 3, learn, LEARNER)]).close()
        self.life(existing).commit(3).close()
        self.assertIn("which the backend does not know", self.refused(existing))

    def test_removed(self) -> None:
        """One that was removed does not start again."""
        life = self.life().work()
        life.disk.cluster.apply(ConfChange(0, ConfChangeType.REMOVE_NODE, M1.id))
        life.commit(3).close()
        for flags in ((), ("--force-new-cluster",)):
            self.assertRaises(MemberRemovedError, self.life, *flags)


class ForceTests(EntranceCase):
    """A member that goes on alone (KF-56)."""

    remove, learn = ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER_NODE
    running: Life | None = None

    def last(self, *flags: str, joined: Entrance | None = None) -> Life:
        """Stop what runs, and start again."""
        if self.running is not None:
            self.running.close()
        self.running = self.life(*flags, joined=joined)
        return self.running

    def assert_alone(self, life: Life, removed: Sequence[Member]) -> None:
        """Every view has exactly one voter, itself, and it leads."""
        life.work()
        self.assertEqual(ConfState(voters=(M1.id,)), life.raft.status().configuration)
        self.assertEqual([M1], life.disk.cluster.members)
        self.assertEqual(sorted(member.id for member in removed), life.disk.cluster.removed)
        life.lead()
        self.assertEqual(Role.LEADER, life.raft.role)

    def test_three_and_a_learner(self) -> None:
        """Of three and a learner, one of them removed in the log's tail; two restarts later, too."""
        life = self.last().work().commit(3)
        entries = [change(1, 4, self.learn, LEARNER), change(1, 5, self.remove, M3), Entry(1, 6)]
        life.log(HardState(1, 0, 5), entries)
        self.assert_alone(self.last("--force-new-cluster"), [M2, M3, LEARNER])
        self.assert_alone(self.last(), [M2, M3, LEARNER])
        life = self.last()
        self.assert_alone(life, [M2, M3, LEARNER])
        index = life.raft.status().hard_state.commit
        life.commit(index)
        self.assert_alone(self.last(), [M2, M3, LEARNER])
        # Left in the flags, it changes nothing.
        self.assert_alone(self.last("--force-new-cluster"), [M2, M3, LEARNER])

    def test_after_a_snapshot(self) -> None:
        """The log before the snapshot is not needed, and brings nobody back."""
        life = self.life().work()
        life.log(HardState(1, 0, 5), [change(1, 4, self.learn, LEARNER), change(1, 5, self.remove, M3)])
        life.close()
        life = self.life().work().commit(5)
        snapshot = Snapshot(5, 1, life.raft.status().configuration)
        self.assertEqual((LEARNER.id,), snapshot.conf_state.learners)
        life.disk.snapshots.save(snapshot)
        life.disk.wal.save_snapshot(*snapshot[:3])
        life.close()
        for flags in (["--force-new-cluster"], [], []):
            life = self.last(*flags)
            self.assertEqual(5, life.disk.snapshot.index)
            self.assert_alone(life, [M2, M3, LEARNER])

    def test_learner(self) -> None:
        """A learner of one voter becomes the voter, in raft's eyes, too."""
        existing = "--initial-cluster-state=existing"
        ours = M1._replace(is_learner=True)
        log = [change(1, 1, ConfChangeType.ADD_NODE, M2), change(2, 2, self.learn, ours)]
        life = self.last(existing, joined=Entrance(ours, tuple(sorted([ours, M2])), 0x99))
        life.log(HardState(2, 0, 2), log).work()
        self.assert_alone(self.last(existing, "--force-new-cluster"), [M2])
        self.assert_alone(self.last(existing), [M2])

    def test_given_up(self) -> None:
        """What was not known to be committed is gone from the disk, too, when nobody leads yet."""
        self.life().work().log(HardState(1, 0, 3), [Entry(1, 4, b"a"), Entry(1, 5, b"b")]).close()
        self.life("--force-new-cluster").close()
        wal = SegmentedWAL.open(self.files, "/d/member/wal", options=OPTIONS)
        recovered = wal.read_all()
        wal.close()
        self.assertEqual([2, 2], [entry.term for entry in recovered.entries[3:]])
        self.assertEqual(HardState(2, 0, 5), recovered.hard_state)

    def test_power_cut(self) -> None:
        """What it decided is durable when raft is made of it."""
        self.life().work().close()
        self.assertEqual(2, self.life("--force-new-cluster").raft.term)
        self.files = self.files.crashed(0.0)
        self.assert_alone(self.life(), [M2, M3])
