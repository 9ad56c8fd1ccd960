"""
generate: the ``.proto`` files of this directory in, the ``*_pb2.py`` and ``*_pb2.pyi`` beside them out.

``make proto`` runs it.  protoc parses the files and writes the stubs; the modules are our own,
because protoc's put their messages into the process-wide pool and refuse a protobuf older than itself.
Needs grpcio-tools, which nobody needs at run time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LITERAL_WIDTH = 100

HEADER = "# Made from {proto} by `make proto`: change that file, not this one.\n"
STUB_HEADER = HEADER + "# {protoc}\n"


def protoc(*arguments: str) -> str:
    """
    Run protoc in the root of the checkout.

    Returns:
        What it printed.

    Raises:
        subprocess.CalledProcessError: It refused a file, or grpcio-tools is not installed.
    """
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    return subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def generate(version: str) -> dict[str, str]:
    """
    Make every module and stub, in memory.

    Args:
        version: What ``protoc --version`` says; stubs differ between versions, so they name theirs.

    Returns:
        Name of each file, and its text.
    """
    protos = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("*.proto"))
    texts = {}
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = Path(scratch, "descriptors")
        protoc("-I.", f"--descriptor_set_out={descriptors}", f"--pyi_out={scratch}", *protos)
        files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
        for file in files:
            stem = Path(file.name).stem
            proto = f"{stem}.proto"
            texts[f"{stem}_pb2.py"] = HEADER.format(proto=proto) + module_text(file)
            stub = Path(scratch, file.name).with_name(f"{stem}_pb2.pyi").read_text()
            texts[f"{stem}_pb2.pyi"] = STUB_HEADER.format(proto=proto, protoc=version) + stub
    return texts


def module_text(file: FileDescriptorProto) -> str:
    """The module that defines one file's messages, after those of the files that it imports."""
    for message in file.message_type:
        _clear_json_names(message)
    imports = [f"{Path(name).stem}_pb2" for name in file.dependency]
    lines = ["from twistedetcd.pb import " + ", ".join(sorted(imports))] if imports else []
    lines += ["from twistedetcd.pb.pool import define", "", "define(", "    globals(),"]
    lines += [f"    {literal}" for literal in _literals(file.SerializeToString(deterministic=True))]
    return "\n".join([*lines, ")", ""])


def _clear_json_names(message: DescriptorProto) -> None:
    """protoc spells out what follows from a field's name; leaving it out halves the descriptor."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _clear_json_names(nested)


def _literals(data: bytes) -> Iterator[str]:
    start = 0
    while start < len(data):
        end = min(len(data), start + LITERAL_WIDTH)
        while len(repr(data[start:end])) > LITERAL_WIDTH:
            end -= 1
        yield repr(data[start:end])
        start = end


def main() -> None:
    """Bring the committed files up to date."""
    for name, text in generate(protoc("--version").strip()).items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
