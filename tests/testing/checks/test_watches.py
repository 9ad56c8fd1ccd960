"""Each way to break a guarantee of watches is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.testing.checks.mutations import Case, MutationCase, copy_of, exchange, first, world
from twistedetcd.pb.rpc_pb2 import ResponseHeader, WatchResponse
from twistedetcd.testing.checks import History, Rule, Watch, check
from twistedetcd.testing.checks.history import is_progress

Received = list[tuple[float, WatchResponse]]


def telling(watch: Watch) -> list[int]:
    """Where in it there are whole responses with events."""
    places = []
    before: WatchResponse | None = None
    for place, (_, response) in enumerate(watch.received):
        if response.events and not response.fragment and not (before and before.fragment):
            places.append(place)
        before = response
    return places


def longest(case: Case, least: int = 2) -> Watch | None:
    """The watch that is told of most."""
    watch = max(case.watches, key=lambda watch: len(telling(watch)))
    return watch if len(telling(watch)) >= least else None


def with_received(case: Case, watch: Watch, received: Received) -> Case:
    """
    The watch was told something else.  What goes on for it begins where it did, so that only this is wrong.
    """
    return case._replace(watches=exchange(case.watches, watch, received=received))


class WatchTests(MutationCase):
    """Ordered, unique, reliable, atomic, resumable, bookmarkable; and true."""

    def received(self, case: Case, least: int = 2) -> tuple[Any, Received, list[int]]:
        watch = longest(case, least)
        return (watch, list(watch.received), telling(watch)) if watch else (None, [], [])

    def test_left_out(self) -> None:
        """A response is lost on the way, or an event in it."""

        def whole(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            # Progress behind it would be what is wrong.
            followed = [place for place in places if place + 1 in places]
            if watch is None or not followed:
                return None
            del received[followed[0]]
            return with_received(case, watch, received)

        def part(case: Case) -> Case | None:
            for watch in case.watches:
                for place in telling(watch):
                    at, response = watch.received[place]
                    if len({event.kv.mod_revision for event in response.events}) > 1:
                        other = copy_of(response)
                        gone = other.events[0].kv.mod_revision
                        while other.events[0].kv.mod_revision == gone:
                            del other.events[0]
                        received = list(watch.received)
                        received[place] = at, other
                        return with_received(case, watch, received)
            return None

        self.assertCaught(Rule.RELIABLE, whole)
        self.assertCaught(Rule.RELIABLE, part)

    def test_never_told(self) -> None:
        """Who listens to the end is told everything."""

        def mutate(case: Case) -> Case | None:
            listening = [
                watch
                for watch in case.watches
                if watch.ended_at is None and watch.received and watch.received[-1][1].events
            ]
            watch = first(listening)
            if watch is None:
                return None
            received = list(watch.received)
            while received and (received[-1][1].events or is_progress(received[-1][1])):
                received.pop()
            return with_received(case, watch, received)

        self.assertCaught(Rule.RELIABLE, mutate)

    def test_twice(self) -> None:
        """A response comes again, at once or later."""

        def at_once(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                received.insert(places[0], received[places[0]])
            return watch and with_received(case, watch, received)

        def later(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                received.insert(places[1] + 1, received[places[0]])
            return watch and with_received(case, watch, received)

        self.assertCaught(Rule.UNIQUE, at_once)
        self.assertCaught(Rule.UNIQUE, later)

    def test_order(self) -> None:
        """Two responses come the wrong way round."""

        def mutate(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                one, two = places[:2]
                received[one], received[two] = received[two], received[one]
            return watch and with_received(case, watch, received)

        self.assertCaught(Rule.ORDERED, mutate)

    def test_split(self) -> None:
        """The events of a revision come in two responses that are no fragments."""

        def mutate(case: Case) -> Case | None:
            for watch in case.watches:
                for place in telling(watch):
                    at, response = watch.received[place]
                    last = response.events[-1].kv.mod_revision
                    if sum(event.kv.mod_revision == last for event in response.events) > 1:
                        one, two = copy_of(response), copy_of(response)
                        del one.events[-1]
                        del two.events[:-1]
                        received = list(watch.received)
                        received[place : place + 1] = [(at, one), (at, two)]
                        return with_received(case, watch, received)
            return None

        self.assertCaught(Rule.ATOMIC, mutate)

    def test_after_compaction(self) -> None:
        """An event comes after the notice that what was needed is gone."""

        def mutate(case: Case) -> Case | None:
            for watch in case.watches:
                if watch.received[-1][1].compact_revision and telling(watch):
                    received = [*watch.received, watch.received[telling(watch)[0]]]
                    return with_received(case, watch, received)
            return None

        self.assertCaught(Rule.ENDED, mutate)

    def test_after_cancel(self) -> None:
        """An event comes after the watch was cancelled."""

        def mutate(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                at = received[places[-1]][0]
                received.insert(places[-1], (at, WatchResponse(canceled=True)))
            return watch and with_received(case, watch, received)

        self.assertCaught(Rule.ENDED, mutate)

    def test_needless_compaction(self) -> None:
        """A watch is told that what it needs was compacted, but it needs only what is there."""

        def mutate(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                at, response = received[places[-1]]
                compacted = response.events[-1].kv.mod_revision
                received[places[-1] + 1 :] = [(at, WatchResponse(canceled=True, compact_revision=compacted))]
            return watch and with_received(case, watch, received)

        self.assertCaught(Rule.COMPACTED_WATCH, mutate)

    def test_not_created(self) -> None:
        """Events come before the watch was created."""

        def mutate(case: Case) -> Case | None:
            watch, received, _ = self.received(case)
            if watch is None or not watch.request.start_revision:
                return None
            return with_received(case, watch, received[1:])

        self.assertCaught(Rule.CREATED_FIRST, mutate)

    def test_untrue(self) -> None:
        """An event differs from what happened, or has a wrong record before it."""

        def value(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                at, response = received[places[0]]
                other = copy_of(response)
                other.events[0].kv.version += 1
                received[places[0]] = at, other
            return watch and with_received(case, watch, received)

        def previous(case: Case) -> Case | None:
            for watch in case.watches:
                for place, (at, response) in enumerate(watch.received):
                    if response.events and response.events[0].HasField("prev_kv"):
                        other = copy_of(response)
                        other.events[0].prev_kv.version += 1
                        received = list(watch.received)
                        received[place] = at, other
                        return with_received(case, watch, received)
            return None

        self.assertCaught(Rule.TRUE_EVENTS, value)
        self.assertCaught(Rule.TRUE_EVENTS, previous)

    def test_filtered(self) -> None:
        """An event comes that the watch did not want."""

        def mutate(case: Case) -> Case | None:
            watch, _, places = self.received(case)
            if watch is None:
                return None
            request = copy_of(watch.request)
            request.filters[:] = [watch.received[places[-1]][1].events[-1].type]
            return case._replace(watches=exchange(case.watches, watch, request=request))

        self.assertCaught(Rule.TRUE_EVENTS, mutate)

    def test_bookmark(self) -> None:
        """Progress is told beyond what was told."""

        def mutate(case: Case) -> Case | None:
            watch, received, places = self.received(case)
            if watch is not None:
                at, response = received[places[-1]]
                revision = response.events[-1].kv.mod_revision
                progress = WatchResponse(header=ResponseHeader(revision=revision))
                received.insert(places[-1], (at, progress))
            return watch and with_received(case, watch, received)

        self.assertCaught(Rule.BOOKMARKABLE, mutate)

    def test_resumed(self) -> None:
        """A watch that goes on for another begins a revision too late, or too early."""

        def mutate(case: Case, by: int) -> Case | None:
            resumed = [
                watch
                for watch in case.watches
                if watch.continues is not None and watch.request.start_revision > 1
            ]
            watch = first([watch for watch in resumed if not watch.continues.received[-1][1].canceled])
            if watch is None:
                return None
            request = copy_of(watch.request)
            request.start_revision += by
            return case._replace(watches=exchange(case.watches, watch, request=request))

        self.assertCaught(Rule.RESUMABLE, lambda case: mutate(case, 1))
        self.assertCaught(Rule.RESUMABLE, lambda case: mutate(case, -1))

    def test_without_witness(self) -> None:
        """The answers alone show what comes twice or out of order."""
        caught = 0

        def rules(watch: Watch) -> list[Rule]:
            return [violation.rule for violation in check(History([], [watch]))]

        for watch, received, places in map(self.received, (Case.of(world(seed)) for seed in range(10))):
            if watch is not None:
                self.assertEqual([], rules(replace(watch, continues=None)))
                received.insert(places[1] + 1, received[places[0]])
                wrong = replace(watch, received=received, continues=None)
                self.assertEqual([Rule.UNIQUE], rules(wrong))
                caught += 1
        self.assertGreater(caught, 5)


class ChangeTests(MutationCase):
    """What a compaction may take away."""

    def test_superseded(self) -> None:
        """Only what was changed again in its own revision may be missing, and only if it was compacted."""

        def mutate(case: Case) -> Case | None:
            for watch in case.watches:
                for place in telling(watch):
                    at, response = watch.received[place]
                    keys = [(event.kv.mod_revision, event.kv.key) for event in response.events]
                    again = [number for number, key in enumerate(keys) if key in keys[number + 1 :]]
                    compacted = self.compacted(case)
                    if again and keys[again[0]][0] > compacted:
                        other = copy_of(response)
                        del other.events[again[0]]
                        received = list(watch.received)
                        received[place] = at, other
                        return with_received(case, watch, received)
            return None

        self.assertCaught(Rule.RELIABLE, mutate)

    def compacted(self, case: Case) -> int:
        return max(
            (operation.request.revision for operation in case.operations if operation.kind == "Compaction"),
            default=0,
        )
