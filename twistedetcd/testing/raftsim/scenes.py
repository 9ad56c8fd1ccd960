"""Several things in a row that chance alone would hardly put together, and that raft must survive."""

from __future__ import annotations

from collections.abc import Callable

from twistedetcd.raft.node import RawNode
from twistedetcd.raft.types import Message, MessageType
from twistedetcd.testing.raftsim.cluster import Cluster
from twistedetcd.testing.raftsim.member import Member

_VOTING = frozenset(
    {MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP, MessageType.VOTE, MessageType.VOTE_RESP}
)
_DELIVERIES_MAX = 60


def depose(cluster: Cluster) -> None:
    """
    A leader is cut off and does not notice: others elect another and commit, and somebody asks the old one.

    The links stay broken, until something heals them.
    """
    leader = cluster.leader()
    if leader is None:
        return
    cluster.ask(leader, cluster.name("r"))
    leader.work_through()
    _exchange(cluster, lambda message: message.type is MessageType.HEARTBEAT)
    cluster.world.network.echo(lambda message: message.type is MessageType.HEARTBEAT_RESP)
    cluster.deliver_quietly()
    leader.note("is cut off from all others")
    for other in list(cluster.members):
        if other != leader.id:
            cluster.world.network.break_link(leader.id, other)
            cluster.world.network.break_link(other, leader.id)
    for _ in range(3 * cluster.profile.raft["election_ticks"]):
        for member in cluster.up():
            if member is not leader:
                member.stalled = False
                member.tick()
                member.work_through()
        cluster.deliver_quietly()
        successor = cluster.leader()
        if successor is not None and successor is not leader:
            break
    else:
        return
    successor.call(lambda node: node.propose([cluster.name("p")]))
    successor.work_through()
    cluster.deliver_quietly()
    if leader.node is not None:
        cluster.ask(leader, cluster.name("r"))


def tug(cluster: Cluster) -> None:
    """
    Leaders pull at one member that is deaf to its disk: the first, another, and the first again.

    Only that member hears their appends, so each replaces what the one before has brought, and the first
    brings the same once more, just before the answer to its first save is heard.
    """
    cluster.world.network.heal()
    cluster.quiet_round()
    cluster.quiet_round()
    up = [member for member in cluster.up() if member.id in cluster.configuration.voters]
    if len(up) < 5:
        return  # With fewer the one that is torn would be needed to elect anybody.
    torn, first, second = cluster.random.sample(up, 3)
    torn.note("is deaf to its disk, and {} and {} pull at it", first.id, second.id)
    torn.deaf = True
    for puller, times in ((first, 1), (second, 1), (first, 2)):
        if not _elect(cluster, puller, torn):
            break
        puller.call(lambda node: node.propose([cluster.name("p")]))
        puller.work_through()
        _exchange(cluster, _between(puller, torn), _brings_again if times == 2 else _never)
    torn.deaf = False


def _elect(cluster: Cluster, candidate: Member, torn: Member) -> bool:
    """Everybody else forgets whom they followed, and votes if they may; whether it leads."""
    if candidate.leads and candidate is cluster.leader():
        return True
    for member in cluster.up():
        if member is not torn:
            member.stalled = False
            member.call(RawNode.forget_leader)
    candidate.call(RawNode.campaign)
    candidate.work_through()
    _exchange(cluster, lambda message: message.type in _VOTING and message.to != torn.id)
    return candidate.leads


def _between(one: Member, other: Member) -> Callable[[Message], bool]:
    return lambda message: {message.sender, message.to} == {one.id, other.id}


def _never(message: Message) -> bool:
    return False


def _brings_again(message: Message) -> bool:
    """Whether a leader sends what it has from an earlier term."""
    return bool(message.entries) and message.entries[0].term < message.term


def _exchange(
    cluster: Cluster, wanted: Callable[[Message], bool], last: Callable[[Message], bool] = _never
) -> None:
    """
    Deliver these messages and no others, and let those who hear them answer.

    Args:
        cluster: Whose messages.
        wanted: What is delivered.
        last: After such a message it ends, before it is answered.
    """
    for _ in range(_DELIVERIES_MAX):
        message = cluster.world.network.pick(wanted)
        if message is None:
            return
        member = cluster.members.get(message.to)
        if member is not None and member.node is not None:
            member.hear(message)
            if last(message):
                return
            member.work_through()
