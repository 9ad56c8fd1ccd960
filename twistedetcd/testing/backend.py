"""
The conformance kit of `IBackend`: an engine that passes it can carry a member.

Mix it into a trial test case and say which engine it is about::

    from twisted.trial.unittest import SynchronousTestCase
    from twistedetcd.testing.backend import BackendKit

    class MyEngineTests(BackendKit, SynchronousTestCase):
        factory = MyEngineFactory()

An engine that forgets everything when it is closed also says ``durable = False``.  What only your engine can
suffer (a full disk, a file of another format) is for tests of your own: it must raise `BackendError`, and
nothing of the batch may have been written.
"""

from __future__ import annotations

import os
import random
from threading import Thread
from typing import TYPE_CHECKING, ClassVar

from zope.interface.verify import verifyObject

from twistedetcd.errors import BackendError
from twistedetcd.interfaces import IBackend, IBackendFactory, IReadTransaction

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Case
else:
    _Case = object  # so that trial does not take the kit itself for a test case

Pairs = list[tuple[bytes, bytes]]
BUCKET = b"key"
KEY_BYTES_MAX = 500
_MANY = 2500  # keys; more than an engine reads in one go


class BackendKit(_Case):
    """
    Tests of an engine; see the module's text.

    Attributes:
        factory: Makes the engine.
        durable: Whether what was written is there again after `IBackend.close` and another open.
        backend: The engine under test, new and empty for each test.
        directory: Where it is.
    """

    factory: ClassVar[IBackendFactory]
    durable: ClassVar[bool] = True

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self._open: list[IBackend] = []
        self._views: list[IReadTransaction] = []
        self.addCleanup(self.close_all)
        self.backend = self.open()

    # What the tests, and yours, are written with.

    def open(self) -> IBackend:
        """Open the engine in `directory`; it is closed when the test ends."""
        backend = self.factory.open(self.directory)
        self._open.append(backend)
        return backend

    def view(self) -> IReadTransaction:
        """A view, closed when the test ends."""
        view = self.backend.read()
        self._views.append(view)
        return view

    def close_all(self) -> None:
        """Close the views, then the engines."""
        views, self._views = self._views, []
        for view in views:
            view.close()
        backends, self._open = self._open, []
        for backend in backends:
            backend.close()

    def reopen(self) -> None:
        """Close the engine and open it again."""
        self.close_all()
        self.backend = self.open()

    def write(self, **keys: str | None) -> None:
        """Write to `BUCKET`; ``None`` deletes."""
        self.backend.write(
            {BUCKET: {key.encode(): None if value is None else value.encode() for key, value in keys.items()}}
        )

    def content(self, view: IReadTransaction | None = None, bucket: bytes = BUCKET) -> Pairs:
        """All of a bucket, as a view has it; a new view if none is given."""
        if view is not None:
            return list(view.range(bucket, b"", None))
        fresh = self.backend.read()
        try:
            return list(fresh.range(bucket, b"", None))
        finally:
            fresh.close()

    # Contracts.

    def test_contracts(self) -> None:
        """Factory, engine and view provide what they are used as."""
        verifyObject(IBackendFactory, self.factory)
        verifyObject(IBackend, self.backend)
        self.assertEqual(self.durable, self.backend.durable)
        verifyObject(IReadTransaction, self.view())
        self.assertEqual(self.factory.name.lower(), self.factory.name)
        self.assertNotIn("\n", self.factory.help)

    # Reading what is there.

    def test_empty_bucket(self) -> None:
        """A bucket that was never written to reads as empty."""
        view = self.view()
        self.assertIsNone(view.get(BUCKET, b"a"))
        self.assertEqual([], view.get_many(BUCKET, [b"a", b"b"]))
        self.assertEqual([], list(view.range(BUCKET, b"", None)))
        self.assertEqual([], view.buckets())

    def test_put_overwrite_delete(self) -> None:
        """A key has the value that was written last, and none once it was deleted."""
        self.write(a="1", b="1")
        self.write(a="2", b=None)
        view = self.view()
        self.assertEqual(b"2", view.get(BUCKET, b"a"))
        self.assertIsNone(view.get(BUCKET, b"b"))
        self.assertEqual([(b"a", b"2")], self.content(view))

    def test_delete_what_is_not_there(self) -> None:
        """Deleting a key that does not exist is no error, in a bucket that does not exist either."""
        self.write(a=None)
        self.write(b="1")
        self.write(a=None)
        self.assertEqual([(b"b", b"1")], self.content())

    def test_delete_and_put_again(self) -> None:
        """A key can come back."""
        for value in ("1", None, "2", None, None, "3"):
            self.write(a=value)
        self.assertEqual([(b"a", b"3")], self.content())

    def test_order_of_the_batch_means_nothing(self) -> None:
        """Keys of a batch come in any order, above, between and below what is there."""
        self.write(m="1", c="1", x="1")
        self.write(z="2", a="2", n="2", b=None)
        self.write(b="3", y="3", c=None, zz="3", z=None)
        self.assertEqual(
            [
                (b"a", b"2"),
                (b"b", b"3"),
                (b"m", b"1"),
                (b"n", b"2"),
                (b"x", b"1"),
                (b"y", b"3"),
                (b"zz", b"3"),
            ],
            self.content(),
        )

    def test_buckets_are_apart(self) -> None:
        """The same key in two buckets is two keys; the buckets' names come in ascending order."""
        self.backend.write({b"two": {b"k": b"2"}, b"one": {b"k": b"1"}})
        self.backend.write({b"two": {b"k": None}, b"three": {b"j": b"3"}})
        view = self.view()
        self.assertEqual(b"1", view.get(b"one", b"k"))
        self.assertIsNone(view.get(b"two", b"k"))
        self.assertEqual([b"one", b"three", b"two"], view.buckets())

    def test_keys_of_every_length(self) -> None:
        """Keys have 1 to 500 bytes, any bytes, and are ordered as bytes."""
        keys = [bytes([byte]) for byte in range(256)]
        keys += [b"\xff" * length for length in range(2, KEY_BYTES_MAX + 1)]
        keys += [b"\0" * length for length in (2, 3, KEY_BYTES_MAX)]
        values = {key: b"%d" % number for number, key in enumerate(keys)}
        self.backend.write({BUCKET: dict(values)})
        view = self.view()
        self.assertEqual(sorted(values.items()), self.content(view))
        self.assertEqual([values[key] for key in keys], view.get_many(BUCKET, keys))
        self.assertEqual(values[keys[-1]], view.get(BUCKET, keys[-1]))
        longest = b"\xff" * KEY_BYTES_MAX
        self.assertEqual([(longest, values[longest])], list(view.range(BUCKET, longest, None)))

    def test_values_of_every_length(self) -> None:
        """A value may be empty, and may have megabytes."""
        values = {b"empty": b"", b"page": b"p" * 4096, b"zeros": b"\0" * 5, b"big": b"b" * (3 << 20)}
        self.backend.write({BUCKET: dict(values)})
        view = self.view()
        for key, value in values.items():
            self.assertEqual(value, view.get(BUCKET, key))
        self.assertEqual([b""], view.get_many(BUCKET, [b"empty"]))
        self.assertEqual(sorted(values.items()), self.content(view))

    def test_range_bounds(self) -> None:
        """A range includes its start and excludes its end; without an end it reaches the last key."""
        keys = [b"a", b"b", b"ba", b"c", b"\xff", b"\xff\xff"]
        self.backend.write({BUCKET: {key: b"v" + key for key in keys}, b"zzz": {b"z": b"other"}})
        view = self.view()
        bounds = [b"\0", b"a", b"a\0", b"b", b"b\xff", b"d", b"\xff", b"\xff\xff", b"\xff\xff\0"]
        for start in [b"", *bounds]:
            for end in [None, *bounds]:
                expected = [(key, b"v" + key) for key in keys if start <= key and (end is None or key < end)]
                self.assertEqual(expected, list(view.range(BUCKET, start, end)), (start, end))

    def test_get_many(self) -> None:
        """Values come in the order asked for; a key that is not there is left out."""
        self.write(a="1", b="2", c="3")
        view = self.view()
        self.assertEqual([b"3", b"1", b"2"], view.get_many(BUCKET, [b"c", b"a", b"b"]))
        self.assertEqual([b"2"], view.get_many(BUCKET, [b"A", b"b", b"bb", b"z"]))
        self.assertEqual([], view.get_many(BUCKET, []))

    # Views.

    def test_view_never_changes(self) -> None:
        """Whatever is written after a view was opened, it reads as before; a new one sees all of it."""
        self.write(a="1", b="1", d="1")
        view = self.view()
        self.write(a="2", b=None, c="2")
        self.assertEqual([(b"a", b"1"), (b"b", b"1"), (b"d", b"1")], self.content(view))
        self.assertEqual(b"1", view.get(BUCKET, b"a"))
        self.assertEqual(b"1", view.get(BUCKET, b"b"))
        self.assertIsNone(view.get(BUCKET, b"c"))
        self.assertEqual([b"1", b"1"], view.get_many(BUCKET, [b"b", b"c", b"a"]))
        self.assertEqual([(b"a", b"2"), (b"c", b"2"), (b"d", b"1")], self.content())

    def test_view_of_before_a_bucket(self) -> None:
        """A view that is older than a bucket sees nothing of it: not its name, and no error either."""
        view = self.view()
        self.write(a="1")
        self.assertIsNone(view.get(BUCKET, b"a"))
        self.assertEqual([], view.get_many(BUCKET, [b"a"]))
        self.assertEqual([], list(view.range(BUCKET, b"", None)))
        self.assertEqual([], view.buckets())
        view.renew()
        self.assertEqual(b"1", view.get(BUCKET, b"a"))
        self.assertEqual([BUCKET], view.buckets())

    def test_view_outlives_many_writes(self) -> None:
        """Views of different times each keep their own, whatever is deleted and brought back."""
        views = [(self.view(), self.content())]
        for step in range(12):
            self.write(
                **{"same": str(step), f"k{step}": "x", f"k{step - 3}": None, "odd": "o" if step % 2 else None}
            )
            views.append((self.view(), self.content()))
        for view, content in reversed(views):
            self.assertEqual(content, self.content(view))
        self.assertEqual(13, len({tuple(content) for _, content in views}))

    def test_renew(self) -> None:
        """A renewed view has the newest state, and keeps that one from then on."""
        self.write(a="1")
        view = self.view()
        self.write(a="2", b="2")
        view.renew()
        self.assertEqual([(b"a", b"2"), (b"b", b"2")], self.content(view))
        self.write(a="3", b=None)
        self.assertEqual([(b"a", b"2"), (b"b", b"2")], self.content(view))
        view.renew()
        view.renew()
        self.assertEqual([(b"a", b"3")], self.content(view))

    def test_iterating_while_writing(self) -> None:
        """An iterator goes on over its view while keys ahead of and behind it are changed."""
        names = [b"%06d" % number for number in range(_MANY)]
        self.backend.write({BUCKET: dict.fromkeys(names, b"old")})
        view = self.view()
        iterator = view.range(BUCKET, b"", None)
        seen = [next(iterator) for _ in range(10)]
        self.backend.write(
            {BUCKET: dict.fromkeys(names[::2]) | {b"%06d+" % n: b"new" for n in range(0, _MANY, 3)}}
        )
        seen += [next(iterator) for _ in range(_MANY // 2)]
        self.backend.write({BUCKET: dict.fromkeys(names, b"newer") | {b"9": b"new"}})
        seen += iterator
        self.assertEqual([(name, b"old") for name in names], seen)
        bounded = view.range(BUCKET, names[5], names[-5])
        self.assertEqual(names[5:-5], [key for key, _ in bounded])

    def test_two_iterators(self) -> None:
        """Iterators of one view do not disturb each other, nor do gets between their steps."""
        self.write(a="1", b="2", c="3")
        view = self.view()
        seen = []
        for pair in view.range(BUCKET, b"", None):
            self.assertEqual(pair[1], view.get(BUCKET, pair[0]))
            seen.append((pair, list(view.range(BUCKET, b"b", None))))
        self.assertEqual(3, len(seen))
        self.assertEqual([(b"b", b"2"), (b"c", b"3")], seen[0][1])

    def test_iterator_left_unfinished(self) -> None:
        """An iterator may be given up, before or after its view is renewed or closed."""
        self.write(a="1", b="2")
        view = self.view()
        started, forgotten = view.range(BUCKET, b"", None), view.range(BUCKET, b"", None)
        next(started)
        next(forgotten)
        del forgotten
        view.renew()
        del started
        again = view.range(BUCKET, b"", None)
        next(again)
        view.close()
        del again
        self.write(a="3")
        self.assertEqual([(b"a", b"3"), (b"b", b"2")], self.content())

    def test_views_are_closed_twice(self) -> None:
        """Closing a view a second time is allowed, and disturbs nobody else's."""
        self.write(a="1")
        view, other = self.view(), self.view()
        view.close()
        view.close()
        self.write(a="2")
        self.assertEqual([(b"a", b"1")], self.content(other))

    def test_many_views_one_after_the_other(self) -> None:
        """A closed view leaves nothing behind that could run out."""
        for step in range(300):
            view = self.backend.read()
            view.get(BUCKET, b"a")
            view.close()
            if step % 100 == 0:
                self.write(a=str(step))
        self.assertEqual([(b"a", b"200")], self.content())

    # Writing.

    def test_a_batch_is_seen_whole(self) -> None:
        """While the writer's thread writes, a view sees each batch in all buckets, or in none."""
        steps = 40

        def work() -> None:
            for step in range(1, steps + 1):
                number = b"%d" % step
                self.backend.write(
                    {bucket: {b"k": number, number: b""} for bucket in (b"one", b"two", b"t%d" % (step % 9))}
                )

        writer = Thread(target=work)
        writer.start()
        view = self.view()
        number, finished = 0, False
        try:
            while not finished:
                finished = not writer.is_alive()
                last = number
                view.renew()
                one, two = view.get(b"one", b"k"), view.get(b"two", b"k")
                self.assertEqual(one, two)
                number = int(one or b"0")
                self.assertGreaterEqual(number, last)
                self.assertEqual(number + bool(number), len(list(view.range(b"one", b"", None))))
                self.assertEqual(one, view.get(b"t%d" % (number % 9), b"k"))
                self.assertEqual(min(number, 9) + 2 if number else 0, len(view.buckets()))
        finally:
            writer.join()
        self.assertEqual(steps, number)

    def test_model(self) -> None:
        """Against a dictionary: random batches, with views of several ages checked after each."""
        draw = random.Random(7)
        names = [b"%d" % number for number in range(40)]
        buckets = [b"a", b"b"]
        model: dict[bytes, dict[bytes, bytes]] = {bucket: {} for bucket in buckets}
        views: list[tuple[IReadTransaction, dict[bytes, Pairs]]] = []
        for step in range(60):
            batch = {
                bucket: {
                    name: draw.choice([None, b"%d" % step, b"x" * draw.randrange(3000)])
                    for name in draw.sample(names, draw.randrange(1, 25))
                }
                for bucket in draw.sample(buckets, draw.randrange(1, 3))
            }
            self.backend.write(batch)
            for bucket, values in batch.items():
                for name, value in values.items():
                    if value is None:
                        model[bucket].pop(name, None)
                    else:
                        model[bucket][name] = value
            views.append((self.view(), {bucket: sorted(model[bucket].items()) for bucket in buckets}))
            if len(views) > 4:
                views.pop(draw.randrange(4))[0].close()
            for view, contents in views:
                bucket, start, end = draw.choice(buckets), draw.choice(names), draw.choice([None, *names])
                self.assertEqual(
                    [
                        pair
                        for pair in contents[bucket]
                        if start <= pair[0] and (end is None or pair[0] < end)
                    ],
                    list(view.range(bucket, start, end)),
                )
                known = dict(contents[bucket])
                self.assertEqual(known.get(start), view.get(bucket, start))
                asked = draw.sample(names, 10)
                self.assertEqual(
                    [known[name] for name in asked if name in known], view.get_many(bucket, asked)
                )
        for bucket in buckets:
            self.assertEqual(sorted(model[bucket].items()), self.content(bucket=bucket))

    # Sizes.

    def test_sizes(self) -> None:
        """Both sizes grow with what is written; what is in use is never more, and falls by deleting."""
        empty = self.backend.size_in_use_bytes()
        self.assertLessEqual(empty, self.backend.size_bytes())
        names = [b"%04d" % number for number in range(500)]
        self.backend.write({BUCKET: dict.fromkeys(names, b"v" * 2000)})
        full = self.backend.size_in_use_bytes()
        self.assertGreaterEqual(full - empty, 500 * 2000)
        self.assertLessEqual(full, self.backend.size_bytes())
        self.backend.write({BUCKET: dict.fromkeys(names)})
        self.backend.write({b"other": {b"a": b"1"}})
        self.assertLess(self.backend.size_in_use_bytes(), full // 10 + empty + 1)
        self.assertLessEqual(self.backend.size_in_use_bytes(), self.backend.size_bytes())

    def test_space_is_used_again(self) -> None:
        """Writing the same keys over and over does not grow the store without end."""
        names = [b"%04d" % number for number in range(100)]
        for step in range(30):
            self.backend.write({BUCKET: dict.fromkeys(names, b"%d" % (step % 10) * 1000)})
        self.assertLess(self.backend.size_bytes(), 10 * 100 * 1000)

    # Opening and closing.

    def test_reopen(self) -> None:
        """What was written is there again, buckets and order included; or nothing, if the engine forgets."""
        self.write(b="1", a="2", c="3")
        self.backend.write({b"other": {b"x": b"y"}, BUCKET: {b"c": None}})
        self.reopen()
        expected = [(b"a", b"2"), (b"b", b"1")] if self.durable else []
        self.assertEqual(expected, self.content())
        self.assertEqual([(b"x", b"y")] if self.durable else [], self.content(bucket=b"other"))
        self.assertEqual([BUCKET, b"other"] if self.durable else [], self.view().buckets())
        self.write(d="4")
        self.assertEqual([*expected, (b"d", b"4")], self.content())

    def test_open_twice(self) -> None:
        """A durable engine keeps a second opener away with one sentence, and is not disturbed by it."""
        if not self.durable:
            return
        self.write(a="1")
        error = self.assertRaises(BackendError, self.factory.open, self.directory)
        self.assertNotIn("\n", str(error))
        self.write(a="2")
        self.reopen()
        self.assertEqual([(b"a", b"2")], self.content())
