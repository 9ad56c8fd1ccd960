"""What a new member asks of the others before its first start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.cluster.founding import Entrance, found
from twistedetcd.cluster.member import member_id
from twistedetcd.config import Config, parse
from twistedetcd.entering import enter, must_ask
from twistedetcd.errors import ConfigError, MemberError
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.protocols.pages import Page, UnreachedError

URLS = {name: f"http://10.0.0.{number}:2380" for number, name in enumerate("abc", 1)}
CLUSTER = 0xABC


def config(name: str, *flags: str, cluster: Mapping[str, str] = URLS) -> Config:
    listed = ",".join(f"{one}={url}" for one, url in cluster.items())
    url = f"--initial-advertise-peer-urls={cluster.get(name, 'http://10.0.0.9:2380')}"
    return parse([f"--name={name}", f"--initial-cluster={listed}", url, *flags], {}, lambda path: b"")


def fields(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "peerURLs": [URLS[name]], "name": name, "clientURLs": ["http://c"], **more}


class Others:
    """Members that answer, or do not."""

    def __init__(self, pages: Mapping[str, Any]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    async def get(self, url: str) -> Page:
        self.asked.append(url)
        page = self.pages.get(url)
        if page is None:
            raise UnreachedError("connection refused")
        if isinstance(page, Page):
            return page
        return Page(json.dumps(page).encode(), {"x-etcd-cluster-id": f"{CLUSTER:x}"})


class EnterCase(SynchronousTestCase):
    """A member enters."""

    def enter(self, of: Config, pages: Mapping[str, Any]) -> Entrance | None:
        self.others = Others(pages)
        return self.successResultOf(Deferred.fromCoroutine(enter(of, self.others.get)))

    def refused(self, of: Config, pages: Mapping[str, Any], kind: type[Exception] = MemberError) -> str:
        self.others = Others(pages)
        failure = self.failureResultOf(Deferred.fromCoroutine(enter(of, self.others.get)), kind)
        return str(failure.value)


class FoundTests(EnterCase):
    """Who founds a cluster."""

    def test_asks(self) -> None:
        """Only one who is new, and not alone, asks anybody."""
        alone = parse([], {}, lambda path: b"")
        files = SimulatedFiles(Random(1))
        self.assertFalse(must_ask(alone, files))
        self.assertTrue(must_ask(config("a"), files))
        self.assertTrue(must_ask(parse(["--initial-cluster-state=existing"], {}, lambda path: b""), files))

    def test_nobody_there(self) -> None:
        """Nobody is there yet: it begins."""
        self.assertIsNone(self.enter(config("a"), {}))
        self.assertEqual([f"{URLS['b']}/members", f"{URLS['c']}/members"], self.others.asked)

    def test_others_wait_for_it(self) -> None:
        """The others wait for it: it begins, too."""
        number = member_id((URLS["a"],), "etcd-cluster")
        waiting = json.dumps([fields("a", number, clientURLs=None), fields("b", 2)]).encode()
        page = Page(waiting, {"x-etcd-cluster-id": f"{found(config('a')).cluster_id:x}"})
        self.assertIsNone(self.enter(config("a"), {f"{URLS['b']}/members": page}))
        self.assertEqual(1, len(self.others.asked))

    def test_been_there(self) -> None:
        """It was there before, and has lost its data: it may have voted, and must not begin anew."""
        number = member_id((URLS["a"],), "etcd-cluster")
        self.assertIn(
            f"member {number:x} has already been bootstrapped",
            self.refused(config("a"), {f"{URLS['c']}/members": [fields("a", number)]}),
        )

    def test_another_cluster(self) -> None:
        """Where there is another cluster none is founded: their members would never talk."""
        others = {f"{URLS['b']}/members": [fields("b", 2)]}
        self.assertIn("cluster ID mismatch", self.refused(config("a"), others))

    def test_not_named(self) -> None:
        """Flags that do not name it are refused before anybody is asked."""
        self.assertIn('couldn\'t find local name "z"', self.refused(config("z"), {}, ConfigError))
        self.assertEqual([], self.others.asked)


class JoinTests(EnterCase):
    """Who joins one that is there."""

    def setUp(self) -> None:
        self.config = config("c", "--initial-cluster-state=existing")
        self.members = [
            fields("a", 1),
            fields("b", 2),
            {"id": 3, "peerURLs": [URLS["c"]], "name": "", "isLearner": True},
        ]
        self.pages: dict[str, Any] = {
            f"{URLS['b']}/members": self.members,
            f"{URLS['a']}/version": {"etcdserver": "3.6.14", "etcdcluster": "3.6.0"},
        }

    def test_joins(self) -> None:
        """It takes the id that the cluster gave it, from the first that answers."""
        entrance = self.enter(self.config, self.pages)
        assert entrance is not None
        ourselves = entrance.ourselves
        self.assertEqual((3, "c", CLUSTER), (ourselves.id, ourselves.name, entrance.cluster_id))
        self.assertEqual([1, 2, 3], [member.id for member in entrance.members])
        self.assertTrue(ourselves.is_learner)

    def test_nobody_answers(self) -> None:
        """Without an answer there is no start, and each attempt is told."""
        text = self.refused(self.config, {})
        self.assertIn("cannot fetch cluster info from peer urls", text)
        self.assertIn(f"{URLS['a']}: connection refused; {URLS['b']}: connection refused", text)

    def test_nonsense(self) -> None:
        """An answer that is no list of members is none."""
        header = {"x-etcd-cluster-id": "abc"}
        for page in (
            Page(b"<html>", header),
            Page(b"[]", header),
            Page(b'[{"id": "x"}]', header),
            Page(b"7", header),
            Page(json.dumps(self.members).encode(), {}),
            Page(b"[" * 100_000, header),
        ):
            self.pages[f"{URLS['b']}/members"] = page
            self.assertIn(f"{URLS['b']}: ", self.refused(self.config, self.pages))

    def test_other_members(self) -> None:
        """The flags name all members, or it does not start."""
        self.members.append({"id": 4, "peerURLs": ["http://10.0.0.4:2380"]})
        self.assertIn("member count is unequal", self.refused(self.config, self.pages))

    def test_versions(self) -> None:
        """It joins no cluster that acts as a version which it does not know."""
        self.pages[f"{URLS['a']}/version"] = {"etcdcluster": "3.9.0"}
        self.assertIn("incompatible with current running cluster", self.refused(self.config, self.pages))
        self.pages[f"{URLS['a']}/version"] = {"etcdcluster": "not_decided"}
        self.assertIn("its version is unknown", self.refused(self.config, self.pages))
