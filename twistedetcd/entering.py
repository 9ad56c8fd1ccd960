"""
entering: what a new member asks of those that are there, before it has anything on its disk.

Who joins learns who the members are, and as which version they act.  Who founds a cluster with others finds
out whether it has been there before: then its data is lost, and it must not begin anew.  They are asked in
HTTP, at their peer URLs, where etcd's members answer the same.

Yours to change: how a refusal is worded.
Never: to go on without an answer that is needed.
Imports cluster, config, disk and what is below.  Imported by service.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

from twisted.logger import Logger

from twistedetcd.cluster.founding import Entrance, check_new, check_same_cluster, found, join
from twistedetcd.cluster.member import Member
from twistedetcd.cluster.version import Version, check_joinable
from twistedetcd.config import ETCD_VERSION, Config
from twistedetcd.disk import is_new
from twistedetcd.errors import MemberError
from twistedetcd.interfaces import IFiles
from twistedetcd.protocols.pages import Page, UnreachedError

CLUSTER_ID = "x-etcd-cluster-id"
MEMBERS_MAX = 1000
"""No cluster has more: an answer with more is none."""
_log = Logger()


Get = Callable[[str], Awaitable[Page]]
"""Gets a URL; raises `UnreachedError`."""


def must_ask(config: Config, files: IFiles) -> bool:
    """Whether a member has to `enter` before it is opened: it is new, and not alone."""
    joins, others = config.initial_cluster_state == "existing", len(config.initial_cluster) > 1
    return (joins or others or bool(config.discovery_srv)) and is_new(config, files)


async def enter(config: Config, get: Get) -> Entrance | None:
    """
    Prepare the first start of a member.

    Args:
        config: The member's.
        get: Asks the others.

    Returns:
        Its place in the cluster, if it joins one.

    Raises:
        ConfigError: It is not one of those that its flags name.
        MemberError: Nobody says who the members are; they are others than its flags say, or of another
            cluster, or act as a version that is not known here; or this member has been part of the cluster
            before.
    """
    if config.initial_cluster_state == "existing":
        return await _join(config, get)
    founding = found(config)
    try:
        members, number = await _members(_others(config), get)
    except UnreachedError:
        return None  # nobody is there yet: as it should be
    check_new(founding, members)
    check_same_cluster(founding, members, number)
    return None


async def _join(config: Config, get: Get) -> Entrance:
    try:
        members, number = await _members(_others(config), get)
    except UnreachedError as error:
        raise MemberError(f"cannot fetch cluster info from peer urls: {error}") from error
    entrance = join(config, members, number)
    others = [member for member in members if member.id != entrance.ourselves.id]
    clusters = [await _cluster_version(member, get) for member in others]
    check_joinable(clusters, Version.parse(ETCD_VERSION))
    return entrance


def _others(config: Config) -> list[str]:
    return sorted(url for name, urls in config.initial_cluster.items() if name != config.name for url in urls)


async def _members(urls: Sequence[str], get: Get) -> tuple[list[Member], int]:
    """The members and the cluster's id, as the first says that answers."""
    why = []
    for url in urls:
        try:
            page = await get(f"{url}/members")
            return _read_members(page)
        except UnreachedError as error:
            _log.info("{url} does not say who the members are: {reason}", url=url, reason=str(error))
            why.append(f"{url}: {error}")
    raise UnreachedError(
        "could not retrieve cluster information from the given URLs" + "".join(f"; {one}" for one in why)
    )


def _read_members(page: Page) -> tuple[list[Member], int]:
    try:
        found = json.loads(page.body)
        members = [Member.from_fields(one) for one in found]
        number = int(page.headers.get(CLUSTER_ID, ""), 16)
    except (ValueError, TypeError, RecursionError) as error:
        raise UnreachedError(f"what it answers is not a list of members: {error!r}") from error
    if not 0 < len(members) <= MEMBERS_MAX:
        raise UnreachedError(f"it names {len(members)} members")
    return members, number


async def _cluster_version(member: Member, get: Get) -> Version | None:
    """As which version the cluster acts, as far as a member knows."""
    for url in member.peer_urls:
        try:
            page = await get(f"{url}/version")
            return Version.parse(str(json.loads(page.body)["etcdcluster"]))
        except (UnreachedError, ValueError, TypeError, LookupError, RecursionError) as error:
            _log.info("{url} does not say the cluster's version: {reason}", url=url, reason=str(error))
    return None
