"""
What ``/metrics`` tells, under etcd's names.

Everything is read when somebody asks: a member that is not watched counts nothing on its hot path.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from twistedetcd.api.watch import STREAMS
from twistedetcd.config import ETCD_VERSION
from twistedetcd.interfaces import PeerStatistics
from twistedetcd.server.member import EtcdServer

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
_DESCRIPTORS = "/proc/self/fd"


class MemberCollector(Collector):
    """One member's state; most totals are gauges, as they are in etcd."""

    def __init__(self, member: EtcdServer) -> None:
        self._member = member

    def describe(self) -> list[Metric]:
        """Nothing beforehand: a member may not have started when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The state of now."""
        member = self._member
        raft = member.node.raft.status()
        store = member.store
        for name, text, value in (
            ("etcd_server_has_leader", "Whether a leader is known.", bool(raft.soft_state.lead)),
            ("etcd_server_is_leader", "Whether this member leads.", member.node.is_leader),
            ("etcd_server_is_learner", "Whether it is a learner.", raft.id in raft.configuration.learners),
            ("etcd_server_proposals_committed_total", "The last index committed.", raft.hard_state.commit),
            ("etcd_server_proposals_applied_total", "The last index applied.", member.applied_index),
            ("etcd_server_proposals_pending", "Requests on their way.", member.pending_requests),
            ("etcd_debugging_mvcc_current_revision", "The revision of the store.", store.revision),
            ("etcd_debugging_mvcc_compact_revision", "Up to where it is compacted.", store.compact_revision),
            ("etcd_debugging_mvcc_keys_total", "Keys that exist now.", store.count(b"", b"")),
            ("etcd_debugging_mvcc_watch_stream_total", "Watch streams.", member.streams.count(STREAMS)),
            ("etcd_debugging_mvcc_watcher_total", "Watches.", member.watches.count),
            ("etcd_debugging_mvcc_slow_watcher_total", "Watches that lag behind.", member.watches.lagging),
            ("etcd_mvcc_db_total_size_in_bytes", "Size of the engine's file.", member.pending.size_bytes()),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "The same without free pages.",
                member.pending.size_in_use_bytes(),
            ),
            ("os_fd_limit", "Most file descriptors.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ):
            yield GaugeMetricFamily(name, text, float(value))
        if os.path.isdir(_DESCRIPTORS):
            used = len(os.listdir(_DESCRIPTORS))
            yield GaugeMetricFamily("os_fd_used", "File descriptors in use.", float(used))
        events = CounterMetricFamily("etcd_debugging_mvcc_events_total", "Events told, to each watch.")
        events.add_metric([], float(member.watches.delivered))
        yield events
        yield from _peers(f"{raft.id:x}", member.clustering.peers.statistics())
        yield _named("etcd_server_id", "Who this is.", "server_id", f"{raft.id:x}")
        yield _named("etcd_server_version", "What it runs.", "server_version", ETCD_VERSION)
        if member.cluster.version:
            version = ".".join(member.cluster.version.split(".")[:2])
            yield _named("etcd_cluster_version", "What all members can do.", "cluster_version", version)


def _peers(ourselves: str, peers: Mapping[int, PeerStatistics]) -> Iterator[Metric]:
    """What there has been between this member and the others."""
    active = GaugeMetricFamily(
        "etcd_network_active_peers", "Whether it is connected.", labels=["Local", "Remote"]
    )
    sent = CounterMetricFamily("etcd_network_peer_sent_bytes_total", "Bytes sent.", labels=["To"])
    received = CounterMetricFamily("etcd_network_peer_received_bytes_total", "Received.", labels=["From"])
    failures = CounterMetricFamily("etcd_network_peer_sent_failures_total", "Times dropped.", labels=["To"])
    times = HistogramMetricFamily(
        "etcd_network_peer_round_trip_time_seconds", "The way there and back.", labels=["To"]
    )
    for number, peer in peers.items():
        name = f"{number:x}"
        active.add_metric([ourselves, name], float(peer.active))
        sent.add_metric([name], float(peer.sent_bytes))
        received.add_metric([name], float(peer.received_bytes))
        failures.add_metric([name], float(peer.sent_failures))
        bounds = [(floatToGoString(bound), count) for bound, count in peer.round_trips]
        times.add_metric([name], bounds, peer.round_trip_seconds)
    yield from (active, sent, received, failures, times)


def _named(name: str, text: str, label: str, value: str) -> GaugeMetricFamily:
    """A gauge that says something by its label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    family.add_metric([value], 1.0)
    return family


class Metrics:
    """The registry of one member; others in the process have their own."""

    def __init__(self, member: EtcdServer) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(MemberCollector(member))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
