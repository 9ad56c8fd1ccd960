"""Founding a cluster, and joining one (reference, storage section 19)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.founding import check_new, check_same_cluster, found, join
from twistedetcd.cluster.members import Member
from twistedetcd.config import Config, parse
from twistedetcd.errors import ConfigError, MemberError


def config(*arguments: str, cluster: str = "", url: str = "http://a:1") -> Config:
    """That of member ``m1``, which is at ``http://a:1``."""
    flags = ["--name=m1", f"--initial-cluster={cluster}", f"--initial-advertise-peer-urls={url}"]
    return parse([*flags, *arguments], {}, lambda path: b"")


class FoundTests(SynchronousTestCase):
    """Founding."""

    def test_alone(self) -> None:
        """The default member is that of etcd's documentation."""
        entrance = found(parse([], {}, lambda path: b""))
        expected = Member(0x8E9E05C52164694D, ("http://localhost:2380",), name="default")
        self.assertEqual((expected, (expected,), 0xCDF818194E3A8C32), entrance)

    def test_three(self) -> None:
        """Etcd's Procfile: ascending by id, with names; who of them we are changes nothing else."""
        urls = {f"m{n}": f"http://127.0.0.1:{n}2380" for n in (1, 2, 3)}
        cluster = ",".join(f"{name}={url}" for name, url in urls.items())
        entrances = {
            name: found(
                config(
                    "--initial-cluster-token=etcd-cluster-1",
                    f"--name={name}",
                    cluster=cluster,
                    url=urls[name],
                )
            )
            for name in urls
        }
        ids = [0x8211F1D0F64F3269, 0x91BC3C398FB3C146, 0xFD422379FDA50E48]
        for name, (ourselves, members, number) in entrances.items():
            self.assertEqual(ids, [member.id for member in members])
            self.assertEqual({*urls}, {member.name for member in members})
            self.assertEqual((name, (urls[name],)), (ourselves.name, ourselves.peer_urls))
            self.assertIn(ourselves, members)
            self.assertEqual(0xEF37AD9DC622A7C4, number)

    def test_several_urls(self) -> None:
        """A member may have several, in any order, and spelled otherwise where it advertises them (KF-59)."""
        cluster = "m1=http://b:1,m1=http://[::1]:1"
        ourselves = found(config(cluster=cluster, url="http://b:1,http://[0:0::1]:1")).ourselves
        self.assertEqual(("http://[::1]:1", "http://b:1"), ourselves.peer_urls)

    def test_refused(self) -> None:
        """In etcd's words, as far as they do not quote what names stand for."""
        for cluster, url, reason in (
            (
                "m2=http://a:1",
                "http://a:1",
                'couldn\'t find local name "m1" in the initial cluster configuration',
            ),
            (
                "m2=http://a:1,m1=http://a:1",
                "http://a:1",
                "initial cluster m1=http://a:1,m2=http://a:1 has duplicate url",
            ),
            (
                "m1=http://a:1,m1=http://a:1",
                "http://a:1",
                "initial cluster m1=http://a:1,m1=http://a:1 has duplicate url",
            ),
            (
                "m1=http://b:1,m1=http://a:1",
                "http://a:1",
                "--initial-cluster has m1=http://b:1 but missing from --initial-advertise-peer-urls=http://a:1",
            ),
            (
                "m1=http://a:1",
                "http://a:1,http://b:1",
                "--initial-advertise-peer-urls has http://b:1 but missing from --initial-cluster=m1=http://a:1",
            ),
            (
                "m1=http://localhost:1",
                "http://127.0.0.1:1",
                "--initial-cluster has m1=http://localhost:1 but missing from "
                "--initial-advertise-peer-urls=http://127.0.0.1:1",
            ),
        ):
            error = self.assertRaises(ConfigError, found, config(cluster=cluster, url=url))
            self.assertEqual(reason, str(error))

    def test_second_time(self) -> None:
        """One whose data is lost does not come back as a founder, once it has served (KF-11)."""
        entrance = found(config(cluster="m1=http://a:1,m2=http://b:1"))
        check_new(entrance, [])
        check_new(entrance, entrance.members)
        other = [
            member._replace(client_urls=("http://b:2",)) for member in entrance.members if member.name != "m1"
        ]
        check_new(entrance, other)
        served = entrance.ourselves._replace(client_urls=("http://a:2",))
        error = self.assertRaises(MemberError, check_new, entrance, [*other, served])
        self.assertIn(f"member {served.id:x} has already been bootstrapped", str(error))

    def test_another_cluster(self) -> None:
        """Where there is a cluster already, one with another token or other members is not founded."""
        entrance = found(config(cluster="m1=http://a:1,m2=http://b:1"))
        check_same_cluster(entrance, entrance.members, entrance.cluster_id)
        error = self.assertRaises(MemberError, check_same_cluster, entrance, entrance.members, 0xABC)
        self.assertEqual(
            "cluster ID mismatch: --initial-cluster and --initial-cluster-token make cluster "
            f"{entrance.cluster_id:x}, and at {' '.join(one.peer_urls[0] for one in entrance.members)} there "
            "is cluster abc",
            str(error),
        )


class JoinTests(SynchronousTestCase):
    """Joining."""

    one = Member(7, ("http://[::1]:1",), name="one", client_urls=("http://c:1",))
    ours = Member(5, ("http://a:1", "http://b:1"), is_learner=True)

    def test_adopted(self) -> None:
        """We have the id, the cluster's id and the vote that the cluster gave us; names may be any."""
        flags = config(cluster="m1=http://b:1,m1=http://a:1,x=http://[0::1]:1")
        entrance = join(flags, [self.one, self.ours], 9)
        expected = self.ours._replace(name="m1")
        self.assertEqual((expected, (expected, self.one), 9), entrance)

    def test_kf_11_second_time(self) -> None:
        """One whose data is lost does not join as what it was: it may have voted."""
        served = self.ours._replace(name="m1", client_urls=("http://a:2",))
        flags = config(cluster="m1=http://a:1,m1=http://b:1,x=http://[::1]:1")
        error = self.assertRaises(MemberError, join, flags, [self.one, served], 9)
        self.assertIn("member 5 has already been bootstrapped: if its data is lost, remove it", str(error))

    def test_advertised_urls_do_not_matter(self) -> None:
        """What counts is what the cluster was told when this member was added."""
        flags = config(cluster="m1=http://a:1,m1=http://b:1,x=http://[::1]:1", url="http://z:1")
        self.assertEqual(5, join(flags, [self.one, self.ours], 9).ourselves.id)

    def test_refused(self) -> None:
        """All members must be named, and each found by its URLs."""
        members = [self.one, self.ours]
        for cluster, reason in {
            "m1=http://a:1": "member count is unequal: --initial-cluster names 1, the cluster has 2",
            "m1=http://a:1,x=http://[::1]:1": (
                "PeerURLs: no match found for existing member (5, [http://a:1 http://b:1])"
            ),
            "m1=http://a:1,m1=http://b:1,x=http://[::2]:1": (
                "PeerURLs: no match found for existing member (7, [http://[::1]:1])"
            ),
        }.items():
            error = self.assertRaises(MemberError, join, config(cluster=cluster), members, 9)
            self.assertEqual(f"error validating peerURLs: {reason}", str(error))
        twice = [self.one, self.one._replace(id=8)]
        flags = config(cluster="m1=http://a:1,x=http://[::1]:1")
        error = self.assertRaises(MemberError, join, flags, twice, 9)
        self.assertEqual("error validating peerURLs: no member of the cluster is m1", str(error))
        self.assertRaises(ConfigError, join, config(cluster="x=http://[::1]:1"), members, 9)
        self.assertRaises(ConfigError, join, config(cluster="m1=http://a:1,x=http://a:1"), members, 9)
