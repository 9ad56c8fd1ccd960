"""
pool: a descriptor pool of our own, and how a generated module fills itself from it.

A process has one default pool, where two files that define ``etcdserverpb.RangeRequest`` cannot both live.
Ours stay out of it, so an application may import any other etcd client's messages beside ours.
The price: a message of theirs is never a message of ours; pass bytes between them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

POOL = DescriptorPool()
"""Holds every message of this package and nothing else."""


def define(namespace: dict[str, Any], serialized_file: bytes) -> None:
    """
    Put one file's messages and enums into a module.

    Args:
        namespace: The ``globals()`` of the generated module; its ``__name__`` becomes the classes' module.
        serialized_file: A serialized ``FileDescriptorProto``.  The files it imports must be defined already.
    """
    file: FileDescriptor = POOL.AddSerializedFile(serialized_file)
    namespace["DESCRIPTOR"] = file
    for name, enum in file.enum_types_by_name.items():
        namespace[name] = EnumTypeWrapper(enum)
        for value in enum.values:
            namespace[value.name] = value.number
    for name, message in file.message_types_by_name.items():
        namespace[name] = GetMessageClass(message)
        namespace[name].__module__ = namespace["__name__"]
