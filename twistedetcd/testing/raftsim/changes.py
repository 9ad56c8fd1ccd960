"""Changes of membership: sensible ones mostly, some that must be refused, some while others are under way."""

from __future__ import annotations

from twistedetcd.raft.changebytes import encode_change
from twistedetcd.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    Message,
    MessageType,
)
from twistedetcd.testing.raftsim.cluster import IDS_MAX, MEMBERS_MAX, Cluster

_ADD, _REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE
_UPDATE, _LEARN = ConfChangeType.UPDATE_NODE, ConfChangeType.ADD_LEARNER_NODE


def change(cluster: Cluster) -> None:
    """Somebody proposes one change, or two in one message."""
    random = cluster.random
    leader = cluster.leader()
    up = cluster.up()
    member = leader if leader is not None and random.random() < 0.8 else random.choice(up) if up else None
    if member is None:
        return
    asked = [_draw(cluster) for _ in range(random.choice((1, 1, 1, 1, 2)))]
    member.note("proposes {}", asked)
    if len(asked) == 1:
        member.call(lambda node: node.propose_conf_change(asked[0]))
    else:
        entries = [Entry(0, 0, data, kind) for kind, data in map(encode_change, asked)]
        message = Message(MessageType.PROP, sender=member.id, entries=entries)
        member.call(lambda node: node.step(message))
    cluster.settle(member)


def _draw(cluster: Cluster) -> ConfChange | ConfChangeV2:
    random, configuration = cluster.random, cluster.configuration
    if configuration.voters_outgoing and random.random() < 0.8:
        return ConfChangeV2()
    dice = random.random()
    if dice < 0.3:
        kind, id = _single(cluster)
        return ConfChange(0, kind, id)
    if dice < 0.5:
        return ConfChangeV2(changes=(_single(cluster),))
    singles = {single.node_id: single for single in [_single(cluster) for _ in range(random.randint(1, 3))]}
    transition = random.choice(list(ConfChangeTransition))
    return ConfChangeV2(transition, tuple(singles.values()))


def _single(cluster: Cluster) -> ConfChangeSingle:
    random, (voters, learners, *_) = cluster.random, cluster.configuration
    dice = random.random()
    if dice < 0.35 and len(cluster.members) < IDS_MAX and len(voters) + len(learners) < MEMBERS_MAX:
        return ConfChangeSingle(random.choice((_ADD, _LEARN)), cluster.join())
    if dice < 0.5 and learners:
        return ConfChangeSingle(_ADD, random.choice(learners))
    if dice < 0.75 and len(voters) > 1:
        return ConfChangeSingle(random.choice((_REMOVE, _REMOVE, _LEARN)), random.choice(voters))
    if dice < 0.8 and learners:
        return ConfChangeSingle(_REMOVE, random.choice(learners))
    # Anything: somebody who was removed comes back, the last voter goes, nothing changes.
    return ConfChangeSingle(
        random.choice((_ADD, _LEARN, _UPDATE, _REMOVE)), random.choice(list(cluster.members))
    )
