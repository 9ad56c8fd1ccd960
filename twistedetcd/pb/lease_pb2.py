# Made from lease.proto by `make proto`: change that file, not this one.
from twistedetcd.pb import rpc_pb2
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x1atwistedetcd/pb/lease.proto\x12\x07leasepb\x1a\x18twistedetcd/pb/rpc.proto"6\n\x05Lease\x12'
    b'\n\n\x02ID\x18\x01 \x01(\x03\x12\x0b\n\x03TTL\x18\x02 \x01(\x03\x12\x14\n\x0cRemainingTTL\x18\x03'
    b' \x01(\x03"\\\n\x14LeaseInternalRequest\x12D\n\x16LeaseTimeToLiveRequest\x18\x01 \x01(\x0b2$.etcd'
    b'serverpb.LeaseTimeToLiveRequest"_\n\x15LeaseInternalResponse\x12F\n\x17LeaseTimeToLiveResponse'
    b'\x18\x01 \x01(\x0b2%.etcdserverpb.LeaseTimeToLiveResponseb\x06proto3'
)
