"""Calls about the member, the cluster and the service."""

from __future__ import annotations

from tests.api.calls import APICase
from twistedetcd.errors import BackendError, Code, TooManyRequestsError
from twistedetcd.mvcc import hash as hash_module
from twistedetcd.pb import health_pb2, rpc_pb2
from twistedetcd.server.slices import HASHES_MAX

STATUS = "/etcdserverpb.Maintenance/Status"
HASH_KV = "/etcdserverpb.Maintenance/HashKV"
ALARM = "/etcdserverpb.Maintenance/Alarm"
MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"


class MaintenanceTests(APICase):
    """Status, hashes and alarms."""

    def test_status(self) -> None:
        """This member's own view: versions, sizes, leader and how far it is."""
        self.put(b"k")
        self.running.pump(0.2)
        status = self.call(STATUS, rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)
        self.assertRegex(status.version, r"^3\.6\.\d+$")
        self.assertEqual("3.6.0", status.storageVersion)
        self.assertEqual(7, status.leader)
        self.assertEqual(
            (self.member.applied_index, self.member.applied_index, self.running.raft.term),
            (status.raftAppliedIndex, status.raftIndex, status.raftTerm),
        )
        self.assertEqual(
            (8, 7, 2), (status.header.cluster_id, status.header.member_id, status.header.revision)
        )
        self.assertEqual(self.running.backend.size_bytes(), status.dbSize)
        self.assertGreater(status.dbSize, 0)
        self.assertEqual(2 * 1024**3, status.dbSizeQuota)
        self.assertTrue(status.HasField("downgradeInfo"))
        self.assertEqual([], list(status.errors))

    def test_status_without_a_leader(self) -> None:
        """It says so, and is answered all the same."""
        self.running.raft._raft.lead = 0
        status = self.call(STATUS, rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)
        self.assertEqual((0, ["etcdserver: no leader"]), (status.leader, list(status.errors)))

    def test_hash_kv(self) -> None:
        """The hash up to a revision; 0 is the current one."""
        for number in range(5):
            self.put(b"k%d" % number)
        now = self.call(HASH_KV, rpc_pb2.HashKVRequest(), rpc_pb2.HashKVResponse)
        self.assertEqual((6, -1, 6), (now.hash_revision, now.compact_revision, now.header.revision))
        before = self.call(HASH_KV, rpc_pb2.HashKVRequest(revision=4), rpc_pb2.HashKVResponse)
        self.assertEqual(4, before.hash_revision)
        self.assertNotEqual(now.hash, before.hash)
        self.assertEqual(
            (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
            self.refused(HASH_KV, rpc_pb2.HashKVRequest(revision=7)),
        )

    def test_hash_kv_while_writing(self) -> None:
        """What is written while it is at work is neither in the hash nor in the header's revision."""
        self.patch(hash_module, "SLICE_KEYS", 1)
        for number in range(100):
            self.put(b"k%d" % number)
        call = self.begin(HASH_KV, rpc_pb2.HashKVRequest())
        self.put(b"l")
        self.running.pump(2)
        assert call.replied is not None
        answer = rpc_pb2.HashKVResponse.FromString(call.replied)
        self.assertEqual((101, 101), (answer.hash_revision, answer.header.revision))

    def test_hash_kv_when_stopping(self) -> None:
        """Who waits for a hash is told; who comes later is refused."""
        stopped = (Code.UNAVAILABLE, "etcdserver: server stopped")
        call = self.begin(HASH_KV, rpc_pb2.HashKVRequest())
        self.successResultOf(self.member.stop())
        self.assertEqual(stopped, call.status)
        self.assertEqual(stopped, self.refused(HASH_KV, rpc_pb2.HashKVRequest()))

    def test_many_hashes(self) -> None:
        """Only so many at once; once they are done, there is room again."""
        calls = [self.begin(HASH_KV, rpc_pb2.HashKVRequest()) for _ in range(HASHES_MAX)]
        too_many = (TooManyRequestsError.code, TooManyRequestsError.message)
        self.assertEqual(too_many, self.refused(HASH_KV, rpc_pb2.HashKVRequest()))
        self.running.pump(0.2)
        self.assertTrue(all(call.replied for call in calls))
        self.call(HASH_KV, rpc_pb2.HashKVRequest(), rpc_pb2.HashKVResponse)

    def test_the_engine_refuses(self) -> None:
        """A read that the engine refuses fails alone, and the log has the reason."""

        def refuse() -> None:
            raise BackendError("no more readers")

        self.patch(self.running.backend, "read", refuse)
        self.assertEqual((Code.INTERNAL, "internal error"), self.refused(HASH_KV, rpc_pb2.HashKVRequest()))
        [logged] = self.flushLoggedErrors(BackendError)
        self.assertEqual("no more readers", logged.getErrorMessage())

    def test_alarm(self) -> None:
        """There is none to list; anything else is refused in plain words."""
        listed = self.call(ALARM, rpc_pb2.AlarmRequest(), rpc_pb2.AlarmResponse)
        self.assertEqual(([], 1), (list(listed.alarms), listed.header.revision))
        for action in (rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.AlarmRequest.DEACTIVATE, 9):
            code, text = self.refused(ALARM, rpc_pb2.AlarmRequest(action=action))  # type: ignore[arg-type]
            self.assertEqual(Code.UNIMPLEMENTED, code)
            self.assertEqual("alarms cannot be set or cleared in this version of twistedetcd", text)


class ClusterTests(APICase):
    """The members."""

    def test_member_list(self) -> None:
        """All that the member said of itself; the header has no revision, as etcd's has none."""
        for linearizable in (False, True):
            request = rpc_pb2.MemberListRequest(linearizable=linearizable)
            listed = self.call(MEMBER_LIST, request, rpc_pb2.MemberListResponse)
            [member] = listed.members
            self.assertEqual((7, "one", False), (member.ID, member.name, member.isLearner))
            self.assertEqual(["http://localhost:2380"], list(member.peerURLs))
            self.assertEqual(["http://localhost:2379"], list(member.clientURLs))
            self.assertEqual((8, 7, 0), tuple(getattr(listed.header, name) for name in _HEADER))
            self.assertEqual(self.running.raft.term, listed.header.raft_term)

    def test_linearizable(self) -> None:
        """Only then it waits for the turn's read."""
        waits = self.begin(MEMBER_LIST, rpc_pb2.MemberListRequest(linearizable=True))
        self.assertIsNone(waits.replied)
        self.assertIsNotNone(self.begin(MEMBER_LIST, rpc_pb2.MemberListRequest()).replied)


_HEADER = ("cluster_id", "member_id", "revision")


class HealthTests(APICase):
    """gRPC's own health service."""

    def test_check(self) -> None:
        """The empty service serves; no other one is known."""
        response = self.call(CHECK, health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse)
        self.assertEqual(health_pb2.HealthCheckResponse.SERVING, response.status)
        self.assertEqual(
            (Code.NOT_FOUND, "unknown service"),
            self.refused(CHECK, health_pb2.HealthCheckRequest(service="etcdserverpb.KV")),
        )

    def test_list(self) -> None:
        """The empty service is all there is."""
        response = self.call(LIST, health_pb2.HealthListRequest(), health_pb2.HealthListResponse)
        self.assertEqual([""], list(response.statuses))
        self.assertEqual(health_pb2.HealthCheckResponse.SERVING, response.statuses[""].status)
