"""The version that all members know."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.cluster.members import Cluster, Member
from twistedetcd.errors import EtcdError, NotPrimaryError, TimeoutError
from twistedetcd.mvcc.pending import Pending
from twistedetcd.server.versions import LOOK_SECONDS, Versions


class Answering:
    """The other members, and what they say."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.says: dict[int, Any] = {}

    def ask(self, member: int, kind: str, body: bytes, timeout_seconds: float) -> Deferred[bytes]:
        said = self.says.get(member, TimeoutError())
        return fail(said) if isinstance(said, EtcdError) else succeed(said)


class VersionsTests(SynchronousTestCase):
    """A leader with two others."""

    def setUp(self) -> None:
        self.clock, self.peers = Clock(), Answering()
        self.cluster = Cluster(Pending(MemoryBackend()))
        for number in (1, 2, 3):
            self.cluster.add(Member(number, (f"http://{number}:2380",)))
        self.proposed: list[str] = []
        peers: Any = self.peers
        self.versions = Versions(self.clock, self.cluster, 1, "3.6.14", peers, self.propose)

    def propose(self, kind: str, raw: bytes, request: Any, waiter: Any) -> None:
        self.proposed.append(request.ver)

    def test_the_lowest(self) -> None:
        """The lowest version of all is what the cluster is."""
        self.peers.says = {2: b"3.6.2", 3: b"3.5.9"}
        self.versions.lead()
        self.assertEqual(["3.5.0"], self.proposed)
        self.assertEqual(b"3.6.14", self.successResultOf(self.peers.answers["version"](b"")))

    def test_raised(self) -> None:
        """It rises when the last one knows a newer one; while one does not answer it stays."""
        self.cluster.set_version("3.5.0")
        self.peers.says = {2: b"3.6.2"}
        self.versions.lead()
        self.peers.says[3] = b"nonsense"
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual([], self.proposed)
        self.peers.says[3] = b"3.6.0"
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(["3.6.0"], self.proposed)

    def test_only_in_office(self) -> None:
        """Who does not lead any more proposes none, also not for an answer that comes late."""
        late: list[Deferred[bytes]] = [Deferred(), Deferred()]
        asked = iter(late)
        self.patch(self.peers, "ask", lambda *_: next(asked))
        self.versions.lead()
        self.versions.stop()
        for answer in late:
            answer.callback(b"3.6.0")
        self.assertEqual(([], []), (self.proposed, self.clock.getDelayedCalls()))

    def test_refused(self) -> None:
        """A proposal that is not taken is made again at the next look."""
        self.peers.says = {2: b"3.6.2", 3: b"3.6.2"}
        self.patch(self.versions, "_propose", self.refuse)
        self.versions.lead()
        self.patch(self.versions, "_propose", self.propose)
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(["3.6.0"], self.proposed)

    def refuse(self, *_: Any) -> None:
        raise NotPrimaryError
