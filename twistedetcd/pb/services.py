"""
services: every gRPC method we know, by its path.

Made from the descriptors when it is imported, so a method added to a ``.proto`` file is here at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from twistedetcd.pb import health_pb2, rpc_pb2, v3election_pb2, v3lock_pb2


@dataclass(frozen=True, slots=True)
class Method:
    """
    One gRPC method.

    Attributes:
        service: Full name of its service, such as ``etcdserverpb.KV``.
        name: Its name inside the service, such as ``Range``.
        request: Class of the one message, or of each message of the stream, that the client sends.
        response: The same for the server.
        client_streaming: Whether the client sends any number of messages.
        server_streaming: Whether the server does.
    """

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        """The ``:path`` of a call, such as ``/etcdserverpb.KV/Range``."""
        return f"/{self.service}/{self.name}"


def _methods(file: FileDescriptor) -> Iterator[Method]:
    # The streaming flags come from the file as a message: not every protobuf has them on its descriptors.
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for service_proto in proto.service:
        service = file.services_by_name[service_proto.name]
        for method_proto in service_proto.method:
            method = service.methods_by_name[method_proto.name]
            yield Method(
                service=service.full_name,
                name=method.name,
                request=GetMessageClass(method.input_type),
                response=GetMessageClass(method.output_type),
                client_streaming=method_proto.client_streaming,
                server_streaming=method_proto.server_streaming,
            )


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.path: method
        for module in (rpc_pb2, v3lock_pb2, v3election_pb2, health_pb2)
        for method in _methods(module.DESCRIPTOR)
    }
)
"""Every method by its path."""

SERVICES: Mapping[str, Mapping[str, Method]] = MappingProxyType(
    {
        service: MappingProxyType({m.name: m for m in METHODS.values() if m.service == service})
        for service in dict.fromkeys(method.service for method in METHODS.values())
    }
)
"""Every service by its full name: method name, then method."""
