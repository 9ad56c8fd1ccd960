"""
The members as etcd puts them into a raft snapshot: a dump of the small tree that its first API left behind.

An etcd that starts from a ``.snap`` file reads members, removed members and the cluster version from there.
The keys are not in it.  The tree:

    /0/members/<id>/raftAttributes    {"peerURLs":[...],"isLearner":true}
    /0/members/<id>/attributes        {"name":"...","clientURLs":[...]}, once the member has said so
    /0/removed_members/<id>           nothing
    /0/version                        3.6.0
    /1                                an empty directory

The form is that of files which etcd 3.5 wrote.  The history of events that it dumps along is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twistedetcd.cluster.member import Member

_NEVER = "0001-01-01T00:00:00Z"
_VERSION = 2  # of the format

Tree = dict[str, "str | Tree"]


class Membership(NamedTuple):
    """What such a dump says."""

    members: list[Member]
    """By ascending id."""
    removed: list[int]
    """Ascending."""
    version: str
    """Empty while there is none."""


def encode_membership(members: Sequence[Member], removed: Sequence[int], version: str) -> bytes:
    """The dump of a tree that holds these."""
    tree: Tree = {"members": {f"{member.id:x}": _attributes(member) for member in members}}
    if removed:
        tree["removed_members"] = {f"{number:x}": "" for number in removed}
    if version:
        tree["version"] = version
    dump = {"Root": _node("/", {"0": tree, "1": {}}), "CurrentIndex": 0, "CurrentVersion": _VERSION}
    return _json(dump).encode()


def _attributes(member: Member) -> Tree:
    raft: dict[str, Any] = {"peerURLs": list(member.peer_urls)}
    if member.is_learner:
        raft["isLearner"] = True
    tree: Tree = {"raftAttributes": _json(raft)}
    said: dict[str, Any] = {}
    if member.name:
        said["name"] = member.name
    if member.client_urls:
        said["clientURLs"] = list(member.client_urls)
    if said:
        tree["attributes"] = _json(said)
    return tree


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _node(path: str, content: str | Tree) -> dict[str, object]:
    """A directory has children, if only none; a file has a value."""
    value, children = "", None
    if isinstance(content, str):
        value = content
    else:
        children = {name: _node(f"{path.rstrip('/')}/{name}", below) for name, below in content.items()}
    return {
        "Path": path,
        "CreatedIndex": 0,
        "ModifiedIndex": 0,
        "ExpireTime": _NEVER,
        "Value": value,
        "Children": children,
    }


def decode_membership(data: bytes) -> Membership:
    """
    Read a dump, etcd's or ours.

    Raises:
        ValueError: It is not one.
    """
    try:
        top = _children(json.loads(data)["Root"])
        tree = _children(top["0"]) if "0" in top else {}
        members = [_member(name, node) for name, node in _children_of(tree, "members").items()]
        removed = sorted(int(name, 16) for name in _children_of(tree, "removed_members"))
        version = str(tree["version"]["Value"]) if "version" in tree else ""
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a dump of the members: {error!r}") from error
    return Membership(sorted(members), removed, version)


def _children(node: Mapping[str, Any]) -> Mapping[str, Any]:
    children = node["Children"]
    if not isinstance(children, dict):
        raise ValueError(f"{node['Path']} is not a directory")
    return children


def _children_of(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _children(tree[name]) if name in tree else {}


def _member(name: str, node: Mapping[str, Any]) -> Member:
    """A member that was removed half, or never said anything, has only some of its attributes."""
    fields: dict[str, Any] = {"id": int(name, 16), "peerURLs": []}
    for part in _children(node).values():
        fields |= json.loads(part["Value"])
    return Member.from_fields(fields)
