"""What may happen in a step.  Each action throws its own dice, with a bias towards trouble."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twistedetcd.raft.node import RawNode
from twistedetcd.testing.raftsim.changes import change
from twistedetcd.testing.raftsim.cluster import Cluster
from twistedetcd.testing.raftsim.member import Member
from twistedetcd.testing.raftsim.scenes import depose, tug


def deliver(cluster: Cluster) -> None:
    """A few messages arrive."""
    for _ in range(cluster.random.randint(1, 4)):
        message = cluster.world.network.take()
        if message is not None:
            cluster.deliver(message)


def work(cluster: Cluster) -> None:
    """A member does one part of what it owes."""
    busy = [member for member in cluster.up() if member.has_work()]
    if busy:
        cluster.random.choice(busy).work()


def tick(cluster: Cluster) -> None:
    """Time passes for most."""
    for member in cluster.up():
        if cluster.random.random() < 0.9:
            member.tick()
            cluster.settle(member)


def hurry(cluster: Cluster) -> None:
    """The clocks of one or two members run ahead: they may campaign, both at once."""
    ticks = cluster.random.randint(1, 2) * cluster.profile.raft["election_ticks"]
    for _ in range(cluster.random.choice((1, 1, 2))):
        member = _anybody(cluster)
        for _ in range(ticks if member is not None else 0):
            if member is not None:
                member.tick()


def propose(cluster: Cluster) -> None:
    """A batch of proposals, mostly to the leader; others forward it."""
    member = _leader_or_anybody(cluster, 0.7)
    if member is None:
        return
    random = cluster.random
    datas = [
        cluster.name("p") + bytes(random.choice((0, 0, 3, 30))) for _ in range(random.choice((1, 1, 2, 5)))
    ]
    member.note("proposes {}", datas)
    member.call(lambda node: node.propose(datas))
    cluster.settle(member)


def read(cluster: Cluster) -> None:
    """A read, anywhere; a name is never used twice."""
    believers = [member for member in cluster.up() if member.leads]
    # Of several who believe to lead all but one are wrong.
    asked = believers if len(believers) > 1 else [_leader_or_anybody(cluster, 0.3)]
    for member in asked:
        if member is not None:
            cluster.ask(member, cluster.name("r"))


def transfer(cluster: Cluster) -> None:
    """Somebody wants another leader."""
    member = _leader_or_anybody(cluster, 0.7)
    if member is not None:
        target = cluster.random.choice(list(cluster.members))
        member.note("asks for a transfer to {}", target)
        member.call(lambda node: node.transfer_leader(target))
        cluster.settle(member)


def forget(cluster: Cluster) -> None:
    """A member forgets its leader."""
    member = _anybody(cluster)
    if member is not None:
        member.call(RawNode.forget_leader)


def campaign(cluster: Cluster) -> None:
    """One to three members campaign at once."""
    for _ in range(cluster.random.choice((1, 1, 2, 3))):
        member = _anybody(cluster)
        if member is not None:
            member.call(RawNode.campaign)
            cluster.settle(member)


def unreachable(cluster: Cluster) -> None:
    """A leader hears that it does not reach somebody."""
    member = cluster.leader()
    if member is not None:
        target = cluster.random.choice(list(cluster.members))
        member.call(lambda node: node.report_unreachable(target))


def compact(cluster: Cluster) -> None:
    """A member makes a snapshot and drops its log."""
    member = _anybody(cluster)
    if member is not None:
        member.compact(cluster.random.choice((0, 0, 2, 10)))


def crash(cluster: Cluster) -> None:
    """A member crashes, preferably in the middle of its duties; sometimes all do."""
    random = cluster.random
    victims = cluster.up()
    if not victims:
        return
    if random.random() > 0.08:
        busy = [member for member in victims if member.has_work()]
        victims = [random.choice(busy if busy and random.random() < 0.7 else victims)]
    for member in victims:
        for _ in range(random.randint(0, 3)):
            if member.has_work():
                member.work()
        member.crash()


def restart(cluster: Cluster) -> None:
    """A member that is down starts."""
    down = cluster.down()
    if down:
        cluster.random.choice(down).start()


def stall(cluster: Cluster) -> None:
    """A disk takes nothing for a while, or its answers are late; or it works again."""
    member = cluster.leader() if cluster.random.random() < 0.3 else _anybody(cluster)
    if member is not None:
        if cluster.random.random() < 0.7:
            member.stalled = not member.stalled
        else:
            member.deaf = not member.deaf
        member.note("has a disk that stalls: {}, and is deaf to it: {}", member.stalled, member.deaf)


def partition(cluster: Cluster) -> None:
    """Some do not reach the others, the leader rather than anybody else, in one direction or both."""
    random, ids = cluster.random, list(cluster.members)
    inside = random.sample(ids, random.randint(1, max(1, len(ids) // 2)))
    leader = cluster.leader()
    if leader is not None and leader.id not in inside and random.random() < 0.5:
        inside[0] = leader.id
    ways = random.choice(("both", "both", "in", "out"))
    for one in inside:
        for other in ids:
            if other not in inside:
                if ways != "in":
                    cluster.world.network.break_link(one, other)
                if ways != "out":
                    cluster.world.network.break_link(other, one)
    cluster.members[inside[0]].note("and {} are cut off, {}", inside[1:], ways)


def heal(cluster: Cluster) -> None:
    """Every link works again."""
    cluster.world.network.heal()


def calm(cluster: Cluster) -> None:
    """For a while nothing goes wrong, so that there is something to break afterwards."""
    random = cluster.random
    if random.random() < 0.7:
        cluster.world.network.heal()
    for member in cluster.down():
        if random.random() < 0.8:
            member.start()
    for _ in range(random.randint(2, 3 + cluster.profile.raft["election_ticks"])):
        cluster.quiet_round()


ACTIONS: Mapping[str, Callable[[Cluster], None]] = {
    action.__name__: action
    for action in (
        deliver,
        work,
        tick,
        hurry,
        propose,
        read,
        change,
        transfer,
        forget,
        campaign,
        compact,
        crash,
        restart,
        stall,
        partition,
        heal,
        unreachable,
        calm,
        depose,
        tug,
    )
}


def _anybody(cluster: Cluster) -> Member | None:
    up = cluster.up()
    return cluster.random.choice(up) if up else None


def _leader_or_anybody(cluster: Cluster, chance: float) -> Member | None:
    leader = cluster.leader()
    return leader if leader is not None and cluster.random.random() < chance else _anybody(cluster)
