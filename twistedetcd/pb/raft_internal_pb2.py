# Made from raft_internal.proto by `make proto`: change that file, not this one.
from twistedetcd.pb import etcdserver_pb2, membership_pb2, rpc_pb2
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n"twistedetcd/pb/raft_internal.proto\x12\x0cetcdserverpb\x1a\x1ftwistedetcd/pb/etcdserver.proto'
    b'\x1a\x1ftwistedetcd/pb/membership.proto\x1a\x18twistedetcd/pb/rpc.proto"D\n\rRequestHeader\x12\n'
    b'\n\x02ID\x18\x01 \x01(\x04\x12\x10\n\x08username\x18\x02 \x01(\t\x12\x15\n\rauth_revision\x18\x03'
    b' \x01(\x04"\xa5\x0f\n\x13InternalRaftRequest\x12+\n\x06header\x18d \x01(\x0b2\x1b.etcdserverpb.Re'
    b'questHeader\x12\n\n\x02ID\x18\x01 \x01(\x04\x12!\n\x02v2\x18\x02 \x01(\x0b2\x15.etcdserverpb.Requ'
    b'est\x12)\n\x05range\x18\x03 \x01(\x0b2\x1a.etcdserverpb.RangeRequest\x12%\n\x03put\x18\x04 \x01('
    b'\x0b2\x18.etcdserverpb.PutRequest\x126\n\x0cdelete_range\x18\x05 \x01(\x0b2 .etcdserverpb.DeleteR'
    b'angeRequest\x12%\n\x03txn\x18\x06 \x01(\x0b2\x18.etcdserverpb.TxnRequest\x123\n\ncompaction\x18'
    b'\x07 \x01(\x0b2\x1f.etcdserverpb.CompactionRequest\x124\n\x0blease_grant\x18\x08 \x01(\x0b2\x1f.e'
    b'tcdserverpb.LeaseGrantRequest\x126\n\x0clease_revoke\x18\t \x01(\x0b2 .etcdserverpb.LeaseRevokeRe'
    b'quest\x12)\n\x05alarm\x18\n \x01(\x0b2\x1a.etcdserverpb.AlarmRequest\x12>\n\x10lease_checkpoint'
    b'\x18\x0b \x01(\x0b2$.etcdserverpb.LeaseCheckpointRequest\x125\n\x0bauth_enable\x18\xe8\x07 \x01('
    b'\x0b2\x1f.etcdserverpb.AuthEnableRequest\x127\n\x0cauth_disable\x18\xf3\x07 \x01(\x0b2 .etcdserve'
    b'rpb.AuthDisableRequest\x125\n\x0bauth_status\x18\xf5\x07 \x01(\x0b2\x1f.etcdserverpb.AuthStatusRe'
    b'quest\x12@\n\x0cauthenticate\x18\xf4\x07 \x01(\x0b2).etcdserverpb.InternalAuthenticateRequest\x12'
    b'8\n\rauth_user_add\x18\xcc\x08 \x01(\x0b2 .etcdserverpb.AuthUserAddRequest\x12>\n\x10auth_user_de'
    b'lete\x18\xcd\x08 \x01(\x0b2#.etcdserverpb.AuthUserDeleteRequest\x128\n\rauth_user_get\x18\xce\x08'
    b' \x01(\x0b2 .etcdserverpb.AuthUserGetRequest\x12O\n\x19auth_user_change_password\x18\xcf\x08 \x01'
    b'(\x0b2+.etcdserverpb.AuthUserChangePasswordRequest\x12E\n\x14auth_user_grant_role\x18\xd0\x08 '
    b'\x01(\x0b2&.etcdserverpb.AuthUserGrantRoleRequest\x12G\n\x15auth_user_revoke_role\x18\xd1\x08 '
    b"\x01(\x0b2'.etcdserverpb.AuthUserRevokeRoleRequest\x12:\n\x0eauth_user_list\x18\xd2\x08 \x01(\x0b"
    b'2!.etcdserverpb.AuthUserListRequest\x12:\n\x0eauth_role_list\x18\xd3\x08 \x01(\x0b2!.etcdserverpb'
    b'.AuthRoleListRequest\x128\n\rauth_role_add\x18\xb0\t \x01(\x0b2 .etcdserverpb.AuthRoleAddRequest'
    b'\x12>\n\x10auth_role_delete\x18\xb1\t \x01(\x0b2#.etcdserverpb.AuthRoleDeleteRequest\x128\n\rauth'
    b'_role_get\x18\xb2\t \x01(\x0b2 .etcdserverpb.AuthRoleGetRequest\x12Q\n\x1aauth_role_grant_permiss'
    b'ion\x18\xb3\t \x01(\x0b2,.etcdserverpb.AuthRoleGrantPermissionRequest\x12S\n\x1bauth_role_revoke_'
    b'permission\x18\xb4\t \x01(\x0b2-.etcdserverpb.AuthRoleRevokePermissionRequest\x12D\n\x13cluster_v'
    b'ersion_set\x18\x94\n \x01(\x0b2&.membershippb.ClusterVersionSetRequest\x12K\n\x17cluster_member_a'
    b'ttr_set\x18\x95\n \x01(\x0b2).membershippb.ClusterMemberAttrSetRequest\x12B\n\x12downgrade_info_s'
    b'et\x18\x96\n \x01(\x0b2%.membershippb.DowngradeInfoSetRequest\x12J\n\x16downgrade_version_test'
    b'\x18\xacM \x01(\x0b2).etcdserverpb.DowngradeVersionTestRequest"\x0f\n\rEmptyResponse"S\n\x1bInter'
    b'nalAuthenticateRequest\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x10\n\x08password\x18\x02 \x01(\t'
    b'\x12\x14\n\x0csimple_token\x18\x03 \x01(\tb\x06proto3'
)
