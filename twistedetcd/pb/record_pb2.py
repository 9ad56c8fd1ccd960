# Made from record.proto by `make proto`: change that file, not this one.
from twistedetcd.pb import raft_pb2
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x1btwistedetcd/pb/record.proto\x12\x05walpb\x1a\x19twistedetcd/pb/raft.proto"1\n\x06Record\x12'
    b'\x0c\n\x04type\x18\x01 \x01(\x03\x12\x0b\n\x03crc\x18\x02 \x01(\r\x12\x0c\n\x04data\x18\x03 \x01('
    b'\x0c"N\n\x08Snapshot\x12\r\n\x05index\x18\x01 \x01(\x04\x12\x0c\n\x04term\x18\x02 \x01(\x04\x12%'
    b'\n\nconf_state\x18\x03 \x01(\x0b2\x11.raftpb.ConfState'
)
