# Made from v3election.proto by `make proto`: change that file, not this one.
from twistedetcd.pb import kv_pb2, rpc_pb2
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x1ftwistedetcd/pb/v3election.proto\x12\x0cv3electionpb\x1a\x17twistedetcd/pb/kv.proto\x1a\x18t'
    b'wistedetcd/pb/rpc.proto"=\n\x0fCampaignRequest\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\r\n\x05lea'
    b'se\x18\x02 \x01(\x03\x12\r\n\x05value\x18\x03 \x01(\x0c"i\n\x10CampaignResponse\x12,\n\x06header'
    b"\x18\x01 \x01(\x0b2\x1c.etcdserverpb.ResponseHeader\x12'\n\x06leader\x18\x02 \x01(\x0b2\x17.v3ele"
    b'ctionpb.LeaderKey"B\n\tLeaderKey\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\x0b\n\x03key\x18\x02 '
    b'\x01(\x0c\x12\x0b\n\x03rev\x18\x03 \x01(\x03\x12\r\n\x05lease\x18\x04 \x01(\x03"\x1d\n\rLeaderReq'
    b'uest\x12\x0c\n\x04name\x18\x01 \x01(\x0c"\\\n\x0eLeaderResponse\x12,\n\x06header\x18\x01 \x01('
    b'\x0b2\x1c.etcdserverpb.ResponseHeader\x12\x1c\n\x02kv\x18\x02 \x01(\x0b2\x10.mvccpb.KeyValue"8\n'
    b'\rResignRequest\x12\'\n\x06leader\x18\x01 \x01(\x0b2\x17.v3electionpb.LeaderKey">\n\x0eResignResp'
    b'onse\x12,\n\x06header\x18\x01 \x01(\x0b2\x1c.etcdserverpb.ResponseHeader"I\n\x0fProclaimRequest'
    b"\x12'\n\x06leader\x18\x01 \x01(\x0b2\x17.v3electionpb.LeaderKey\x12\r\n\x05value\x18\x02 \x01("
    b'\x0c"@\n\x10ProclaimResponse\x12,\n\x06header\x18\x01 \x01(\x0b2\x1c.etcdserverpb.ResponseHeader2'
    b'\xf2\x02\n\x08Election\x12I\n\x08Campaign\x12\x1d.v3electionpb.CampaignRequest\x1a\x1e.v3election'
    b'pb.CampaignResponse\x12I\n\x08Proclaim\x12\x1d.v3electionpb.ProclaimRequest\x1a\x1e.v3electionpb.'
    b'ProclaimResponse\x12C\n\x06Leader\x12\x1b.v3electionpb.LeaderRequest\x1a\x1c.v3electionpb.LeaderR'
    b'esponse\x12F\n\x07Observe\x12\x1b.v3electionpb.LeaderRequest\x1a\x1c.v3electionpb.LeaderResponse0'
    b'\x01\x12C\n\x06Resign\x12\x1b.v3electionpb.ResignRequest\x1a\x1c.v3electionpb.ResignResponseb\x06'
    b'proto3'
)
