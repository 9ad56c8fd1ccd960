# Made from membership.proto by `make proto`: change that file, not this one.
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x1ftwistedetcd/pb/membership.proto\x12\x0cmembershippb"7\n\x0eRaftAttributes\x12\x11\n\tpeer_u'
    b'rls\x18\x01 \x03(\t\x12\x12\n\nis_learner\x18\x02 \x01(\x08"/\n\nAttributes\x12\x0c\n\x04name\x18'
    b'\x01 \x01(\t\x12\x13\n\x0bclient_urls\x18\x02 \x03(\t"\x80\x01\n\x06Member\x12\n\n\x02ID\x18\x01 '
    b'\x01(\x04\x125\n\x0fraft_attributes\x18\x02 \x01(\x0b2\x1c.membershippb.RaftAttributes\x123\n\x11'
    b'member_attributes\x18\x03 \x01(\x0b2\x18.membershippb.Attributes"\'\n\x18ClusterVersionSetRequest'
    b'\x12\x0b\n\x03ver\x18\x01 \x01(\t"e\n\x1bClusterMemberAttrSetRequest\x12\x11\n\tmember_ID\x18\x01'
    b' \x01(\x04\x123\n\x11member_attributes\x18\x02 \x01(\x0b2\x18.membershippb.Attributes"7\n\x17Down'
    b'gradeInfoSetRequest\x12\x0f\n\x07enabled\x18\x01 \x01(\x08\x12\x0b\n\x03ver\x18\x02 \x01(\tb\x06p'
    b'roto3'
)
