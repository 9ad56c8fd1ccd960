"""
How a member comes into a cluster: it founds it with others, or joins one that is there.

Founders compute the same ids, each for itself, from flags that must be the same for all of them.  Who joins
is known to the cluster already, by its peer URLs, and takes over the id that it has there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twistedetcd.cluster.member import Member, cluster_id, member_id
from twistedetcd.cluster.urls import same_places
from twistedetcd.config import Config
from twistedetcd.errors import ConfigError, MemberError


class Entrance(NamedTuple):
    """A member and the cluster that it becomes part of."""

    ourselves: Member
    """The one of ``members`` that is this one."""
    members: tuple[Member, ...]
    """All of them, by ascending id."""
    cluster_id: int


def found(config: Config) -> Entrance:
    """
    Found a cluster of the members that ``--initial-cluster`` names.

    Raises:
        ConfigError: This member is not among them, or not with the URLs that it advertises, or two of them
            have a URL in common.
    """
    _check_named(config)
    _check_advertised(config)
    _check_distinct(config)
    members = [
        Member(member_id(urls, config.initial_cluster_token), urls, name=name)
        for name, urls in config.initial_cluster.items()
    ]
    [ourselves] = [member for member in members if member.name == config.name]
    ids = [member.id for member in members]
    return Entrance(ourselves, tuple(sorted(members)), cluster_id(ids))


def check_new(entrance: Entrance, members: Sequence[Member]) -> None:
    """
    Refuse to be the same member a second time, after its data is lost: it may have voted already.

    Args:
        entrance: What `found` gave, or what `join` is about to.
        members: The members, as one of them gives them.

    Raises:
        MemberError: This member was part of the cluster before.
    """
    ourselves = entrance.ourselves
    if any(member.id == ourselves.id and member.client_urls for member in members):
        raise MemberError(
            f"member {ourselves.id:x} has already been bootstrapped: if its data is lost, remove it from the "
            "cluster and add it again"
        )


def check_same_cluster(entrance: Entrance, members: Sequence[Member], number: int) -> None:
    """
    Refuse to found a cluster where there is another one: its members and this one would never talk.

    Args:
        entrance: What `found` gave.
        members: The members of the one that is there.
        number: Its id.

    Raises:
        MemberError: It is another one.
    """
    if number != entrance.cluster_id:
        raise MemberError(
            f"cluster ID mismatch: --initial-cluster and --initial-cluster-token make cluster "
            f"{entrance.cluster_id:x}, and at {' '.join(url for one in members for url in one.peer_urls)} "
            f"there is cluster {number:x}"
        )


def join(config: Config, members: Sequence[Member], number: int) -> Entrance:
    """
    Join a cluster that is there.

    Args:
        config: This member's; ``--initial-cluster`` must name all members of the cluster, and this one.
        members: The members, as one of them gives them; this one is among them.
        number: The cluster's id, from the same source.

    Raises:
        ConfigError: This member is not among those that ``--initial-cluster`` names, or two of those have a
            URL in common.
        MemberError: They are not the members of the cluster, or this one has been part of it before.
    """
    _check_named(config)
    _check_distinct(config)
    if len(members) != len(config.initial_cluster):
        raise MemberError(
            f"error validating peerURLs: member count is unequal: --initial-cluster names "
            f"{len(config.initial_cluster)}, the cluster has {len(members)}"
        )
    names = {member.id: _name_of(member, config.initial_cluster) for member in members}
    matched = [member for member in members if names[member.id] == config.name]
    if not matched:
        raise MemberError(f"error validating peerURLs: no member of the cluster is {config.name}")
    ourselves = matched[0]._replace(name=config.name)
    joined = [ourselves if member.id == ourselves.id else member for member in members]
    entrance = Entrance(ourselves, tuple(sorted(joined)), number)
    check_new(entrance, members)
    return entrance


def _name_of(member: Member, cluster: Mapping[str, tuple[str, ...]]) -> str:
    for name, urls in cluster.items():
        if same_places(urls, member.peer_urls):
            return name
    raise MemberError(
        "error validating peerURLs: PeerURLs: no match found for existing member "
        f"({member.id:x}, [{' '.join(member.peer_urls)}])"
    )


def _check_named(config: Config) -> None:
    if config.name not in config.initial_cluster:
        raise ConfigError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')


def _check_distinct(config: Config) -> None:
    urls = [url for urls in config.initial_cluster.values() for url in urls]
    if len(set(urls)) < len(urls):
        raise ConfigError(f"initial cluster {_written(config.initial_cluster)} has duplicate url")


def _check_advertised(config: Config) -> None:
    listed, advertised = config.initial_cluster[config.name], config.initial_advertise_peer_urls
    if same_places(set(listed), advertised):
        return
    only_listed = {config.name: tuple(url for url in listed if url not in advertised)}
    if only_listed[config.name]:
        raise ConfigError(
            f"--initial-cluster has {_written(only_listed)} but missing from "
            f"--initial-advertise-peer-urls={','.join(advertised)}"
        )
    only_advertised = ",".join(url for url in advertised if url not in listed)
    raise ConfigError(
        f"--initial-advertise-peer-urls has {only_advertised} but missing from "
        f"--initial-cluster={_written({config.name: listed})}"
    )


def _written(cluster: Mapping[str, tuple[str, ...]]) -> str:
    return ",".join(f"{name}={url}" for name, urls in cluster.items() for url in urls)
