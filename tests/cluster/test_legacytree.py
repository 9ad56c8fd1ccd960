"""The members as a raft snapshot of etcd's has them."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.legacytree import Membership, decode_membership, encode_membership
from twistedetcd.cluster.members import Member

ONE = Member(
    0xF4A457008D1441F2, ("http://127.0.0.1:24801",), name="m1", client_urls=("http://127.0.0.1:24791",)
)
LEARNER = Member(0xEB6F5E150C6F6752, ("http://127.0.0.1:24804",), is_learner=True)
REMOVED = 0xF8ECB648AC5F8A5C


def node(path: str, index: int, value: str = "", children: Any = None) -> dict[str, Any]:
    """One place of the tree as etcd writes it."""
    return {
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    }


def etcd_dump() -> dict[str, Any]:
    """
    What etcd 3.5.1 wrote after it had added a learner, removed it and added another one.

    Events of its history and counters of its use are left out.
    """
    learner, one = "/0/members/eb6f5e150c6f6752", "/0/members/f4a457008d1441f2"
    members = {
        "eb6f5e150c6f6752": node(
            learner,
            7,
            children={
                "raftAttributes": node(
                    f"{learner}/raftAttributes",
                    7,
                    '{"peerURLs":["http://127.0.0.1:24804"],"isLearner":true}',
                )
            },
        ),
        "f4a457008d1441f2": node(
            one,
            1,
            children={
                "attributes": node(
                    f"{one}/attributes", 2, '{"name":"m1","clientURLs":["http://127.0.0.1:24791"]}'
                ),
                "raftAttributes": node(f"{one}/raftAttributes", 1, '{"peerURLs":["http://127.0.0.1:24801"]}'),
            },
        ),
    }
    removed = {"f8ecb648ac5f8a5c": node("/0/removed_members/f8ecb648ac5f8a5c", 6)}
    zero = {
        "members": node("/0/members", 1, children=members),
        "removed_members": node("/0/removed_members", 6, children=removed),
        "version": node("/0/version", 3, "3.5.0"),
    }
    root = node("/", 0, children={"0": node("/0", 0, children=zero), "1": node("/1", 0, children={})})
    return {
        "Root": root,
        "WatcherHub": {"EventHistory": {"StartIndex": 1, "LastIndex": 7}},
        "CurrentIndex": 7,
        "CurrentVersion": 2,
    }


def without_indexes(tree: Any) -> Any:
    """The tree without the numbers of the changes that made it."""
    if not isinstance(tree, dict):
        return tree
    return {name: without_indexes(value) for name, value in tree.items() if not name.endswith("edIndex")}


class LegacyTreeTests(SynchronousTestCase):
    """One form, there and back."""

    def test_read(self) -> None:
        """What etcd wrote is read."""
        found = decode_membership(json.dumps(etcd_dump()).encode())
        self.assertEqual(Membership([LEARNER, ONE], [REMOVED], "3.5.0"), found)

    def test_written(self) -> None:
        """What we write is what etcd wrote, but for the numbers of its changes."""
        ours = json.loads(encode_membership([LEARNER, ONE], [REMOVED], "3.5.0"))
        self.assertEqual(without_indexes(etcd_dump()["Root"]), without_indexes(ours["Root"]))
        self.assertEqual(2, ours["CurrentVersion"])

    def test_round_trip(self) -> None:
        """What we write is read again; what there is none of leaves no trace."""
        for membership in (
            Membership([], [], ""),
            Membership([Member(1, ())], [], "3.6.0"),
            Membership([Member(1, ("http://a:1", "http://b:1"), True, 'ü"', ("http://c:1",))], [2, 3], ""),
        ):
            self.assertEqual(membership, decode_membership(encode_membership(*membership)))
        empty = json.loads(encode_membership([], [], ""))
        self.assertEqual(["members"], list(empty["Root"]["Children"]["0"]["Children"]))

    def test_no_dump(self) -> None:
        """Anything else is refused with a ValueError."""
        number = {"Root": {"Path": "/", "Children": {"0": {"Path": "/0", "Children": {"members": 1}}}}}
        for data in (b"", b"{", b"[]", b"{}", b'{"Root":null}', b'{"Root":{"Path":"/","Children":null}}'):
            self.assertRaises(ValueError, decode_membership, data)
        self.assertRaises(ValueError, decode_membership, json.dumps(number).encode())
        for damaged in ("xyz", ""):
            dump = etcd_dump()
            children = dump["Root"]["Children"]["0"]["Children"]["removed_members"]["Children"]
            children[damaged] = node("/", 1)
            self.assertRaises(ValueError, decode_membership, json.dumps(dump).encode())
