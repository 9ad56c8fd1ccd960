"""
leasing: what clients do with leases, locks and elections, one short script after the other.

A script talks to one server through a `Peer`, which notes every answer.  The same scripts run on a real etcd
and on ours; the notes must be equal, but for `RULES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]

from tests.interop.servers import CALL_SECONDS_MAX, Server, wait_until
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from twistedetcd.pb.services import METHODS
from twistedetcd.pb.v3election_pb2 import (
    CampaignRequest,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ResignRequest,
)
from twistedetcd.pb.v3lock_pb2 import LockRequest, UnlockRequest

LEASE, KV = "/etcdserverpb.Lease/Lease", "/etcdserverpb.KV/"
LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"
QUEUED_SECONDS = 0.3  # until one who waits for a lock stands in the queue

Note = tuple[str, Any]
"""What was asked, and the answer: a message, or a status code and its text."""


class Peer:
    """
    One server, as a script sees it.

    Attributes:
        notes: Every answer so far.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.notes: list[Note] = []

    def ask(self, path: str, request: Any) -> Any:
        """Call, and note the answer; returns it, or ``None`` if it was refused."""
        return self.note(path, request, self.begin(path, request))

    def begin(self, path: str, request: Any) -> Any:
        """Call; the answer comes later."""
        response = METHODS[path].response
        call = self.server.channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call.future(request, timeout=CALL_SECONDS_MAX)

    def note(self, path: str, request: Any, pending: Any) -> Any:
        """Wait for an answer, and note it."""
        what = f"{path} {str(request).split()}"
        try:
            response = pending.result()
        except grpc.RpcError as error:
            refused: Any = error
            self.notes.append((what, (refused.code().name, refused.details())))
            return None
        self.notes.append((what, comparable(response)))
        return response

    def remark(self, what: str, seen: Any) -> None:
        """Note something else."""
        self.notes.append((what, seen))

    # Short ways.

    def grant(self, lease_id: int, ttl: int = 60) -> Any:
        return self.ask(f"{LEASE}Grant", LeaseGrantRequest(ID=lease_id, TTL=ttl))

    def revoke(self, lease_id: int) -> None:
        self.ask(f"{LEASE}Revoke", LeaseRevokeRequest(ID=lease_id))

    def time_to_live(self, lease_id: int, keys: bool = True) -> None:
        self.ask(f"{LEASE}TimeToLive", LeaseTimeToLiveRequest(ID=lease_id, keys=keys))

    def leases(self) -> None:
        self.ask(f"{LEASE}Leases", LeaseLeasesRequest())

    def put(self, key: bytes, lease: int = 0, value: bytes = b"v", **fields: Any) -> None:
        self.ask(f"{KV}Put", PutRequest(key=key, value=value, lease=lease, **fields))

    def delete(self, key: bytes, end: bytes = b"", prev_kv: bool = False) -> None:
        self.ask(f"{KV}DeleteRange", DeleteRangeRequest(key=key, range_end=end, prev_kv=prev_kv))

    def get(self, key: bytes = b"\0", end: bytes = b"\0") -> None:
        self.ask(f"{KV}Range", RangeRequest(key=key, range_end=end))

    def txn(self, *success: RequestOp, compare: tuple[Compare, ...] = ()) -> None:
        self.ask(f"{KV}Txn", TxnRequest(compare=compare, success=success))

    def keep_alive(self, *ids: int) -> None:
        """A stream of renewals: each is sent when the one before it was answered."""
        call = self.server.channel.stream_stream(
            f"{LEASE}KeepAlive",
            request_serializer=LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=LeaseKeepAliveResponse.FromString,
        )
        answers = call(iter([LeaseKeepAliveRequest(ID=each) for each in ids]), timeout=CALL_SECONDS_MAX)
        self.remark(f"renew {ids}", [comparable(answer) for answer in answers])
        self.remark("the stream's end", answers.code().name)

    def gone(self, lease_id: int) -> None:
        """Wait until a lease has ended."""
        leases = f"{LEASE}Leases"
        wait_until(
            lambda: all(
                lease_id != each.ID for each in self.server.call(leases, LeaseLeasesRequest()).leases
            ),
            f"lease {lease_id} to end",
            self.server.log,
        )

    def lock(self, name: bytes, lease: int) -> Any:
        return self.ask(f"{LOCK}Lock", LockRequest(name=name, lease=lease))

    def unlock(self, key: bytes) -> None:
        self.ask(f"{LOCK}Unlock", UnlockRequest(key=key))

    def queue(self, path: str, request: Any) -> Any:
        """A call that must wait; returns once it stands in the queue."""
        pending = self.begin(path, request)
        time.sleep(QUEUED_SECONDS)
        self.remark("it waits", not pending.done())
        return pending

    def clean_up(self) -> None:
        """What a script left is not the next one's."""
        for each in self.server.call(f"{LEASE}Leases", LeaseLeasesRequest()).leases:
            self.server.call(f"{LEASE}Revoke", LeaseRevokeRequest(ID=each.ID))
        self.server.call(f"{KV}DeleteRange", DeleteRangeRequest(key=b"\0", range_end=b"\0"))


def comparable(response: Any) -> Any:
    """A response without what differs between any two clusters."""
    header = response.header
    assert header.cluster_id and header.member_id and header.raft_term, header
    for name in ("cluster_id", "member_id", "raft_term"):
        header.ClearField(name)
    return response


def op_put(key: bytes, lease: int = 0, **fields: Any) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=b"v", lease=lease, **fields))


def op_txn(*success: RequestOp) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(success=success))


# What may differ.

Rule = Callable[[Any, Any], bool]
"""Takes their answer and ours; whether they are the same to a client."""


def _a_second(theirs: Any, ours: Any) -> bool:
    return (
        isinstance(theirs, LeaseTimeToLiveResponse)
        and abs(theirs.TTL - ours.TTL) == 1
        and _same_but(theirs, ours, "TTL")
    )


def _order_of_keys(theirs: Any, ours: Any) -> bool:
    return (
        isinstance(theirs, LeaseTimeToLiveResponse)
        and sorted(theirs.keys) == list(ours.keys)
        and abs(theirs.TTL - ours.TTL) <= 1
        and _same_but(theirs, ours, "keys", "TTL")
    )


def _chosen_ids(theirs: Any, ours: Any) -> bool:
    name = {"LeaseGrantResponse": "ID", "LockResponse": "key"}.get(type(theirs).__name__)
    return name is not None and _same_but(theirs, ours, name)


def _same_but(theirs: Any, ours: Any, *names: str) -> bool:
    copies = [type(each)() for each in (theirs, ours)]
    for copy, each in zip(copies, (theirs, ours), strict=True):
        copy.CopyFrom(each)
        for name in names:
            copy.ClearField(name)
    return bool(copies[0] == copies[1])


RULES: Mapping[str, Rule] = {
    "what remains may differ by a second: the two were not asked at the same moment": _a_second,
    "etcd tells a lease's keys in no order, we in theirs": _order_of_keys,
    "an id that the server chose is its own": _chosen_ids,
}


def explained(theirs: Note, ours: Note, used: set[str]) -> bool:
    """Whether two notes say the same; adds the rules that were needed to ``used``."""
    if theirs == ours:
        return True
    if theirs[0] != ours[0] or type(theirs[1]) is not type(ours[1]):
        return False
    for name, rule in RULES.items():
        if rule(theirs[1], ours[1]):
            used.add(name)
            return True
    return False


# The scripts.


def grant_with_an_id(peer: Peer) -> None:
    peer.grant(7)
    peer.time_to_live(7)


def grant_without_an_id(peer: Peer) -> None:
    chosen = peer.grant(0)
    peer.remark("positive", chosen.ID > 0)
    peer.ask(f"{LEASE}Grant", LeaseGrantRequest())


def grant_twice(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(7, 5)
    peer.time_to_live(7)


def short_times(peer: Peer) -> None:
    for number, ttl in enumerate((0, -1, 1, 2, 3, -(2**63)), 1):
        peer.grant(number, ttl)


def long_times(peer: Peer) -> None:
    peer.grant(1, 9_000_000_000)
    peer.grant(2, 9_000_000_001)
    peer.grant(3, 2**63 - 1)
    peer.time_to_live(1)
    peer.leases()


def special_ids(peer: Peer) -> None:
    for ttl, lease_id in enumerate((-1, -(2**63), 2**63 - 1, 1), 100):
        peer.grant(lease_id, ttl * 10)
        peer.put(b"k%d" % ttl, lease_id)
    peer.leases()
    for lease_id in (-1, -(2**63), 2**63 - 1, 1):
        peer.time_to_live(lease_id)
        peer.revoke(lease_id)
    peer.get()


def revoke_what_is_not_there(peer: Peer) -> None:
    peer.revoke(7)
    peer.revoke(0)
    peer.grant(7)
    peer.revoke(7)
    peer.revoke(7)


def revoke_without_keys(peer: Peer) -> None:
    peer.get(b"k", b"")
    peer.grant(7)
    peer.revoke(7)
    peer.get(b"k", b"")


def revoke_with_keys(peer: Peer) -> None:
    peer.grant(7)
    for key in (b"b", b"a", b"c"):
        peer.put(key, 7)
    peer.put(b"other")
    peer.revoke(7)
    peer.get()
    peer.time_to_live(7)


def put_with_an_unknown_lease(peer: Peer) -> None:
    peer.put(b"k", 7)
    peer.put(b"k", 7, prev_kv=True)
    peer.put(b"k", 7, b"", ignore_value=True)
    peer.get()


def put_shows_its_lease(peer: Peer) -> None:
    peer.grant(7)
    peer.put(b"k", 7)
    peer.get()
    peer.put(b"k", 7, b"w", prev_kv=True)
    peer.time_to_live(7)


def move_between_leases(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(8)
    peer.put(b"k", 7)
    peer.put(b"k", 8)
    peer.time_to_live(7)
    peer.time_to_live(8)
    peer.revoke(7)
    peer.get()
    peer.revoke(8)
    peer.get()


def put_without_a_lease_detaches(peer: Peer) -> None:
    peer.grant(7)
    peer.put(b"k", 7)
    peer.put(b"k")
    peer.time_to_live(7)
    peer.revoke(7)
    peer.get()


def ignore_lease(peer: Peer) -> None:
    peer.grant(7)
    peer.put(b"k", 7)
    peer.put(b"k", value=b"w", ignore_lease=True)
    peer.put(b"k", 7, ignore_lease=True)
    peer.put(b"missing", ignore_lease=True)
    peer.get()
    peer.time_to_live(7)
    peer.revoke(7)
    peer.get()


def ignore_value(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(8)
    peer.put(b"k", 7)
    peer.put(b"k", 8, b"", ignore_value=True)
    peer.put(b"k", 8, b"x", ignore_value=True)
    peer.time_to_live(8)
    peer.put(b"k", 0, b"", ignore_value=True)
    peer.time_to_live(8)
    peer.get()


def delete_detaches(peer: Peer) -> None:
    peer.grant(7)
    peer.put(b"k", 7)
    peer.delete(b"k", prev_kv=True)
    peer.time_to_live(7)
    peer.put(b"k")
    peer.revoke(7)
    peer.get()


def delete_a_range(peer: Peer) -> None:
    peer.grant(7)
    for key in (b"a", b"b", b"c", b"d"):
        peer.put(key, 7)
    peer.delete(b"b", b"d", prev_kv=True)
    peer.time_to_live(7)
    peer.revoke(7)
    peer.get()


def transaction(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(8)
    peer.txn(op_put(b"a", 7), op_put(b"b", 8), op_txn(op_put(b"c", 7)))
    for lease_id in (7, 8):
        peer.time_to_live(lease_id)
    delete = RequestOp(request_delete_range=DeleteRangeRequest(key=b"a"))
    peer.txn(op_put(b"b", 7), delete)
    for lease_id in (7, 8):
        peer.time_to_live(lease_id)
    peer.get()


def transaction_with_an_unknown_lease(peer: Peer) -> None:
    peer.grant(7)
    peer.txn(op_put(b"a", 7), op_put(b"b", 9))
    peer.txn(op_put(b"a"), op_txn(op_txn(op_put(b"b", 9))))
    peer.time_to_live(7)
    peer.get()


def compare_leases(peer: Peer) -> None:
    peer.grant(7)
    peer.put(b"k", 7)
    for result, lease in ((Compare.EQUAL, 7), (Compare.GREATER, 7), (Compare.LESS, 8), (Compare.EQUAL, 0)):
        for key in (b"k", b"missing"):
            asked = Compare(key=key, target=Compare.LEASE, result=result, lease=lease)
            peer.txn(RequestOp(request_range=RangeRequest(key=b"k")), compare=(asked,))


def keys_of_a_lease(peer: Peer) -> None:
    peer.grant(7)
    peer.time_to_live(7)
    for number in (3, 1, 2, 0, 9, 5):
        peer.put(b"k%d" % number, 7)
    peer.time_to_live(7)
    peer.time_to_live(7, keys=False)


def time_of_what_is_not_there(peer: Peer) -> None:
    for lease_id in (7, 0, -1):
        peer.time_to_live(lease_id)
        peer.time_to_live(lease_id, keys=False)


def listing(peer: Peer) -> None:
    peer.leases()
    for lease_id, ttl in ((1, 300), (2, 100), (3, 200), (4, 400)):
        peer.grant(lease_id, ttl)
    peer.leases()
    peer.revoke(3)
    peer.leases()


def listing_after_a_renewal(peer: Peer) -> None:
    for lease_id, ttl in ((1, 100), (2, 101)):
        peer.grant(lease_id, ttl)
    time.sleep(1.2)
    peer.keep_alive(1)
    peer.leases()


def renewals(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(8, 1)
    peer.keep_alive(7, 8, 7)
    peer.keep_alive(9, 7, 0, -1)
    peer.put(b"k", 7)
    peer.keep_alive(7)
    peer.revoke(7)
    peer.keep_alive(7, 8)


def no_renewal_at_all(peer: Peer) -> None:
    peer.keep_alive()


def expiry(peer: Peer) -> None:
    peer.grant(7, 1)
    peer.grant(8)
    for key in (b"b", b"a"):
        peer.put(key, 7)
    peer.put(b"c", 8)
    peer.gone(7)
    peer.time_to_live(7)
    peer.keep_alive(7, 8)
    peer.revoke(7)
    peer.put(b"d", 7)
    peer.get()


def granted_anew_after_its_end(peer: Peer) -> None:
    peer.grant(7, 2)
    peer.put(b"k", 7)
    peer.gone(7)
    peer.grant(7)
    peer.time_to_live(7)
    peer.get()


def renewed_beyond_its_end(peer: Peer) -> None:
    peer.grant(7, 2)
    peer.put(b"k", 7)
    for _ in range(3):
        time.sleep(1.0)
        peer.keep_alive(7)
    peer.get()


def moved_before_the_end(peer: Peer) -> None:
    peer.grant(7, 2)
    peer.grant(8)
    for key in (b"stays", b"goes"):
        peer.put(key, 7)
    peer.put(b"stays", 8)
    peer.gone(7)
    peer.get()
    peer.time_to_live(8)


def compaction(peer: Peer) -> None:
    peer.grant(7)
    for value in (b"1", b"2"):
        peer.put(b"k", 7, value)
    current = peer.server.call(f"{KV}Range", RangeRequest(key=b"k")).header.revision
    peer.ask(f"{KV}Compact", CompactionRequest(revision=current))
    peer.time_to_live(7)
    peer.revoke(7)
    peer.get()


def lock_and_unlock(peer: Peer) -> None:
    peer.grant(7)
    peer.lock(b"n", 7)
    peer.get()
    peer.put(b"k")
    peer.lock(b"n", 7)
    peer.unlock(b"n/7")
    peer.unlock(b"n/7")
    peer.get()
    peer.lock(b"", 7)
    peer.get()


def lock_refusals(peer: Peer) -> None:
    peer.lock(b"n", 7)
    peer.unlock(b"")
    peer.lock(b"n", 0)


def lock_in_turn(peer: Peer) -> None:
    for lease_id in (0xA, 0xB, 0xC):
        peer.grant(lease_id)
    peer.lock(b"n", 0xC)
    asked = LockRequest(name=b"n", lease=0xB), LockRequest(name=b"n", lease=0xA)
    first, second = (peer.queue(f"{LOCK}Lock", each) for each in asked)
    peer.unlock(b"n/c")
    peer.note("first", asked[0], first)
    peer.remark("the next one waits", not second.done())
    peer.revoke(0xB)
    peer.note("second", asked[1], second)
    peer.get()


def lock_given_up(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(8)
    peer.lock(b"n", 7)
    waiting = peer.queue(f"{LOCK}Lock", LockRequest(name=b"n", lease=8))
    waiting.cancel()
    absent = RangeRequest(key=b"n/8", count_only=True)
    wait_until(lambda: peer.server.call(f"{KV}Range", absent).count == 0, "its key to go", peer.server.log)
    peer.get()


def lock_lost_in_the_queue(peer: Peer) -> None:
    peer.grant(7)
    peer.grant(8)
    peer.lock(b"n", 7)
    asked = LockRequest(name=b"n", lease=8)
    waiting = peer.queue(f"{LOCK}Lock", asked)
    peer.revoke(8)
    peer.unlock(b"n/7")
    peer.note("lost", asked, waiting)


def election(peer: Peer) -> None:
    for lease_id in (7, 8):
        peer.grant(lease_id)
    peer.ask(f"{ELECTION}Leader", LeaderRequest(name=b"e"))
    elected = peer.ask(f"{ELECTION}Campaign", CampaignRequest(name=b"e", lease=7, value=b"one"))
    peer.ask(f"{ELECTION}Leader", LeaderRequest(name=b"e"))
    peer.ask(f"{ELECTION}Proclaim", ProclaimRequest(leader=elected.leader, value=b"uno"))
    peer.ask(f"{ELECTION}Campaign", CampaignRequest(name=b"e", lease=7, value=b"eins"))
    asked = CampaignRequest(name=b"e", lease=8, value=b"two")
    waiting = peer.queue(f"{ELECTION}Campaign", asked)
    peer.ask(f"{ELECTION}Leader", LeaderRequest(name=b"e"))
    peer.ask(f"{ELECTION}Resign", ResignRequest(leader=elected.leader))
    peer.note("the next", asked, waiting)
    for again in range(2):
        peer.ask(f"{ELECTION}Resign", ResignRequest(leader=elected.leader))
        peer.ask(f"{ELECTION}Proclaim", ProclaimRequest(leader=elected.leader, value=b"%d" % again))
    peer.get()


def election_refusals(peer: Peer) -> None:
    peer.ask(f"{ELECTION}Campaign", CampaignRequest(name=b"e", lease=7))
    peer.ask(f"{ELECTION}Leader", LeaderRequest())
    for request in (
        ProclaimRequest(),
        ProclaimRequest(leader=LeaderKey(name=b"e", key=b"e/7", rev=1, lease=7)),
    ):
        peer.ask(f"{ELECTION}Proclaim", request)
    peer.ask(f"{ELECTION}Resign", ResignRequest())


def observation(peer: Peer) -> None:
    for lease_id in (7, 8):
        peer.grant(lease_id)
    call = peer.server.channel.unary_stream(
        f"{ELECTION}Observe",
        request_serializer=LeaderRequest.SerializeToString,
        response_deserializer=LeaderResponse.FromString,
    )
    seen = call(LeaderRequest(name=b"e"), timeout=CALL_SECONDS_MAX)
    time.sleep(QUEUED_SECONDS)
    elected = peer.ask(f"{ELECTION}Campaign", CampaignRequest(name=b"e", lease=7, value=b"one"))
    peer.remark("the leader", comparable(next(seen)))
    peer.ask(f"{ELECTION}Proclaim", ProclaimRequest(leader=elected.leader, value=b"uno"))
    peer.remark("its new value", comparable(next(seen)))
    waiting = peer.queue(f"{ELECTION}Campaign", CampaignRequest(name=b"e", lease=8, value=b"two"))
    peer.revoke(7)
    peer.remark("the next leader", comparable(next(seen)))
    peer.remark("it knows", comparable(waiting.result()))
    seen.cancel()


SCRIPTS: tuple[Callable[[Peer], None], ...] = (
    grant_with_an_id,
    grant_without_an_id,
    grant_twice,
    short_times,
    long_times,
    special_ids,
    revoke_what_is_not_there,
    revoke_without_keys,
    revoke_with_keys,
    put_with_an_unknown_lease,
    put_shows_its_lease,
    move_between_leases,
    put_without_a_lease_detaches,
    ignore_lease,
    ignore_value,
    delete_detaches,
    delete_a_range,
    transaction,
    transaction_with_an_unknown_lease,
    compare_leases,
    keys_of_a_lease,
    time_of_what_is_not_there,
    listing,
    listing_after_a_renewal,
    renewals,
    no_renewal_at_all,
    expiry,
    granted_anew_after_its_end,
    renewed_beyond_its_end,
    moved_before_the_end,
    compaction,
    lock_and_unlock,
    lock_refusals,
    lock_in_turn,
    lock_given_up,
    lock_lost_in_the_queue,
    election,
    election_refusals,
    observation,
)
