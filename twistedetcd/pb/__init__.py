"""
pb: etcd's messages, as Python classes.

One ``.proto`` file per file of etcd's, under the same name; ``make proto`` makes modules and stubs::

    from twistedetcd.pb import kv_pb2, rpc_pb2

| module                             | package        | holds                                      |
|------------------------------------|----------------|--------------------------------------------|
| ``rpc_pb2``                        | etcdserverpb   | the v3 API                                 |
| ``raft_internal_pb2``              | etcdserverpb   | what a log entry holds                     |
| ``etcdserver_pb2``                 | etcdserverpb   | the log's metadata; requests of the v2 API |
| ``kv_pb2``, ``auth_pb2``           | mvccpb, authpb | keys, events; users, roles                 |
| ``lease_pb2``, ``membership_pb2``  | leasepb, membershippb | leases; members                     |
| ``raft_pb2``                       | raftpb         | raft's messages and entries                |
| ``record_pb2``, ``snap_pb2``       | walpb, snappb  | records of the log, snapshot files         |
| ``v3lock_pb2``, ``v3election_pb2`` | v3lockpb, v3electionpb | the two services on top of keys    |
| ``health_pb2``                     | grpc.health.v1 | the health service                         |

The classes live in a pool of our own (``pool.POOL``), never in the process-wide one: see ``pool.py``.

Yours to change: a field that a newer etcd added, in the ``.proto`` file, then ``make proto``.
With care: ``pool.py`` and ``generate.py``; they must work with protobuf 5, 6 and 7.
Never: a name or number that etcd gave; a generated file by hand.
Imports nothing of ours.  Imported by everybody above.
"""
