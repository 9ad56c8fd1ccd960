"""Images of stores: bbolt's bytes, whatever the engine, in slices and chunks."""

from __future__ import annotations

import os
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.snap.bboltfile import INDEX, MARK, SMALL, Anatomy, Content, backend_of, image_of, read
from twistedetcd.backends.lmdb import LMDBFactory
from twistedetcd.mvcc.work import finish
from twistedetcd.schema import CONF_STATE, CONSISTENT_INDEX, IMAGE_BUCKETS, INSTALLING, META
from twistedetcd.snap.bbolt.pages import Meta, encode_meta
from twistedetcd.snap.bbolt.writing import CHUNK_BYTES, SLICE_BYTES, SLICE_RECORDS, measure

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=60)
KEYS = st.binary(min_size=1, max_size=500)
VALUES = st.one_of(
    st.binary(max_size=300),
    st.integers(0, 20_000).map(bytes),
)
CONTENTS = st.dictionaries(st.sampled_from(IMAGE_BUCKETS), st.dictionaries(KEYS, VALUES, max_size=60))


def whole(content: Content) -> dict[bytes, dict[bytes, bytes]]:
    """What an image of it reads as: with the buckets that must be there."""
    return {name: dict(content.get(name, {})) for name in sorted({*IMAGE_BUCKETS, *content})}


class BytesTests(SynchronousTestCase):
    """Known bytes."""

    def test_meta(self) -> None:
        """That of a snapshot made by etcd 3.6.14."""
        expected = (
            "00000000000000000400000000000000edda0ced0200000000100000000000004f0a000000000000"
            "0000000000000000ffffffffffffffff100e0000000000005f000000000000008f14e2b08b386be6"
        )
        self.assertEqual(
            bytes.fromhex(expected).ljust(4096, b"\0"), encode_meta(0, Meta(4096, 2639, 3600, 95))
        )

    def test_inline_bucket(self) -> None:
        """A small bucket is a leaf inside its value, as etcd has the cluster's version."""
        header = bytes(16) + bytes.fromhex("00000000000000000200010000000000")
        element = bytes.fromhex("00000000100000000e00000005000000")
        self.assertIn(b"cluster" + header + element + b"clusterVersion3.6.0key", image_of(SMALL))

    def test_empty_store(self) -> None:
        """All ten buckets are there, in three pages: two metas and the root."""
        data = image_of({})
        self.assertEqual(3 * 4096, len(data))
        self.assertEqual(whole({}), read(data))
        self.assertEqual(sorted(IMAGE_BUCKETS), list(read(data)))
        Anatomy(data)

    def test_both_metas_are_alike(self) -> None:
        """The first has the higher transaction; both have the same root and length."""
        data = image_of(SMALL)
        first, second = data[16:80], data[4112:4176]
        self.assertEqual(first[:48], second[:48])
        self.assertEqual((2, 1), (first[48], second[48]))


class TreeTests(SynchronousTestCase):
    """Trees that bbolt can read, and can go on from."""

    def check(self, content: Content) -> Anatomy:
        """It reads as what was stored, and every page is as bbolt would have it."""
        data = image_of(content)
        self.assertEqual(whole(content), read(data))
        return Anatomy(data)

    def test_any_number_of_leaves(self) -> None:
        """With few children a branch: every remainder at every level leaves two children at least."""
        branches = 0
        for leaves in (*range(2, 70), 7 * 7 * 7 - 1, 7 * 7 * 7, 7 * 7 * 7 + 1, 7 * 7 * 7 + 7):
            keys = [b"%0500d" % number for number in range(leaves)]
            anatomy = self.check({b"key": dict.fromkeys(keys, b"x" * 3000), META: MARK})
            self.assertLessEqual(max(anatomy.branches), 8)
            branches = max(branches, len(anatomy.branches))
        self.assertGreater(branches, 50)

    def test_large_values(self) -> None:
        """A value is never cut: its leaf takes as many pages as it needs."""
        sizes = (0, 4047, 4048, 4049, 8143, 8144, 1024 * 1024, 3 * 1024 * 1024)
        self.check({b"key": {b"%016d" % size: b"v" * size for size in sizes}})

    def test_inline_limit(self) -> None:
        """A bucket is inline as long as it fits into a quarter of a page."""
        room = 1024 - 16 - 16 - 1
        self.assertEqual(3 * 4096, len(image_of({b"auth": {b"k": bytes(room)}})))
        self.assertEqual(4 * 4096, len(image_of({b"auth": {b"k": bytes(room + 1)}})))
        for size in (room, room + 1):
            self.check({b"auth": {b"k": bytes(size)}})

    def test_root_of_many_pages(self) -> None:
        """Ten buckets that are inline can be more than a page."""
        content = {name: {b"k": bytes(900)} for name in IMAGE_BUCKETS}
        self.assertEqual([3], self.check(content).branches)

    @given(CONTENTS)
    @SETTINGS
    def test_any_content(self, content: Content) -> None:
        """Whatever a store holds reads back, in the order of its bytes."""
        data = image_of(content)
        found = read(data)
        self.assertEqual(whole(content), found)
        for pairs in found.values():
            self.assertEqual(sorted(pairs), list(pairs))
        Anatomy(data)

    def test_unknown_bucket(self) -> None:
        """A bucket that etcd does not have comes along."""
        self.check({b"another": {b"k": b"v"}, b"zzz": {b"k": b"v"}, **SMALL})


class SourceTests(SynchronousTestCase):
    """What an image is made from."""

    def test_engines(self) -> None:
        """The same records give the same bytes, whatever the engine and the order they came in."""
        directory = self.mktemp()
        os.makedirs(directory)
        backend = LMDBFactory().open(directory)
        self.addCleanup(backend.close)
        for bucket, pairs in reversed(SMALL.items()):
            backend.write({bucket: dict(reversed(pairs.items()))})
        backend.write({b"lease": {b"x": b"y"}})
        backend.write({b"lease": {b"x": None}})
        view = backend.read()
        self.addCleanup(view.close)
        self.assertEqual(image_of(SMALL), b"".join(finish(measure(view)).chunks()))

    def test_view_stays(self) -> None:
        """What is written while an image is made is not in it, neither in its length nor in its bytes."""
        backend = backend_of(SMALL)
        image = finish(measure(backend.read()))
        chunks = image.chunks(4096)
        begin = list(islice(chunks, 3))
        backend.write({b"key": {**dict.fromkeys(SMALL[b"key"]), b"new": bytes(9999)}})
        self.assertEqual(image_of(SMALL), b"".join([*begin, *chunks]))

    def test_changes(self) -> None:
        """What the caller wants other than the view has it: put, replaced, deleted, in every place."""
        changes = {
            META: {CONSISTENT_INDEX: b"\0" * 8, CONF_STATE: b"{}"},
            b"lease": {b"": None, b"00000000": None, b"0": b"first", b"00000003x": b"between", b"z": b"last"},
            b"extra": {b"k": b"v", b"l": None},
        }
        view = backend_of(SMALL).read()
        data = b"".join(finish(measure(view, changes)).chunks())
        backend = backend_of(SMALL)
        backend.write(changes)
        expected = {name: dict(backend.read().range(name, b"", None)) for name in backend.buckets}
        self.assertEqual(whole(expected), read(data))
        Anatomy(data)

    def test_half_a_store(self) -> None:
        """A store that is being replaced has no image."""
        view = backend_of({META: {INSTALLING: INDEX.to_bytes(8, "big")}}).read()
        self.assertRaises(AssertionError, finish, measure(view))


class SliceTests(SynchronousTestCase):
    """Nobody is held up."""

    def test_slices(self) -> None:
        """To measure a store takes a slice for so many records, or so many bytes."""
        records = 10 * SLICE_RECORDS
        many = backend_of({b"key": {b"%017d" % number: b"" for number in range(records)}})
        slices = sum(1 for _ in measure(many.read()))
        self.assertIn(slices, range(9, 11))
        large = backend_of({b"key": {b"%d" % number: bytes(SLICE_BYTES // 2) for number in range(10)}})
        slices = sum(1 for _ in measure(large.read()))
        self.assertIn(slices, range(4, 11))

    def test_chunks(self) -> None:
        """Chunks are of one size, but for the last one; together they are as long as was said, each time."""
        values = {b"%017d" % number: b"v" * number for number in range(2000)}
        view = backend_of({b"key": values, b"lease": {b"l": bytes(1024 * 1024)}}).read()
        image = finish(measure(view))
        for chunk_bytes in (CHUNK_BYTES, 1000, 1 << 30):
            *chunks, last = image.chunks(chunk_bytes)
            self.assertEqual({chunk_bytes} if chunks else set(), {*map(len, chunks)})
            self.assertLessEqual(len(last), chunk_bytes)
            self.assertEqual(image.size_bytes, sum(map(len, chunks)) + len(last))
        self.assertEqual(b"".join(image.chunks()), b"".join(image.chunks(32 * 1024)))
