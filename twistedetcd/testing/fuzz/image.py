"""
An image of a store with some bytes changed: it is read as an image, or refused, and it is said where.

Only the metas have a checksum, so what is read may be other than what was stored.  It must keep the rules all
the same: keys ascend, no bucket has more bytes than the file, and nothing but the one error is raised.
"""

from __future__ import annotations

import re
from random import Random

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import SnapshotImageError
from twistedetcd.files.simulated import SimulatedFiles
from twistedetcd.mvcc.work import finish
from twistedetcd.schema import IMAGE_BUCKETS
from twistedetcd.snap.bbolt.pages import PAGE_BYTES, Meta, encode_meta
from twistedetcd.snap.bbolt.reading import ImageFile
from twistedetcd.snap.bbolt.trees import KEY_BYTES_MAX
from twistedetcd.snap.bbolt.writing import measure

_NAMED = re.compile(r"the image image (is damaged |is cut short: |is of no use: |lacks |has )[ -~]+")


def fuzz_image(random: Random) -> str:
    """
    Make an image, change some of its bytes, and read it.

    Returns:
        What came of it: ``read`` or ``refused``.

    Raises:
        AssertionError: It was read against the rules, or refused without a reason.
        Exception: Anything else that reading must not raise.
    """
    data = bytearray(_make(random))
    for _ in range(random.choice((1, 1, 3, 30))):
        _change(random, data)
    if random.random() < 0.3:
        # Metas that vouch for whatever the rest says.
        pages = len(data) // PAGE_BYTES
        meta = Meta(PAGE_BYTES, random.randrange(2, max(3, pages)), pages, 2)
        data[:PAGE_BYTES] = encode_meta(0, meta)
    file = SimulatedFiles(random).open("image", create=True)
    file.write(0, bytes(data))
    try:
        image = ImageFile(file)
        for bucket in image.buckets:
            _check(image, bucket, len(data))
    except SnapshotImageError as error:
        assert _NAMED.fullmatch(str(error)), f"refused without a reason: {error}"
        return "refused"
    return "read"


def _make(random: Random) -> bytes:
    backend = MemoryBackend()
    for bucket in random.sample(IMAGE_BUCKETS, random.randrange(4)):
        size = random.choice((3, 17, 200, KEY_BYTES_MAX))
        keys = [random.randbytes(random.randint(1, size)) for _ in range(random.choice((1, 10, 100)))]
        backend.write({bucket: {key: bytes(random.choice((0, 9, 300, 5000))) for key in keys}})
    return b"".join(finish(measure(backend.read())).chunks())


def _change(random: Random, data: bytearray) -> None:
    """Change some bytes, often in the headers of a page or of its elements."""
    if not data:
        return
    at = random.randrange(len(data))
    if random.random() < 0.7:
        at = at - at % PAGE_BYTES + random.randrange(100)
    kind = random.randrange(6)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        other = random.randrange(len(data))
        piece = data[other : other + random.choice((8, 16, 100, PAGE_BYTES))]
        data[at : at + len(piece)] = piece[: len(data) - at]
    elif kind == 2:
        piece = bytearray(random.randbytes(random.choice((1, 2, 4, 8))))
        data[at : at + len(piece)] = piece[: max(0, len(data) - at)]
    elif at < len(data):
        data[at] ^= 1 << random.randrange(8)


def _check(image: ImageFile, bucket: bytes, size_max: int) -> None:
    previous, size = b"", 0
    for key, value in image.pairs(bucket):
        assert previous < key, f"in the bucket {bucket!r} {key!r} follows {previous!r}"
        assert len(key) <= KEY_BYTES_MAX, "a key is too long"
        size += len(key) + len(value)
        previous = key
    assert size <= size_max, f"the bucket {bucket!r} has {size} bytes in a file of {size_max}"
