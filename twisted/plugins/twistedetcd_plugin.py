"""What Twisted's plugin system finds: ``twistd etcd`` and the storage engines."""

from twisted.application.service import ServiceMaker

from twistedetcd.backends.lmdb import LMDBFactory
from twistedetcd.backends.memory import MemoryFactory

etcd = ServiceMaker("etcd", "twistedetcd.tap", "An etcd v3.6-compatible server.", "etcd")
lmdb_backend = LMDBFactory()
memory_backend = MemoryFactory()
