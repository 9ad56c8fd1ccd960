# Made from health.proto by `make proto`: change that file, not this one.
from twistedetcd.pb.pool import define

define(
    globals(),
    b'\n\x1btwistedetcd/pb/health.proto\x12\x0egrpc.health.v1"%\n\x12HealthCheckRequest\x12\x0f\n\x07se'
    b'rvice\x18\x01 \x01(\t"\xa9\x01\n\x13HealthCheckResponse\x12A\n\x06status\x18\x01 \x01(\x0e21.grpc'
    b'.health.v1.HealthCheckResponse.ServingStatus"O\n\rServingStatus\x12\x0b\n\x07UNKNOWN\x10\x00\x12'
    b'\x0b\n\x07SERVING\x10\x01\x12\x0f\n\x0bNOT_SERVING\x10\x02\x12\x13\n\x0fSERVICE_UNKNOWN\x10\x03"'
    b'\x13\n\x11HealthListRequest"\xae\x01\n\x12HealthListResponse\x12B\n\x08statuses\x18\x01 \x03(\x0b'
    b'20.grpc.health.v1.HealthListResponse.StatusesEntry\x1aT\n\rStatusesEntry\x12\x0b\n\x03key\x18\x01'
    b' \x01(\t\x122\n\x05value\x18\x02 \x01(\x0b2#.grpc.health.v1.HealthCheckResponse:\x028\x012\xfd'
    b'\x01\n\x06Health\x12P\n\x05Check\x12".grpc.health.v1.HealthCheckRequest\x1a#.grpc.health.v1.Healt'
    b'hCheckResponse\x12M\n\x04List\x12!.grpc.health.v1.HealthListRequest\x1a".grpc.health.v1.HealthLis'
    b'tResponse\x12R\n\x05Watch\x12".grpc.health.v1.HealthCheckRequest\x1a#.grpc.health.v1.HealthCheckR'
    b'esponse0\x01b\x06proto3'
)
