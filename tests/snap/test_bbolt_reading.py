"""Images that others made, are damaged, or are made to harm: read as they are, or refused by name."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.snap.bboltfile import INDEX, SMALL, Anatomy, Content, by_hand, file_of, image_of, read
from twistedetcd.errors import SnapshotImageError
from twistedetcd.schema import CONSISTENT_INDEX, IMAGE_BUCKETS, META
from twistedetcd.snap.bbolt import trees
from twistedetcd.snap.bbolt.pages import BUCKET, BUCKET_FLAG, Meta, branch_content, encode_meta, leaf_content
from twistedetcd.snap.bbolt.reading import BUCKETS_MAX, ImageFile

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=300)
NAMED = re.compile(
    r"the image image (is damaged (at page [0-9]+|in the bucket [^:]+): .|"
    r"is cut short: .|is of no use: .|lacks the bucket .|has .)"
)
INLINE = BUCKET.pack(0, 0) + leaf_content(0, [])

# Several levels of branches, inline buckets and others, and a value of many pages.
DAMAGED: Content = {
    **SMALL,
    b"key": {b"%0300d" % number: b"v" * (number % 100) for number in range(150)},
    b"alarm": {b"a": b"x" * 5000, b"b": b"x"},
}
IMAGE = image_of(DAMAGED)
ANATOMY = Anatomy(IMAGE)
WHOLE = read(IMAGE)


def root(number: int, **buckets: bytes) -> bytes:
    """A root bucket that is all there, with some buckets as given."""
    values = {
        **dict.fromkeys(IMAGE_BUCKETS, INLINE),
        **{name.encode(): value for name, value in buckets.items()},
    }
    return leaf_content(number, sorted(values.items()), BUCKET_FLAG)


class MetaTests(SynchronousTestCase):
    """Where an image begins."""

    def refused(self, data: bytes) -> str:
        """What is said of it."""
        return str(self.assertRaises(SnapshotImageError, read, data))

    def test_one_meta_is_enough(self) -> None:
        """Whichever of the two is broken, the other one counts; without both there is nothing."""
        broken = bytes(4096)
        self.assertEqual(WHOLE, read(IMAGE[:4096] + broken + IMAGE[8192:]))
        self.assertEqual(WHOLE, read(broken + IMAGE[4096:]))
        self.assertIn("does not have bbolt's magic number", self.refused(broken + broken + IMAGE[8192:]))

    def test_reasons(self) -> None:
        """It is said what is wrong with the first meta."""
        self.assertIn("is cut short", self.refused(b""))
        for at, reason in (
            (16, "magic number"),
            (20, "version 3, not 2"),
            (64, "checksum"),
            (72, "checksum"),
        ):
            data = bytearray(IMAGE)
            for place in (at, at + 4096):
                data[place] ^= 1
            self.assertIn(reason, self.refused(bytes(data)))

    def test_newer_meta(self) -> None:
        """Of two, the one of the later transaction counts, whichever of the two it is."""
        roots = root(2), root(3, key=BUCKET.pack(0, 0) + leaf_content(0, [(b"k", b"v")]))
        pages = b"".join(page.ljust(4096, b"\0") for page in roots)
        for place in (0, 1):
            older, newer = Meta(4096, 2, 4, 8), Meta(4096, 3, 4, 9)
            metas = (newer, older) if place == 0 else (older, newer)
            data = encode_meta(0, metas[0]) + encode_meta(1, metas[1]) + pages
            self.assertEqual({b"k": b"v"}, read(data)[b"key"])

    def test_misplaced_meta(self) -> None:
        """A meta that is not where its own page size says is none."""
        data = bytes(512) + IMAGE[:4096] + bytes(8192 - 512 - 4096) + IMAGE[8192:]
        self.assertIn("magic number", self.refused(data))

    def test_page_sizes(self) -> None:
        """A file has the pages of the machine that made it, also when only the second meta tells."""
        for shift in range(8):
            page_bytes = 512 << shift
            pages = [leaf_content(2, [(b"k", b"v")])]
            number = 2 + -(-len(pages[0]) // page_bytes)
            names = [(name, BUCKET.pack(2, 7) if name == b"key" else INLINE) for name in IMAGE_BUCKETS]
            overflow = -(-len(leaf_content(0, names)) // page_bytes) - 1
            data = by_hand([*pages, leaf_content(number, names, BUCKET_FLAG, overflow)], page_bytes)
            for broken in (data, bytes(80) + data[80:]):
                self.assertEqual({b"k": b"v"}, read(broken)[b"key"])
                self.assertEqual(page_bytes, ImageFile(file_of(broken)).page_bytes)

    def test_what_follows(self) -> None:
        """A digest, or pages made in advance, are not the image's."""
        for more in (bytes(32), bytes(3 * 4096)):
            self.assertEqual(WHOLE, read(IMAGE + more))
        self.assertEqual(len(IMAGE), ImageFile(file_of(IMAGE + bytes(32))).size_bytes)

    def test_consistent_index(self) -> None:
        """How far the store is; 0 if it does not say."""
        self.assertEqual(INDEX, ImageFile(file_of(IMAGE)).consistent_index)
        self.assertEqual(0, ImageFile(file_of(image_of({}))).consistent_index)
        self.assertIn("7 bytes, not 8", self.refused(image_of({META: {CONSISTENT_INDEX: bytes(7)}})))

    def test_missing_bucket(self) -> None:
        """A bucket that is missing is named."""
        for missing in IMAGE_BUCKETS:
            names = [(name, INLINE) for name in IMAGE_BUCKETS if name != missing]
            error = self.refused(by_hand([leaf_content(2, names, BUCKET_FLAG)]))
            self.assertEqual(f"the image image lacks the bucket {missing.decode()}", error)

    def test_too_many_buckets(self) -> None:
        """Their number has a limit."""
        names = [(b"%03d" % number, INLINE) for number in range(BUCKETS_MAX + 1)]
        error = self.refused(by_hand([leaf_content(2, names, BUCKET_FLAG)]))
        self.assertIn(f"more than {BUCKETS_MAX} buckets", error)


class TreeTests(SynchronousTestCase):
    """What the trees may be like."""

    def refused(self, pages: list[bytes], **buckets: bytes) -> str:
        """What is said of an image whose bucket ``key`` has its root at page 2, or of another."""
        value = buckets or {"key": BUCKET.pack(2, 0)}
        total = 2 + sum(-(-len(page) // 4096) for page in pages)
        return str(self.assertRaises(SnapshotImageError, read, by_hand([*pages, root(total, **value)])))

    def test_not_inline(self) -> None:
        """An empty bucket may have a page; so writes who never puts a bucket inline."""
        data = by_hand([leaf_content(2, []), root(3, key=BUCKET.pack(2, 0))])
        self.assertEqual({}, read(data)[b"key"])

    def test_long_leaf(self) -> None:
        """Many records in a leaf of many pages are read one by one."""
        count = 2 * trees.LEAF_BYTES_WHOLE_MAX // 1000
        pairs = {b"%08d" % number: bytes([number % 256]) * 1000 for number in range(count)}
        page = leaf_content(2, list(pairs.items()))
        pages = -(-len(page) // 4096)
        data = by_hand(
            [leaf_content(2, list(pairs.items()), 0, pages - 1), root(2 + pages, key=BUCKET.pack(2, 0))]
        )
        file = file_of(data)
        lengths: list[int] = []
        image = ImageFile(file)
        reading = file.read

        def noted(offset: int, length: int) -> bytes:
            lengths.append(length)
            return reading(offset, length)

        self.patch(file, "read", noted)
        self.assertEqual(pairs, dict(image.pairs(b"key")))
        self.assertLess(max(lengths), 100_000)

    def test_circle(self) -> None:
        """Branches in a circle end at the deepest level."""
        self.assertIn("32 levels below", self.refused([branch_content(2, [(b"a", 2)])]))

    def test_many_ways_to_one_page(self) -> None:
        """A page that many branches lead to is met once: the second time its keys are out of bounds."""
        levels = 25
        pages = [branch_content(2 + at, [(b"a", 3 + at), (b"b", 3 + at)]) for at in range(levels)]
        error = self.refused([*pages, leaf_content(2 + levels, [(b"a", b"")])])
        self.assertIn("is out of order", error)

    def test_pages_out_of_bounds(self) -> None:
        """References to metas and beyond the end."""
        for number in (1, 4, 2**40, 2**64 - 1):
            error = self.refused([leaf_content(2, [])], key=BUCKET.pack(number, 0))
            self.assertIn(f"at page {number}: there are 4 pages", error)

    def test_wrong_pages(self) -> None:
        """A page that is another one, of another kind, or longer than the file."""
        leaf = leaf_content(2, [(b"k", b"v")])
        self.assertIn("it says that it is page 3", self.refused([leaf_content(3, [])]))
        for flags in (0, 3, 4, 16):
            changed = leaf[:8] + bytes((flags, 0)) + leaf[10:]
            self.assertIn(f"its flags are {flags:#x}", self.refused([changed]))
        self.assertIn("go beyond the end", self.refused([leaf_content(2, [], 0, 2**32 - 1)]))
        self.assertIn("no room for 256", self.refused([leaf[:10] + b"\0\1" + leaf[12:]]))

    def test_empty_pages(self) -> None:
        """Only a root may be empty, and only if it is a leaf."""
        self.assertIn("at page 2: it is empty", self.refused([branch_content(2, [])]))
        branch = branch_content(2, [(b"a", 3), (b"b", 4)])
        self.assertIn("at page 3: it is empty", self.refused([branch, leaf_content(3, [])]))

    def test_depth(self) -> None:
        """Leaves are at one depth."""
        pages = [
            branch_content(2, [(b"a", 3), (b"b", 4)]),
            leaf_content(3, [(b"a", b"")]),
            branch_content(4, [(b"b", 5), (b"c", 6)]),
            leaf_content(5, [(b"b", b"")]),
            leaf_content(6, [(b"c", b"")]),
        ]
        self.assertIn("at page 5: it is at another depth", self.refused(pages))

    def test_keys(self) -> None:
        """Keys have 1 to 500 bytes and ascend, within and between pages."""
        for key in (b"", b"k" * 501):
            self.assertIn(
                f"has {len(key)} bytes, not 1 to 500", self.refused([leaf_content(2, [(key, b"")])])
            )
        for keys in ((b"a", b"a"), (b"b", b"a")):
            self.assertIn("out of order", self.refused([leaf_content(2, [(key, b"") for key in keys])]))
        branch = branch_content(2, [(b"b", 3), (b"d", 4)])
        right = leaf_content(4, [(b"d", b"")])
        for keys in ((b"a", b"c"), (b"c", b"d"), (b"c", b"e")):
            left = leaf_content(3, [(key, b"") for key in keys])
            self.assertIn("at page 3: the key", self.refused([branch, left, right]))
        for below in ([(b"a", 3), (b"a", 4)], [(b"b", 3), (b"a", 4)]):
            leaf = leaf_content(3, [(below[0][0], b"")])
            self.assertIn("at page 2: the key 61", self.refused([branch_content(2, below), leaf, right]))

    def test_buckets_within_buckets(self) -> None:
        """etcd has one level of buckets, and nothing but buckets in the root."""
        self.assertIn("is a bucket", self.refused([leaf_content(2, [(b"k", INLINE)], BUCKET_FLAG)]))
        error = self.assertRaises(SnapshotImageError, read, by_hand([leaf_content(2, [(b"k", INLINE)])]))
        self.assertIn("or the other way round", str(error))

    def test_broken_inline_buckets(self) -> None:
        """A value that is too short for what it should be."""
        leaf = leaf_content(0, [(b"k", b"value")])
        for value, reason in (
            (b"", "its root is cut short"),
            (bytes(16), "its leaf is cut short"),
            (bytes(16) + leaf[:20], "no room for 1 elements"),
            (bytes(16) + leaf[:-1], "do not fill it"),
            (bytes(16) + leaf + b"\0", "do not fill it"),
            (bytes(24) + b"\1" + leaf[9:], "it is no leaf: its flags are 0x1"),
        ):
            self.assertRegex(self.refused([], key=value), f"in the bucket key: .*{reason}$")

    def test_large_value(self) -> None:
        """A value that no memory should be asked for is refused before it is read."""
        self.patch(trees, "VALUE_BYTES_MAX", 1000)
        self.assertIn("more than 1000 bytes", self.refused([leaf_content(2, [(b"k", bytes(1001))])]))

    def test_large_branch(self) -> None:
        """So is a branch."""
        self.patch(trees, "BRANCH_BYTES_MAX", 4096)
        page = branch_content(2, [(b"k", 3)], 1)
        self.assertIn("a branch of 8192 bytes", self.refused([page, bytes(4096)]))


class DamageTests(SynchronousTestCase):
    """Whatever happens to an image."""

    def outcome(self, data: bytes) -> str:
        """What comes of reading it; only three things may."""
        try:
            found = read(data)
        except SnapshotImageError as error:
            self.assertRegex(str(error), NAMED)
            self.assertNotIn("\n", str(error))
            return "refused"
        return "same" if found == WHOLE else "other"

    @given(st.integers(0, len(IMAGE) - 1), st.integers(1, 255))
    @SETTINGS
    def test_a_byte(self, at: int, change: int) -> None:
        """A changed byte is of no account, or found, or in a record's content, which nothing vouches for."""
        self.changed(at, change)

    def test_bytes_that_matter(self) -> None:
        """The same, in the places where the structure is; all three outcomes come up."""
        headers = sorted(
            {16 + at for at in range(64)}
            | {number * 4096 + at for number in ANATOMY.pages for at in range(80)}
            | ANATOMY.sizes
        )
        random = Random(1)
        outcomes = Counter(self.changed(at, 1 << random.randrange(8)) for at in random.sample(headers, 800))
        self.assertEqual({"same", "other", "refused"}, {*outcomes})
        self.assertGreater(outcomes["refused"], 400)

    def changed(self, at: int, change: int) -> str:
        """Change a byte of the image, and see what is allowed to come of it."""
        data = bytearray(IMAGE)
        data[at] ^= change
        outcome = self.outcome(bytes(data))
        if not ANATOMY.loose[at]:
            self.assertIn(outcome, ("same", "refused"), f"byte {at} changed by {change:#x}")
        return outcome

    @given(st.integers(0, len(IMAGE) - 1))
    @SETTINGS
    def test_cut_short(self, size: int) -> None:
        """An image that is not all there is refused, wherever it ends."""
        self.assertEqual("refused", self.outcome(IMAGE[:size]))

    def test_cut_short_meanwhile(self) -> None:
        """So is one that gets shorter while it is read."""
        for size in range(0, len(IMAGE) - 4096, 1024):  # the root has been read
            file = file_of(IMAGE)
            image = ImageFile(file)
            file.truncate(size)
            self.assertRaises(SnapshotImageError, image.check)

    def test_check_reads_all(self) -> None:
        """What `ImageFile.check` accepts, can be read; it finds what opening does not look at."""
        data = bytearray(IMAGE)
        data[2 * 4096] ^= 1  # the first leaf's number
        image = ImageFile(file_of(bytes(data)))
        self.assertRaises(SnapshotImageError, image.check)
        ImageFile(file_of(IMAGE)).check()
