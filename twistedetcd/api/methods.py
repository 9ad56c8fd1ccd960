"""Every gRPC method by its path: those that are served, and a clear refusal for the others."""

from __future__ import annotations

from twistedetcd.api.calls import not_for_learners, unsupported
from twistedetcd.api.cluster import ClusterAPI
from twistedetcd.api.election import ElectionAPI
from twistedetcd.api.kv import KV
from twistedetcd.api.lease import LeaseAPI
from twistedetcd.api.lock import LockAPI
from twistedetcd.api.maintenance import Health, Maintenance
from twistedetcd.api.watch import WatchAPI, WatchOptions
from twistedetcd.api.within import Within
from twistedetcd.pb.services import METHODS
from twistedetcd.protocols.grpc import Method
from twistedetcd.server.member import EtcdServer

_FOR_LEARNERS = {
    # What these propose or read linearizably, the member itself refuses when it is a learner.
    *("/etcdserverpb.KV/" + name for name in ("Range", "Put")),
    *("/etcdserverpb.Maintenance/" + name for name in ("Status", "Snapshot")),
}


def methods(
    member: EtcdServer,
    txn_operations_max: int,
    watch_options: WatchOptions | None = None,
    changeable: bool = False,
) -> dict[bytes, Method]:
    """
    The table that the gRPC protocol serves.

    Args:
        member: Who serves it.
        txn_operations_max: ``--max-txn-ops``.
        watch_options: Numbers for the watch service; ``None`` for the usual ones.
        changeable: Whether the membership may be changed.
    """
    within = Within(member)
    services = {
        "etcdserverpb.KV": KV(member, txn_operations_max).methods(),
        "etcdserverpb.Lease": LeaseAPI(member).methods(),
        "etcdserverpb.Watch": WatchAPI(member, watch_options or WatchOptions()).methods(),
        "etcdserverpb.Maintenance": Maintenance(member).methods(),
        "etcdserverpb.Cluster": ClusterAPI(member, changeable).methods(),
        "v3lockpb.Lock": LockAPI(within).methods(),
        "v3electionpb.Election": ElectionAPI(within).methods(),
        "grpc.health.v1.Health": Health(member).methods(),
    }
    table = {}
    for path, known in METHODS.items():
        found = services.get(known.service, {}).get(known.name) or unsupported(path)
        table[path.encode()] = found if path in _FOR_LEARNERS else not_for_learners(member, found)
    return table
