"""Every target by its name: add yours here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from twistedetcd.testing.fuzz import flags, image, wal, wire
from twistedetcd.testing.fuzz.run import Target

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "hpack": wire.header_blocks,
        "http2": wire.connections,
        "grpc": wire.messages,
        "wal": wal.fuzz_wal,
        "image": image.fuzz_image,
        "config": flags.configuration,
    }
)
