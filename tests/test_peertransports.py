"""The way to the other members, chosen by name."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.server.test_peers import FakeImage
from twistedetcd.config import Config, parse
from twistedetcd.errors import ConfigError, TimeoutError
from twistedetcd.interfaces import IPeerTransport, IPeerTransportFactory
from twistedetcd.peertransports import NoPeers, NoPeersFactory, open_transport
from twistedetcd.protocols.giving import GivingWay, keep_on
from twistedetcd.protocols.peers import PeerTransport
from twistedetcd.raft.types import Message, MessageType

NONE = "--peer-transport=none"
THREE = "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3"


def config(*flags: str) -> Config:
    return parse(flags, {}, lambda path: b"")


class ChoiceTests(SynchronousTestCase):
    """``--peer-transport``."""

    def test_nobody(self) -> None:
        """A member may be told to stay alone."""
        self.assertIsInstance(open_transport(config(NONE), None), NoPeers)

    def test_tcp(self) -> None:
        """Without the flag others are reached over TCP; nothing is opened yet."""
        self.assertIsInstance(open_transport(config(), None), PeerTransport)

    def test_giving_way(self) -> None:
        """A leader is given way where what was written has left: not with TLS."""
        secured = config("--listen-peer-urls=https://127.0.0.1:1", "--peer-auto-tls")
        plain: Any = open_transport(config(), None)
        self.assertIsInstance(plain._give_way, GivingWay)
        tls: Any = open_transport(secured, None)
        self.assertIs(keep_on, tls._give_way)

    def test_one_of_several(self) -> None:
        """A member that is to be one of several is not left without a way to the others."""
        several = config(NONE, "--name=a", "--initial-advertise-peer-urls=http://127.0.0.1:1", THREE)
        joining = config(NONE, "--initial-cluster-state=existing")
        for refused in (several, joining):
            error = self.assertRaises(ConfigError, open_transport, refused, None)
            self.assertEqual(
                "this member is to be one of several, but --peer-transport=none leads to none of the others",
                str(error),
            )

    def test_unknown(self) -> None:
        """The names of those that there are are told."""
        error = self.assertRaises(ConfigError, open_transport, config("--peer-transport=pigeon"), None)
        self.assertEqual("there is no peer transport 'pigeon'; there are: none, tcp", str(error))
        error = self.assertRaises(ConfigError, open_transport, config("--peer-transport=none:a=1"), None)
        self.assertEqual("--peer-transport=none has no option 'a'; there are: none", str(error))


class NoPeersTests(SynchronousTestCase):
    """The way to nobody."""

    def test_contract(self) -> None:
        """It is a transport all the same, and keeps nothing of what it is given."""
        verifyObject(IPeerTransportFactory, NoPeersFactory())
        transport: Any = NoPeers()
        verifyObject(IPeerTransport, transport)
        transport.start(None)
        transport.add_peer(2, ["http://two"])
        message = Message(MessageType.SNAP, to=2, sender=1, term=1)
        transport.send([message])
        image = FakeImage()
        transport.send_snapshot(message, image)
        self.assertEqual(1, image.closed)
        self.failureResultOf(transport.ask(2, "version", b"", 1.0), TimeoutError)
        self.assertIsNone(transport.active_since(2))
        transport.remove_peer(2)
        self.successResultOf(transport.stop())
