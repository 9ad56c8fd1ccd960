"""Writes on their way into the engine, over what it has."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twistedetcd.backends.memory import MemoryBackend
from twistedetcd.errors import BackendError
from twistedetcd.interfaces import IOverlay
from twistedetcd.mvcc import pending as module
from twistedetcd.mvcc.pending import Pending
from twistedetcd.schema import KEY, META

B = b"bucket"
NAMES = [b"%d" % number for number in range(12)]
writes = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.binary(max_size=3))),
        st.sampled_from(["seal", "commit"]),
    ),
    max_size=30,
)


class PendingCase(SynchronousTestCase):
    """An overlay over an engine in memory."""

    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.pending = Pending(self.backend)

    def stored(self) -> dict[bytes, bytes]:
        """What the engine has in the bucket."""
        return dict(self.backend.read().range(B, b"", None))

    def flush(self) -> None:
        batch = self.pending.seal()
        assert batch is not None
        self.backend.write(batch)
        self.pending.committed()

    def layers(self) -> None:
        """Some keys in the engine, some sealed, some open; each layer hides and deletes some below it."""
        for name in (b"1", b"2", b"3", b"4", b"5"):
            self.pending.put(B, name, b"engine")
        self.flush()
        for name in (b"2", b"2a", b"6"):
            self.pending.put(B, name, b"sealed")
        self.pending.delete(B, b"3")
        self.pending.delete(B, b"5")
        assert self.pending.seal() is not None
        for name in (b"0", b"3", b"9"):
            self.pending.put(B, name, b"open")
        self.pending.delete(B, b"4")
        self.pending.delete(B, b"6")


LAYERS = {b"0": b"open", b"1": b"engine", b"2": b"sealed", b"2a": b"sealed", b"3": b"open", b"9": b"open"}


class OverlayTests(PendingCase):
    """Open over sealed over the engine."""

    def test_contract(self) -> None:
        """It is what the rooms above are given."""
        verifyObject(IOverlay, self.pending)

    def test_layers(self) -> None:
        """The newest layer that says anything about a key decides, also if it deleted it."""
        self.layers()
        self.assertEqual(LAYERS, dict(self.pending.range(B, b"", None)))
        for name in [*LAYERS, b"4", b"5", b"6", b"7"]:
            self.assertEqual(LAYERS.get(name), self.pending.get(B, name))
        self.assertIsNone(self.pending.get(b"other", b"1"))
        self.assertEqual([], list(self.pending.range(b"other", b"", None)))

    def test_range_bounds(self) -> None:
        """Every pair of bounds, in key order, whatever layer the keys are in."""
        self.layers()
        names = sorted([*LAYERS, b"", b"4", b"5", b"6", b"\xff"])
        for start in names:
            for end in [None, *names]:
                expected = [
                    (name, value)
                    for name, value in sorted(LAYERS.items())
                    if start <= name and (end is None or name < end)
                ]
                self.assertEqual(expected, list(self.pending.range(B, start, end)), (start, end))

    @settings(derandomize=True, deadline=None, database=None, max_examples=150)
    @given(steps=writes, start=st.sampled_from(NAMES), end=st.one_of(st.none(), st.sampled_from(NAMES)))
    def test_any_order(self, steps: list[Any], start: bytes, end: bytes | None) -> None:
        """However writes, seals and commits follow each other, it reads as one dictionary."""
        backend = MemoryBackend()
        pending, model, sealed = Pending(backend), dict[bytes, bytes](), None
        for step in steps:
            if step == "seal":
                sealed = sealed or pending.seal()
            elif step == "commit":
                if sealed is not None:
                    backend.write(sealed)
                    pending.committed()
                    sealed = None
            elif step[1] is None:
                pending.delete(B, step[0])
                model.pop(step[0], None)
            else:
                pending.put(B, *step)
                model[step[0]] = step[1]
            expected = sorted(
                item for item in model.items() if start <= item[0] and (not end or item[0] < end)
            )
            self.assertEqual(expected, list(pending.range(B, start, end)))
            self.assertEqual(model.get(start), pending.get(B, start))


class SealingTests(PendingCase):
    """Handing over to the engine."""

    def test_one_batch(self) -> None:
        """A sealed batch is all that was open, deletions as `None`; what follows is in the next one."""
        self.pending.put(B, b"a", b"1")
        self.pending.delete(B, b"b")
        self.pending.put(META, b"m", b"2")
        batch = self.pending.seal()
        self.pending.put(B, b"a", b"3")
        assert batch is not None
        filled = {name: dict(values) for name, values in batch.items() if values}
        self.assertEqual({B: {b"a": b"1", b"b": None}, META: {b"m": b"2"}}, filled)
        self.backend.write(batch)
        self.pending.committed()
        self.assertEqual({b"a": b"1"}, self.stored())
        self.assertEqual(b"3", self.pending.get(B, b"a"))
        self.flush()
        self.assertEqual({b"a": b"3"}, self.stored())

    def test_nothing_to_seal(self) -> None:
        """An empty batch is not handed out."""
        self.assertIsNone(self.pending.seal())
        self.pending.delete(B, b"not there")
        self.assertIsNotNone(self.pending.seal())
        self.pending.committed()
        self.assertIsNone(self.pending.seal())

    def test_written_but_not_yet_known(self) -> None:
        """While the engine has a sealed batch and the overlay was not told, both read the same."""
        self.pending.put(B, b"a", b"1")
        self.pending.put_record(b"r", b"1")
        batch = self.pending.seal()
        assert batch is not None
        self.backend.write(batch)
        for _ in range(2):
            self.assertEqual(b"1", self.pending.get(B, b"a"))
            self.assertIsNone(self.pending.get(B, b"b"))
            self.assertEqual(b"1", self.pending.record(b"r"))
            self.assertEqual([b"1"], self.pending.records([b"r"]))
            self.pending.committed()

    def test_counts(self) -> None:
        """Writes and their bytes are counted until they are sealed."""
        self.pending.put(B, b"key", b"value")
        self.pending.delete(B, b"key")
        self.assertEqual((2, 11), (self.pending.operations, self.pending.bytes))
        self.pending.put_record(b"r" * 17, b"12345")
        self.assertEqual(3, self.pending.operations)
        self.assertGreaterEqual(self.pending.bytes, 11 + 17 + 5)
        self.pending.seal()
        self.assertEqual((0, 0), (self.pending.operations, self.pending.bytes))

    def test_full(self) -> None:
        """It is full by operations or by bytes, and is not once it was sealed."""
        self.patch(module, "OPERATIONS_MAX", 3)
        self.patch(module, "BYTES_MAX", 1000)
        for name in (b"a", b"b", b"c"):
            self.assertFalse(self.pending.full)
            self.pending.put(B, name, b"")
        self.assertTrue(self.pending.full)
        self.pending.seal()
        self.assertFalse(self.pending.full)
        self.pending.put_record(b"r", b"v" * 1000)
        self.assertTrue(self.pending.full)

    def test_sizes(self) -> None:
        """The sizes are the engine's."""
        self.pending.put(B, b"a", b"v" * 100)
        self.assertEqual(0, self.pending.size_bytes())
        self.flush()
        self.assertEqual(101, self.pending.size_bytes())
        self.assertEqual(101, self.pending.size_in_use_bytes())


class RecordTests(PendingCase):
    """Records, which the index knows to be there."""

    def test_records(self) -> None:
        """They are found in any layer, and come in the order asked for."""
        names = [b"engine", b"sealed", b"open"]
        self.pending.put_record(b"engine", b"1")
        self.assertEqual([b"1"], self.pending.records([b"engine"]))
        self.flush()
        self.assertEqual([b"1"], self.pending.records([b"engine"]))
        self.pending.put_record(b"sealed", b"2")
        self.pending.seal()
        self.assertEqual([b"2", b"1"], self.pending.records([b"sealed", b"engine"]))
        self.pending.put_record(b"open", b"3")
        self.assertEqual([b"3", b"1", b"2"], self.pending.records([b"open", b"engine", b"sealed"]))
        self.assertEqual([b"1", b"2", b"3"], [self.pending.record(name) for name in names])
        self.assertEqual([], self.pending.records([]))
        self.assertEqual(
            dict(zip(names, (b"1", b"2", b"3"), strict=True)), dict(self.pending.range(KEY, b"", None))
        )

    def test_cache(self) -> None:
        """A record is read from the engine once, until it is removed; the memory for that is bounded."""
        names = [b"%d" % number for number in range(8)]
        for name in names:
            self.pending.put_record(name, b"record " + name)
        self.backend.write(self.pending.seal() or {})
        self.pending.committed()
        self.patch(module, "CACHE_BYTES_MAX", 5 * len(b"record 0"))
        for _ in range(2):
            self.assertEqual([b"record " + name for name in names], self.pending.records(names))
            self.assertLessEqual(len(self.pending._cache), 5)
        self.pending.records(names[:4])
        self.patch(self.pending, "_view", None)
        self.assertEqual([b"record 0", b"record 3"], self.pending.records([names[0], names[3]]))
        self.assertEqual(b"record 1", self.pending.record(names[1]))
        self.pending.remove_record(names[1])
        self.assertNotIn(names[1], self.pending._cache)
        self.assertEqual(len(self.pending._cache) * len(b"record 0"), self.pending._cache_bytes)

    def test_missing(self) -> None:
        """A record that is not there is no answer to give: index and engine differ."""
        self.assertRaises(BackendError, self.pending.record, b"r")
        self.assertRaises(BackendError, self.pending.records, [b"r"])
        self.pending.put_record(b"s", b"1")
        self.assertRaises(BackendError, self.pending.records, [b"s", b"r"])


def record_key(number: int) -> bytes:
    """As long as record keys are; ascending with the number."""
    return b"%017d" % number


class PartTests(PendingCase):
    """Records lie in parts, so that no dictionary gets large."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(module, "PART_RECORDS_MAX", 3)
        self.pending = Pending(self.backend)

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.pending.put_record(record_key(number), b"%d" % number)

    def remove(self, *numbers: int) -> None:
        for number in numbers:
            self.pending.remove_record(record_key(number))

    def model(self, *numbers: int) -> dict[bytes, bytes]:
        return {record_key(number): b"%d" % number for number in numbers}

    def check(self, *numbers: int) -> None:
        """These are there, however one looks."""
        model = self.model(*numbers)
        self.assertEqual(list(model.items()), list(self.pending.range(KEY, b"", None)))
        first, last = record_key(0), record_key(10**6)
        self.assertEqual((list(model.items()), True), self.pending.history(first, last, 100, 1000))
        pinned = self.pending.pin()
        self.assertEqual(list(model.items()), list(pinned.range(first, last)))
        pinned.close()
        self.assertEqual(list(model.values()), self.pending.records(list(model)))
        for number in range(20):
            self.assertEqual(model.get(record_key(number)), self.pending.get(KEY, record_key(number)))

    def test_no_part_is_large(self) -> None:
        """However many records a batch has, no dictionary has more than the limit."""
        self.put(*range(1, 12))
        batch = self.pending.seal()
        assert batch is not None
        self.assertEqual(self.model(*range(1, 12)), dict(batch[KEY].items()))
        self.assertEqual(11, len(batch[KEY]))
        self.backend.write(batch)
        self.assertEqual([3, 3, 3, 2], list(map(len, self.pending.committed())))

    def test_reading(self) -> None:
        """Records in the engine, sealed parts and open parts are read alike; removed ones nowhere."""
        self.put(*range(1, 6))
        self.flush()
        self.put(*range(6, 11))
        self.remove(2)
        batch = self.pending.seal()
        assert batch is not None
        self.put(*range(11, 16))
        self.remove(3, 7, 12)  # in the engine, sealed, and written in this very batch
        left = (1, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15)
        self.check(*left)
        self.backend.write(batch)
        self.check(*left)
        self.pending.committed()
        self.check(*left)
        self.flush()
        self.check(*left)
        self.assertEqual(self.model(*left), dict(self.backend.read().range(KEY, b"", None)))

    def test_each_key_once(self) -> None:
        """In a batch a removed record is only a deletion, and every key comes once."""
        self.put(*range(1, 6))
        self.remove(2, 5, 9)
        batch = self.pending.seal()
        assert batch is not None
        expected: dict[bytes, bytes | None] = dict(self.model(1, 3, 4))
        expected.update(dict.fromkeys(map(record_key, (2, 5, 9))))
        self.assertEqual(sorted(expected), sorted(batch[KEY]))
        self.assertEqual(len(expected), len(batch[KEY]))
        self.assertEqual(expected, dict(batch[KEY].items()))
        self.assertEqual(expected, {key: batch[KEY][key] for key in expected})
        self.assertNotIn(record_key(6), batch[KEY])

    def test_history(self) -> None:
        """It begins anywhere, ends at the limit or the size, and says whether that was all."""
        self.put(*range(1, 6))
        self.flush()
        self.put(*range(6, 12))
        self.remove(4)
        everything = [1, 2, 3, *range(5, 12)]
        for start in range(13):
            for end in range(start, 13):
                wanted = [number for number in everything if start <= number < end]
                for limit in (1, 2, 100):
                    found, whole = self.pending.history(record_key(start), record_key(end), limit, 1000)
                    self.assertEqual(list(self.model(*wanted).items())[:limit], found)
                    self.assertEqual(len(wanted) <= limit, whole)
        found, whole = self.pending.history(record_key(1), record_key(12), 100, 2)
        self.assertEqual((list(self.model(1, 2).items()), False), (found, whole))

    def test_pinned(self) -> None:
        """A pinned view stays as it was, through writes, commits and removals, and lets go when closed."""
        self.put(*range(1, 6))
        self.flush()
        self.put(*range(6, 11))
        batch = self.pending.seal()
        assert batch is not None
        self.put(11, 12)
        self.remove(1)
        pinned = self.pending.pin()
        self.put(13, 14)
        self.remove(2, 6, 11)
        self.backend.write(batch)
        self.pending.committed()
        self.flush()
        expected = list(self.model(*range(2, 13)).items())
        self.assertEqual(expected, list(pinned.range(b"", record_key(99))))
        self.assertEqual(expected[5:7], list(pinned.range(record_key(7), record_key(9))))
        self.assertEqual(2, len(self.backend.views))
        pinned.close()
        self.assertEqual(1, len(self.backend.views))
