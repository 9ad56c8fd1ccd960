# Made from snap.proto by `make proto`: change that file, not this one.
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x19twistedetcd/pb/snap.proto\x12\x06snappb"%\n\x08snapshot\x12\x0b\n\x03crc\x18\x01 \x01(\r'
    b'\x12\x0c\n\x04data\x18\x02 \x01(\x0c'
)
