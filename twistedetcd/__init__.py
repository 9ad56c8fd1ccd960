"""An etcd v3.6-compatible server on Twisted: Raft-replicated, MVCC, gRPC."""

__version__ = "0.1.0"
