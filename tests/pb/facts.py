"""
facts: etcd's API as lines of text, from two sources that must agree.

One line a fact: ``message number name type label`` for a field, and the like for everything else.
The committed copy is ``api_table.txt``; ``python -m tests.pb.facts`` prints it anew from a description of
etcd's API, which stands beside the checkout or where ETCD_API says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto
from google.protobuf.descriptor_pb2 import FileDescriptorProto as FileProto

TABLE = Path(__file__).with_name("api_table.txt")
DESCRIPTION = Path(os.environ.get("ETCD_API") or Path(__file__).parents[3] / "shared/reference/etcd-api.json")


def lines_of_description(api: dict[str, Any]) -> list[str]:
    """The facts, from etcd's API described as JSON."""
    return sorted(_described(api), key=_by_words)


def lines_of_descriptors(files: Iterable[FileDescriptor]) -> list[str]:
    """The facts, from what our modules were made of."""
    lines: list[str] = []
    for file in files:
        proto = FileProto()
        file.CopyToProto(proto)
        lines += _of_file(proto)
    return sorted(lines, key=_by_words)


def _by_words(line: str) -> list[str]:
    return [word.zfill(6) if word.isdigit() else word for word in line.split()]


def _described(api: dict[str, Any]) -> Iterator[str]:
    syntaxes = {name: file["syntax"] for name, file in api["files"].items()}
    for name, message in api["messages"].items():
        yield f"message {name} {syntaxes[message['file']]}"
        for field in message["fields"]:
            if "map" in field:
                kind, label = f"map<{field['map']['key']},{field['map']['value']}>", "map"
            else:
                kind, label = field.get("type_name") or field["type"], field["label"]
            if "oneof" in field:
                label = f"oneof:{field['oneof']}"
            yield f"{name} {field['number']} {field['name']} {kind} {label}"
    for name, enum in api["enums"].items():
        for value in enum["values"]:
            yield f"enum {name} {value['number']} {value['name']}"
    for name, service in api["services"].items():
        for method in service["methods"].values():
            yield _rpc(
                method["path"],
                method["client_streaming"],
                method["request"],
                method["server_streaming"],
                method["response"],
                of=name,
            )


def _of_file(file: FileProto) -> Iterator[str]:
    for message in file.message_type:
        yield from _of_message(message, file.package, file.syntax or "proto2")
    for enum in file.enum_type:
        yield from _of_enum(enum, file.package)
    for service in file.service:
        name = f"{file.package}.{service.name}"
        for method in service.method:
            yield _rpc(
                f"/{name}/{method.name}",
                method.client_streaming,
                method.input_type.removeprefix("."),
                method.server_streaming,
                method.output_type.removeprefix("."),
                of=name,
            )


def _of_message(message: DescriptorProto, scope: str, syntax: str) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield f"message {name} {syntax}"
    maps = {f"{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    for field in message.field:
        kind, label = _type(field), _label(field, message)
        if kind in maps:
            kind, label = f"map<{','.join(map(_type, maps[kind].field))}>", "map"
        yield f"{name} {field.number} {field.name} {kind} {label}"
    for enum in message.enum_type:
        yield from _of_enum(enum, name)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _of_message(nested, name, syntax)


def _of_enum(enum: EnumDescriptorProto, scope: str) -> Iterator[str]:
    for value in enum.value:
        yield f"enum {scope}.{enum.name} {value.number} {value.name}"


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name.removeprefix(".") or FieldDescriptorProto.Type.Name(field.type)[5:].lower()


def _label(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.HasField("oneof_index"):
        return f"oneof:{message.oneof_decl[field.oneof_index].name}"
    return FieldDescriptorProto.Label.Name(field.label)[6:].lower()


def _rpc(path: str, streams: bool, request: str, answers: bool, response: str, *, of: str) -> str:
    assert path.startswith(f"/{of}/"), path
    return f"rpc {path} {'stream ' * streams}{request} -> {'stream ' * answers}{response}"


if __name__ == "__main__":
    print("\n".join(lines_of_description(json.loads(DESCRIPTION.read_text()))))
