# Made from v3lock.proto by `make proto`: change that file, not this one.
from twistedetcd.pb import rpc_pb2
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x1btwistedetcd/pb/v3lock.proto\x12\x08v3lockpb\x1a\x18twistedetcd/pb/rpc.proto"*\n\x0bLockRequ'
    b'est\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\r\n\x05lease\x18\x02 \x01(\x03"I\n\x0cLockResponse'
    b'\x12,\n\x06header\x18\x01 \x01(\x0b2\x1c.etcdserverpb.ResponseHeader\x12\x0b\n\x03key\x18\x02 '
    b'\x01(\x0c"\x1c\n\rUnlockRequest\x12\x0b\n\x03key\x18\x01 \x01(\x0c">\n\x0eUnlockResponse\x12,\n'
    b'\x06header\x18\x01 \x01(\x0b2\x1c.etcdserverpb.ResponseHeader2z\n\x04Lock\x125\n\x04Lock\x12\x15.'
    b'v3lockpb.LockRequest\x1a\x16.v3lockpb.LockResponse\x12;\n\x06Unlock\x12\x17.v3lockpb.UnlockReques'
    b't\x1a\x18.v3lockpb.UnlockResponseb\x06proto3'
)
