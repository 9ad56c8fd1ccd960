"""Sets of keys made of ranges."""

from __future__ import annotations

import itertools
import random

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.apply.intervals import Intervals

KEYS = [bytes(key) for size in (1, 2) for key in itertools.product(b"\0ab\xff", repeat=size)]


class IntervalsTests(SynchronousTestCase):
    """The set, whatever it was made of."""

    def test_as_a_set_of_keys(self) -> None:
        """After any additions and removals, the keys in it are those that a plain set has."""
        draw = random.Random(1)
        for _ in range(200):
            intervals, plain = Intervals(), set[bytes]()
            for _ in range(12):
                key, end = draw.choice(KEYS), draw.choice([*KEYS, None])
                if draw.random() < 0.3:
                    intervals.remove(key)
                    plain.discard(key)
                else:
                    intervals.add(key, end)
                    plain.update(each for each in KEYS if key <= each and (end is None or each < end))
                self.assertEqual(plain, {each for each in KEYS if each in intervals})

    def test_merged(self) -> None:
        """Intervals that overlap or touch become one; inverted and empty ones are nothing."""
        intervals = Intervals()
        for start, end in ((b"d", b"e"), (b"a", b"b"), (b"b", b"c"), (b"z", b"a"), (b"x", b"x")):
            intervals.add(start, end)
        self.assertEqual([(b"a", b"c"), (b"d", b"e")], intervals.items())
        intervals.add(b"aa", b"dd")
        self.assertEqual([(b"a", b"e")], intervals.items())
        intervals.add(b"c", None)
        self.assertEqual([(b"a", None)], intervals.items())

    def test_update(self) -> None:
        """All of another set."""
        one, other = Intervals(), Intervals()
        one.add(b"a", b"c")
        other.add(b"b", b"d")
        other.add(b"x", None)
        one.update(other)
        self.assertEqual([(b"a", b"d"), (b"x", None)], one.items())
