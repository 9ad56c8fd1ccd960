"""Revisions and records."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.mvcc.revision import main_of, parse, record, record_key
from twistedetcd.pb.kv_pb2 import KeyValue
from twistedetcd.wire import varint

INT64 = st.integers(0, 2**63 - 1)
SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=150)


class RecordKeyTests(SynchronousTestCase):
    """A revision as 17 bytes, 18 for a tombstone."""

    def test_bytes(self) -> None:
        """Main, underscore, sub; numbers big-endian."""
        self.assertEqual(b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03", record_key(0x102, 3))

    @SETTINGS
    @given(a=st.tuples(INT64, INT64), b=st.tuples(INT64, INT64), mark=st.booleans())
    def test_order(self, a: tuple[int, int], b: tuple[int, int], mark: bool) -> None:
        """Byte order is revision order, and what was packed is parsed again."""
        self.assertEqual(a < b, record_key(*a) < record_key(*b))
        key = record_key(*a) + (b"t" if mark else b"")
        self.assertEqual((*a, mark), parse(key))
        self.assertEqual(a[0], main_of(key))

    def test_damaged(self) -> None:
        """Another length, separator or mark, and a negative number, are no revision."""
        good = record_key(5, 1)
        for bad in (
            b"",
            b"t",
            good[:-1],
            good + b"x",
            good + b"tt",
            good + b"t\0",
            good.replace(b"_", b"-"),
            b"\x80" + good[1:],
            good[:9] + b"\x80" + good[10:],
        ):
            self.assertRaises(ValueError, parse, bad)


class RecordTests(SynchronousTestCase):
    """Records written by hand."""

    @SETTINGS
    @given(
        key=st.binary(min_size=1, max_size=300),
        created=st.integers(1, 2**63 - 1),
        modified=st.integers(1, 2**63 - 1),
        version=st.one_of(st.integers(1, 2**63 - 1), st.integers(1000, 1050)),
        value=st.one_of(st.binary(max_size=40), st.integers(1000, 1100).map(bytes)),
        lease=st.one_of(st.just(0), st.integers(-(2**63), 2**63 - 1)),
    )
    def test_bytes(
        self, key: bytes, created: int, modified: int, version: int, value: bytes, lease: int
    ) -> None:
        """They are byte for byte what protobuf writes."""
        expected = KeyValue(
            key=key, create_revision=created, mod_revision=modified, version=version, value=value, lease=lease
        )
        self.assertEqual(
            expected.SerializeToString(),
            record(key, varint(created), varint(modified), version, value, lease),
        )

    def test_big(self) -> None:
        """Lengths of two, three and four bytes."""
        for size in (127, 128, 1023, 1024, 16383, 16384, 1 << 21):
            expected = KeyValue(
                key=b"k" * min(size, 9999), create_revision=1, mod_revision=2, version=1, value=b"v" * size
            )
            self.assertEqual(
                expected.SerializeToString(), record(expected.key, b"\x01", b"\x02", 1, expected.value, 0)
            )
