"""What ``/metrics`` tells: the state of this member, at the moment it is asked."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.api.test_http import HTTPCase
from tests.server.harness import Running
from twistedetcd.api.metrics import Metrics


def samples(text: bytes) -> dict[str, float]:
    """Values by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


class MetricsTests(SynchronousTestCase):
    """Etcd's names, our values."""

    def setUp(self) -> None:
        self.running = Running().start()
        self.metrics = Metrics(self.running.member)

    def test_values(self) -> None:
        """Each is read anew, and says what the member knows."""
        for key in (b"a", b"b"):
            self.running.put(key)
        self.running.end_turn()
        self.running.put(b"c")
        found = samples(self.metrics.text())
        raft = self.running.raft.status()
        for name, value in (
            ("etcd_server_has_leader", 1),
            ("etcd_server_is_leader", 1),
            ("etcd_server_is_learner", 0),
            ("etcd_server_id{server_id=7}", 1),
            ("etcd_server_version{server_version=3.6.14}", 1),
            ("etcd_cluster_version{cluster_version=3.6}", 1),
            ("etcd_server_proposals_committed_total", raft.hard_state.commit),
            ("etcd_server_proposals_applied_total", raft.hard_state.commit),
            ("etcd_server_proposals_pending", 1),
            ("etcd_debugging_mvcc_current_revision", 3),
            ("etcd_debugging_mvcc_compact_revision", -1),
            ("etcd_debugging_mvcc_keys_total", 2),
            ("etcd_mvcc_db_total_size_in_bytes", self.running.pending.size_bytes()),
        ):
            self.assertEqual(value, found[name], name)
        self.running.end_turn()
        self.assertEqual(3, samples(self.metrics.text())["etcd_debugging_mvcc_keys_total"])

    def test_process(self) -> None:
        """What everybody wants to know of a process is there, too."""
        found = samples(self.metrics.text())
        for name in (
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "os_fd_used",
            "os_fd_limit",
        ):
            self.assertLess(0, found[name], name)

    def test_two_members(self) -> None:
        """Members in one process do not share a registry."""
        other = Running().start()
        other.put(b"k")
        other.end_turn()
        revisions = [
            samples(metrics.text())["etcd_debugging_mvcc_current_revision"]
            for metrics in (self.metrics, Metrics(other.member))
        ]
        self.assertEqual([1, 2], revisions)


class PageTests(HTTPCase):
    """``/metrics`` on the client port."""

    def test_page(self) -> None:
        """Prometheus' text format, whatever the method."""
        for method in ("GET", "POST", "PUT"):
            response = self.fetch("/metrics", method)
            self.assertEqual(200, response.status)
            self.assertEqual(
                b"text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                response.headers[b"Content-Type"],
            )
            self.assertIn(b"etcd_server_has_leader 1.0", response.body)
