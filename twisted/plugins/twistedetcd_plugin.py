"""What Twisted's plugin system finds: ``twistd etcd`` the storage engines, and the ways to other members."""

from twisted.application.service import ServiceMaker

from twistedetcd.backends.lmdb import LMDBFactory
from twistedetcd.backends.memory import MemoryFactory
from twistedetcd.peertransports import NoPeersFactory
from twistedetcd.tcppeers import TCPPeersFactory

etcd = ServiceMaker("etcd", "twistedetcd.tap", "An etcd v3.6-compatible server.", "etcd")
lmdb_backend = LMDBFactory()
memory_backend = MemoryFactory()
no_peer_transport = NoPeersFactory()
tcp_peer_transport = TCPPeersFactory()
